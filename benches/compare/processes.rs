//! CPU time of processes, from `/proc/PID/stat`.

use std::time::Duration;

/// Linux has had no other for decades.
const TICKS_PER_SECOND: u64 = 100;

/// Of all threads of the process.
pub(crate) fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before may hold blanks.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = fields.split(' ').skip(11);
    let mut ticks = || -> u64 {
        let field = fields.next().and_then(|field| field.parse().ok());
        field.unwrap_or(0)
    };
    let used = ticks() + ticks();
    Duration::from_millis(used * 1000 / TICKS_PER_SECOND)
}
