use bytes::Bytes;

use super::*;
use crate::core::batch::{ClientRow, Heartbeat};
use crate::core::ids::{ChannelName, ClientId, ConnectionId, Guid, Subject};
use crate::core::limits::{Heartbeats, Settings};
use crate::core::request::{Publish, Publisher};
use crate::core::snapshot::Snapshot;
use crate::core::time::Timestamp;

const LEASE: Duration = Duration::from_secs(2);

fn at(millis: u64) -> Now {
    Now {
        monotonic: Instant::from_nanos(millis * 1_000_000),
        ..Now::default()
    }
}

fn for_ever() -> Instant {
    Instant::from_nanos(u64::MAX)
}

fn active() -> ActiveLoop {
    active_on(Snapshot::default())
}

fn active_on(tables: Snapshot) -> ActiveLoop {
    active_with(tables, Duration::from_millis(500))
}

/// Clients are asked every second, and have so long to answer.
fn active_with(tables: Snapshot, timeout: Duration) -> ActiveLoop {
    let settings = Settings {
        heartbeats: Heartbeats {
            interval: Duration::from_secs(1),
            timeout,
            fail_count: 0,
            ..Heartbeats::default()
        },
        limits: Limits::default(),
        replace_durables: false,
        ack_prefix: "acks".into(),
        partition: None,
    };
    let broker = Guarded::new(Broker::restore(tables, settings, at(0)));
    ActiveLoop::new(broker, VecDeque::new(), LEASE, None, at(0).monotonic)
}

fn with_a_client() -> ActiveLoop {
    active_on(a_client())
}

fn a_client() -> Snapshot {
    let row = ClientRow {
        connection_id: ConnectionId::default(),
        heartbeat_inbox: Subject::parse("hb".into()).expect("valid"),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
        connected_at: Timestamp::default(),
        heartbeat: Heartbeat::default(),
    };
    let id = ClientId::parse("me".into()).expect("valid");
    Snapshot {
        clients: [(id, row)].into(),
        ..Snapshot::default()
    }
}

fn ping() -> Event {
    Event::Request(Request::Ping {
        connection_id: ConnectionId::default(),
        reply: Subject::parse("reply".into()).expect("valid"),
    })
}

fn turn(active: &mut ActiveLoop, now: Now) -> Result<Turn, End> {
    active.begin_turn(now, for_ever(), Duration::ZERO)
}

fn wait(active: &mut ActiveLoop, now: Now) -> Wait {
    let wait = active.rest(now).expect("the term goes on");
    wait.expect("nothing has moved")
}

#[test]
fn an_untrusted_active_says_nothing_and_gives_up_when_nobody_says_how_the_term_ended() {
    let mut active = active();
    let trusted_until = at(100).monotonic;
    active.take_requests(std::iter::once(ping()), false, at(50), trusted_until);
    assert!(
        active
            .poll_answer(at(100).monotonic, trusted_until)
            .is_none()
    );

    let silent = active.begin_turn(at(100), trusted_until, Duration::ZERO);
    assert_eq!(silent, Ok(Turn::KeepSilent(at(105).monotonic)));
    let silent = active.begin_turn(at(60_100), trusted_until, Duration::ZERO);
    assert!(matches!(silent, Ok(Turn::KeepSilent(_))));
    let end = active.begin_turn(at(60_101), trusted_until, Duration::ZERO);
    assert_eq!(end, Err(End::Unproved));

    assert!(
        active
            .poll_answer(at(99).monotonic, trusted_until)
            .is_some()
    );
}

#[test]
fn what_comes_while_nobody_can_know_who_is_active_waits_for_the_turn_in_which_it_is_known() {
    let mut active = active();
    active.take_requests(std::iter::once(ping()), false, at(100), at(100).monotonic);
    assert_eq!(turn(&mut active, at(200)), Ok(Turn::Serve));
    assert!(active.poll_answer(at(200).monotonic, for_ever()).is_none());
    assert!(wait(&mut active, at(200)).has_backlog);

    active.take_backlog(at(200));
    assert!(active.poll_answer(at(200).monotonic, for_ever()).is_some());
}

#[test]
fn a_nats_that_is_out_of_reach_for_a_lease_ends_the_term_unless_it_comes_back() {
    let mut active = active();
    active
        .nats_changed(false, false, at(1000))
        .expect("it waits");
    active.take_requests(std::iter::once(ping()), false, at(1000), for_ever());
    assert!(active.poll_answer(at(1000).monotonic, for_ever()).is_none());
    assert_eq!(turn(&mut active, at(2900)), Ok(Turn::Serve));
    assert_eq!(wait(&mut active, at(2900)).until, at(3000).monotonic);
    assert_eq!(active.timeout(at(2999).monotonic), Ok(()));
    assert_eq!(active.timeout(at(3000).monotonic), Err(End::NatsLost));

    active
        .nats_changed(true, false, at(3001))
        .expect("it is back");
    assert_eq!(active.timeout(at(9000).monotonic), Ok(()));
    assert!(active.poll_answer(at(9000).monotonic, for_ever()).is_some());
}

#[test]
fn a_nats_that_takes_nothing_for_a_lease_ends_the_term() {
    let mut active = active();
    assert_eq!(active.sent(at(1000).monotonic, false, 7), Ok(()));
    assert_eq!(
        active.sent(at(2900).monotonic, false, 8),
        Ok(()),
        "it moves"
    );
    assert_eq!(active.sent(at(4900).monotonic, false, 8), Ok(()));
    assert_eq!(
        active.sent(at(4901).monotonic, false, 8),
        Err(End::NatsLost)
    );
    assert_eq!(
        active.sent(at(4902).monotonic, true, 8),
        Ok(()),
        "there is room"
    );
}

#[test]
fn a_silent_nats_server_beside_one_that_a_standby_hears_ends_the_term() {
    let mut active = active();
    assert_eq!(active.nats_changed(true, true, at(1)), Err(End::NatsSilent));
}

#[test]
fn who_is_asked_to_end_takes_nothing_new_and_ends_when_nothing_is_under_way_or_time_is_up() {
    let mut idle = active();
    assert!(wait(&mut idle, at(0)).intake.is_open());
    idle.ask_to_end(at(0).monotonic);
    assert!(!idle.is_open());
    assert_eq!(idle.rest(at(0)), Err(End::Drained));

    let mut busy = active();
    busy.take_requests(std::iter::once(ping()), false, at(0), for_ever());
    busy.ask_to_end(at(0).monotonic);
    busy.ask_to_end(at(1000).monotonic);
    let wait = wait(&mut busy, at(1900));
    assert!(!wait.intake.is_open());
    assert_eq!(wait.until, at(2000).monotonic, "as asked first");
    assert_eq!(busy.timeout(at(2000).monotonic), Err(End::Drained));
}

fn publish(number: usize) -> Event {
    let request = Publish {
        publisher: Publisher::Client("me".into()),
        guid: Guid::parse(format!("{number}").into()).expect("valid"),
        channel: ChannelName::parse("orders".into()).expect("valid"),
        reply: "".into(),
        data: Bytes::from_static(b"data"),
    };
    let reply = None;
    Event::Request(Request::Publish { request, reply })
}

#[test]
fn a_batch_that_is_full_takes_a_few_more_requests_of_clients_of_whom_nothing_waited() {
    let mut active = with_a_client();
    let bound = Limits::default().batch_messages;
    let mut taken = 0;
    while let Intake::All(quota) = wait(&mut active, at(0)).intake {
        assert!(quota.requests <= EVENTS_PER_TURN && quota.bytes <= Limits::default().batch_bytes);
        let events = (taken..taken + quota.requests).map(publish);
        active.take_requests(events, true, at(0), for_ever());
        taken += quota.requests;
    }
    assert_eq!(taken, bound);

    while let Intake::New(quota) = wait(&mut active, at(0)).intake {
        let events = (taken..taken + quota.requests).map(publish);
        active.take_requests(events, true, at(0), for_ever());
        taken += quota.requests;
    }
    assert_eq!(taken, bound + bound / 8);
    assert_eq!(wait(&mut active, at(0)).intake, Intake::Nothing);

    // What is too much for the reserve, too, goes before anything new.
    active.take_requests([publish(taken)].into_iter(), true, at(0), for_ever());
    let batch = active.poll_batch(at(0)).expect("a full one");
    assert_eq!(batch.messages.len(), taken);
    let next = wait(&mut active, at(0));
    assert!(
        next.has_backlog && matches!(next.intake, Intake::All(_)),
        "{next:?}"
    );
}

#[test]
fn batches_are_large_while_no_client_waits_for_each_answer() {
    let mut window = UploadWindow::new(LEASE, 8 << 20);
    window.committed(100, Duration::from_micros(500));
    for _ in 0..60 {
        let bytes = window.batch_bytes(true);
        window.committed(bytes, Duration::from_micros(500 + bytes as u64 / 100));
    }
    let mut active = with_a_client();
    let capacity = |active: &mut ActiveLoop, now: Now| {
        active.set_window(&window, now.monotonic);
        match active.rest(now).expect("no end").expect("a wait").intake {
            Intake::All(quota) => quota.bytes,
            other @ (Intake::Nothing | Intake::New(_)) => panic!("{other:?}"),
        }
    };
    let large = capacity(&mut active, at(0));

    // It finds a full batch, and nothing of it waits.
    let mut taken = 0;
    while let Intake::All(quota) = wait(&mut active, at(0)).intake {
        let events = (taken..taken + quota.requests).map(publish);
        active.take_requests(events, true, at(0), for_ever());
        taken += quota.requests;
    }
    active.take_requests([publish(taken)].into_iter(), true, at(0), for_ever());
    active.poll_batch(at(0)).expect("a full one");

    let small = capacity(&mut active, at(100));
    assert!(small <= large / 3, "{small} of {large}");
    assert_eq!(capacity(&mut active, at(5100)), large, "it has gone");
}

#[test]
fn a_turn_comes_before_it_would_count_as_a_pause() {
    let mut active = active();
    let mut now = at(0);
    for _ in 0..10 {
        assert_eq!(turn(&mut active, now), Ok(Turn::Serve));
        let wait = wait(&mut active, now);
        assert!(wait.until.since(now.monotonic) < active.pause_max);
        now.monotonic = wait.until;
    }
    assert_eq!(active.paused_at, None);
}

#[test]
fn what_came_during_a_pause_counts_from_its_begin_until_all_of_it_is_read() {
    let mut active = active();
    assert_eq!(turn(&mut active, at(1000)), Ok(Turn::Serve));
    active.paused_at = None;
    assert_eq!(
        active.paused_since(at(5000).monotonic, true),
        at(1000).monotonic
    );
    assert_eq!(turn(&mut active, at(5000)), Ok(Turn::Serve));
    assert_eq!(
        active.paused_since(at(5000).monotonic, true),
        at(1000).monotonic
    );
    assert_eq!(
        active.paused_since(at(5001).monotonic, false),
        at(1000).monotonic
    );
    assert_eq!(
        active.paused_since(at(5002).monotonic, false),
        at(5002).monotonic
    );
}

#[test]
fn what_ran_out_during_a_pause_says_nothing_about_clients() {
    for (pause, left) in [(400, 0), (2000, 1)] {
        let mut active = with_a_client();
        for millis in [400, 800, 1000, 1400] {
            assert_eq!(turn(&mut active, at(millis)), Ok(Turn::Serve));
            let probe = active.poll_answer(at(millis).monotonic, for_ever());
            assert_eq!(probe.is_some(), millis == 1000, "at {millis} ms");
        }
        assert_eq!(turn(&mut active, at(1400 + pause)), Ok(Turn::Serve));
        let clients = active.broker().counts().clients;
        assert_eq!(clients, left, "after {pause} ms");
    }
}

#[test]
fn clients_that_have_little_time_to_answer_are_not_closed_for_a_pause_or_a_late_link() {
    // Frozen; or a link on which the probe has not left yet.
    for (turns, is_late) in [(1, false), (4, true)] {
        let mut active = active_with(a_client(), Duration::from_millis(200));
        for millis in (0..=1000).step_by(50) {
            assert_eq!(turn(&mut active, at(millis)), Ok(Turn::Serve));
            assert!(wait(&mut active, at(millis)).until < at(millis + 160).monotonic);
        }
        let probe = active.poll_answer(at(1000).monotonic, for_ever());
        assert!(matches!(probe, Some(Outbound::Probe { .. })), "{probe:?}");
        for number in 1..=turns {
            let millis = number * 240 / turns;
            let lag = Duration::from_millis(if is_late { millis } else { 0 });
            let served = active.begin_turn(at(1000 + millis), for_ever(), lag);
            assert_eq!(served, Ok(Turn::Serve));
        }
        let clients = active.broker().counts().clients;
        assert_eq!(clients, 1, "late: {is_late}");
    }
}

/// Nothing is taken from NATS any more, and their answers with it.
#[test]
fn a_term_that_is_about_to_end_closes_no_client_whose_answer_it_does_not_read() {
    let mut active = with_a_client();
    assert_eq!(turn(&mut active, at(1000)), Ok(Turn::Serve));
    let probe = active.poll_answer(at(1000).monotonic, for_ever());
    assert!(matches!(probe, Some(Outbound::Probe { .. })), "{probe:?}");
    active.ask_to_end(at(1200).monotonic);
    for millis in (1200..3000).step_by(100) {
        assert!(active.poll_batch(at(millis)).is_none(), "it is not closed");
        assert_eq!(turn(&mut active, at(millis)), Ok(Turn::Serve));
    }
}

#[test]
fn what_a_term_found_stored_and_left_unanswered_is_judged_anew_by_the_next_one() {
    let request = Publish {
        publisher: Publisher::Client("me".into()),
        channel: ChannelName::parse("orders".into()).expect("valid"),
        guid: Guid::parse("g".into()).expect("valid"),
        reply: "".into(),
        data: Bytes::new(),
    };
    let reply = Subject::parse("reply".into()).expect("valid");
    let found = Request::AlreadyStored {
        request: request.clone(),
        reply: reply.clone(),
    };
    let mut active = active();
    active.backlog.push_back((at(0).monotonic, found.into()));

    let left: Vec<Request> = active.leave(at(1).monotonic).map(|it| it.1).collect();
    let reply = Some(reply);
    assert_eq!(left, [Request::Publish { request, reply }]);
}

#[test]
fn a_publish_committed_while_nats_takes_nothing_or_has_just_gone_is_judged_anew_by_the_next_term() {
    let left = |has_room: bool, has_nats: bool| {
        let shadow = ShadowLimits {
            age: Duration::from_secs(5),
            needed: LEASE,
            bytes: 1 << 20,
        };
        let mut active = with_a_client();
        active.journal = RequestJournal::new(Some(shadow));
        active.take_requests(std::iter::once(publish(1)), false, at(100), for_ever());
        let batch = active.poll_batch(at(100)).expect("it is stored");
        let sent = active.sent(at(200).monotonic, has_room, 7);
        sent.expect("it is not blocked for long");
        active.committed(batch.number, has_nats, at(300));
        active.leave(at(3000).monotonic).count()
    };
    assert_eq!(left(true, true), 0, "its answer has left");
    assert_eq!(left(false, true), 1);
    assert_eq!(left(true, false), 1, "nobody has told the loop yet");
}
