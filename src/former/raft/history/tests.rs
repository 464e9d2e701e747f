use std::cell::Cell;
use std::convert::Infallible;

use super::*;
use crate::former::Keys;

struct Log {
    history: History,
    entries: Vec<Entry>,
}

impl Log {
    fn over(snapshot: Option<(u64, u64)>, entries: Vec<Entry>) -> Self {
        let mut history = History::over(snapshot);
        for entry in &entries {
            history.add(entry);
        }
        history.finish(None);
        Self { history, entries }
    }

    fn marks(&self, indexes: RangeInclusive<u64>) -> Vec<Mark> {
        let mut marks = self.history.marks(indexes.clone());
        let entries = self.entries.iter();
        let entries = entries.filter(|entry| indexes.contains(&entry.index));
        entries.for_each(|entry| marks.add(entry, &Keys::default().of_log()));
        marks.finish()
    }

    fn compare(&self, other: &Self) -> Compared {
        let logs = [self, other];
        let mut read = |log: usize, indexes| Ok::<_, Infallible>(logs[log].marks(indexes));
        let Ok(mut found) = compare(&logs.map(|it| &it.history), &mut read);
        found.remove(&(0, 1)).unwrap()
    }
}

/// Terms and operations from an index on; `-` is an entry without one.
fn entries(first: u64, entries: &[(u64, &str)]) -> Vec<Entry> {
    let entries = (first..).zip(entries);
    let entries = entries.map(|(index, &(term, operation))| {
        let what = match operation {
            "-" => What::Other,
            _ => What::Command([&[PUBLISHES][..], operation.as_bytes()].concat().into()),
        };
        Entry { index, term, what }
    });
    entries.collect()
}

fn log(first: u64, operations: &[(u64, &str)]) -> Log {
    Log::over(None, entries(first, operations))
}

fn conflict(one: &Log, other: &Log) -> Option<String> {
    let found = one.compare(other);
    assert_eq!(other.compare(one), found);
    found.conflict
}

#[test]
fn nodes_of_one_cluster_have_the_same_entries_but_for_those_that_were_never_committed() {
    let long = log(1, &[(1, "-"), (2, "a"), (2, "b"), (2, "c")]);
    let found = long.compare(&log(1, &[(1, "-"), (2, "a")]));
    assert!(found.is_same);
    assert_eq!((found.parted, found.conflict), (None, None));
    // An active that was cut off has gone on for a while.
    let elected = log(2, &[(2, "a"), (3, "-"), (3, "d")]);
    let found = long.compare(&elected);
    assert!(found.is_same);
    assert_eq!((found.parted, found.conflict), (Some(3), None));
}

#[test]
fn logs_of_two_clusters_are_told_by_an_entry_that_differs() {
    let one = log(1, &[(1, "-"), (2, "a"), (2, "b")]);
    let reason = conflict(&one, &log(1, &[(1, "-"), (2, "a"), (2, "x")]));
    let expected = "entry 3 of term 2 is not the same in their logs";
    assert_eq!(reason.as_deref(), Some(expected));
    let reason = conflict(&one, &log(2, &[(3, "a"), (2, "b")]));
    assert!(reason.unwrap().contains("entry 2 before it"));
}

#[test]
fn an_operation_that_any_cluster_may_have_proves_nothing() {
    let disconnects = || {
        let what = What::Command(Bytes::from_static(b"\x08\x07\x42\x03\x0a\x01a"));
        let (index, term) = (2, 2);
        Log::over(None, vec![Entry { index, term, what }])
    };
    assert_eq!(disconnects().compare(&disconnects()), Compared::default());
}

#[test]
fn nothing_is_concluded_from_what_cannot_be_compared() {
    let one = log(1, &[(1, "-"), (2, "a")]);
    assert_eq!(one.compare(&log(3, &[(2, "b")])), Compared::default());
    // Each node has encrypted by itself.
    let of = |command: &'static [u8; 7]| {
        let what = What::Command(Bytes::from_static(command));
        let (index, term) = (1, 2);
        Log::over(None, vec![Entry { index, term, what }])
    };
    let found = of(b"\x01sealed").compare(&of(b"\x01closed"));
    assert_eq!(found, Compared::default());
}

#[test]
fn what_a_snapshot_came_over_does_not_count() {
    let never = entries(1, &[(2, "a"), (2, "never committed")]);
    let stale = Log::over(Some((9, 3)), never);
    let others = log(1, &[(2, "a"), (2, "b"), (3, "c")]);
    assert_eq!(stale.compare(&others), Compared::default());
    assert_eq!(stale.history.first(), 9);

    let never = entries(1, &[(2, "a"), (2, "never committed"), (3, "d")]);
    let same_index = Log::over(Some((2, 3)), never);
    let marks = same_index.marks(0..=u64::MAX);
    let found: Vec<(u64, u64)> = marks.iter().map(|it| (it.index, it.term)).collect();
    assert_eq!(found, [(2, 3), (3, 3)]);

    // What was sent with a snapshot, and what came after it.
    let behind = [entries(1, &[(1, "a")]), entries(6, &[(2, "b"), (2, "c")])];
    let sent = Log::over(Some((5, 2)), behind.concat());
    assert_eq!(sent.history.indexes, Some((5, 7)));
    let of_sender = log(
        1,
        &[(1, "a"), (1, "-"), (1, "-"), (1, "-"), (2, "-"), (2, "b")],
    );
    let found = sent.compare(&of_sender);
    assert!(found.is_same);
    assert_eq!((found.parted, found.conflict), (None, None));
}

#[test]
fn logs_of_any_length_are_compared_a_window_at_a_time() {
    const LAST: u64 = WINDOW * 3 + 7;
    let history = |indexes: RangeInclusive<u64>| {
        let mut history = History::default();
        for index in indexes {
            let what = What::Other;
            let term = 1;
            history.add(&Entry { index, term, what });
        }
        history
    };
    // The last one is of a node that was away, and has only a snapshot.
    let far = history(u64::MAX..=u64::MAX);
    let logs = [&history(1..=LAST), &history(WINDOW..=LAST), &far, &far];
    let (reads, most) = (Cell::new(0), Cell::new(0));
    let compared = compare(&logs, &mut |log, indexes| {
        reads.set(reads.get() + 1);
        let marks = indexes.filter(|index| {
            let (first, last) = logs[log].indexes.unwrap();
            (first..=last).contains(index)
        });
        let marks: Vec<Mark> = marks
            .map(|index| Mark {
                index,
                // In the last entry they differ.
                term: if index == LAST { log as u64 } else { 1 },
                content: Content::Operation {
                    digest: index,
                    is_unique: true,
                },
            })
            .collect();
        most.set(most.get().max(marks.len() as u64));
        Ok::<_, Infallible>(marks)
    });
    let Ok(compared) = compared;
    let one = &compared[&(0, 1)];
    assert!(one.is_same);
    assert_eq!((one.parted, &one.conflict), (Some(LAST), &None));
    assert_eq!(compared[&(1, 2)], Compared::default());
    assert!(most.get() <= WINDOW, "{}", most.get());
    assert_eq!(reads.get(), 8, "what only one of them has is not read");
}
