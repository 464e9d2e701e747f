//! Reads every channel from its first message on, and follows all of them until the former server has gone.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use super::channel::{Channel, Subscribed, in_flight};
use super::client::{Client, Received};
use super::order::{Order, Verdict};
use super::pages::Look;
use super::running::{Looked, Running, unavailable};
use crate::clock::Clock;
use crate::core::batch::Batch;
use crate::core::ids::{ChannelId, ChannelName};
use crate::core::time::Instant;
use crate::former::adopt::{Adopted, Channel as FormerChannel};
use crate::former::messages::{Reader, Totals};
use crate::former::monitored::Durables;
use crate::former::{Findings, Former, Keys, adopt};
use crate::node::import::gathered::Gathered;
use crate::node::import::reading::{ProgressReporter, Read};
use crate::node::import::run::Error;
use crate::node::import::sink::Sink;
use crate::protocol::client;

/// Between two looks at the pages, and at least so many times as long as a look takes.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOK_SHARE: u32 = 4;

/// What has come is written at least so often.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// The former server counts as gone after its pages and NATS were silent this long: another one of its group may take over.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// What is still on its way from NATS comes within that.
const REST_LIMIT: Duration = Duration::from_millis(300);

/// An answer that has not come until then is lost.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(30);

/// Channels that are read at once.
const BEHIND_MAX: usize = 8;

pub(super) struct Following<'a, 't> {
    pub(super) client: Client,
    channels: Vec<Channel>,
    names: BTreeMap<ChannelName, usize>,
    /// By the numbers of subscriptions.
    routes: BTreeMap<u64, usize>,
    gathered: Gathered,
    durables: Durables,
    /// Messages that the pages have named.
    expected: u64,
    has_looked: bool,
    /// There was a moment when everything that the pages showed had come.
    has_all: bool,
    sink: Option<&'a mut Sink>,
    progress: &'a mut ProgressReporter<'t>,
}

impl<'a, 't> Following<'a, 't> {
    pub(super) fn new(
        client: Client,
        sink: Option<&'a mut Sink>,
        progress: &'a mut ProgressReporter<'t>,
    ) -> Self {
        Self {
            client,
            channels: Vec::new(),
            names: BTreeMap::new(),
            routes: BTreeMap::new(),
            gathered: Gathered::default(),
            durables: Durables::default(),
            expected: 0,
            has_looked: false,
            has_all: false,
            sink,
            progress,
        }
    }

    /// Until everything is read or, with a sink, until the former server has gone.
    pub(super) async fn run(&mut self, running: &Running) -> Result<(), Error> {
        let mut looks = JoinSet::new();
        looks.spawn(running.clone().look(Duration::ZERO));
        let mut ticks = tokio::time::interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_since: Option<Instant> = None;
        loop {
            tokio::select! {
                message = self.client.next() => {
                    let message = message.map_err(|why| unavailable(&why))?;
                    let came = self.client.understand(message).await.map_err(|why| unavailable(&why))?;
                    self.take(came).await?;
                }
                Some(looked) = looks.join_next() => {
                    let (looked, took) = looked.map_err(|why| Error::reading(&why))?;
                    let now = Clock.now().monotonic;
                    match looked {
                        Looked::Shown(look) => {
                            silent_since = None;
                            self.looked(look).await?;
                        }
                        Looked::Hindered(why) => {
                            silent_since = None;
                            self.progress.hindered(&why.to_string());
                        }
                        Looked::Silent => {
                            let since = *silent_since.get_or_insert(now);
                            if now.since(since) >= GONE_AFTER {
                                return self.gone().await;
                            }
                        }
                    }
                    let pause = LOOK_EVERY.max(took * LOOK_SHARE);
                    looks.spawn(running.clone().look(pause));
                }
                _ = ticks.tick() => {
                    self.write_rest().await?;
                    if !self.has_all && self.is_level() {
                        self.has_all = true;
                        if self.sink.is_none() {
                            return Ok(());
                        }
                        self.progress.follows();
                    }
                }
            }
        }
    }

    /// Nothing new comes: what is on its way is taken.
    async fn gone(&mut self) -> Result<(), Error> {
        while let Ok(Ok(message)) = timeout(REST_LIMIT, self.client.next()).await {
            let came = self
                .client
                .understand(message)
                .await
                .map_err(|why| unavailable(&why))?;
            self.take(came).await?;
        }
        self.write_rest().await?;
        if !self.has_looked {
            return Err(unavailable(
                &"the former server has ended before its channels were read; start it again, and import again",
            ));
        }
        let missing = self.channels.iter().filter(|it| !it.is_level());
        let missing: Vec<String> = missing
            .map(|it| {
                format!(
                    "messages {} to {} of channel {:?} had not arrived when the former server ended; start it again, and import \
                     again",
                    it.order.due(),
                    it.shown_last,
                    it.name
                )
            })
            .collect();
        let unknown = self.channels.iter().filter(|it| it.is_unknown());
        let unknown = unknown.map(|it| {
            format!(
                "a client published to channel {:?} when the former server ended, and whether it has stored that is not known; \
                 start it again, stop the publishers first, and import again",
                it.name
            )
        });
        let wrong: Vec<String> = missing.into_iter().chain(unknown).collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::Problems(wrong))
        }
    }

    fn is_level(&self) -> bool {
        self.has_looked && self.channels.iter().all(Channel::is_level)
    }

    async fn looked(&mut self, look: Look) -> Result<(), Error> {
        let shown = look.channels.iter();
        self.durables
            .observe(shown.map(|it| (&it.name, &it.subscriptions[..])));
        self.has_looked = true;
        let mut more = 0;
        for shown in look.channels {
            let index = match self.names.get(&shown.name) {
                Some(&index) => index,
                None => self.add(shown.name.clone(), shown.bytes, shown.messages),
            };
            let channel = &mut self.channels[index];
            if shown.last < channel.shown_last {
                return Err(Error::Problems(vec![format!(
                    "channel {:?} ends with message {}, and has ended with {} before: the former server was restarted \
                     with an empty store; import again",
                    shown.name, shown.last, channel.shown_last
                )]));
            }
            let before = channel.order.due().max(channel.shown_last + 1);
            channel.shown_last = shown.last;
            channel.is_news = false;
            channel.order.begins_at(match shown.messages {
                0 => shown.last + 1,
                _ => shown.first,
            });
            more += (shown.last + 1).saturating_sub(before.max(channel.order.due()));
        }
        self.expected += more;
        self.progress.expect(self.expected);
        let now = Clock.now().monotonic;
        for index in 0..self.channels.len() {
            let unanswered = self.channels[index].subscribed.as_ref();
            let is_lost = unanswered
                .is_some_and(|it| it.ack_inbox.is_none() && now.since(it.at) > SUBSCRIBED_WITHIN);
            if is_lost {
                self.subscribe(index).await?;
            }
        }
        self.subscribe_more().await
    }

    fn add(&mut self, name: ChannelName, bytes: u64, messages: u64) -> usize {
        let index = self.channels.len();
        self.names.insert(name.clone(), index);
        self.channels.push(Channel {
            keys: Keys::default().of_channel(&name),
            name,
            order: Order::default(),
            totals: Totals::default(),
            shown_last: 0,
            is_news: false,
            max_in_flight: in_flight(bytes, messages),
            subscribed: None,
        });
        index
    }

    /// Not all at once: what is on its way has to have room.
    async fn subscribe_more(&mut self) -> Result<(), Error> {
        let behind = |it: &&Channel| it.subscribed.is_some() && !it.is_level();
        let mut behind = self.channels.iter().filter(behind).count();
        for index in 0..self.channels.len() {
            if behind >= BEHIND_MAX {
                break;
            }
            if self.channels[index].subscribed.is_none() {
                behind += usize::from(!self.channels[index].is_level());
                self.subscribe(index).await?;
            }
        }
        Ok(())
    }

    /// From the message that is due.
    async fn subscribe(&mut self, index: usize) -> Result<(), Error> {
        let channel = &mut self.channels[index];
        let lost = |error: crate::nats::Error| unavailable(&error);
        if let Some(before) = channel.subscribed.take() {
            self.routes.remove(&before.number);
            if let Some(ack_inbox) = before.ack_inbox {
                let left = self.client.leave(channel.name.as_str(), &ack_inbox).await;
                left.map_err(lost)?;
            }
        }
        channel.order.subscribed();
        let (from, at_once) = (channel.order.due(), channel.max_in_flight);
        let name = channel.name.as_str();
        let number = self
            .client
            .subscribe(name, from, at_once)
            .await
            .map_err(lost)?;
        self.routes.insert(number, index);
        channel.subscribed = Some(Subscribed {
            number,
            at: Clock.now().monotonic,
            ack_inbox: None,
            owed: Vec::new(),
        });
        Ok(())
    }

    async fn take(&mut self, came: Received) -> Result<(), Error> {
        match came {
            Received::Nothing => Ok(()),
            Received::Answer(number, answer) => self.answered(number, answer).await,
            Received::Published(channel) => self.published(&channel).await,
            Received::Message(number, record) => match self.routes.get(&number) {
                Some(&index) => self.message(index, record).await,
                None => Ok(()),
            },
        }
    }

    /// A channel that has just begun is on no page yet.
    async fn published(&mut self, channel: &str) -> Result<(), Error> {
        if !self.has_looked || self.names.contains_key(channel) {
            return Ok(());
        }
        let Some(name) = ChannelName::parse(channel.into()) else {
            return Ok(());
        };
        let index = self.add(name, 0, 0);
        self.channels[index].is_news = true;
        self.subscribe(index).await
    }

    async fn answered(&mut self, number: u64, answer: Option<Bytes>) -> Result<(), Error> {
        let Some(&index) = self.routes.get(&number) else {
            return Ok(());
        };
        let channel = &mut self.channels[index];
        // Nobody listened: it is asked again when the answer is overdue.
        let (Some(answer), Some(subscribed)) = (answer, &mut channel.subscribed) else {
            return Ok(());
        };
        let ack_inbox = client::subscribe_response(answer).map_err(|error| {
            Error::Problems(vec![format!(
                "channel {:?} cannot be read from the former server: {error}",
                channel.name
            )])
        })?;
        subscribed.ack_inbox = Some(ack_inbox.to_string());
        for sequence in std::mem::take(&mut subscribed.owed) {
            let acked = self.client.ack(&ack_inbox, channel.name.as_str(), sequence);
            acked.await.map_err(|why| unavailable(&why))?;
        }
        Ok(())
    }

    async fn message(&mut self, index: usize, record: Bytes) -> Result<(), Error> {
        let channel = &mut self.channels[index];
        let wrong = |why: &dyn std::fmt::Display| {
            Error::Problems(vec![format!("channel {:?}: {why}", channel.name)])
        };
        let sequence = client::delivery(record.clone()).map_err(|why| wrong(&why))?;
        let sequence = sequence.sequence;
        let verdict = channel.order.came(sequence);
        if let Some(subscribed) = &mut channel.subscribed {
            match &subscribed.ack_inbox {
                Some(inbox) => {
                    let acked = self.client.ack(inbox, channel.name.as_str(), sequence);
                    acked.await.map_err(|why| unavailable(&why))?;
                }
                None => subscribed.owed.push(sequence),
            }
        }
        match verdict {
            Verdict::Repeated => return Ok(()),
            Verdict::AskAgain => return self.subscribe(index).await,
            Verdict::Take => {}
        }
        let bytes = record.len();
        let mut reader = Reader::going_on(&channel.name, &channel.keys, channel.totals);
        let message = reader.read_plain(sequence.cast_signed(), record);
        let message = message.map_err(|why| {
            let name = &channel.name;
            Error::Problems(vec![format!("channel {name:?}, message {sequence}: {why}")])
        })?;
        channel.totals = reader.totals();
        let is_level = channel.is_level();
        self.progress.count(1);
        if self.sink.is_some() {
            let id = ChannelId(index as u64 + 1);
            self.gathered.add(id, message, bytes);
            let full = self.gathered.full();
            self.write(full).await?;
        }
        if is_level && self.channels.iter().any(|it| it.subscribed.is_none()) {
            self.subscribe_more().await?;
        }
        Ok(())
    }

    async fn write(&mut self, batch: Option<Box<Batch>>) -> Result<(), Error> {
        match (self.sink.as_deref_mut(), batch) {
            (Some(sink), Some(batch)) => sink.put(&batch).await,
            (None, _) | (_, None) => Ok(()),
        }
    }

    async fn write_rest(&mut self) -> Result<(), Error> {
        let rest = self.gathered.rest();
        self.write(rest).await
    }

    pub(super) fn finish(&self, findings: &mut Findings) -> Read {
        let ids = self.names.iter();
        let ids = ids.map(|(name, index)| (name.clone(), ChannelId(*index as u64 + 1)));
        let (subscriptions, notes, problems) = self.durables.subscriptions(&ids.collect());
        for note in notes {
            findings.note(note);
        }
        for problem in problems {
            findings.problems.add(problem);
        }
        for channel in self
            .channels
            .iter()
            .filter(|it| it.is_news && it.totals.count == 0)
        {
            findings.note(format!(
                "a client published to channel {:?} when the former server ended, and nothing of it has arrived: what was acked there \
                 is in the former store only; start the former server again, and import again, to have it",
                channel.name
            ));
        }
        let channels = self.channels.iter().enumerate();
        let channels = channels.map(|(index, channel)| {
            let read = FormerChannel {
                name: channel.name.clone(),
                max_sequence: channel.shown_last,
                totals: channel.totals,
            };
            (ChannelId(index as u64 + 1), read)
        });
        let former = Former {
            clients: Vec::new(),
            channels: channels.collect(),
            last_channel: self.channels.len() as u64,
            last_subscription: subscriptions.len() as u64,
            subscriptions,
            sent_counts: false,
        };
        let Adopted { snapshot, notes } = adopt(former, Clock.now().wall);
        Read {
            snapshot,
            notes,
            last_sequences: BTreeMap::new(),
        }
    }
}
