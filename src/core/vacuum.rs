//! When dead rows are worth a vacuum of our own.

/// Below this, autovacuum is soon enough.
const DEAD_MIN: u64 = 100_000;

/// A vacuum reads all of the index: dead rows must be at least one to so many live ones.
const LIVE_PER_DEAD: u64 = 10;

/// Rows of `messages`, as Postgres estimates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    pub dead: u64,
    pub live: u64,
}

impl Dead {
    pub fn is_worth_a_vacuum(self) -> bool {
        self.dead >= DEAD_MIN.max(self.live / LIVE_PER_DEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacuum_is_due_when_dead_rows_are_many_for_the_table_s_size() {
        let is_due = |dead, live| Dead { dead, live }.is_worth_a_vacuum();

        assert!(!is_due(99_999, 0));
        assert!(is_due(100_000, 1_000_000));
        assert!(!is_due(999_999, 10_000_000));
        assert!(is_due(1_000_000, 10_000_000));
    }
}
