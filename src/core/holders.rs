//! Which member of a queue group holds what is in flight, as the tables keep it over a takeover: in pages of sequences.
//! A page is written when something in it was delivered, and deleted when nothing of it is in flight any more; an ack
//! alone writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{HOLDERS_PAGE, PageHolders};
use super::group::InFlight;
use super::ids::Sequence;

#[derive(Clone, Debug, Default)]
pub(super) struct Holders {
    /// Pages in the tables.
    stored: BTreeSet<u64>,
    /// Something in them was delivered.
    delivered: BTreeSet<u64>,
    /// Stored ones of which something was settled.
    settled: BTreeSet<u64>,
}

impl Holders {
    /// The tables have this page. Nothing of it may be in flight any more.
    pub(super) fn restored(&mut self, page: u64) {
        self.stored.insert(page);
        self.settled.insert(page);
    }

    pub(super) fn delivered(&mut self, sequence: Sequence) {
        self.delivered.insert(sequence.0 / HOLDERS_PAGE);
    }

    pub(super) fn settled(&mut self, sequence: Sequence) {
        let page = sequence.0 / HOLDERS_PAGE;
        if self.stored.contains(&page) {
            self.settled.insert(page);
        }
    }

    /// The pages to be written, or to be deleted. To be called once per batch, which takes them.
    pub(super) fn take_changes(
        &mut self,
        in_flight: &BTreeMap<Sequence, InFlight>,
    ) -> Vec<(u64, Option<PageHolders>)> {
        let of_page = |page: u64| {
            let first = page * HOLDERS_PAGE;
            in_flight.range(Sequence(first)..Sequence(first + HOLDERS_PAGE))
        };
        let mut changes = Vec::new();
        for page in std::mem::take(&mut self.delivered) {
            let holders = of_page(page);
            let holders = holders.filter_map(|(&sequence, entry)| Some((sequence, entry.holder?)));
            let holders: PageHolders = holders.collect();
            if !holders.is_empty() {
                self.stored.insert(page);
                self.settled.remove(&page);
                changes.push((page, Some(holders)));
            }
        }
        for page in std::mem::take(&mut self.settled) {
            if of_page(page).next().is_none() && self.stored.remove(&page) {
                changes.push((page, None));
            }
        }
        changes
    }
}
