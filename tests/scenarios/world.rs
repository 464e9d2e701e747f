//! One server's core with its store, moved by script lines. Reads are answered at once from the store; commits
//! happen when the script says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytestring::ByteString;
use stanby::core::batch::Batch;
use stanby::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Epoch, Guid, ProbeId, QueueName, Sequence,
    Subject,
};
use stanby::core::limits::{Limits, Settings};
use stanby::core::request::{Ack, Connect, Leave, Publish, Publisher, StartPosition, Subscribe};
use stanby::core::time::{Instant, Now, Timestamp};
use stanby::core::{Broker, Event, Outbound, Reply, heard};

use crate::memory_store::MemoryStore;
use crate::script::{Line, duration};

const START: Duration = Duration::from_secs(1_600_000_000);

pub(crate) struct World {
    settings: Settings,
    store: MemoryStore,
    broker: Option<Broker>,
    committing: Option<Batch>,
    epoch: Epoch,
    elapsed: Duration,
    /// Of subscriptions, by the name that the script gave them: ack inbox, channel, client.
    subscriptions: BTreeMap<String, (ByteString, String, String)>,
    /// Probes that nobody has answered, by heartbeat inbox.
    probes: BTreeMap<String, VecDeque<ProbeId>>,
    guids: u64,
    /// Requests that a standby hears, for the next takeover.
    heard: Vec<Event>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            settings: Settings {
                heartbeats: stanby::core::limits::Heartbeats::default(),
                limits: Limits::default(),
                ack_prefix: "ack".into(),
            },
            store: MemoryStore::default(),
            broker: None,
            committing: None,
            epoch: Epoch(1),
            elapsed: Duration::ZERO,
            subscriptions: BTreeMap::new(),
            probes: BTreeMap::new(),
            guids: 0,
            heard: Vec::new(),
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
            "limits" => self.set_limits(&mut line)?,
            "commit" => self.commit()?,
            "takeover" => self.take_over(),
            "lose-commit" => {
                let batch = self.next_batch().ok_or("there is nothing to commit")?;
                self.store.apply(&batch, self.epoch);
                self.take_over();
            }
            "pass" => self.pass(duration(line.word(1)?)?, &mut outputs),
            "delete" => {
                let sequence = line
                    .word(2)?
                    .parse()
                    .map_err(|_| "a sequence is a number")?;
                let channel = self.channel(line.word(1)?)?;
                self.store.delete_message(channel, Sequence(sequence));
            }
            "heard" => {
                line.words.remove(0);
                let event = self.event(&mut line)?;
                self.heard.push(event);
            }
            "stored" => outputs.push(self.stored(line.word(1)?)?),
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

    fn set_limits(&mut self, line: &mut Line) -> Result<(), String> {
        let limits = &mut self.settings.limits;
        let number = |text: Option<String>| text.map(|t| t.parse::<u64>()).transpose();
        let wrong = |_| "a limit is a number".to_owned();
        let index = |number: Option<u64>| number.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        limits.channels = index(number(line.take("channels")).map_err(wrong)?).or(limits.channels);
        let channel = &mut limits.channel;
        channel.subscriptions =
            index(number(line.take("subscriptions")).map_err(wrong)?).or(channel.subscriptions);
        channel.messages = number(line.take("messages"))
            .map_err(wrong)?
            .or(channel.messages);
        channel.bytes = number(line.take("bytes")).map_err(wrong)?.or(channel.bytes);
        channel.age = line.take_duration("age")?.or(channel.age);
        channel.inactivity = line.take_duration("inactivity")?.or(channel.inactivity);
        limits.payload_bytes = line.take_number("payload", limits.payload_bytes)?;
        limits.tail_bytes = line.take_number("tail", limits.tail_bytes)?;
        limits.page_messages = line.take_number("page", limits.page_messages)?;
        let heartbeats = &mut self.settings.heartbeats;
        heartbeats.fail_count = line.take_number("fail-count", heartbeats.fail_count)?;
        Ok(())
    }

    fn event(&mut self, line: &mut Line) -> Result<Event, String> {
        let who = line.word(1)?.to_owned();
        let reply = Some(subject(&who));
        Ok(match line.word(0)? {
            "connect" => Event::Connect {
                request: connect(&who, line)?,
                reply,
            },
            "publish" => {
                self.guids += 1;
                let guid = line.take("guid").unwrap_or(format!("g{}", self.guids));
                Event::Publish {
                    request: publish(&who, guid, line)?,
                    reply,
                }
            }
            "subscribe" => {
                let name = line.take("name").unwrap_or(who.clone());
                let channel = line.word(2)?.to_owned();
                self.subscriptions
                    .insert(name.clone(), (ByteString::new(), channel, who.clone()));
                let request = subscribe(&who, &name, line)?;
                Event::Subscribe {
                    request,
                    reply: Some(subject(&name)),
                }
            }
            "close-sub" => Event::CloseSubscription {
                request: self.leave(&who, line)?,
                reply,
            },
            "unsubscribe" => Event::Unsubscribe {
                request: self.leave(&who, line)?,
                reply,
            },
            "close" => Event::CloseClient {
                client_id: who.into(),
                reply,
            },
            "ping" => Event::Ping {
                connection_id: connection_id(&who),
                reply: subject(&who),
            },
            "ack" => {
                let sequence = line
                    .word(2)?
                    .parse()
                    .map_err(|_| "a sequence is a number")?;
                let (ack_inbox, channel, _) = self.subscription(&who)?;
                let channel = channel.into();
                Event::Ack(Ack {
                    ack_inbox,
                    channel,
                    sequence: Sequence(sequence),
                })
            }
            "pong" => Event::Pong(self.take_probe(&who)?),
            "unreachable" => Event::Unreachable(self.take_probe(&who)?),
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
            .and_then(VecDeque::pop_front)
            .ok_or(format!("{who} was not probed"))
    }

    fn now(&self) -> Now {
        let wall = START + self.elapsed;
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).expect("scenarios are short");
        Now {
            monotonic: Instant::from_nanos(nanos(self.elapsed)),
            wall: Timestamp(nanos(wall).cast_signed()),
        }
    }

    fn broker(&mut self) -> &mut Broker {
        let now = self.now();
        let (store, settings) = (&self.store, &self.settings);
        self.broker
            .get_or_insert_with(|| Broker::restore(store.snapshot(), settings.clone(), now))
    }

    fn next_batch(&mut self) -> Option<Batch> {
        self.committing
            .take()
            .or_else(|| self.broker().poll_batch())
    }

    fn commit(&mut self) -> Result<(), String> {
        let batch = self.next_batch().ok_or("there is nothing to commit")?;
        self.store.apply(&batch, self.epoch);
        let now = self.now();
        self.broker().handle(Event::Committed(batch.number), now);
        Ok(())
    }

    fn take_over(&mut self) {
        self.epoch = Epoch(self.epoch.0 + 1);
        self.committing = None;
        self.broker = None;
        self.probes.clear();
        let heard = std::mem::take(&mut self.heard);
        let names = self.store.snapshot().channels;
        let stored = self.store.messages();
        let trimmed = names
            .values()
            .filter(|row| row.first_sequence > Sequence(1));
        let done = heard::Done {
            stored: stored
                .map(|(channel, _, message)| (names[&channel].name.clone(), message.guid.clone()))
                .collect(),
            trimmed: trimmed.map(|row| row.name.clone()).collect(),
        };
        let now = self.now();
        for event in heard::judge(heard, &done) {
            self.broker().handle(event, now);
        }
        self.broker();
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
        let now = self.now();
        loop {
            if let Some(load) = self.broker().poll_load() {
                let result = self.store.load(&load);
                self.broker().handle(
                    Event::Loaded {
                        load: load.id,
                        result,
                    },
                    now,
                );
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
            } => {
                let name = inbox.as_str().trim_start_matches("inbox.");
                let data = String::from_utf8_lossy(&message.data);
                let again = match redelivery_count {
                    0 => String::new(),
                    count => format!(" redelivered {count}"),
                };
                format!(
                    "deliver {name} {channel} #{} {data}{again}",
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

    fn channel(&self, name: &str) -> Result<stanby::core::ids::ChannelId, String> {
        let channels = self.store.snapshot().channels;
        let found = channels
            .into_iter()
            .find(|(_, row)| row.name.as_str() == name);
        found
            .map(|(id, _)| id)
            .ok_or(format!("{name} is not in the table"))
    }

    fn stored(&self, name: &str) -> Result<String, String> {
        let id = self.channel(name)?;
        let of_channel = self
            .store
            .messages()
            .filter(|(channel, _, _)| *channel == id);
        let messages: Vec<String> = of_channel
            .map(|(_, epoch, message)| format!("#{} (epoch {epoch})", message.sequence))
            .collect();
        let row = &self.store.snapshot().channels[&id];
        let (first, last) = (row.first_sequence, row.last_sequence);
        Ok(format!(
            "{name} first {first} last {last}: [{}]",
            messages.join(", ")
        ))
    }
}

fn answer(reply: Reply) -> String {
    match reply {
        Reply::Connected { .. } => "connected".into(),
        Reply::ConnectRefused(why) => format!("connect refused {why:?}"),
        Reply::Published(guid) => format!("published {guid}"),
        Reply::PublishRefused(guid, why) => {
            format!(
                "publish refused {} {why:?}",
                guid.expect("scenarios publish with a guid")
            )
        }
        Reply::Subscribed { .. } => "subscribed".into(),
        Reply::SubscribeRefused(why) => format!("subscribe refused {why:?}"),
        Reply::Left => "left".into(),
        Reply::LeaveRefused(why) => format!("leave refused {why:?}"),
        Reply::ClientClosed => "closed".into(),
        Reply::CloseRefused(why) => format!("close refused {why:?}"),
        Reply::Pong => "pong".into(),
        Reply::PingRefused(why) => format!("ping refused {why:?}"),
    }
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.to_owned().into()).expect("scenarios use valid subjects")
}

fn client_id(text: &str) -> ClientId {
    ClientId::parse(text.to_owned().into()).expect("scenarios use valid client IDs")
}

fn connection_id(text: &str) -> ConnectionId {
    ConnectionId(format!("conn-{text}").into())
}

/// `connect alice connection=other`: the same client ID from another connection, with its own inbox.
fn connect(who: &str, line: &mut Line) -> Result<Connect, String> {
    let connection = line.take("connection").unwrap_or(who.to_owned());
    let protocol = line.take_number("protocol", 1)?;
    Ok(Connect {
        client_id: client_id(who),
        heartbeat_inbox: subject(&format!("hb.{connection}")),
        protocol,
        connection_id: if protocol == 0 {
            ConnectionId::default()
        } else {
            connection_id(&connection)
        },
        ping_interval: 5,
        ping_max_out: 88,
    })
}

fn publish(who: &str, guid: String, line: &mut Line) -> Result<Publish, String> {
    let by_client = line.take("protocol").is_some();
    let connection = line.take("connection").unwrap_or(who.to_owned());
    Ok(Publish {
        publisher: if by_client {
            Publisher::Client(who.to_owned().into())
        } else {
            Publisher::Connection(connection_id(&connection))
        },
        guid: Guid::parse(guid.into()).ok_or("a guid is not empty")?,
        channel: ChannelName::parse(line.word(2)?.to_owned().into()).ok_or("no channel name")?,
        reply: ByteString::new(),
        data: line.word(3)?.to_owned().into(),
    })
}

fn subscribe(who: &str, name: &str, line: &mut Line) -> Result<Subscribe, String> {
    let start = line.take("start").unwrap_or("new".into());
    let start = match start.split_once(':') {
        Some(("seq", number)) => {
            StartPosition::Sequence(Sequence(number.parse().map_err(|_| "not a sequence")?))
        }
        Some(("ago", time)) => StartPosition::TimeDelta(
            i64::try_from(duration(time)?.as_nanos()).map_err(|_| "too long ago")?,
        ),
        Some(("ahead", time)) => StartPosition::TimeDelta(
            -i64::try_from(duration(time)?.as_nanos()).map_err(|_| "too far ahead")?,
        ),
        _ => match start.as_str() {
            "new" => StartPosition::NewOnly,
            "last" => StartPosition::LastReceived,
            "first" => StartPosition::First,
            other => return Err(format!("{other} is no start position")),
        },
    };
    let named = |text: Option<String>| text.map(ByteString::from);
    Ok(Subscribe {
        client_id: client_id(who),
        channel: ChannelName::parse(line.word(2)?.to_owned().into()).ok_or("no channel name")?,
        inbox: subject(&format!("inbox.{name}")),
        queue_group: named(line.take("queue")).and_then(QueueName::parse),
        durable_name: named(line.take("durable")).and_then(DurableName::parse),
        max_in_flight: line.take_number("max-in-flight", 1024)?,
        ack_wait: line
            .take_duration("ack-wait")?
            .unwrap_or(Duration::from_secs(30)),
        start,
        ack_token: 7,
    })
}
