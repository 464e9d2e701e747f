//! What is acked of a position, and what a batch has to write of it. While few ranges are acked above the floor they are
//! one narrow column of its row. Where they are many they are bits in pages, and only the pages in which something was
//! acked are written: a commit costs what was acked since the one before, not what is in flight.

use std::collections::BTreeMap;

use super::batch::{ACKS_PAGE, ACKS_PAGE_BYTES, AckedChange, AckedPage, Progress, ProgressChange};
use super::ids::Sequence;
use super::ranges::Ranges;

/// With more ranges than this above its floor a position is written in pages.
const RANGES_MAX: usize = 64;

/// With so few it is one row again: not at once, so that one that stays near the limit does not change with each batch.
const RANGES_FEW: usize = 16;

/// How many pages each row speaks for, by the first.
pub type Pages = BTreeMap<u64, u64>;

#[derive(Clone, Debug)]
pub(super) struct Acked {
    /// Everything up to here is acked.
    floor: Sequence,
    above: Ranges,
    /// In the tables; none while the position's row has everything.
    pages: Pages,
    /// What these say of other sequences is wrong.
    is_stale: bool,
    /// Pages in which something was acked that is not in the tables.
    changed: Pages,
}

impl Acked {
    pub(super) fn new(floor: Sequence) -> Self {
        Self {
            floor,
            above: Ranges::default(),
            pages: Pages::new(),
            is_stale: false,
            changed: Pages::new(),
        }
    }

    /// As the tables tell, of which only what lies between `floor` and `last` counts.
    pub(super) fn restored(
        mut progress: Progress,
        pages: Pages,
        floor: Sequence,
        last: Sequence,
    ) -> Self {
        let above = &mut progress.acked_above;
        above.remove_through(floor);
        above.remove_after(last);
        let joined = above.first().filter(|(first, _)| *first == floor.next());
        let floor = joined.map_or(floor, |(_, last)| last);
        above.remove_through(floor);
        Self {
            floor,
            above: progress.acked_above,
            pages,
            is_stale: progress.last_sent > last,
            changed: Pages::new(),
        }
    }

    pub(super) fn floor(&self) -> Sequence {
        self.floor
    }

    pub(super) fn above(&self) -> &Ranges {
        &self.above
    }

    /// Everything from `first` to `last` is acked; some of it may have been before.
    pub(super) fn add(&mut self, first: Sequence, last: Sequence) {
        if last <= self.floor {
            return;
        }
        if first > self.floor.next() {
            self.above.insert(first, last);
            if !self.pages.is_empty() {
                self.note_changed(first, last);
            }
            return;
        }
        self.floor = last;
        if self.above.is_empty() {
            return;
        }
        self.above.remove_through(last);
        if let Some((next, end)) = self.above.first()
            && next == last.next()
        {
            self.above.remove_through(end);
            self.floor = end;
        }
    }

    fn note_changed(&mut self, first: Sequence, last: Sequence) {
        let (from, to) = (first.0 / ACKS_PAGE, last.0 / ACKS_PAGE);
        self.changed.entry(from).or_insert(1);
        self.changed.entry(to).or_insert(1);
        // What is acked as a whole is new: what was sent before lies below it.
        if to > from + 1 {
            self.changed.insert(from + 1, to - from - 1);
        }
    }

    pub(super) fn progress(&self, last_sent: Sequence) -> Progress {
        Progress {
            last_sent,
            acked_floor: self.floor,
            acked_above: self.above.clone(),
        }
    }

    /// From here on exactly what lies up to there is acked.
    pub(super) fn begin_after(&mut self, floor: Sequence) {
        self.floor = floor;
        self.above = Ranges::default();
        self.changed.clear();
        self.is_stale = !self.pages.is_empty();
    }

    /// What is to be written. To be called once per batch, which takes it.
    pub(super) fn take_change(&mut self, last_sent: Sequence) -> ProgressChange {
        let is_paged = !self.pages.is_empty();
        let limit = if is_paged { RANGES_FEW } else { RANGES_MAX };
        let acked = if self.above.len() <= limit {
            self.pages.clear();
            self.changed.clear();
            AckedChange::Row {
                above: self.above.clone(),
                clears: is_paged,
            }
        } else if is_paged && !self.is_stale {
            self.changed_pages(false)
        } else {
            self.pages.clear();
            let ranges: Vec<_> = self.above.iter().collect();
            for (first, last) in ranges {
                self.note_changed(first, last);
            }
            self.changed_pages(is_paged)
        };
        self.is_stale = false;
        ProgressChange {
            last_sent,
            acked_floor: self.floor,
            acked,
        }
    }

    fn changed_pages(&mut self, clears: bool) -> AckedChange {
        let floor = self.floor.next().0 / ACKS_PAGE;
        let mut gone = Vec::new();
        while let Some(row) = self.pages.first_entry()
            && row.key() + row.get() <= floor
        {
            gone.push(*row.key());
            row.remove();
        }
        let mut changed = Vec::new();
        for (page, pages) in std::mem::take(&mut self.changed) {
            if page + pages > floor {
                let bits = (pages == 1).then(|| self.bits(page));
                self.pages.insert(page, pages);
                changed.push(AckedPage { page, pages, bits });
            }
        }
        AckedChange::Pages {
            clears,
            changed,
            gone,
        }
    }

    fn bits(&self, page: u64) -> Box<[u8]> {
        let first = page * ACKS_PAGE;
        let mut bits = vec![0_u8; ACKS_PAGE_BYTES];
        let last = Sequence(first + ACKS_PAGE - 1);
        for (from, to) in self.above.within(Sequence(first), last) {
            for bit in from.0 - first..=to.0 - first {
                let byte = usize::try_from(bit / 8).ok();
                if let Some(byte) = byte.and_then(|byte| bits.get_mut(byte)) {
                    *byte |= 1 << (bit % 8);
                }
            }
        }
        bits.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes what has changed; returns how many pages.
    fn write(table: &mut Progress, acked: &mut Acked, last_sent: u64) -> usize {
        let rows = write_only(table, acked, last_sent);
        assert_eq!(*table, acked.progress(Sequence(last_sent)));
        rows
    }

    fn write_only(table: &mut Progress, acked: &mut Acked, last_sent: u64) -> usize {
        let change = acked.take_change(Sequence(last_sent));
        let rows = match &change.acked {
            AckedChange::Row { above, .. } => {
                assert!(above.len() <= RANGES_MAX);
                0
            }
            AckedChange::Pages { changed, gone, .. } => changed.len() + gone.len(),
        };
        change.apply(table);
        rows
    }

    fn every_second(last: u64) -> Acked {
        let mut acked = Acked::new(Sequence(0));
        for sequence in (2..=last).step_by(2) {
            acked.add(Sequence(sequence), Sequence(sequence));
        }
        acked
    }

    #[test]
    fn what_is_written_of_many_ranges_follows_from_what_was_acked() {
        let mut acked = every_second(20_000);
        let mut table = Progress::default();
        assert_eq!(write(&mut table, &mut acked, 20_000), 20);

        acked.add(Sequence(9_999), Sequence(9_999));
        assert_eq!(write(&mut table, &mut acked, 20_000), 1);
        acked.add(Sequence(1), Sequence(1));
        assert_eq!(write(&mut table, &mut acked, 20_000), 0);
        // Passed over: a billion that are gone.
        acked.add(Sequence(20_001), Sequence(1_000_020_000));
        assert_eq!(write(&mut table, &mut acked, 1_000_020_000), 3);

        let mut rows = 0;
        for sequence in (3..20_000).step_by(2) {
            acked.add(Sequence(sequence), Sequence(sequence));
            rows += write_only(&mut table, &mut acked, 1_000_020_000);
        }
        assert_eq!(table, acked.progress(Sequence(1_000_020_000)));
        assert!(rows <= 20, "{rows} rows while the floor passed 20 pages");
        assert_eq!(table.acked_floor, Sequence(1_000_020_000));
    }

    #[test]
    fn few_ranges_are_one_row_and_many_that_became_few_are_again() {
        let mut acked = every_second(2 * RANGES_MAX as u64 + 1);
        let mut table = Progress::default();
        assert_eq!(write(&mut table, &mut acked, 129), 0);
        acked.add(Sequence(131), Sequence(131));
        assert_eq!(write(&mut table, &mut acked, 131), 1);
        assert_eq!(acked.pages, Pages::from([(0, 1)]));

        for sequence in (1..).step_by(2).take(RANGES_MAX + 1 - RANGES_FEW) {
            assert!(!acked.pages.is_empty());
            acked.add(Sequence(sequence), Sequence(sequence));
            write(&mut table, &mut acked, 131);
        }
        assert!(acked.pages.is_empty());
    }

    #[test]
    fn a_restored_position_writes_only_what_changes_after_that() {
        let mut before = every_second(100_000);
        let mut table = Progress::default();
        write(&mut table, &mut before, 100_000);

        let restored = |floor, last| {
            let (floor, last) = (Sequence(floor), Sequence(last));
            Acked::restored(table.clone(), before.pages.clone(), floor, last)
        };
        let mut after = restored(0, 100_000);
        after.add(Sequence(50_001), Sequence(50_001));
        let mut table_after = table.clone();
        assert_eq!(write(&mut table_after, &mut after, 100_000), 1);

        // Some of its messages are gone; and some that are in the pages are not stored.
        let mut fewer = restored(50_001, 90_000);
        assert_eq!(fewer.floor(), Sequence(50_002));
        assert!(!fewer.above().contains(Sequence(90_002)));
        let mut table_after = table.clone();
        assert_eq!(write(&mut table_after, &mut fewer, 90_000), 40);
    }
}
