//! Which rows a read asks for, of a table that applications insert into and rows are deleted from. Index entries of rows that are
//! gone are in the way until they are vacuumed, and as long as one transaction is open that is never; so a read asks only where
//! rows can still be.
//!
//! A transaction that inserts has its number before the row gets its own; so when all transactions have ended that had
//! begun when the highest row so far was seen, no row up to that one can come any more. Until then rows can come that were not
//! seen, with the numbers between those that were.

use super::ids::Sequence;
use super::ranges::Ranges;

/// Each one costs a read a few pages of the index. Where rows leave more, the shortest runs of rows are read again.
const RUNS_MAX: usize = 64;

/// What a page has shown.
#[derive(Clone, Debug)]
pub(super) struct ScannedPage {
    /// The numbers of its rows.
    pub(super) ids: Vec<u64>,
    /// The lowest and the highest that a row got when it was inserted for now, and not for later.
    pub(super) lowest: Option<u64>,
    pub(super) highest: Option<u64>,
    /// It covers the rows up to this one; `None`: all.
    pub(super) through: Option<u64>,
    /// Every transaction before this one had ended when the page was read, and each from `next` on began later.
    pub(super) ended_before: u64,
    pub(super) next: u64,
}

#[derive(Clone, Debug, Default)]
pub(super) struct ScanRanges {
    /// No row up to here can come.
    floor: u64,
    highest: u64,
    /// The floor after all transactions before that one have ended.
    next: Option<(u64, u64)>,
    /// Rows above the floor that have come. They are numbers of rows, not of messages.
    seen: Ranges,
    /// Whatever is known, all rows after this one are to be read.
    rescan: Option<u64>,
}

impl ScanRanges {
    /// From now on all rows there are, once: somebody may have numbered one by hand.
    pub(super) fn rescan(&mut self) {
        self.rescan = Some(0);
    }

    /// The next read is of the rows in these ranges, which are in order.
    pub(super) fn gaps(&self) -> Vec<(u64, u64)> {
        let known_through = self.rescan.unwrap_or(u64::MAX);
        let mut gaps = Vec::new();
        let mut from = self.floor + 1;
        let above = (Sequence(u64::MAX), Sequence(u64::MAX));
        for (first, last) in self.seen.iter().chain([above]) {
            let through = (first.0 - 1).min(known_through);
            if from <= through {
                gaps.push((from, through));
            }
            from = last.0.saturating_add(1);
        }
        if let Some(after) = self.rescan {
            gaps.push((after + 1, u64::MAX - 1));
        }
        gaps
    }

    pub(super) fn observe(&mut self, page: &ScannedPage) {
        self.rescan = self.rescan.and(page.through);
        if page.lowest.is_some_and(|lowest| lowest <= self.floor) {
            // Somebody has set the sequence back, or numbered a row far ahead: nothing follows from numbers of before.
            *self = Self {
                rescan: self.rescan,
                ..Self::default()
            };
        }
        if let Some((before, floor)) = self.next
            && page.ended_before >= before
            && page.through.is_none_or(|through| through >= floor)
        {
            self.floor = self.floor.max(floor);
            self.next = None;
        }
        self.highest = self.highest.max(page.highest.unwrap_or_default());
        // No sequence gives negative numbers.
        for &id in page.ids.iter().filter(|&&id| id < 1 << 63) {
            self.seen.insert(Sequence(id), Sequence(id));
        }
        self.seen.remove_through(Sequence(self.floor));
        self.forget_short_runs();
        if self.next.is_none() && self.highest > self.floor {
            self.next = Some((page.next, self.highest));
        }
    }

    fn forget_short_runs(&mut self) {
        if self.seen.len() <= RUNS_MAX {
            return;
        }
        let mut runs: Vec<(Sequence, Sequence)> = self.seen.iter().collect();
        // The last one still grows, however short it is.
        let newest = runs.pop();
        runs.sort_unstable_by_key(|(first, last)| std::cmp::Reverse(last.0 - first.0));
        runs.truncate(RUNS_MAX - 1);
        runs.extend(newest);
        runs.sort_unstable();
        self.seen = runs.into_iter().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[u64], ended_before: u64, next: u64) -> ScannedPage {
        ScannedPage {
            ids: ids.to_vec(),
            lowest: ids.iter().min().copied(),
            highest: ids.iter().max().copied(),
            through: None,
            ended_before,
            next,
        }
    }

    #[test]
    fn reads_begin_after_rows_that_no_open_transaction_can_have() {
        let mut ranges = ScanRanges::default();
        // Row 5 is of transaction 99, which is open; row 7 has committed.
        ranges.observe(&page(&[7], 99, 120));
        ranges.observe(&page(&[], 99, 130));
        assert_eq!(ranges.floor, 0);
        // It has committed, and others that began before the first read may be open.
        ranges.observe(&page(&[5], 110, 140));
        assert_eq!(ranges.floor, 0);
        ranges.observe(&page(&[], 120, 150));
        assert_eq!(ranges.floor, 7);
    }

    #[test]
    fn a_page_that_was_cut_before_them_passes_over_no_rows() {
        let mut ranges = ScanRanges::default();
        ranges.observe(&page(&[7], 99, 120));
        // Rows 3 and 5 have come since, and this page has room for one.
        let cut = ScannedPage {
            through: Some(3),
            ..page(&[3], 120, 150)
        };
        ranges.observe(&cut);
        assert_eq!(ranges.floor, 0);
        ranges.observe(&page(&[5], 150, 160));
        assert_eq!(ranges.floor, 7);
    }

    const ALL: u64 = u64::MAX - 1;

    #[test]
    fn what_has_come_is_not_asked_for_again_while_a_transaction_stays_open() {
        let mut ranges = ScanRanges::default();
        assert_eq!(ranges.gaps(), [(1, ALL)]);
        // Row 3 is of transaction 99, which stays open.
        ranges.observe(&page(&[1, 2, 4, 5], 99, 120));
        assert_eq!(ranges.gaps(), [(3, 3), (6, ALL)]);
        for first in (6..60_000).step_by(3_000) {
            let ids: Vec<u64> = (first..first + 3_000).collect();
            ranges.observe(&page(&ids, 99, 130 + first));
        }
        assert_eq!(ranges.gaps(), [(3, 3), (60_006, ALL)]);
        ranges.observe(&page(&[3], 100_000, 100_001));
        assert_eq!(ranges.gaps(), [(60_006, ALL)]);
    }

    #[test]
    fn numbers_that_were_rolled_back_leave_no_more_ranges_than_a_read_can_ask_for() {
        let mut ranges = ScanRanges::default();
        let ids: Vec<u64> = (1..=10_000).filter(|id| id % 7 != 0).collect();
        ranges.observe(&page(&ids, 99, 120));
        let gaps = ranges.gaps();
        assert!(gaps.len() <= RUNS_MAX + 1, "{}", gaps.len());
        let asks = |id: &u64| {
            let mut gaps = gaps.iter();
            gaps.any(|(first, last)| (first..=last).contains(&id))
        };
        let mut open = (1..=10_000).filter(|id| id % 7 == 0);
        assert!(open.all(|id| asks(&id)));
    }

    #[test]
    fn rows_that_come_one_by_one_behind_many_rolled_back_are_not_asked_for_again() {
        let mut ranges = ScanRanges::default();
        let ids: Vec<u64> = (1..=10_000).filter(|id| id % 7 != 0).collect();
        ranges.observe(&page(&ids, 99, 120));
        for id in 10_001..=20_000 {
            ranges.observe(&page(&[id], 99, 120 + id));
        }
        assert!(ranges.gaps().len() <= RUNS_MAX + 1);
        assert_eq!(ranges.gaps().last(), Some(&(20_001, ALL)));
    }

    #[test]
    fn a_sequence_that_was_set_back_is_followed_from_the_first_row_that_shows_it() {
        let mut ranges = ScanRanges::default();
        ranges.observe(&page(&[1_000_000], 99, 120));
        ranges.observe(&page(&[], 120, 130));
        assert_eq!(ranges.gaps(), [(1_000_001, ALL)]);
        ranges.rescan();
        ranges.observe(&page(&[1, 2], 130, 140));
        assert_eq!(ranges.gaps(), [(3, ALL)]);
    }

    #[test]
    fn rows_for_later_say_nothing_of_those_for_now() {
        let mut ranges = ScanRanges::default();
        let due = ScannedPage {
            lowest: None,
            highest: None,
            ..page(&[1_000_000, u64::MAX], 99, 120)
        };
        ranges.observe(&due);
        ranges.observe(&page(&[], 120, 130));
        assert_eq!(ranges.gaps(), [(1, 999_999), (1_000_001, ALL)]);
    }

    #[test]
    fn a_rescan_asks_for_all_rows_and_goes_on_where_its_page_was_cut() {
        let mut ranges = ScanRanges::default();
        ranges.observe(&page(&[1, 2, 4, 5, 9], 99, 120));
        ranges.rescan();
        assert_eq!(ranges.gaps(), [(1, ALL)]);
        let cut = ScannedPage {
            through: Some(6),
            ..page(&[2, 6], 99, 130)
        };
        ranges.observe(&cut);
        // What has come since then between those that were seen comes first.
        assert_eq!(ranges.gaps(), [(3, 3), (7, ALL)]);
        ranges.observe(&page(&[8], 99, 140));
        assert_eq!(ranges.gaps(), [(3, 3), (7, 7), (10, ALL)]);
    }
}
