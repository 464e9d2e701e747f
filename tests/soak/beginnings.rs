//! Where the sequences of the channels begin: just below numbers at which a narrower type would wrap or round, and at the
//! end of what there is. They come into the tables as an operator brings them there, by an import.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::io::Write as _;

use crate::events::run;
use crate::facts::Facts;
use crate::pair::Group;
use crate::traffic::CHANNELS;

/// Takes one message, its last one; every later one is refused.
pub(crate) const FULL_CHANNEL: &str = "finale";

const LAST: u64 = i64::MAX.unsigned_abs() - 1;

/// The last sequence of each channel of [`CHANNELS`] at the start, `before` messages below 2^32 and 2^53.
pub(crate) fn floors(before: u64) -> [u64; 2] {
    [(1 << 32) - before, (1 << 53) - before]
}

/// Imports a message of 1970 into each channel, which the limit of age drops as soon as a server is active. No server runs.
pub(crate) async fn import(group: &Group, program: &str, floors: [u64; 2], facts: &Facts) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let channels = CHANNELS.into_iter().zip(floors);
    for (channel, sequence) in channels.chain([(FULL_CHANNEL, LAST - 1)]) {
        let line = serde_json::json!({
            "channel": channel, "sequence": sequence, "timestamp": 1, "client_id": "before", "guid": channel, "data": "before 1",
        });
        writeln!(file, "{line}").unwrap();
    }
    let path = file.path().to_str().unwrap();
    run(group, program, &["import", "--ndjson", path], &[], facts).await;
}
