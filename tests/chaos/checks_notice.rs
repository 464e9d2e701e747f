//! That each check notices what it is for: a run in which all is well, and one thing changed at a time.

use std::time::Duration;

use bytes::Bytes;

use crate::checks::violations;
use crate::history::{
    Arrival, Beginning, Excuse, Failover, History, LiveClient, LostRange, Outcome, Publish,
    RangeOutcome, Receiver, Refusals, Row, Stored,
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
            stored.told = vec![told(4, 4, RangeOutcome::Lost)];
        }),
        ("nothing is told lost in vain", |history, stored| {
            history.failover = Some(failover(3, false));
            stored.told = vec![told(3, 4, RangeOutcome::Unknown)];
        }),
        ("nothing is told lost in vain", |history, stored| {
            history.failover = Some(failover(2, false));
            stored.told = vec![told(4, 5, RangeOutcome::Unknown)];
        }),
        ("nothing is told lost in vain", |history, stored| {
            history.failover = Some(failover(2, true));
            stored.told = vec![told(4, 4, RangeOutcome::Unknown)];
        }),
        ("what is told is so", |history, stored| {
            history.failover = Some(failover(2, false));
            stored.told = vec![told(3, 3, RangeOutcome::Lost)];
        }),
        ("what is told is so", |history, stored| {
            history.failover = Some(failover(2, false));
            stored.told = vec![told(3, 4, RangeOutcome::Restored)];
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
        ("no publish is refused", |history, _| {
            history.publishes[2].outcome = Outcome::Refused("no".to_owned());
            history.refusals = vec![refusals("somebody else", 0, 100)];
        }),
        ("what is refused is not stored", |history, _| {
            history.publishes[2].outcome = Outcome::Refused("no".to_owned());
            history.refusals = vec![refusals("publisher", 0, 100)];
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
fn what_nats_kept_may_come_late_and_no_more_than_was_in_flight() {
    let late = |count: usize| {
        after(|history, stored| {
            history.stalls = 1;
            let arrivals = &mut history.subscriptions[0].members[0];
            let (first, row) = (arrivals[0].clone(), rows(stored)[0].clone());
            let last = i64::try_from(count).unwrap() + 3;
            for sequence in 4..=last {
                let number = sequence.cast_unsigned();
                arrivals.push(Arrival {
                    sequence: number,
                    ..first.clone()
                });
                let row = Row {
                    sequence,
                    epoch: 2,
                    published_at_ns: sequence,
                    ..row.clone()
                };
                rows(stored).push(row);
            }
            let behind = arrivals.pop().unwrap();
            arrivals.insert(3, behind);
        })
    };
    let check = "deliveries come in order";
    assert!(!late(65).contains(check));
    assert!(late(66).contains(check));
}

#[test]
fn what_postgres_was_made_to_refuse_may_be_refused() {
    let refused_during = |from, to| {
        after(|history, stored| {
            history.publishes[2].outcome = Outcome::Refused("not stored".to_owned());
            history.refusals = vec![refusals("publisher", from, to)];
            history.subscriptions[0].members[0].pop();
            rows(stored).pop();
        })
    };
    assert_eq!(refused_during(25, 35), "");
    assert!(refused_during(15, 25).contains("no publish is refused"));
}

fn refusals(client_id: &str, from: u64, to: u64) -> Refusals {
    Refusals {
        client_id: Some(client_id.to_owned()),
        from: at(from),
        to: at(to),
    }
}

/// To a copy that has so many messages.
fn failover(had: i64, is_synchronous: bool) -> Failover {
    Failover {
        is_synchronous,
        is_doubted: false,
        had: [(CHANNEL.to_owned(), had)].into(),
        over_at: at(100),
    }
}

fn told(first: i64, last: i64, fate: RangeOutcome) -> LostRange {
    LostRange {
        channel: CHANNEL.to_owned(),
        first,
        last,
        fate,
    }
}

#[test]
fn what_a_database_loses_must_be_told() {
    let lost = |ranges: &[LostRange]| {
        after(|history, stored| {
            history.failover = Some(failover(1, false));
            stored.told = ranges.to_vec();
            rows(stored).remove(1);
        })
    };
    assert_eq!(lost(&[told(2, 2, RangeOutcome::Lost)]), "");

    for untold in [lost(&[]), lost(&[told(4, 4, RangeOutcome::Lost)])] {
        assert!(untold.contains("sequences are dense"), "{untold}");
        assert!(untold.contains("deliveries are what is stored"), "{untold}");
    }
    assert!(lost(&[]).contains("no acked message is lost"));
}

#[test]
fn what_is_acked_after_a_failover_is_not_lost_by_it() {
    let said = after(|history, stored| {
        let mut failover = failover(1, false);
        failover.over_at = at(15);
        history.failover = Some(failover);
        stored.told = vec![told(2, 2, RangeOutcome::Lost)];
        rows(stored).remove(1);
    });
    assert!(said.contains("no acked message is lost"), "{said}");
}

#[test]
fn a_server_in_doubt_may_pass_over_what_it_heard_but_nothing_is_lost() {
    let told_after = |range: LostRange| {
        after(|history, stored| {
            let mut failover = failover(2, true);
            failover.is_doubted = true;
            history.failover = Some(failover);
            rows(stored)[2].sequence = 4;
            history.subscriptions[0].members[0][2].sequence = 4;
            stored.told = vec![range];
        })
    };
    assert_eq!(told_after(told(3, 3, RangeOutcome::Unknown)), "");
    assert!(told_after(told(3, 3, RangeOutcome::Lost)).contains("nothing is told lost in vain"));
}

#[test]
fn only_what_a_failover_lost_may_come_back_late() {
    let said = |had| {
        after(|history, stored| {
            history.failover = Some(failover(had, false));
            // The third was sent when the second had been acked.
            rows(stored).swap(1, 2);
            for (row, sequence) in rows(stored).iter_mut().zip(1..) {
                row.sequence = sequence;
                row.epoch = 1;
                row.published_at_ns = sequence;
            }
            history.beginnings.clear();
            history.subscriptions[0].members[0].swap(1, 2);
            history.subscriptions[0].members[0][1].sequence = 2;
            history.subscriptions[0].members[0][2].sequence = 3;
        })
    };
    assert_eq!(said(1), "");
    assert!(said(3).contains("acks come in order"));
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
