//! A core with its clients, in memory.

use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use crate::core::Broker;
use crate::core::event::Event;
use crate::core::ids::{
    ChannelName, ClientId, ConnectionId, DurableName, Guid, QueueName, Sequence, Subject,
};
use crate::core::limits::{Heartbeats, Limits, Settings};
use crate::core::outbound::{Outbound, Reply};
use crate::core::request::{
    Ack, Connect, Publish, Publisher, Request, StartPosition, Subscribe,
};
use crate::core::snapshot::Snapshot;
use crate::core::time::{Instant, Now, Timestamp};

const CHANNEL: &str = "orders.created";
const CONNECTION: &[u8] = b"Xq3dkQ0bTyJ8eV2mLr5wZa";
const ACK_WAIT: Duration = Duration::from_secs(30);

pub struct World {
    broker: Broker,
    millis: u64,
    published: u64,
    acked: u64,
    delivered: u64,
    subscribers: u64,
    in_group: bool,
    ack_inboxes: Vec<(String, ByteString)>,
    /// Subscribers ack what they get.
    pub acks: bool,
    /// Those with odd sequences, too.
    pub acks_odd: bool,
    pub max_in_flight: u32,
}

impl World {
    pub fn new(max_messages: Option<u64>) -> Self {
        let mut limits = Limits::default();
        limits.channel.messages = max_messages;
        let settings = Settings {
            // Clients answer none here.
            heartbeats: Heartbeats {
                interval: Duration::from_hours(1000),
                ..Heartbeats::default()
            },
            limits,
            replace_durables: false,
            ack_prefix: "_INBOX.cluster".into(),
            partition: None,
        };
        let now = now(0);
        let mut world = Self {
            broker: Broker::restore(Snapshot::default(), settings, now),
            millis: 0,
            published: 0,
            acked: 0,
            delivered: 0,
            subscribers: 0,
            in_group: false,
            ack_inboxes: Vec::new(),
            acks: true,
            acks_odd: true,
            max_in_flight: 1024,
        };
        let request = Connect {
            client_id: ClientId::parse("client".into()).expect("it is an ID"),
            heartbeat_inbox: subject("_INBOX.heartbeats"),
            protocol: 1,
            connection_id: ConnectionId(Bytes::from_static(CONNECTION)),
            ping_interval: 5,
            ping_max_out: 3,
        };
        world.handle(Request::Connect {
            request,
            reply: Some(subject("_INBOX.connect")),
        });
        world.settle();
        world
    }

    pub fn subscribe(&mut self, subscribers: u64, queue_group: Option<&'static str>) {
        for number in 0..subscribers {
            let durable = DurableName::parse(format!("durable-{number}").into());
            let request = Subscribe {
                client_id: ClientId::parse("client".into()).expect("it is an ID"),
                channel: channel(),
                inbox: subject(&format!("_INBOX.sub.{number}")),
                queue_group: queue_group
                    .map(|name| QueueName::parse(name.into()).expect("it is a name")),
                durable_name: durable.filter(|_| queue_group.is_none()),
                max_in_flight: self.max_in_flight,
                ack_wait: ACK_WAIT,
                start: StartPosition::NewOnly,
                ack_token: u128::from(number),
            };
            self.handle(Request::Subscribe {
                request,
                reply: Some(subject("_INBOX.subscribe")),
            });
            self.settle();
        }
        self.subscribers = subscribers;
        self.in_group = queue_group.is_some();
        assert_eq!(self.ack_inboxes.len() as u64, subscribers);
    }

    /// Publishes of one batch, its commit, and everything that follows.
    pub fn publish(&mut self, messages: usize) {
        self.millis += 1;
        for _ in 0..messages {
            self.published += 1;
            let guid = format!("Xq3dkQ0bTy{:012}", self.published);
            let request = Publish {
                publisher: Publisher::Connection(ConnectionId(Bytes::from_static(CONNECTION))),
                guid: Guid::parse(guid.into()).expect("it is a GUID"),
                channel: channel(),
                reply: ByteString::new(),
                data: Bytes::from_static(&[7; 128]),
            };
            self.handle(Request::Publish {
                request,
                reply: Some(subject("_INBOX.acks")),
            });
        }
        self.settle();
    }

    /// Lets the ack wait pass until so many messages were delivered again.
    pub fn redeliver(&mut self, count: usize) {
        let wanted = self.delivered + count as u64;
        while self.delivered < wanted {
            let due = self.broker.next_timeout().expect("something is unacked");
            self.millis = self.millis.max(due.as_nanos().div_ceil(1_000_000));
            self.broker.handle_timeout(now(self.millis));
            self.settle();
        }
    }

    /// Commits and answers until nothing is left to do.
    fn settle(&mut self) {
        loop {
            let batch = self.broker.poll_batch();
            let committed = batch.as_ref().map(|batch| batch.number);
            drop(batch);
            if let Some(number) = committed {
                self.handle(Event::Committed(number));
            }
            let mut acks = Vec::new();
            let mut idle = committed.is_none();
            while let Some(outbound) = self.broker.poll_outbound() {
                idle = false;
                self.hear(outbound, &mut acks);
            }
            while self.broker.poll_notice().is_some() {}
            for ack in acks {
                self.handle(Request::Ack(ack));
            }
            if idle {
                return;
            }
        }
    }

    fn hear(&mut self, outbound: Outbound, acks: &mut Vec<Ack>) {
        match outbound {
            Outbound::Reply { reply, .. } => match reply {
                Reply::Published(_) => self.acked += 1,
                Reply::Subscribed { ack_inbox } => {
                    let inbox = format!("_INBOX.sub.{}", self.ack_inboxes.len());
                    self.ack_inboxes.push((inbox, ack_inbox.to_text()));
                }
                Reply::Connected { .. } => {}
                other => panic!("unexpected: {other:?}"),
            },
            Outbound::Deliver { inbox, message, .. } => {
                self.delivered += 1;
                if self.acks && (self.acks_odd || message.sequence.0.is_multiple_of(2)) {
                    acks.push(self.ack(&inbox, message.sequence));
                }
            }
            Outbound::Probe { .. } => panic!("a heartbeat within the hour"),
        }
    }

    fn ack(&self, inbox: &Subject, sequence: Sequence) -> Ack {
        let number = inbox
            .as_str()
            .rsplit('.')
            .next()
            .and_then(|n| n.parse::<usize>().ok());
        let (_, ack_inbox) = &self.ack_inboxes[number.expect("inboxes are numbered")];
        Ack {
            ack_inbox: ack_inbox.clone(),
            channel: CHANNEL.into(),
            sequence,
        }
    }

    /// A count of something that did not happen would be worth nothing.
    pub fn ensure_all_went(&self) {
        let each = if self.in_group { 1 } else { self.subscribers };
        assert_eq!(self.acked, self.published);
        assert_eq!(self.delivered, self.published * each);
    }

    fn handle(&mut self, event: impl Into<Event>) {
        self.broker.handle(event, now(self.millis));
    }
}

fn channel() -> ChannelName {
    ChannelName::parse(CHANNEL.into()).expect("it is a channel")
}

fn subject(text: &str) -> Subject {
    Subject::parse(text.into()).expect("it is a subject")
}

fn now(millis: u64) -> Now {
    let nanos = millis * 1_000_000;
    Now {
        monotonic: Instant::from_nanos(nanos),
        wall: Timestamp(1_700_000_000_000_000_000 + nanos.cast_signed()),
    }
}
