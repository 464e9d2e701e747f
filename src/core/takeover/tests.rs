use std::sync::Arc;

use super::*;
use crate::core::batch::{Batch, ChannelRow};
use crate::core::event::Event;
use crate::core::ids::{BatchNumber, ClientId};
use crate::core::limits::{Heartbeats, Limits};
use crate::core::load::LoadQuery;
use crate::core::message::Message;
use crate::core::outbound::{Outbound, Reply};
use crate::core::request::{Publish, Publisher};
use crate::core::shadow::ShadowLimits;
use crate::core::time::Timestamp;

fn name() -> ChannelName {
    ChannelName::parse("orders".into()).expect("valid")
}

fn guid(sequence: u64) -> Guid {
    Guid::parse(format!("g{sequence}").into()).expect("valid")
}

fn message(sequence: u64) -> Message {
    Message {
        sequence: Sequence(sequence),
        published_at: Timestamp(sequence.cast_signed()),
        client_id: ClientId::parse("me".into()).expect("valid"),
        guid: guid(sequence),
        reply: "".into(),
        data: "x".into(),
    }
}

fn row(last: u64) -> ChannelRow {
    ChannelRow {
        name: name(),
        created_at: Timestamp(1),
        deleting: false,
        first_sequence: Sequence(1),
        last_sequence: Sequence(last),
        last_published_at: Timestamp(last.cast_signed()),
        message_count: last,
        byte_count: 0,
    }
}

/// The history of a node that committed these messages.
fn committed(sequences: std::ops::RangeInclusive<u64>) -> CommitHistory {
    let batch = Batch {
        channels: BTreeMap::from([(ChannelId(1), Some(row(*sequences.end())))]),
        messages: sequences
            .map(|sequence| (ChannelId(1), Arc::new(message(sequence))))
            .collect(),
        ..Batch::default()
    };
    let mut history = CommitHistory::new(1 << 20);
    history.committed(Epoch(3), &batch, Instant::default());
    history
}

/// The shadow of a node that received this publish of a client that waits for its answer.
fn shadow(sequence: u64) -> Shadow {
    let age = Duration::from_secs(5);
    let limits = ShadowLimits {
        age,
        needed: age,
        bytes: 1 << 20,
    };
    let mut shadow = Shadow::new(Some(limits));
    let publish = Request::Publish {
        request: Publish {
            publisher: Publisher::Client("me".into()),
            guid: guid(sequence),
            channel: name(),
            reply: "".into(),
            data: "x".into(),
        },
        reply: Subject::parse("answer".into()),
    };
    shadow.record(std::iter::once(publish), Instant::from_nanos(0));
    shadow
}

/// Postgres has failed over to a replica that has ten messages and nothing more.
fn after_a_failover(history: &mut CommitHistory, shadow: &mut Shadow) -> Restored {
    let (mut takeover, _) = Takeover::begin(Granted {
        epoch: Epoch(5),
        last_epoch: Epoch(3),
        failed_over: true,
        with_savepoints: false,
        window: Duration::from_secs(1),
        digester: |_, _| 0,
    });
    let mut tables = Snapshot::default();
    tables.counters.channel = 1;
    tables.channels.insert(ChannelId(1), row(10));
    let answers = [
        Answer::Drained,
        Answer::Tables(Box::new(tables)),
        Answer::Publishes(Stored::default()),
        Answer::Closed(BTreeSet::new()),
    ];
    let mut last = None;
    for answer in answers {
        let known = Known {
            shadow,
            history,
            last_sign: None,
        };
        last = Some(takeover.answer(answer, known));
    }
    if matches!(last, Some(Step::AskServers(_))) {
        let known = Known {
            shadow,
            history,
            last_sign: None,
        };
        last = Some(takeover.answer(Answer::ServersAsked, known));
    }
    let Some(Step::Restore(recovered)) = last else {
        panic!("everything is known: {last:?}");
    };
    let settings = Settings {
        heartbeats: Heartbeats::default(),
        limits: Limits::default(),
        replace_durables: false,
        ack_prefix: "acks".into(),
        partition: None,
    };
    recovered.restore(settings, shadow, Now::default())
}

#[test]
fn a_publish_that_is_put_back_is_answered_after_that_is_committed() {
    let mut history = committed(11..=12);
    let Restored {
        mut broker,
        backlog,
        ..
    } = after_a_failover(&mut history, &mut shadow(12));

    for (_, request) in backlog {
        let is_stored = matches!(request, Request::AlreadyStored { .. });
        assert!(is_stored, "{request:?}");
        broker.handle(request, Now::default());
    }
    let batch = broker.poll_batch(Now::default()).expect("it puts back");
    assert_eq!(batch.messages.len(), 2);
    assert_eq!(broker.poll_outbound(), None);

    broker.committed(BatchNumber(1), Now::default());
    let answer = broker.poll_outbound();
    let is_answer = matches!(&answer, Some(Outbound::Reply { reply: Reply::Published(it), .. }) if *it == guid(12));
    assert!(is_answer, "{answer:?}");
}

#[test]
fn what_was_heard_before_something_was_missed_is_answered_where_it_is_stored_and_never_carried_out()
{
    let backlog_of = |sequence: u64| {
        let mut shadow = shadow(sequence);
        shadow.missed();
        let restored = after_a_failover(&mut committed(11..=12), &mut shadow);
        restored.backlog.into_iter().map(|(_, request)| request)
    };

    let stored: Vec<Request> = backlog_of(12).collect();
    assert!(
        matches!(&stored[..], [Request::AlreadyStored { request, .. }] if request.guid == guid(12)),
        "{stored:?}"
    );
    assert_eq!(backlog_of(13).count(), 0, "another server may have it");
}

/// The row may be back in the table: read before it is gone, it would be published and deleted a second time.
#[test]
fn what_is_put_back_is_not_read_from_the_outbox_before_it_is_gone_there() {
    let mut history = committed(11..=11);
    let restored = after_a_failover(&mut history, &mut shadow(11));
    let mut broker = restored.broker;
    let reads_outbox = |broker: &mut Guarded| {
        broker.handle(Event::OutboxNoted, Now::default());
        broker.handle_timeout(Now::default());
        let loads = std::iter::from_fn(|| broker.poll_load());
        loads
            .filter(|load| matches!(load.query, LoadQuery::Outbox { .. }))
            .count()
    };

    assert_eq!(reads_outbox(&mut broker), 0);
    let batch = broker.poll_batch(Now::default()).expect("it puts back");
    assert_eq!(batch.outbox.put_back, [guid(11)]);
    assert_eq!(reads_outbox(&mut broker), 0);

    broker.committed(batch.number, Now::default());
    assert_eq!(reads_outbox(&mut broker), 1);
}
