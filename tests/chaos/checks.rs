//! Judges a recorded run: what may never happen, whatever the faults were. Each check gives a sentence for each
//! violation, a few at most; `checks_notice.rs` shows on small histories that each of them notices.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, Outcome, Publish, Receiver, Row, Stored};

/// Of one check: the first ones tell enough.
const SENTENCES_MAX: usize = 5;

type Check = fn(&History, &Stored) -> Vec<String>;

const CHECKS: &[(&str, Check)] = &[
    ("no acked message is lost", no_acked_message_is_lost),
    ("nothing is told lost in vain", nothing_is_told_lost_in_vain),
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

/// What an asynchronous replica lacked may be lost, if the tables tell of at least so many.
fn no_acked_message_is_lost(history: &History, stored: &Stored) -> Vec<String> {
    let mut excused = if history.database_lost_rows {
        stored.told_lost
    } else {
        0
    };
    let rows = by_guid(stored);
    let mut lost = Vec::new();
    for publish in history.publishes.iter().filter(|publish| is_acked(publish)) {
        match rows
            .get(&(publish.channel, &publish.guid))
            .map(Vec::as_slice)
        {
            Some([row, ..]) if row.data == publish.data => {}
            Some(_) => lost.push(format!("{} is stored with other content", publish.guid)),
            None if excused > 0 => excused -= 1,
            None => lost.push(format!(
                "{} of {}, sent after {:?}, was acked and is not stored",
                publish.guid, publish.client_id, publish.sent_at
            )),
        }
    }
    lost
}

fn nothing_is_told_lost_in_vain(history: &History, stored: &Stored) -> Vec<String> {
    let told = stored.told_lost;
    let in_vain = told > 0 && !history.database_lost_rows;
    let sentence = || format!("{told} sequences are told lost, or perhaps lost");
    in_vain.then(sentence).into_iter().collect()
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

/// But for what a failover of the database has lost and the servers have told of.
fn sequences_are_dense(history: &History, stored: &Stored) -> Vec<String> {
    let mut excused = if history.database_lost_rows {
        stored.told_lost
    } else {
        0
    };
    let mut wrong = Vec::new();
    for (channel, rows) in &stored.messages {
        let mut expected = 1;
        for row in rows {
            let hole = row.sequence - expected;
            if hole < 0 || hole > excused {
                wrong.push(format!(
                    "{channel}: #{} stands where #{expected} should",
                    row.sequence
                ));
                break;
            }
            excused -= hole;
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

/// Whoever waits for an ack before the next publish finds the two in this order. What a database has lost may come back
/// late, from the memory of a server.
fn acks_come_in_order(history: &History, stored: &Stored) -> Vec<String> {
    if history.database_lost_rows {
        return Vec::new();
    }
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
            times.push((acked_at, 1, row.sequence));
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

fn no_publish_is_refused(history: &History, _: &Stored) -> Vec<String> {
    let refused = |publish: &Publish| match &publish.outcome {
        Outcome::Refused(why) => Some(format!("{}: {why}", publish.guid)),
        Outcome::Silence | Outcome::Acked(_) | Outcome::NobodyListens => None,
    };
    history.publishes.iter().filter_map(refused).collect()
}

fn deliveries_are_what_is_stored(history: &History, stored: &Stored) -> Vec<String> {
    // What a failover lost was delivered, too.
    if history.database_lost_rows {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        let rows = &stored.messages[receiver.channel];
        for arrival in receiver.members.iter().flatten() {
            let at = usize::try_from(arrival.sequence).unwrap_or(usize::MAX);
            let row = at.checked_sub(1).and_then(|at| rows.get(at));
            if row.is_none_or(|row| row.data != arrival.data) {
                let what = format!("{} #{}", receiver.channel, arrival.sequence);
                wrong.push(format!(
                    "{} got a {what} that is not stored so",
                    receiver.name
                ));
            }
        }
    }
    wrong
}

/// Whoever got it, and also when the database has lost it since: no sequence is given out twice.
fn a_sequence_is_one_message(history: &History, _: &Stored) -> Vec<String> {
    let mut known = BTreeMap::new();
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        for arrival in receiver.members.iter().flatten() {
            let key = (receiver.channel, arrival.sequence);
            let data = *known.entry(key).or_insert(&arrival.data);
            if data != &arrival.data {
                let (channel, sequence) = key;
                wrong.push(format!(
                    "{channel} #{sequence} was {data:?} and then {:?}",
                    arrival.data
                ));
            }
        }
    }
    wrong
}

/// But for those that are marked as sent again. Members of a queue group have no order of their own: what a member got
/// and nobody noted before a takeover may go to another one after it.
fn deliveries_come_in_order(history: &History, _: &Stored) -> Vec<String> {
    let mut wrong = Vec::new();
    for receiver in &history.subscriptions {
        if let [arrivals] = &receiver.members[..] {
            let mut seen = BTreeSet::new();
            let mut last = 0;
            for arrival in arrivals {
                let is_first = seen.insert(arrival.sequence);
                if !is_first || arrival.is_redelivered {
                    continue;
                }
                if arrival.sequence < last {
                    let name = &receiver.name;
                    wrong.push(format!("{name} got #{} after #{last}", arrival.sequence));
                }
                last = last.max(arrival.sequence);
            }
        }
    }
    wrong
}

fn everything_is_delivered(history: &History, stored: &Stored) -> Vec<String> {
    let missing = |receiver: &Receiver| {
        let arrivals = receiver.members.iter().flatten();
        let got: BTreeSet<u64> = arrivals.map(|arrival| arrival.sequence).collect();
        let rows = &stored.messages[receiver.channel];
        let is_missing = |row: &&Row| !got.contains(&row.sequence.cast_unsigned());
        let missing: Vec<_> = rows
            .iter()
            .filter(is_missing)
            .map(|row| row.sequence)
            .collect();
        let first = missing.first()?;
        let count = missing.len();
        Some(format!(
            "{} lacks {count}, the first is #{first}",
            receiver.name
        ))
    };
    history.subscriptions.iter().filter_map(missing).collect()
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
