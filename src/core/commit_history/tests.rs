use super::*;

fn marks(epoch: u64, last_channel: u64, channels: &[(u64, u64)]) -> HighWaterMarks {
    let mark = |&(id, last): &(u64, u64)| {
        let name = ChannelName::parse(format!("c{id}").into()).expect("valid");
        let last = Sequence(last);
        let created_at = Timestamp(id.cast_signed());
        let mark = HighWaterMark {
            name,
            created_at,
            last,
        };
        (ChannelId(id), mark)
    };
    HighWaterMarks {
        epoch: Epoch(epoch),
        all_waited_for: None,
        sql_is_used: false,
        last_channel,
        channels: channels.iter().map(mark).collect(),
    }
}

fn sign(epoch: u64, at: u64) -> Sign {
    Sign {
        received_at: Instant::from_nanos(at),
        epoch: Epoch(epoch),
    }
}

fn served(epoch: u64, at: u64) -> CommitHistory {
    let mut history = CommitHistory::new(0);
    history.committed(Epoch(epoch), &Batch::default(), Instant::from_nanos(at));
    history
}

fn known(history: &CommitHistory) -> Vec<(u64, u64)> {
    let channels = history.channels().iter();
    channels.map(|(id, mark)| (id.0, mark.last.0)).collect()
}

#[test]
fn a_node_that_heard_another_serve_after_it_does_not_know_of_all_that_was() {
    let mut history = served(3, 2);
    history.observed_active(sign(2, 1));
    assert!(history.is_exact());
    history.observed_active(sign(5, 3));
    assert!(!history.is_exact());
    assert_eq!(history.epoch(), Epoch(3), "nobody proves what is heard");

    history.learn(
        served(5, 3).account(&BTreeMap::new()),
        Instant::from_nanos(4),
    );
    assert!(history.is_exact());
}

#[test]
fn an_epoch_that_another_node_was_heard_to_serve_too_is_not_known_to_its_end() {
    for epoch in [3, 2] {
        let mut history = served(3, 1);
        assert!(history.is_exact());

        history.observed_active(sign(epoch, 2));
        assert!(!history.is_exact());

        // Which it hears late.
        history.committed(Epoch(3), &Batch::default(), Instant::from_nanos(1));
        assert!(!history.is_exact());
        history.committed(Epoch(3), &Batch::default(), Instant::from_nanos(3));
        assert!(history.is_exact());
    }
}

#[test]
fn an_epoch_that_was_told_and_then_served_by_a_third_node_is_not_known_to_its_end() {
    let nothing = BTreeMap::new();
    let mut first = served(3, 1);
    let mut history = CommitHistory::new(0);
    history.observed_active(sign(3, 1));
    history.learn(first.account(&nothing), Instant::from_nanos(2));
    assert!(history.is_exact());
    history.committed(Epoch(3), &Batch::default(), Instant::from_nanos(3));

    // The third of that number.
    let last = served(3, 5);
    for history in [&mut first, &mut history] {
        history.observed_active(sign(3, 4));
        assert!(!history.is_exact());
    }

    history.learn(first.account(&nothing), Instant::from_nanos(6));
    assert!(!history.is_exact(), "the first does not know the third");
    history.learn(last.account(&nothing), Instant::from_nanos(6));
    history.observed_active(sign(3, 4));
    assert!(history.is_exact());
}

#[test]
fn tables_that_know_less_take_nothing_back() {
    let mut history = CommitHistory::new(0);
    history.observe(marks(7, 3, &[(1, 10), (2, 20), (3, 30)]));

    // Number 3 was not even given out there; number 2 was, and is gone.
    history.observe(marks(5, 2, &[(1, 8)]));

    assert_eq!(known(&history), [(1, 10), (3, 30)]);
    assert_eq!(history.epoch(), Epoch(7));
    assert!(!history.is_exact());
}

#[test]
fn a_number_that_was_given_to_another_channel_stands_for_that_one() {
    let mut history = CommitHistory::new(0);
    history.observe(marks(7, 1, &[(1, 10)]));
    let mut later = marks(8, 1, &[(1, 3)]);
    for mark in later.channels.values_mut() {
        mark.name = ChannelName::parse("other".into()).expect("valid");
    }

    history.observe(later);

    assert_eq!(known(&history), [(1, 3)]);
}

#[test]
fn a_replica_that_lacks_a_term_is_not_believed_to_have_everything() {
    let mut history = CommitHistory::new(0);
    for second in 1..=3 {
        let marks = HighWaterMarks {
            all_waited_for: Some(true),
            ..marks(7, 0, &[])
        };
        history.observe_at(marks, Instant::from_nanos(second * 1_000_000_000));
    }
    history.found(Epoch(7));
    assert!(history.is_replicated());

    history.found(Epoch(6));

    assert!(!history.is_replicated());
}

fn message(sequence: u64) -> Message {
    Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(1),
        client_id: crate::core::ids::ClientId::parse("me".into()).expect("valid"),
        guid: crate::core::ids::Guid::parse("g".into()).expect("valid"),
        reply: "".into(),
        data: "x".into(),
    }
}

#[test]
fn who_is_told_by_the_one_that_committed_last_knows_as_much() {
    let row = ChannelRow {
        name: ChannelName::parse("c1".into()).expect("valid"),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(9),
        last_published_at: Timestamp(1),
        message_count: 9,
        byte_count: 0,
    };
    let batch = Batch {
        channels: BTreeMap::from([(ChannelId(1), Some(row))]),
        messages: (1..=9)
            .map(|n| (ChannelId(1), Arc::new(message(n))))
            .collect(),
        ..Batch::default()
    };
    let mut former = CommitHistory::new(1 << 20);
    former.committed(Epoch(3), &batch, Instant::default());
    // It has seen the term of the one that asks.
    former.observe(marks(4, 1, &[(1, 5)]));
    let mut history = CommitHistory::new(0);
    history.observe(marks(3, 1, &[(1, 7)]));

    let has = BTreeMap::from([(ChannelId(1), Sequence(5))]);
    history.learn(former.account(&has), Instant::default());

    assert!(history.is_exact());
    assert_eq!(known(&history), [(1, 9)]);
    let found = history.messages_above(&has);
    let sequences: Vec<u64> = found[&ChannelId(1)].keys().map(|s| s.0).collect();
    assert_eq!(sequences, [6, 7, 8, 9]);

    // Not everything is known of one that committed before.
    history.observe(marks(5, 1, &[(1, 7)]));
    history.learn(former.account(&has), Instant::default());
    assert!(!history.is_exact());
}

#[test]
fn servers_that_ask_each_other_again_and_again_keep_each_message_once() {
    let committed = |epoch, sequences: std::ops::RangeInclusive<u64>| {
        let messages = sequences.map(|n| (ChannelId(1), Arc::new(message(n))));
        let batch = Batch {
            messages: messages.collect(),
            ..Batch::default()
        };
        let mut history = CommitHistory::new(1 << 20);
        history.committed(Epoch(epoch), &batch, Instant::default());
        history
    };
    let (mut one, mut other) = (committed(3, 1..=2), committed(4, 3..=5));
    let nothing = BTreeMap::new();
    for _ in 0..40 {
        // Each takes over in its turn, and its first commit fails.
        one.learn(other.account(&nothing), Instant::default());
        other.learn(one.account(&nothing), Instant::default());
    }
    for history in [&one, &other] {
        assert_eq!(history.account(&nothing).messages.len(), 5);
        let sizes = history
            .messages
            .iter()
            .map(|(_, it)| memory_size::message(it));
        assert_eq!(history.bytes, sizes.sum::<usize>());
    }
}

#[test]
fn only_who_committed_last_knows_of_everything() {
    let mut history = CommitHistory::new(0);
    assert!(!history.is_exact());

    history.committed(Epoch(3), &Batch::default(), Instant::default());
    assert!(history.is_exact());

    history.observe(marks(4, 0, &[]));
    assert!(!history.is_exact());
}
