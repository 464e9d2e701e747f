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
    /// Whether this role may vacuum them.
    pub may_vacuum: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    Leave,
    Vacuum,
    /// Vacuum would help, and the role may not.
    TellOperator,
}

impl Dead {
    pub fn advice(self) -> Advice {
        let is_due = self.dead >= DEAD_MIN.max(self.live / LIVE_PER_DEAD);
        match (is_due, self.may_vacuum) {
            (false, _) => Advice::Leave,
            (true, true) => Advice::Vacuum,
            (true, false) => Advice::TellOperator,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vacuum_is_due_when_dead_rows_are_many_for_the_table_s_size() {
        let advice = |dead, live, may_vacuum| {
            let found = Dead {
                dead,
                live,
                may_vacuum,
            };
            found.advice()
        };

        assert_eq!(advice(99_999, 0, true), Advice::Leave);
        assert_eq!(advice(100_000, 1_000_000, true), Advice::Vacuum);
        assert_eq!(advice(999_999, 10_000_000, true), Advice::Leave);
        assert_eq!(advice(1_000_000, 10_000_000, true), Advice::Vacuum);
        assert_eq!(advice(99_999, 0, false), Advice::Leave);
        assert_eq!(advice(100_000, 0, false), Advice::TellOperator);
    }
}
