use super::*;
use crate::core::batch::{Batch, ChannelRow};
use crate::core::broker::Broker;
use crate::core::commit_history::{HighWaterMark, HighWaterMarks, Sign};
use crate::core::dedup::StoredPublish;
use crate::core::ids::{ClientId, Epoch, Guid};
use crate::core::limits::{Heartbeats, Limits, Settings};
use crate::core::request::Publisher;
use crate::core::time::{Instant, Now};

fn name() -> ChannelName {
    ChannelName::parse("orders".into()).expect("valid")
}

fn mark(last: u64) -> HighWaterMark {
    HighWaterMark {
        name: name(),
        created_at: Timestamp(1),
        last: Sequence(last),
    }
}

fn guid(sequence: u64) -> Guid {
    Guid::parse(format!("g{sequence}").into()).expect("valid")
}

fn row(first: u64, last: u64) -> ChannelRow {
    ChannelRow {
        name: name(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(first),
        last_sequence: Sequence(last),
        last_published_at: Timestamp(last.cast_signed()),
        message_count: last + 1 - first,
        byte_count: 0,
    }
}

/// The history of a node that committed these messages, the last of them its channel's last.
fn committed(sequences: std::ops::RangeInclusive<u64>) -> CommitHistory {
    let message = |sequence: u64| Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(sequence.cast_signed()),
        client_id: ClientId::parse("me".into()).expect("valid"),
        guid: guid(sequence),
        reply: "".into(),
        data: "x".into(),
    };
    let batch = Batch {
        channels: BTreeMap::from([(ChannelId(1), Some(row(1, *sequences.end())))]),
        messages: sequences
            .map(|sequence| (ChannelId(1), Arc::new(message(sequence))))
            .collect(),
        ..Batch::default()
    };
    let mut history = CommitHistory::new(1 << 20);
    history.committed(Epoch(3), &batch, Instant::default());
    history
}

fn tables(channels: &[(u64, ChannelRow)]) -> Snapshot {
    let mut tables = Snapshot::default();
    for (id, row) in channels {
        tables.counters.channel = tables.counters.channel.max(*id);
        tables.channels.insert(ChannelId(*id), row.clone());
    }
    tables
}

/// What a node with this history reports and writes; `received` are unanswered publishes of a known failover.
fn repair(tables: &Snapshot, history: &CommitHistory, received: Option<&[u64]>) -> (String, Batch) {
    repair_beside(tables, history, received, &Outcomes::default())
}

fn stored(sequence: u64) -> StoredPublish {
    StoredPublish {
        guid: guid(sequence),
        client_id: None,
        content: None,
    }
}

fn publish(number: u64) -> Publish {
    Publish {
        publisher: Publisher::Client("me".into()),
        guid: guid(number),
        channel: name(),
        reply: "".into(),
        data: "x".into(),
    }
}

fn repair_beside(
    tables: &Snapshot,
    history: &CommitHistory,
    received: Option<&[u64]>,
    outcomes: &Outcomes,
) -> (String, Batch) {
    let numbers = received.unwrap_or_default().iter();
    let publishes: Vec<Publish> = numbers.map(|&number| publish(number)).collect();
    let received = received.map(|_| publishes.iter().map(|it| (true, it)));
    repair_with(tables, Gaps::find(tables, history, received, outcomes))
}

fn repair_with(tables: &Snapshot, gaps: Gaps) -> (String, Batch) {
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits::default(),
        replace_durables: false,
        ack_prefix: "acks".into(),
        partition: None,
    };
    let mut broker = Broker::restore(tables.clone(), settings, Now::default());
    let lost = broker.repair(gaps);
    assert_eq!(broker.contradictions(), [""; 0]);
    let batch = broker.poll_batch().unwrap_or_default();
    assert_eq!(batch.lost, lost);
    let lost = lost.iter().map(|range| {
        let LostRange {
            channel,
            first,
            last,
            outcome,
            ..
        } = range;
        format!("{channel}: {first} to {last} {outcome:?}")
    });
    (lost.collect::<Vec<_>>().join(", "), batch)
}

fn sequences(batch: &Batch) -> Vec<u64> {
    batch.messages.iter().map(|(_, m)| m.sequence.0).collect()
}

#[test]
fn what_is_remembered_is_put_back_and_the_rest_is_passed_over() {
    let (lost, batch) = repair(&tables(&[(1, row(1, 10))]), &committed(14..=16), None);

    assert_eq!(lost, "1: 11 to 13 Lost, 1: 14 to 16 Restored");
    assert_eq!(sequences(&batch), [14, 15, 16]);
    let row = batch.channels[&ChannelId(1)].clone().expect("it is kept");
    assert_eq!(
        (row.first_sequence, row.last_sequence),
        (Sequence(1), Sequence(16))
    );
    assert_eq!(row.message_count, 13);
}

#[test]
fn tables_that_know_as_much_are_left_alone() {
    let history = committed(5..=10);
    for last in [10, 11] {
        let (lost, batch) = repair(&tables(&[(1, row(1, last))]), &history, Some(&[90, 91]));
        assert_eq!((lost.as_str(), batch), ("", Batch::default()));
    }
}

#[test]
fn a_channel_that_was_lost_comes_back_and_one_that_was_deleted_does_not() {
    let history = committed(1..=3);

    let (lost, batch) = repair(&tables(&[]), &history, None);
    assert_eq!(lost, "1: 1 to 3 Restored");
    assert_eq!(batch.counters.map(|counters| counters.channel), Some(1));
    assert_eq!(sequences(&batch), [1, 2, 3]);

    let mut other = row(1, 5);
    other.name = ChannelName::parse("other".into()).expect("valid");
    let (lost, _) = repair(&tables(&[(2, other)]), &history, None);
    assert_eq!(lost, "");
}

#[test]
fn a_name_that_was_given_to_a_lost_channel_goes_back_to_it() {
    let mut tables = tables(&[(1, row(1, 4))]);
    tables.counters.channel = 1;
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: false,
        last_channel: 1,
        channels: BTreeMap::from([(ChannelId(2), mark(2))]),
    });

    let (lost, batch) = repair(&tables, &history, None);

    assert_eq!(lost, "2: 1 to 2 Lost");
    let deleting = |id| {
        batch.channels[&ChannelId(id)]
            .as_ref()
            .map(|row| row.deleting)
    };
    assert_eq!((deleting(1), deleting(2)), (Some(true), Some(false)));
}

/// Both terms have the same number: the tables lacked the one that is remembered.
#[test]
fn a_channel_that_a_term_made_anew_is_kept_and_the_lost_one_is_told() {
    let anew = ChannelRow {
        created_at: Timestamp(2),
        ..row(1, 4)
    };
    let mut tables = tables(&[(1, anew)]);
    tables.counters.channel = 1;
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: false,
        last_channel: 2,
        channels: BTreeMap::from([(ChannelId(2), mark(2))]),
    });
    history.found(Epoch(3));

    let (lost, batch) = repair(&tables, &history, None);

    assert_eq!(lost, "2: 1 to 2 Lost");
    assert_eq!(batch.channels, BTreeMap::new());
    assert_eq!(batch.counters.expect("changed").channel, 2);
}

/// The history of a standby that has seen every commit wait for every replica.
fn waited_for(last: u64) -> CommitHistory {
    let mut history = CommitHistory::new(0);
    for second in 1..=3 {
        let marks = HighWaterMarks {
            epoch: Epoch(3),
            all_waited_for: Some(true),
            sql_is_used: false,
            last_channel: 1,
            channels: BTreeMap::from([(ChannelId(1), mark(last))]),
        };
        history.observe_at(marks, Instant::from_nanos(second * 1_000_000_000));
    }
    history
}

#[test]
fn nothing_is_passed_over_on_a_replica_that_every_commit_waited_for() {
    let tables = tables(&[(1, row(1, 12))]);

    let (lost, batch) = repair(&tables, &waited_for(10), Some(&[13, 14]));

    assert_eq!(lost, "");
    assert_eq!(batch, Batch::default());
}

#[test]
fn a_replica_that_lacks_something_known_may_lack_more() {
    let lagging = tables(&[(1, row(1, 10))]);
    let (lost, _) = repair(&lagging, &waited_for(12), Some(&[11, 12, 13]));
    assert_eq!(lost, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");

    // It has not even got the channel, which was empty when it was seen last.
    let (lost, _) = repair(&Snapshot::default(), &waited_for(0), Some(&[1, 2]));
    assert_eq!(lost, "1: 1 to 2 Unknown");
}

#[test]
fn a_standby_passes_over_what_may_have_been_given_to_what_it_heard() {
    let tables = tables(&[(1, row(1, 10))]);
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: false,
        last_channel: 1,
        channels: BTreeMap::from([(ChannelId(1), mark(12))]),
    });

    let (lost, batch) = repair(&tables, &history, Some(&[11, 12, 13, 13]));
    assert_eq!(lost, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");
    assert_eq!(sequences(&batch), [0; 0]);

    // Without a failover of Postgres what was received is only under way.
    let (lost, _) = repair(&tables, &history, None);
    assert_eq!(lost, "1: 11 to 12 Lost");
    // Who was the active knows which were given out.
    let (lost, _) = repair(&tables, &committed(1..=12), Some(&[13, 14]));
    assert_eq!(lost, "1: 11 to 12 Restored");
}

#[test]
fn what_a_standby_heard_before_it_missed_something_may_have_been_given_a_sequence_too() {
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        channels: BTreeMap::from([(ChannelId(1), mark(10))]),
        last_channel: 1,
        ..HighWaterMarks::default()
    });
    let heard = [
        (false, publish(11)),
        (false, publish(12)),
        (true, publish(13)),
    ];
    let find = |outcomes: &Outcomes| {
        let heard = heard.iter().map(|(is_whole, publish)| (*is_whole, publish));
        let tables = tables(&[(1, row(1, 10))]);
        let gaps = Gaps::find(&tables, &history, Some(heard), outcomes);
        repair_with(&tables, gaps).0
    };
    assert_eq!(find(&Outcomes::default()), "1: 11 to 13 Unknown");
    // That one is stored says nothing of what came before the rest.
    let mut outcomes = Outcomes::default();
    outcomes.stored.add(name(), stored(11));
    assert_eq!(find(&outcomes), "1: 11 to 12 Unknown");
}

/// What it received before its own term is not among what it has received since.
#[test]
fn a_former_active_passes_over_what_may_have_been_given_after_its_own_term() {
    let tables = tables(&[(1, row(1, 10))]);
    let mut history = committed(11..=16);
    history.observed_active(Sign {
        received_at: Instant::from_nanos(1),
        epoch: Epoch(3),
    });

    let (told, batch) = repair(&tables, &history, Some(&[17, 18]));

    assert_eq!(told, "1: 11 to 16 Restored, 1: 17 to 18 Unknown");
    assert_eq!(sequences(&batch), [11, 12, 13, 14, 15, 16]);
}

#[test]
fn what_was_published_in_sql_is_not_among_what_a_standby_heard() {
    let tables = tables(&[(1, row(1, 10))]);
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: true,
        last_channel: 1,
        channels: BTreeMap::from([(ChannelId(1), mark(12))]),
    });
    let mut outcomes = Outcomes::default();
    for sequence in 1..=10 {
        outcomes.stored.add(name(), stored(sequence));
    }

    // Both 11 and 12 may have been published in SQL.
    let (told, _) = repair_beside(&tables, &history, Some(&[10, 13, 14]), &outcomes);
    assert_eq!(told, "1: 11 to 12 Lost, 1: 13 to 14 Unknown");
}

#[test]
fn sequences_of_what_is_stored_anew_are_not_told_as_lost() {
    let tables = tables(&[(1, row(1, 10))]);
    let mut history = CommitHistory::new(0);
    history.observe(HighWaterMarks {
        epoch: Epoch(3),
        all_waited_for: None,
        sql_is_used: false,
        last_channel: 1,
        channels: BTreeMap::from([(ChannelId(1), mark(12))]),
    });
    let mut outcomes = Outcomes::default();
    for sequence in 1..=10 {
        outcomes.stored.add(name(), stored(sequence));
    }

    let (lost, _) = repair_beside(&tables, &history, Some(&[9, 10, 11, 12, 13]), &outcomes);
    assert_eq!(lost, "1: 11 to 13 StoredAnew");
    // Fewer than were lost, or some came before the node listened.
    let (lost, _) = repair_beside(&tables, &history, Some(&[10, 11]), &outcomes);
    assert_eq!(lost, "1: 11 to 12 Lost");
    let (lost, _) = repair_beside(&tables, &history, Some(&[11, 12, 13]), &outcomes);
    assert_eq!(lost, "1: 11 to 12 Lost, 1: 13 to 13 Unknown");
}

#[test]
fn messages_put_back_are_not_older_than_those_before_them() {
    let mut tables = tables(&[(1, row(1, 10))]);
    let later = Timestamp(1_000);
    let row = tables.channels.get_mut(&ChannelId(1)).expect("it is there");
    row.last_published_at = later;

    let (_, batch) = repair(&tables, &committed(11..=12), None);

    assert!(batch.messages.iter().all(|(_, m)| m.published_at == later));
}
