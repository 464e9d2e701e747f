//! A set of sequences as ranges, for what is acked above a floor: as many ranges as there are messages in
//! flight below the last acked one, however many are acked.

use std::collections::BTreeMap;

use super::ids::Sequence;

/// Disjoint ranges, both ends included, never adjacent to each other: the last sequence by the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(BTreeMap<Sequence, Sequence>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The lowest.
    pub fn first(&self) -> Option<(Sequence, Sequence)> {
        self.0
            .first_key_value()
            .map(|(&first, &last)| (first, last))
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        self.0.iter().map(|(&first, &last)| (first, last))
    }

    /// Adds a range above all that are here; joins it to the last one when they touch. Empty when `last` is
    /// before `first`.
    ///
    /// # Panics
    /// When the range does not lie above all others.
    pub fn push(&mut self, first: Sequence, last: Sequence) {
        if last < first {
            return;
        }
        match self.0.last_entry() {
            Some(top) if first <= *top.get() => panic!("ranges are pushed in ascending order"),
            Some(mut top) if top.get().next() == first => *top.get_mut() = last,
            Some(_) | None => {
                self.0.insert(first, last);
            }
        }
    }

    /// Adds a range, whatever of it is here already. Empty when `last` is before `first`.
    pub fn insert(&mut self, first: Sequence, last: Sequence) {
        if last < first {
            return;
        }
        let (mut from, mut to) = (first, last);
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end.next() >= first
        {
            (from, to) = (before, to.max(end));
        }
        while let Some((&next, &end)) = self.0.range(first..).next()
            && next <= to.next()
        {
            self.0.remove(&next);
            to = to.max(end);
        }
        self.0.insert(from, to);
    }

    /// Drops everything up to here.
    pub fn remove_through(&mut self, floor: Sequence) {
        while let Some((&first, &last)) = self.0.first_key_value()
            && first <= floor
        {
            self.0.pop_first();
            if last > floor {
                self.0.insert(floor.next(), last);
            }
        }
    }

    /// Drops everything after this.
    pub fn remove_after(&mut self, last: Sequence) {
        self.0.split_off(&last.next());
        if let Some(mut top) = self.0.last_entry() {
            *top.get_mut() = last.min(*top.get());
        }
    }

    pub fn contains(&self, sequence: Sequence) -> bool {
        let before = self.0.range(..=sequence).next_back();
        before.is_some_and(|(_, &last)| sequence <= last)
    }

    /// What of it lies between these, both included.
    pub fn within(
        &self,
        first: Sequence,
        last: Sequence,
    ) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        let before = self.0.range(..=first).next_back();
        let from = before.map_or(first, |(&from, _)| from);
        let ranges = self
            .0
            .range(from..)
            .take_while(move |(from, _)| **from <= last);
        let cut = ranges.map(move |(&from, &to)| (from.max(first), to.min(last)));
        cut.filter(|(from, to)| from <= to)
    }
}

impl IntoIterator for Ranges {
    type Item = (Sequence, Sequence);
    type IntoIter = std::collections::btree_map::IntoIter<Sequence, Sequence>;

    /// Ascending.
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Made of ranges that ascend and do not overlap.
impl FromIterator<(Sequence, Sequence)> for Ranges {
    fn from_iter<T: IntoIterator<Item = (Sequence, Sequence)>>(from: T) -> Self {
        let mut ranges = Self::default();
        for (first, last) in from {
            ranges.push(first, last);
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_ranges_join_and_membership_is_exact() {
        let mut ranges = Ranges::default();
        ranges.push(Sequence(3), Sequence(4));
        ranges.push(Sequence(5), Sequence(5));
        ranges.push(Sequence(9), Sequence(8));
        ranges.push(Sequence(9), Sequence(9));

        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(Sequence(3), Sequence(5)), (Sequence(9), Sequence(9))]
        );
        let inside: Vec<u64> = (1..=11).filter(|&n| ranges.contains(Sequence(n))).collect();
        assert_eq!(inside, [3, 4, 5, 9]);
    }

    #[test]
    fn inserted_anywhere_they_are_the_same_set() {
        let mut ranges = Ranges::default();
        for (first, last) in [(7, 8), (3, 3), (1, 1), (4, 6), (20, 30), (22, 25), (10, 21)] {
            ranges.insert(Sequence(first), Sequence(last));
        }

        let all: Vec<(u64, u64)> = ranges.iter().map(|(from, to)| (from.0, to.0)).collect();
        assert_eq!(all, [(1, 1), (3, 8), (10, 30)]);
        let some = ranges.within(Sequence(5), Sequence(12));
        let some: Vec<(u64, u64)> = some.map(|(from, to)| (from.0, to.0)).collect();
        assert_eq!(some, [(5, 8), (10, 12)]);

        ranges.remove_through(Sequence(11));
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(Sequence(12), Sequence(30))]
        );
        ranges.remove_after(Sequence(20));
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(Sequence(12), Sequence(20))]
        );
        ranges.remove_after(Sequence(11));
        assert!(ranges.is_empty());
    }
}
