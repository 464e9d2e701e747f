//! A set of sequences as ranges, for what is acked above a floor: as many ranges as there are messages in
//! flight below the last acked one, however many are acked.

use super::ids::Sequence;

/// Disjoint, ascending ranges, both ends included, never adjacent to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(Sequence, Sequence)>);

impl Ranges {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        self.0.iter().copied()
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
        match self.0.last_mut() {
            Some(top) if first <= top.1 => panic!("ranges are pushed in ascending order"),
            Some(top) if top.1.next() == first => top.1 = last,
            Some(_) | None => self.0.push((first, last)),
        }
    }

    pub fn contains(&self, sequence: Sequence) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= sequence);
        after > 0 && sequence <= self.0[after - 1].1
    }
}

/// Of ranges that ascend and do not overlap.
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
        let held: Vec<u64> = (1..=11).filter(|&n| ranges.contains(Sequence(n))).collect();
        assert_eq!(held, [3, 4, 5, 9]);
    }
}
