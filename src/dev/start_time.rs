//! When a process was started: with its number, what tells it from a later one, for numbers are reused within minutes.

use std::fs;

/// When the kernel started it, in its own ticks; `None` for one that has ended, waited for or not.
pub(super) fn started(pid: i32) -> Option<String> {
    const STATE: usize = 0;
    const START_TIME: usize = 19;

    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, closing parentheses included.
    let fields: Vec<_> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ended = matches!(*fields.get(STATE)?, "Z" | "X");
    let start_time = *fields.get(START_TIME)?;
    (!ended).then(|| start_time.to_owned())
}
