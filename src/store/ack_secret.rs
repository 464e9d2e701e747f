//! The secret that the servers of a group make ack inboxes with.

use super::error::Fault;
use super::source::Source;

pub(super) async fn read(source: &mut Source<'_>) -> Result<Vec<u8>, Fault> {
    let row = source.one("SELECT ack_secret FROM leadership", &[]).await?;
    row.get("ack_secret")
}
