//! Judges a recorded run: what may never happen, whatever the faults were. Each check gives a sentence for each
//! violation, a few at most; `checks_notice.rs` shows on small histories that each of them notices.

#[path = "checks/deliveries.rs"]
mod deliveries;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::history::{Failover, History, LostRange, Outcome, Publish, RangeOutcome, Row, Stored};
use deliveries::{
    a_sequence_is_one_message, deliveries_are_what_is_stored, deliveries_come_in_order,
    everything_is_delivered,
};

/// Of one check: the first ones tell enough.
const SENTENCES_MAX: usize = 5;

type Check = fn(&History, &Stored) -> Vec<String>;

const CHECKS: &[(&str, Check)] = &[
    ("no acked message is lost", no_acked_message_is_lost),
    ("nothing is told lost in vain", nothing_is_told_lost_in_vain),
    ("what is told is so", what_is_told_is_so),
    (
        "every row was published, and once",
        every_row_was_published_once,
    ),
    ("sequences are dense", sequences_are_dense),
    (
        "epochs and times never go back",
        epochs_and_times_never_go_back,
    ),
    ("no commit of an older term", no_commit_of_an_older_term),
    ("acks come in order", acks_come_in_order),
    ("every publish is answered", every_publish_is_answered),
    ("no publish is refused", no_publish_is_refused),
    (
        "what is refused is not stored",
        what_is_refused_is_not_stored,
    ),
    (
        "deliveries are what is stored",
        deliveries_are_what_is_stored,
    ),
    ("a sequence is one message", a_sequence_is_one_message),
    ("deliveries come in order", deliveries_come_in_order),
    ("everything is delivered", everything_is_delivered),
    ("no live client is closed", no_live_client_is_closed),
    ("one active at a time", one_active_at_a_time),
    ("no server died", no_server_died),
];

/// Everything that is wrong, by check.
pub(crate) fn violations(history: &History, stored: &Stored) -> Vec<String> {
    let mut violations = Vec::new();
    for (name, check) in CHECKS {
        let found = check(history, stored);
        let count = found.len();
        let first = found.into_iter().take(SENTENCES_MAX);
        violations.extend(first.map(|sentence| format!("{name}: {sentence}")));
        if count > SENTENCES_MAX {
            violations.push(format!("{name}: and {} more", count - SENTENCES_MAX));
        }
    }
    violations
}

fn by_guid(stored: &Stored) -> BTreeMap<(&str, &str), Vec<&Row>> {
    let mut rows: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for (channel, messages) in &stored.messages {
        for row in messages {
            rows.entry((channel, &row.guid)).or_default().push(row);
        }
    }
    rows
}

fn is_acked(publish: &Publish) -> bool {
    matches!(publish.outcome, Outcome::Acked(_))
}

/// What an asynchronous replica lacked may be lost, if the servers tell of at least so many sequences of the channel.
fn no_acked_message_is_lost(history: &History, stored: &Stored) -> Vec<String> {
    let over_at = failed_over_without(history).map(|failover| failover.over_at);
    let mut excused: BTreeMap<&str, i64> = BTreeMap::new();
    for &channel in stored.messages.keys() {
        excused.insert(channel, stored.passed_over(channel));
    }
    let rows = by_guid(stored);
    let mut lost = Vec::new();
    for publish in history.publishes.iter().filter(|publish| is_acked(publish)) {
        match rows
            .get(&(publish.channel, &publish.guid))
            .map(Vec::as_slice)
        {
            Some([row, ..]) if row.data == publish.data => {}
            Some(_) => lost.push(format!("{} is stored with other content", publish.guid)),
            None => {
                let excused = excused.entry(publish.channel).or_default();
                *excused -= 1;
                if *excused < 0 || over_at.is_none_or(|over_at| publish.sent_at > over_at) {
                    lost.push(format!(
                        "{} of {}, sent after {:?}, was acked and is not stored",
                        publish.guid, publish.client_id, publish.sent_at
                    ));
                }
            }
        }
    }
    lost
}

/// The failover to a copy that commits had not waited for.
fn failed_over_without(history: &History) -> Option<&Failover> {
    let failover = history.failover.as_ref();
    failover.filter(|failover| !failover.is_synchronous)
}

/// Only what the promoted copy did not have is told. A copy that every commit had waited for lacks nothing; a server that
/// had reason to doubt that may pass over what it heard and did not find.
fn nothing_is_told_lost_in_vain(history: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for range in &stored.told {
        let why = match &history.failover {
            None => "and no database failed over",
            Some(failover) if range.first <= failover.had(&range.channel) => "and the copy had it",
            Some(failover) if failover.is_synchronous => match range.fate {
                RangeOutcome::Unknown if failover.is_doubted => continue,
                RangeOutcome::Unknown => "and every commit had waited for the copy",
                RangeOutcome::Lost | RangeOutcome::Restored => "and the copy had everything",
            },
            Some(_) => continue,
        };
        wrong.push(format!("{} is told, {why}", described(range)));
    }
    for (&channel, rows) in &stored.messages {
        let failover = history.failover.as_ref();
        let Some(had) = failover.map(|failover| failover.had(channel)) else {
            continue;
        };
        let over_at = failover
            .map(|failover| failover.over_at)
            .unwrap_or_default();
        let kept: BTreeSet<&str> = rows
            .iter()
            .filter(|row| row.sequence <= had)
            .map(|row| row.guid.as_str())
            .collect();
        // Each may have had a sequence that the copy lacked, and no other can.
        let candidates = history.publishes.iter().filter(|publish| {
            publish.channel == channel
                && publish.sent_at <= over_at
                && !kept.contains(publish.guid.as_str())
        });
        let (told, candidates) = (stored.passed_over(channel), candidates.count());
        if usize::try_from(told).is_ok_and(|told| told > candidates) {
            wrong.push(format!(
                "{told} of {channel} are told, and {candidates} can have been lost"
            ));
        }
    }
    wrong
}

fn described(range: &LostRange) -> String {
    let LostRange {
        channel,
        first,
        last,
        fate,
    } = range;
    format!("{channel} #{first} to #{last} {fate:?}")
}

/// What is told to be passed over stays empty, and what is told to be there again is there.
fn what_is_told_is_so(_: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for range in &stored.told {
        let known = stored.messages.get(range.channel.as_str());
        let sequences = known.into_iter().flatten().map(|row| row.sequence);
        let there = sequences.filter(|sequence| (range.first..=range.last).contains(sequence));
        let expected = if range.is_passed_over() {
            0
        } else {
            range.count()
        };
        let there = there.count();
        if i64::try_from(there) != Ok(expected) {
            wrong.push(format!("{there} are there of {}", described(range)));
        }
    }
    wrong
}

fn every_row_was_published_once(history: &History, stored: &Stored) -> Vec<String> {
    let key = |publish: &Publish| (publish.channel, publish.guid.clone());
    let sent: BTreeMap<_, _> = history
        .publishes
        .iter()
        .map(|p| (key(p), &p.data))
        .collect();
    let mut wrong = Vec::new();
    for ((channel, guid), rows) in by_guid(stored) {
        if let [_, second, ..] = rows[..] {
            wrong.push(format!(
                "{guid} is stored again as {channel} #{}",
                second.sequence
            ));
        }
        let known = stored.messages.get_key_value(channel);
        let was_sent = known.and_then(|(channel, _)| sent.get(&(*channel, guid.to_owned())));
        if was_sent.is_none_or(|data| rows[0].data != **data) {
            wrong.push(format!("{channel} #{} was never sent so", rows[0].sequence));
        }
    }
    wrong
}

/// But for the sequences that the servers have told of.
fn sequences_are_dense(_: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for (channel, rows) in &stored.messages {
        let mut expected = 1;
        for row in rows {
            let untold = (expected..row.sequence).find(|&at| !stored.is_passed_over(channel, at));
            if row.sequence < expected || untold.is_some() {
                wrong.push(format!(
                    "{channel}: #{} stands where #{} should",
                    row.sequence,
                    untold.unwrap_or(expected)
                ));
                break;
            }
            expected = row.sequence + 1;
        }
    }
    wrong
}

fn epochs_and_times_never_go_back(_: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for (channel, rows) in &stored.messages {
        for pair in rows.windows(2) {
            let at = pair[1].sequence;
            if pair[1].epoch < pair[0].epoch {
                wrong.push(format!(
                    "{channel} #{at} has an older epoch than its predecessor"
                ));
            }
            if pair[1].published_at_ns < pair[0].published_at_ns {
                wrong.push(format!("{channel} #{at} is older than its predecessor"));
            }
        }
    }
    let terms = &stored.takeovers;
    for (term, next) in terms.iter().zip(&terms[1.min(terms.len())..]) {
        if *next != term + 1 {
            wrong.push(format!("term {next} follows term {term}"));
        }
    }
    wrong
}

fn no_commit_of_an_older_term(history: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for beginning in &history.beginnings {
        for (channel, rows) in &stored.messages {
            let older = rows
                .iter()
                .filter(|row| row.epoch < beginning.epoch)
                .count();
            let then = beginning.older_rows.get(*channel).copied().unwrap_or(0);
            let grew = i64::try_from(older).is_ok_and(|older| older > then);
            if grew {
                wrong.push(format!(
                    "{channel} had {then} rows of older terms when term {} was active, and has \
                     {older} in the end",
                    beginning.epoch
                ));
            }
        }
    }
    wrong
}

/// Whoever waits for an ack before the next publish finds the two in this order. What a database has lost after its ack
/// may come back late, from the memory of a server.
fn acks_come_in_order(history: &History, stored: &Stored) -> Vec<String> {
    let may_come_late = |publish: &Publish, acked_at: Duration, row: &Row| {
        failed_over_without(history).is_some_and(|failover| {
            acked_at <= failover.over_at && row.sequence > failover.had(publish.channel)
        })
    };
    let rows = by_guid(stored);
    let mut by_time: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for publish in history.publishes.iter().filter(|publish| is_acked(publish)) {
        let Outcome::Acked(acked_at) = publish.outcome else {
            continue;
        };
        if let Some([row, ..]) = rows
            .get(&(publish.channel, &publish.guid))
            .map(Vec::as_slice)
        {
            let times = by_time.entry(publish.channel).or_default();
            if !may_come_late(publish, acked_at, row) {
                times.push((acked_at, 1, row.sequence));
            }
            times.push((publish.sent_at, 0, row.sequence));
        }
    }
    let mut wrong = Vec::new();
    for (channel, mut times) in by_time {
        times.sort_unstable();
        let mut acked = 0;
        for (_, is_ack, sequence) in times {
            if is_ack == 1 {
                acked = acked.max(sequence);
            } else if sequence < acked {
                wrong.push(format!(
                    "{channel} #{sequence} was sent after #{acked} had been acked"
                ));
            }
        }
    }
    wrong
}

fn every_publish_is_answered(history: &History, _: &Stored) -> Vec<String> {
    let without = |publish: &&Publish| {
        let is_silent = matches!(publish.outcome, Outcome::Silence | Outcome::NobodyListens);
        is_silent && !publish.is_abandoned && history.excuse(publish.sent_at).is_none()
    };
    let sentence = |publish: &Publish| {
        format!(
            "{:?} to {} of {}, sent after {:?}",
            publish.outcome, publish.guid, publish.client_id, publish.sent_at
        )
    };
    history
        .publishes
        .iter()
        .filter(without)
        .map(sentence)
        .collect()
}

/// But by a Postgres that was made to.
fn no_publish_is_refused(history: &History, _: &Stored) -> Vec<String> {
    let refused = |publish: &Publish| match &publish.outcome {
        Outcome::Refused(_) if history.may_be_refused(publish) => None,
        Outcome::Refused(why) => Some(format!("{} of {}: {why}", publish.guid, publish.client_id)),
        Outcome::Silence | Outcome::Acked(_) | Outcome::NobodyListens => None,
    };
    history.publishes.iter().filter_map(refused).collect()
}

fn what_is_refused_is_not_stored(history: &History, stored: &Stored) -> Vec<String> {
    let rows = by_guid(stored);
    let is_wrong = |publish: &&Publish| {
        matches!(publish.outcome, Outcome::Refused(_))
            && rows.contains_key(&(publish.channel, publish.guid.as_str()))
    };
    let wrong = history.publishes.iter().filter(is_wrong);
    wrong
        .map(|publish| format!("{} of {}", publish.guid, publish.client_id))
        .collect()
}

fn no_live_client_is_closed(history: &History, stored: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for client in &history.clients {
        let id = &client.client_id;
        if let Err(answer) = &client.ping {
            wrong.push(format!("{id} is told: {answer}"));
        }
        if !stored
            .clients
            .contains(&(id.clone(), client.connection_id.clone()))
        {
            wrong.push(format!("{id} is not in the tables with its connection"));
        }
    }
    wrong
}

fn one_active_at_a_time(history: &History, _: &Stored) -> Vec<String> {
    history.contradictions.lines().map(String::from).collect()
}

fn no_server_died(history: &History, _: &Stored) -> Vec<String> {
    history.deaths.clone()
}
