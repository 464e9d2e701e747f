//! One server's core with its store, moved by script lines. Reads are answered at once from the store; commits
//! happen when the script says so.

mod admin;
mod limits;
mod policies;
mod reads;
mod shown;
mod takeover;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use stanby::core::batch::Batch;
use stanby::core::guarded::Guarded;
use stanby::core::ids::{ChannelName, Epoch, ProbeId, Sequence};
use stanby::core::limits::{ChannelPattern, Limits, Overrides, Settings};
use stanby::core::load::Load;
use stanby::core::outbox::{OutboxId, OutboxRow};
use stanby::core::request::{Ack, AckToken, Leave, Subscribe};
use stanby::core::shadow::Shadow;
use stanby::core::sql_acks::Verdict;
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Event, Outbound, Reply, Request};

use crate::memory_store::MemoryStore;
use crate::requests::{answer, client_id, connect, connection_id, publish, subject, subscribe};
use crate::script::{Line, duration};
use reads::Reads;

const START: Duration = Duration::from_secs(1_600_000_000);

pub(crate) struct World {
    settings: Settings,
    store: MemoryStore,
    broker: Option<Guarded>,
    committing: Option<Batch>,
    epoch: Epoch,
    elapsed: Duration,
    /// Of subscriptions, by the name that the script gave them: ack inbox, channel, client.
    subscriptions: BTreeMap<String, (ByteString, String, String)>,
    /// Probes that nobody has answered, by heartbeat inbox.
    probes: BTreeMap<String, VecDeque<ProbeId>>,
    guids: u64,
    /// Requests that a standby hears, for the next takeover.
    shadow: Shadow,
    /// How far the wall clock was set back.
    set_back: Duration,
    /// Limits of single channels.
    overrides: Vec<(ChannelPattern, Overrides)>,
    reads: Reads,
    held_reads: Vec<Load>,
    tokens: AckToken,
}

impl Default for World {
    fn default() -> Self {
        Self {
            settings: Settings {
                heartbeats: stanby::core::limits::Heartbeats::default(),
                limits: Limits::default(),
                replace_durables: false,
                ack_prefix: "ack".into(),
                partition: None,
            },
            store: MemoryStore::default(),
            broker: None,
            committing: None,
            epoch: Epoch(1),
            elapsed: Duration::ZERO,
            subscriptions: BTreeMap::new(),
            probes: BTreeMap::new(),
            guids: 0,
            shadow: takeover::shadow(),
            set_back: Duration::ZERO,
            overrides: Vec::new(),
            reads: Reads::Silent,
            held_reads: Vec::new(),
            tokens: 0,
        }
    }
}

impl World {
    pub(crate) fn play(&mut self, line: &str) -> Result<Vec<String>, String> {
        let Some(mut line) = Line::parse(line) else {
            return Ok(Vec::new());
        };
        let mut outputs = Vec::new();
        match line.word(0)? {
            "limits" => {
                self.set_limits(&mut line)?;
                line.finish()?;
                // They hold from the next term on; the first one has begun when something has happened.
                return Ok(Vec::new());
            }
            // They hold at once.
            "reload" => {
                let (limits, now) = (self.settings.limits.clone(), self.now());
                self.broker().set_limits(&limits, now);
            }
            "submit" => self.submit()?,
            "commit" => self.commit()?,
            "takeover" => self.take_over(),
            "lose-commit" => {
                let batch = self.next_batch().ok_or("there is nothing to commit")?;
                self.store.apply(&batch, self.epoch);
                self.take_over();
            }
            "pass" => self.pass(duration(line.word(1)?)?, &mut outputs),
            "run" => self.run(duration(line.word(1)?)?, &mut outputs)?,
            "show" => self.store.hidden.clear(),
            "gone" => {
                let number = |word: &str| word.parse().map_err(|_| "a sequence is a number");
                let (first, last) = (number(line.word(2)?)?, number(line.word(3)?)?);
                let channel = self.channel(line.word(1)?)?;
                self.store
                    .note_gone(channel, Sequence(first), Sequence(last), 1);
                let now = self.now();
                self.broker().handle(Event::GoneNoted, now);
            }
            does @ ("delete" | "break" | "hide") => {
                let sequence = line
                    .word(2)?
                    .parse()
                    .map_err(|_| "a sequence is a number")?;
                let channel = self.channel(line.word(1)?)?;
                match does {
                    "delete" => self.store.delete_message(channel, Sequence(sequence)),
                    "hide" => drop(self.store.hidden.insert((channel, Sequence(sequence)))),
                    _ => drop(self.store.broken.insert((channel, Sequence(sequence)))),
                }
            }
            "received" => {
                line.words.remove(0);
                let who = line.word(1)?.to_owned();
                let request = self.request(who, &mut line)?;
                let at = self.now().monotonic;
                self.shadow.record(std::iter::once(request), at);
            }
            "stored" => outputs.push(self.stored(line.word(1)?)?),
            "times" => outputs.push(self.times(line.word(1)?)?),
            "rows" => outputs.extend(self.rows()),
            "held" => outputs.extend(self.held(line.word(1)?)),
            "counts" => outputs.push(self.counts()),
            "set-back" => self.set_back += duration(line.word(1)?)?,
            "away" => {
                self.elapsed += duration(line.word(1)?)?;
                let now = self.now();
                self.broker().handle(Event::Reconnected, now);
            }
            "forget-client" => {
                let gone = client_id(line.word(1)?);
                let clients = BTreeMap::from([(gone, None)]);
                let batch = Batch {
                    clients,
                    ..Batch::default()
                };
                self.store.apply(&batch, self.epoch);
            }
            "sql" => {
                let due = line.take_duration("in")?;
                let due = due.map(|after| Timestamp(self.now().wall.0 + nanos(after)));
                let (channel, data) = (line.word(1)?.to_owned(), line.word(2)?.to_owned());
                self.guids += 1;
                let row = OutboxRow {
                    id: OutboxId::default(),
                    guid: format!("sql-{}", self.guids).into(),
                    channel: channel.into(),
                    reply: "".into(),
                    publisher: "application".into(),
                    data: Ok(data.into()),
                };
                self.store.publish_in_sql(vec![(due, row)]);
                let now = self.now();
                self.broker().handle(Event::OutboxNoted, now);
            }
            "policy" => self.set_policy(&mut line)?,
            "no-policies" => {
                self.store.policies.clear();
                self.policies_noted();
            }
            "tries" => outputs.extend(self.tries()),
            "ask" => self.ask(&mut line)?,
            "requests" => outputs.extend(self.requests()),
            "sql-ack" => {
                let after = line.take_duration("nack")?;
                let reason = line.take("reason").unwrap_or_default();
                let name = line.word(1)?.to_owned();
                let sequence = line.word(2)?.parse();
                let sequence = sequence.map_err(|_| "a sequence is a number")?;
                let verdict = after.map_or(Verdict::Acked, |after| Verdict::Refused {
                    after,
                    reason: reason.clone().into(),
                });
                outputs.push(self.ack_in_sql(&name, Sequence(sequence), verdict)?);
                let now = self.now();
                self.broker().handle(Event::OutboxNoted, now);
            }
            "outbox" => {
                let rows = self.store.snapshot().sql_acks;
                let acks = rows
                    .iter()
                    .map(|row| format!("waits ack of #{}", row.sequence));
                outputs.extend(acks);
                let rows = self.store.outbox();
                outputs.extend(rows.map(|row| format!("waits {} {}", row.channel, row.guid)));
                let refused = self.store.outbox_refused.iter();
                outputs.extend(refused.map(|(row, why)| format!("refused {}: {why}", row.channel)));
            }
            "reads" => self.set_reads(line.word(1)?)?,
            _ => {
                let event = self.event(&mut line)?;
                let now = self.now();
                self.broker().handle(event, now);
            }
        }
        line.finish()?;
        self.drain(&mut outputs);
        self.pass(Duration::ZERO, &mut outputs);
        Ok(outputs)
    }

    /// A consumer calls `ack` or `nack` in a transaction that commits.
    fn ack_in_sql(
        &mut self,
        name: &str,
        sequence: Sequence,
        verdict: Verdict,
    ) -> Result<String, String> {
        let rows = self.store.snapshot().subscriptions;
        let (ack_inbox, ..) = self.subscriptions.get(name).ok_or("nobody has that name")?;
        let row = rows
            .values()
            .find(|row| row.ack_inbox.as_str() == &**ack_inbox);
        let position = row.ok_or("nobody has subscribed there")?.position;
        let counts = self.store.may_ack(position, sequence);
        if counts {
            self.store.ack_in_sql(position, sequence, verdict);
        }
        Ok(counts.to_string())
    }

    fn event(&mut self, line: &mut Line) -> Result<Event, String> {
        let who = line.word(1)?.to_owned();
        Ok(match line.word(0)? {
            "no-responders" => {
                let (ack_inbox, _, _) = self.subscription(&who)?;
                Event::NoResponders(ack_inbox)
            }
            "pong" => Event::Pong(self.take_probe(&who)?),
            "unreachable" => Event::Unreachable(self.take_probe(&who)?),
            _ => self.request(who, line)?.into(),
        })
    }

    fn request(&mut self, who: String, line: &mut Line) -> Result<Request, String> {
        let answered = line.take("unanswered").is_none();
        let reply = answered.then(|| subject(&who));
        Ok(match line.word(0)? {
            "connect" => Request::Connect {
                request: connect(&who, line)?,
                reply,
            },
            "publish" => {
                self.guids += 1;
                let guid = line.take("guid").unwrap_or(format!("g{}", self.guids));
                Request::Publish {
                    request: publish(&who, guid, line)?,
                    reply,
                }
            }
            "subscribe" => {
                let name = line.take("name").unwrap_or(who.clone());
                let channel = line.word(2)?.to_owned();
                self.subscriptions
                    .insert(name.clone(), (ByteString::new(), channel, who.clone()));
                self.tokens += 1;
                let ack_token = self.tokens;
                let request = Subscribe {
                    ack_token,
                    ..subscribe(&who, &name, line)?
                };
                Request::Subscribe {
                    request,
                    reply: Some(subject(&name)),
                }
            }
            "close-sub" => Request::CloseSubscription {
                request: self.leave(&who, line)?,
                reply,
            },
            "unsubscribe" => Request::Unsubscribe {
                request: self.leave(&who, line)?,
                reply,
            },
            "close" => Request::CloseClient {
                client_id: who.into(),
                reply,
            },
            "ping" => Request::Ping {
                connection_id: connection_id(&who),
                reply: subject(&who),
            },
            "ack" => {
                let sequence = line
                    .word(2)?
                    .parse()
                    .map_err(|_| "a sequence is a number")?;
                let (ack_inbox, channel, _) = self.subscription(&who)?;
                let channel = line.take("channel").unwrap_or(channel).into();
                Request::Ack(Ack {
                    ack_inbox,
                    channel,
                    sequence: Sequence(sequence),
                })
            }
            verb => return Err(format!("{verb} is not a verb")),
        })
    }

    fn leave(&self, name: &str, line: &mut Line) -> Result<Leave, String> {
        let (ack_inbox, channel, client) = self.subscription(name)?;
        let by_inbox = line.take("by").is_some();
        Ok(Leave {
            client_id: line.take("as").unwrap_or(client).into(),
            channel: ChannelName::parse(line.take("channel").unwrap_or(channel).into())
                .ok_or("that is no channel")?,
            inbox: if by_inbox {
                format!("inbox.{name}").into()
            } else {
                ack_inbox
            },
        })
    }

    fn subscription(&self, name: &str) -> Result<(ByteString, String, String), String> {
        self.subscriptions
            .get(name)
            .cloned()
            .ok_or(format!("no subscription is named {name}"))
    }

    fn take_probe(&mut self, who: &str) -> Result<ProbeId, String> {
        let probes = self.probes.get_mut(&format!("hb.{who}"));
        probes
            .and_then(VecDeque::pop_back)
            .ok_or(format!("{who} was not probed"))
    }

    fn now(&self) -> Now {
        let wall = (START + self.elapsed).saturating_sub(self.set_back);
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).expect("scenarios are short");
        Now {
            monotonic: Instant::from_nanos(nanos(self.elapsed)),
            wall: Timestamp(nanos(wall).cast_signed()),
        }
    }

    fn next_batch(&mut self) -> Option<Batch> {
        let now = self.now();
        self.store.clock = self.elapsed;
        self.committing
            .take()
            .or_else(|| self.broker().poll_batch(now))
    }

    /// Sends the batch off; what comes before its `commit` gathers for the next one.
    fn submit(&mut self) -> Result<(), String> {
        let batch = self.next_batch().ok_or("there is nothing to commit")?;
        self.committing = Some(batch);
        Ok(())
    }

    fn commit(&mut self) -> Result<(), String> {
        let batch = self.next_batch().ok_or("there is nothing to commit")?;
        self.store.apply(&batch, self.epoch);
        let now = self.now();
        self.broker().handle(Event::Committed(batch.number), now);
        Ok(())
    }

    /// Lets time pass from one timeout to the next.
    fn pass(&mut self, duration: Duration, outputs: &mut Vec<String>) {
        let end = self.elapsed + duration;
        loop {
            let next = self
                .broker()
                .next_timeout()
                .map(|at| Duration::from_nanos(at.as_nanos()));
            let Some(at) = next.filter(|&at| at <= end) else {
                break;
            };
            self.elapsed = self.elapsed.max(at);
            let now = self.now();
            self.broker().handle_timeout(now);
            self.drain(outputs);
        }
        self.elapsed = end;
    }

    fn drain(&mut self, outputs: &mut Vec<String>) {
        loop {
            if let Some(load) = self.broker().poll_load() {
                self.read(load, outputs);
            } else if let Some(outbound) = self.broker().poll_outbound() {
                outputs.push(self.describe(outbound));
            } else if let Some(notice) = self.broker().poll_notice() {
                outputs.push(format!("notice {notice:?}"));
            } else {
                return;
            }
        }
    }

    fn describe(&mut self, outbound: Outbound) -> String {
        match outbound {
            Outbound::Reply { to, reply } => {
                if let Reply::Subscribed { ack_inbox } = &reply
                    && let Some(known) = self.subscriptions.get_mut(to.as_str())
                {
                    known.0 = ack_inbox.to_text();
                    return format!("{to}: subscribed");
                }
                format!("{to}: {}", answer(reply))
            }
            Outbound::Deliver {
                inbox,
                channel,
                message,
                redelivery_count,
                no_responders_to: _,
            } => {
                let name = inbox.as_str().trim_start_matches("inbox.");
                let data = String::from_utf8_lossy(&message.data);
                let again = match redelivery_count {
                    0 => String::new(),
                    count => format!(" redelivered {count}"),
                };
                let reply = match &*message.reply {
                    "" => String::new(),
                    reply => format!(" (reply to {reply})"),
                };
                format!(
                    "deliver {name} {channel} #{} {data}{reply}{again}",
                    message.sequence
                )
            }
            Outbound::Probe { probe, inbox } => {
                self.probes
                    .entry(inbox.to_string())
                    .or_default()
                    .push_back(probe);
                format!("probe {}", inbox.as_str().trim_start_matches("hb."))
            }
        }
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
