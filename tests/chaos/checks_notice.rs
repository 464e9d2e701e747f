//! That each check notices what it is for: a run in which all is well, and one thing changed at a time.

use std::time::Duration;

use bytes::Bytes;

use crate::checks::violations;
use crate::history::{
    Arrival, Beginning, Excuse, History, LiveClient, Outcome, Publish, Receiver, Row, Stored,
};

const CHANNEL: &str = "orders";

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Three messages, the last of them in a second term.
fn good() -> (History, Stored) {
    let data = |number: i64| Bytes::from(format!("message {number}"));
    let publish = |number: i64| Publish {
        channel: CHANNEL,
        client_id: "publisher".to_owned(),
        guid: format!("guid-{number}"),
        data: data(number),
        sent_at: at(number.cast_unsigned() * 10),
        outcome: Outcome::Acked(at(number.cast_unsigned() * 10 + 5)),
        is_abandoned: false,
    };
    let row = |sequence: i64| Row {
        sequence,
        epoch: 1 + sequence / 3,
        published_at_ns: sequence,
        guid: format!("guid-{sequence}"),
        data: data(sequence).to_vec(),
    };
    let arrival = |number: i64| Arrival {
        sequence: number.cast_unsigned(),
        data: data(number),
        is_redelivered: false,
    };
    let history = History {
        publishes: (1..=3).map(publish).collect(),
        subscriptions: vec![Receiver {
            name: "durable".to_owned(),
            channel: CHANNEL,
            members: vec![(1..=3).map(arrival).collect()],
        }],
        clients: vec![LiveClient {
            client_id: "publisher".to_owned(),
            connection_id: "connection".to_owned(),
            ping: Ok(()),
        }],
        beginnings: vec![Beginning {
            epoch: 2,
            older_rows: [(CHANNEL.to_owned(), 2)].into(),
        }],
        ..History::default()
    };
    let stored = Stored {
        messages: [(CHANNEL, (1..=3).map(row).collect())].into(),
        clients: [("publisher".to_owned(), "connection".to_owned())].into(),
        takeovers: vec![1, 2],
        ..Stored::default()
    };
    (history, stored)
}

fn rows(stored: &mut Stored) -> &mut Vec<Row> {
    stored.messages.get_mut(CHANNEL).expect("it is there")
}

/// What is said of the run after the change.
fn after(change: impl FnOnce(&mut History, &mut Stored)) -> String {
    let (mut history, mut stored) = good();
    change(&mut history, &mut stored);
    violations(&history, &stored).join("\n")
}

#[test]
fn a_run_in_which_all_is_well_has_no_violations() {
    assert_eq!(after(|_, _| {}), "");
}

#[test]
fn every_check_notices_what_it_is_for() {
    type Change = fn(&mut History, &mut Stored);
    let cases: &[(&str, Change)] = &[
        ("no acked message is lost", |_, stored| {
            rows(stored).pop();
        }),
        ("no acked message is lost", |_, stored| {
            rows(stored)[1].data.push(b'!');
        }),
        ("nothing is told lost in vain", |_, stored| {
            stored.told_lost = 1;
        }),
        ("every row was published, and once", |_, stored| {
            rows(stored)[2].guid = "guid-1".to_owned();
        }),
        ("every row was published, and once", |history, _| {
            history.publishes.remove(0);
        }),
        ("sequences are dense", |_, stored| {
            rows(stored)[2].sequence = 4;
        }),
        ("epochs and times never go back", |_, stored| {
            rows(stored)[1].epoch = 0;
        }),
        ("epochs and times never go back", |_, stored| {
            rows(stored)[1].published_at_ns = 0;
        }),
        ("epochs and times never go back", |_, stored| {
            stored.takeovers = vec![1, 3];
        }),
        ("no commit of an older term", |history, _| {
            history.beginnings[0].older_rows.clear();
        }),
        ("acks come in order", |history, _| {
            history.publishes[1].outcome = Outcome::Acked(at(5));
            history.publishes[0].sent_at = at(12);
        }),
        ("every publish is answered", |history, _| {
            history.publishes[2].outcome = Outcome::Silence;
        }),
        ("every publish is answered", |history, _| {
            history.publishes[2].outcome = Outcome::NobodyListens;
        }),
        ("no publish is refused", |history, _| {
            history.publishes[2].outcome = Outcome::Refused("no".to_owned());
        }),
        ("deliveries are what is stored", |history, _| {
            history.subscriptions[0].members[0][0].data = Bytes::from_static(b"else");
        }),
        ("a sequence is one message", |history, _| {
            let mut other = history.subscriptions[0].members[0].clone();
            other[1].data = Bytes::from_static(b"else");
            history.subscriptions[0].members.push(other);
        }),
        ("deliveries come in order", |history, _| {
            history.subscriptions[0].members[0].swap(0, 1);
        }),
        ("everything is delivered", |history, _| {
            history.subscriptions[0].members[0].remove(1);
        }),
        ("no live client is closed", |_, stored| {
            stored.clients.clear();
        }),
        ("no live client is closed", |history, _| {
            history.clients[0].ping = Err("client has been replaced".to_owned());
        }),
        ("one active at a time", |history, _| {
            history.contradictions = "two of them".to_owned();
        }),
        ("no server died", |history, _| {
            history.deaths.push("server 1".to_owned());
        }),
    ];
    for (check, change) in cases {
        let said = after(change);
        assert!(said.contains(check), "not noticed by {check:?}: {said:?}");
    }
}

#[test]
fn what_nobody_can_answer_for_is_excused_for_as_long_as_it_lasts() {
    let silent_during = |from, to| {
        after(|history, _| {
            history.publishes[1].outcome = Outcome::Silence;
            history.excuses.push(Excuse {
                what: "NATS is away".to_owned(),
                from: at(from),
                to: at(to),
            });
        })
    };
    assert_eq!(silent_during(15, 25), "");
    assert!(silent_during(25, 35).contains("every publish is answered"));
}

#[test]
fn what_a_database_loses_must_be_told() {
    let lost = |told| {
        after(|history, stored| {
            history.database_lost_rows = true;
            stored.told_lost = told;
            rows(stored).pop();
            history.subscriptions.clear();
        })
    };
    assert_eq!(lost(1), "");
    assert!(lost(0).contains("no acked message is lost"));
}

#[test]
fn a_message_that_is_marked_as_sent_again_may_come_late() {
    let said = after(|history, _| {
        let arrivals = &mut history.subscriptions[0].members[0];
        arrivals.swap(0, 2);
        arrivals[1].is_redelivered = true;
        arrivals[2].is_redelivered = true;
    });
    assert_eq!(said, "");
}
