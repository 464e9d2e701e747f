//! What Postgres refuses to store, and whether it would ever store it.

use std::fmt;

/// One write was refused. Nothing of its transaction is in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Which part of a batch.
    pub part: &'static str,
    /// Where Postgres names it, else the part.
    pub table: String,
    /// Five characters; empty when it is not Postgres that complains.
    pub sqlstate: String,
    /// The constraint or column, where one is named.
    pub rule: String,
    /// In the words of Postgres.
    pub reason: String,
    /// What a person may do about it.
    pub remedy: String,
    /// Postgres has no room for anything: this batch is not to blame, and it passes when somebody makes room.
    pub is_out_of_room: bool,
}

impl Refusal {
    /// True when both have one cause.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.part, &self.table, &self.sqlstate, &self.rule)
            == (other.part, &other.table, &other.sqlstate, &other.rule)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, reason, .. } = self;
        write!(f, "Postgres refuses to store it ({part}): {reason}")?;
        if !self.sqlstate.is_empty() {
            write!(f, " (SQLSTATE {})", self.sqlstate)?;
        }
        Ok(())
    }
}

/// Whether what Postgres complains of passes by itself: connections, resources, conflicts, timeouts, an operator, a
/// failover. Everything else, what triggers raise under codes of their own included, is the same the next time.
pub fn passes(sqlstate: &str) -> bool {
    const CLASSES: [&str; 7] = ["08", "25", "28", "40", "53", "57", "58"];
    // A lock that another session holds, an object in use.
    const CODES: [&str; 2] = ["55P03", "55006"];
    CLASSES.iter().any(|class| sqlstate.starts_with(class)) || CODES.contains(&sqlstate)
}

/// Whether another transaction was in the way, and nothing is wrong with what was to be stored.
pub fn waits_for_others(sqlstate: &str) -> bool {
    ["55P03", "40P01"].contains(&sqlstate)
}

/// Whether a statement was given up for the time that it took.
pub fn took_too_long(sqlstate: &str) -> bool {
    sqlstate == "57014"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_is_the_same_the_next_time() {
        for code in [
            "08006", "25006", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014",
            "57P01", "57P05", "58030",
        ] {
            assert!(passes(code), "{code}");
        }
        for code in [
            "0A000", "22001", "22021", "22P02", "23502", "23505", "23514", "2F002", "3F000",
            "42501", "42703", "42804", "42P01", "44000", "54000", "55000", "P0001", "XX000",
            "XX001", "XX002", "ST001",
        ] {
            assert!(!passes(code), "{code}");
        }
    }
}
