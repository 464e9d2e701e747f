//! Where reads of a table begin that applications insert into, and rows are deleted from. Index entries of rows that are
//! gone are in the way until they are vacuumed, so a read begins where rows can still be.
//!
//! Whoever inserts has a transaction number before the row gets its own; so when all transactions have ended that had
//! begun when the highest row so far was seen, no row up to that one can come any more.

/// What a page has shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The highest number of its rows; zero when there are none.
    pub(super) highest: u64,
    /// It speaks for the rows up to this one; `None`: for all.
    pub(super) through: Option<u64>,
    /// Every transaction before this one had ended when the page was read, and each from `next` on began later.
    pub(super) ended_before: u64,
    pub(super) next: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reach {
    /// No row up to here can come.
    floor: u64,
    highest: u64,
    /// The floor after all transactions before that one have ended.
    next: Option<(u64, u64)>,
}

impl Reach {
    /// The next read is of the rows after this one.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn learn(&mut self, page: Seen) {
        if let Some((before, floor)) = self.next
            && page.ended_before >= before
            && page.through.is_none_or(|through| through >= floor)
        {
            self.floor = self.floor.max(floor);
            self.next = None;
        }
        self.highest = self.highest.max(page.highest);
        if self.next.is_none() && self.highest > self.floor {
            self.next = Some((page.next, self.highest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[u64], ended_before: u64, next: u64) -> Seen {
        Seen {
            highest: ids.iter().copied().max().unwrap_or_default(),
            through: None,
            ended_before,
            next,
        }
    }

    #[test]
    fn reads_begin_after_rows_that_no_open_transaction_can_have() {
        let mut reach = Reach::default();
        // Row 5 is of transaction 99, which is open; row 7 has committed.
        reach.learn(page(&[7], 99, 120));
        reach.learn(page(&[], 99, 130));
        assert_eq!(reach.floor(), 0);
        // It has committed, and others that began before the first read may be open.
        reach.learn(page(&[5], 110, 140));
        assert_eq!(reach.floor(), 0);
        reach.learn(page(&[], 120, 150));
        assert_eq!(reach.floor(), 7);
    }

    #[test]
    fn a_page_that_was_cut_before_them_passes_over_no_rows() {
        let mut reach = Reach::default();
        reach.learn(page(&[7], 99, 120));
        // Rows 3 and 5 have come since, and this page has room for one.
        let cut = Seen {
            through: Some(3),
            ..page(&[3], 120, 150)
        };
        reach.learn(cut);
        assert_eq!(reach.floor(), 0);
        reach.learn(page(&[5], 150, 160));
        assert_eq!(reach.floor(), 7);
    }
}
