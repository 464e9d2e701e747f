//! Publishers whose pace breathes, receivers that stay and receivers that come and go, and an application that publishes and
//! acks in SQL.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use stanby::protocol::client;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::facts::{Facts, Seen};
use crate::pair::{Group, LIMIT};
use crate::stan::StanClient;
use crate::support::wait::wait_until;

pub(crate) const CHANNELS: [&str; 2] = ["orders", "payments"];

/// Of each channel, over NATS.
const PUBLISHERS: usize = 2;
/// Of one publisher, at the top of a breath and at its end.
const MESSAGES_PER_SECOND: (f64, f64) = (20.0, 1.0);
const BREATH: Duration = Duration::from_mins(4);
const PAYLOAD_BYTES: usize = 256;
/// For so long a client stays that comes and goes, and for so long it is away: its channel keeps more than what comes meanwhile.
const VISIT: Duration = Duration::from_secs(45);
const ABSENCE: Duration = Duration::from_secs(10);
/// Longer than any takeover.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Publishers of a channel, and who receives there.
struct Receiver {
    name: String,
    channel: &'static str,
    seen: Arc<Mutex<Seen>>,
}

pub(crate) struct Traffic {
    facts: Facts,
    stop_publishing: CancellationToken,
    publishers: JoinSet<()>,
    stop_receiving: CancellationToken,
    receivers: JoinSet<()>,
    judged: Vec<Receiver>,
    names: Vec<(&'static str, String)>,
}

impl Traffic {
    /// A server is active, and the channels begin behind these sequences.
    pub(crate) async fn start(group: &Arc<Group>, floors: [u64; 2], facts: &Facts) -> Self {
        let mut traffic = Self {
            facts: facts.clone(),
            stop_publishing: CancellationToken::new(),
            publishers: JoinSet::new(),
            stop_receiving: CancellationToken::new(),
            receivers: JoinSet::new(),
            judged: Vec::new(),
            names: Vec::new(),
        };
        for (channel, floor) in CHANNELS.into_iter().zip(floors) {
            for (name, ways) in [
                ("stays", Ways::STAYS),
                ("visits", Ways::VISITS),
                ("workers", Ways::SHARES),
            ] {
                traffic.receive(group, &format!("{name}-{channel}"), (channel, floor), ways);
            }
            for number in 1..=PUBLISHERS {
                let name = format!("publisher-{channel}-{number}");
                let client = group.client(&name).await;
                traffic.names.push((channel, name));
                let (facts, stop) = (facts.clone(), traffic.stop_publishing.clone());
                traffic
                    .publishers
                    .spawn(publish(client, channel, facts, stop));
            }
        }
        let channel = CHANNELS[0];
        traffic.receive(group, "in-sql", (channel, floors[0]), Ways::IN_SQL);
        traffic.names.push((channel, "sql".to_owned()));
        let (url, facts) = (group.database_url.clone(), facts.clone());
        let stop = traffic.stop_publishing.clone();
        traffic
            .publishers
            .spawn(publish_in_sql(url, channel, facts, stop));
        traffic
    }

    fn receive(
        &mut self,
        group: &Arc<Group>,
        name: &str,
        (channel, floor): (&'static str, u64),
        ways: Ways,
    ) {
        let seen = Arc::new(Mutex::new(Seen::behind(floor)));
        for member in 1..=ways.members {
            let guest = Guest {
                group: Arc::clone(group),
                id: format!("{name}-{member}"),
                name: name.to_owned(),
                channel,
                ways: ways.of(member),
                facts: self.facts.clone(),
                seen: Arc::clone(&seen),
            };
            self.receivers.spawn(guest.run(self.stop_receiving.clone()));
        }
        self.judged.push(Receiver {
            name: name.to_owned(),
            channel,
            seen,
        });
    }

    /// Fails with a participant that has failed.
    pub(crate) fn check(&mut self) {
        while let Some(ended) = self.receivers.try_join_next() {
            ended.unwrap();
        }
        while let Some(ended) = self.publishers.try_join_next() {
            ended.unwrap();
        }
    }

    /// Stops publishing, and waits until everything that was acked has come to everybody.
    pub(crate) async fn finish(mut self) {
        self.stop_publishing.cancel();
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
        let acked = self.facts.known().acked.clone();
        let missing = || {
            let of = |receiver: &Receiver| {
                let publishers = self.names.iter().filter(|(at, _)| *at == receiver.channel);
                let names: BTreeSet<String> = publishers.map(|(_, name)| name.clone()).collect();
                let missing = receiver.seen.lock().unwrap().missing(&acked, &names);
                missing
                    .into_iter()
                    .map(|what| format!("{} lacks {what}", receiver.name))
                    .collect::<Vec<_>>()
            };
            self.judged.iter().flat_map(of).collect::<Vec<_>>()
        };
        let drained = async { wait_until(2 * LIMIT, async || is_empty(&missing())).await };
        if timeout(LIMIT, drained).await.is_err() {
            for sentence in missing() {
                self.facts.wrong(sentence);
            }
        }
        self.stop_receiving.cancel();
        while let Some(ended) = self.receivers.join_next().await {
            ended.unwrap();
        }
    }
}

fn is_empty(missing: &[String]) -> Result<(), String> {
    missing.first().map_or(Ok(()), |first| Err(first.clone()))
}

/// How long until the next message, `at` so long after the start.
fn pause(at: Duration) -> Duration {
    let (most, least) = MESSAGES_PER_SECOND;
    let turn = at.as_secs_f64() / BREATH.as_secs_f64() * std::f64::consts::TAU;
    let share = f64::midpoint(1.0, -turn.cos());
    Duration::from_secs_f64(1.0 / (least + (most - least) * share))
}

/// Until then, or until it is stopped.
async fn rest(pause: Duration, stop: &CancellationToken) {
    timeout(pause, stop.cancelled()).await.ok();
}

async fn publish(client: StanClient, channel: &'static str, facts: Facts, stop: CancellationToken) {
    let began = Instant::now();
    let mut number = 0_u64;
    while !stop.is_cancelled() {
        number += 1;
        let guid = format!("{}-{number}", client.connection_id);
        let data = facts.payload(&client.id, number, PAYLOAD_BYTES);
        let request = client::publish_request(client::Publish {
            client_id: &client.id,
            connection_id: client.connection_id.as_bytes(),
            guid: &guid,
            channel,
            data: data.into(),
        });
        let subject = format!("{}.{channel}", client.subjects.publish_prefix);
        let request = async_nats::Request::new()
            .payload(request)
            .timeout(Some(ANSWER_LIMIT));
        let sent = Instant::now();
        let answer = client.nats.send_request(subject, request).await;
        let refusal = match answer {
            Err(error) => Some(error.to_string()),
            Ok(answer) => client::publish_ack(answer.payload).unwrap().refusal,
        };
        if let Some(why) = refusal {
            // Whether it is stored is not known: what comes after would look wrong.
            return facts.wrong(format!("message {number} of {}: {why}", client.id));
        }
        {
            let mut known = facts.known();
            known.acked.insert(client.id.clone(), number);
            known.counts.acked += 1;
            known.acks.push(sent.elapsed());
        }
        rest(pause(began.elapsed()), &stop).await;
    }
}

async fn publish_in_sql(url: String, channel: &'static str, facts: Facts, stop: CancellationToken) {
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let (began, mut number) = (Instant::now(), 0_u64);
    while !stop.is_cancelled() {
        number += 1;
        let published = sqlx::query("SELECT stanby.publish($1, $2)")
            .bind(channel)
            .bind(facts.payload("sql", number, 0).into_bytes())
            .execute(&mut connection)
            .await;
        if let Err(error) = published {
            return facts.wrong(format!("publish() of {number}: {error}"));
        }
        {
            let mut known = facts.known();
            known.acked.insert("sql".to_owned(), number);
            known.counts.published_in_sql += 1;
        }
        rest(4 * pause(began.elapsed()), &stop).await;
    }
}

/// How a subscription is used.
#[derive(Clone, Copy, Debug)]
struct Ways {
    members: usize,
    is_queue: bool,
    comes_and_goes: bool,
    acks_in_sql: bool,
}

impl Ways {
    const STAYS: Self = Self {
        members: 1,
        is_queue: false,
        comes_and_goes: false,
        acks_in_sql: false,
    };
    const VISITS: Self = Self {
        comes_and_goes: true,
        ..Self::STAYS
    };
    const SHARES: Self = Self {
        members: 3,
        is_queue: true,
        ..Self::STAYS
    };
    const IN_SQL: Self = Self {
        acks_in_sql: true,
        ..Self::STAYS
    };

    /// Of a group, one member comes and goes.
    fn of(self, member: usize) -> Self {
        Self {
            comes_and_goes: self.comes_and_goes || (self.is_queue && member == 1),
            ..self
        }
    }
}

struct Guest {
    group: Arc<Group>,
    id: String,
    name: String,
    channel: &'static str,
    ways: Ways,
    facts: Facts,
    seen: Arc<Mutex<Seen>>,
}

impl Guest {
    async fn run(self, stop: CancellationToken) {
        let mut sql = PgConnection::connect(&self.group.database_url)
            .await
            .unwrap();
        let mut visits = 0_u64;
        while !stop.is_cancelled() {
            visits += 1;
            let client = self.group.client(&self.id).await;
            let queue = if self.ways.is_queue {
                self.name.as_str()
            } else {
                ""
            };
            let names = (queue, self.name.as_str());
            let mut taker = client.take_for(self.channel, names, 64, 5).await;
            let came = Instant::now();
            let is_over = || self.ways.comes_and_goes && came.elapsed() > VISIT;
            while !stop.is_cancelled() && !is_over() {
                let next = taker.next(Duration::from_millis(500)).await;
                let Some((sequence, payload)) = next else {
                    continue;
                };
                self.note(sequence, &payload);
                taker.received.clear();
                if self.ways.acks_in_sql {
                    self.ack_in_sql(&mut sql, sequence).await;
                } else {
                    taker.ack(sequence).await;
                }
            }
            self.facts.count(|counts| counts.reconnects += 1);
            // Every other time it is gone without a word, and the next one takes its place.
            if visits.is_multiple_of(2)
                && let Err(why) = client.close().await
            {
                self.facts.wrong(format!("{} cannot close: {why}", self.id));
            }
            rest(ABSENCE, &stop).await;
        }
    }

    fn note(&self, sequence: u64, payload: &str) {
        let mut seen = self.seen.lock().unwrap();
        let is_timed = !self.ways.comes_and_goes && !self.ways.acks_in_sql;
        self.facts
            .took(&self.name, &mut seen, (sequence, payload), is_timed);
    }

    async fn ack_in_sql(&self, sql: &mut PgConnection, sequence: u64) {
        let acked = sqlx::query("SELECT stanby.ack($1, $2, durable => $3, client_id => $4)")
            .bind(self.channel)
            .bind(sequence.cast_signed())
            .bind(&self.name)
            .bind(&self.id)
            .execute(sql)
            .await;
        match acked {
            Ok(_) => self.facts.count(|counts| counts.acked_in_sql += 1),
            Err(error) => self.facts.wrong(format!("ack() of #{sequence}: {error}")),
        }
    }
}
