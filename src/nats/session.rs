//! The life of one established connection: reads, writes and asks for signs of life, until one of them fails.
//! Reading, writing and waiting go on side by side, so that none can hold up the others.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::dial::Line;
use super::forbidden::Forbidden;
use super::link::{Link, Routes};
use super::overlap::Overlap;
use super::wire::{Frame, Info, Message, Parser, Violation};
use crate::clock::Clock;
use crate::core::time::Instant;

/// NATS is asked for a sign of life so often within the time that it may be silent.
const PINGS_PER_SILENCE: u32 = 4;

/// A NATS server that answers others may be silent for so many times as long: it is busy.
const SILENCES_MAX: u32 = 4;

const PINGS_OPEN_MAX: usize = 3;

/// For each step of the way to another NATS server.
const MOVE_LIMIT: Duration = Duration::from_secs(2);

/// So long a NATS server is heard on after another one knows the subscriptions: news of them go round the cluster.
const SETTLE: Duration = Duration::from_millis(300);

/// nats-server waits so long for a slow client before it cuts it off.
const SLOW_LIMIT: Duration = Duration::from_secs(10);

/// A ping that is not answered for so long means that NATS does not hear us, although we hear it: a cut of one direction.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);

/// Unless so much came meanwhile that the answer may be waiting behind it.
const BACKLOG_BYTES: u64 = 8 << 20;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    Closed,
    Failed(io::Error),
    Violation(Violation),
    /// For so long.
    Silent(Duration),
    /// It speaks, and does not answer: for so long.
    Unanswered(Duration),
    /// Another server has taken over.
    Moved,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("NATS closed it"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Violation(violation) => write!(f, "NATS sent {violation}"),
            Self::Silent(time) => write!(f, "NATS gave no sign of life for {time:?}"),
            Self::Unanswered(time) => write!(
                f,
                "NATS speaks, and answered no question for {time:?}: it does not hear this server"
            ),
            Self::Moved => f.write_str("this server goes to another one"),
        }
    }
}

/// How a session went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ended: Ended,
    /// The last error that NATS reported.
    pub(super) reported: Option<String>,
    /// Nothing was read for so long that NATS may have given up on us.
    pub(super) was_slow: bool,
    /// What NATS said last of itself.
    pub(super) info: Info,
}

/// Whether the server answers others.
pub(super) type Look<'a> = dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> + Sync + 'a;

/// Runs until the connection that the link has begun ends; being dropped ends it too.
/// `silence`: how long NATS may give no sign of life before `is_there` has a look at it.
pub(super) async fn run(
    line: Line,
    link: &Arc<Link>,
    silence: Duration,
    is_there: &Look<'_>,
    moved: impl Future<Output = Line>,
    overlap: Overlap,
) -> (Outcome, Option<Next>) {
    let mut next = None;
    let Line {
        stream,
        parser,
        info,
        ..
    } = line;
    let (mut reader, writer) = tokio::io::split(stream);
    let pulse = Pulse::default();
    let mut reading = Reading {
        link,
        pulse: &pulse,
        parser,
        info,
        routes: Routes::new(),
        generation: u64::MAX,
        errors: 0,
        reported: None,
        paused_at: None,
        was_slow_at: None,
        before: overlap,
        notes: None,
    };
    reading.take_early();
    // A task of its own, or a stream of requests would keep the answers waiting. It ends with this function.
    let mut writing = JoinSet::new();
    writing.spawn(write(writer, Arc::clone(link)));
    let ended = tokio::select! {
        ended = reading.run(&mut reader) => ended,
        Some(ended) = writing.join_next() => ended.unwrap_or(Ended::Closed),
        ended = keep_alive(link, &pulse, silence, is_there) => ended,
        line = moved => {
            next = Some(line);
            Ended::Moved
        }
    };
    let next = match next {
        Some(line) => change_over(&mut reading, &mut reader, line).await,
        None => None,
    };
    if next.as_ref().is_some_and(|next| next.is_clean) {
        // Nothing is to be written any more to the one that is left.
        writing.shutdown().await;
        link.finish_move();
    } else {
        link.end();
    }
    let outcome = Outcome {
        ended,
        was_slow: reading.was_slow(),
        reported: reading.reported,
        info: reading.info,
    };
    (outcome, next)
}

/// The connection that follows, and what it has to know.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) line: Line,
    /// Nothing was lost on the way: the link goes on.
    pub(super) is_clean: bool,
    pub(super) overlap: Overlap,
}

/// Leaves one NATS server for another one: subscribes there first, and hears the one that is left to its end.
async fn change_over(
    reading: &mut Reading<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    mut line: Line,
) -> Option<Next> {
    let link = reading.link;
    reading.notes = Some(Overlap::default());
    let subscribed = timeout(MOVE_LIMIT, line.subscribe(link.begin_move()));
    let Ok(Ok(early)) = subscribed.await else {
        return None;
    };
    // Others of the cluster have to learn of it before they hear that nobody listens here any more.
    let heard = timeout(SETTLE, reading.run(reader)).await;
    let is_clean = heard.is_err() && {
        let answer = link.leave();
        let drained = async {
            tokio::select! {
                answered = answer => answered.is_ok(),
                _ = reading.run(reader) => false,
            }
        };
        timeout(MOVE_LIMIT, drained).await.unwrap_or(false)
    };
    let mut overlap = reading.notes.take().unwrap_or_default();
    overlap.end(early, Clock.now().monotonic);
    Some(Next {
        line,
        is_clean,
        overlap,
    })
}

/// What the reader lets the others know.
#[derive(Debug, Default)]
struct Pulse {
    /// Reads that brought something.
    reads: AtomicU64,
    /// And how much they brought.
    bytes: AtomicU64,
    /// Nothing is being read: silence means nothing.
    paused: AtomicBool,
}

struct Reading<'a> {
    link: &'a Link,
    pulse: &'a Pulse,
    parser: Parser,
    info: Info,
    routes: Routes,
    generation: u64,
    /// Errors that NATS reported in this session.
    errors: u64,
    reported: Option<String>,
    paused_at: Option<Instant>,
    /// The end of the last pause.
    was_slow_at: Option<Instant>,
    /// By the NATS server before.
    before: Overlap,
    /// What the one after may send, too.
    notes: Option<Overlap>,
}

impl Reading<'_> {
    async fn run(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Ended {
        // What came along with the first answer.
        if let Err(violation) = self.take_frames() {
            return Ended::Violation(violation);
        }
        loop {
            if !self.link.budget.has_room() {
                self.pause().await;
            }
            match reader.read_buf(self.parser.room()).await {
                Ok(0) => return Ended::Closed,
                Ok(read) => {
                    self.pulse.bytes.fetch_add(read as u64, SeqCst);
                }
                Err(error) => return Ended::Failed(error),
            }
            self.pulse.reads.fetch_add(1, SeqCst);
            if let Err(violation) = self.take_frames() {
                return Ended::Violation(violation);
            }
        }
    }

    async fn pause(&mut self) {
        let pauses = self.link.counters.add_pause();
        if pauses.is_power_of_two() {
            tracing::warn!(
                pauses,
                "requests come faster than they can be taken: NATS has to hold them, and cuts this server off when \
                 they are too many; look at how long commits take"
            );
        }
        self.paused_at = Some(Clock.now().monotonic);
        self.pulse.paused.store(true, SeqCst);
        self.link.budget.room().await;
        self.pulse.paused.store(false, SeqCst);
        self.paused_at = None;
        self.was_slow_at = Some(Clock.now().monotonic);
    }

    fn was_slow(&self) -> bool {
        let recently = |at: Instant| Clock.now().monotonic.since(at) < SLOW_LIMIT;
        self.paused_at.is_some() || self.was_slow_at.is_some_and(recently)
    }

    /// Everything that is complete, in its order.
    fn take_frames(&mut self) -> Result<(), Violation> {
        self.link.refresh(&mut self.routes, &mut self.generation);
        let mut messages = Vec::new();
        // The subscription whose messages are gathered.
        let mut gathered = None;
        // Of all that one read brought: a clock is not free.
        let now = Clock.monotonic();
        let outcome = loop {
            let frame = match self.parser.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(()),
                Err(violation) => break Err(violation),
            };
            match frame {
                Frame::Message(message) => {
                    if self.before.knows(&message, now) {
                        continue;
                    }
                    if let Some(notes) = &mut self.notes {
                        notes.note(&message);
                    }
                    if gathered != Some(message.sid()) {
                        self.find_route(message.sid());
                        self.hand_over_elsewhere(gathered, message.sid(), &mut messages);
                        gathered = Some(message.sid());
                    }
                    messages.push(message);
                }
                Frame::Pong => {
                    // The answer to a round trip says that what came before it can be taken.
                    self.hand_over(gathered, &mut messages);
                    self.link.pong();
                }
                Frame::Ping => self.link.answer_ping(),
                Frame::Info(json) => self.note_info(&json),
                Frame::Error(text) => self.note_error(&text),
                Frame::Ok => {}
            }
        };
        self.hand_over(gathered, &mut messages);
        outcome
    }

    /// What came while the one before was still listened to.
    fn take_early(&mut self) {
        self.link.refresh(&mut self.routes, &mut self.generation);
        for message in self.before.take_early() {
            if !self.before.knows(&message, Clock.now().monotonic) {
                self.find_route(message.sid());
                self.hand_over(Some(message.sid()), &mut vec![message]);
            }
        }
    }

    fn find_route(&mut self, sid: u64) {
        if !self.routes.contains_key(&sid)
            && let Some(queue) = self.link.route(sid)
        {
            self.routes.insert(sid, queue);
        }
    }

    /// Hands over what is gathered unless `next` goes to the same queue, which keeps the order as it is.
    fn hand_over_elsewhere(&self, gathered: Option<u64>, next: u64, messages: &mut Vec<Message>) {
        let queue = |sid: u64| self.routes.get(&sid);
        let same = match (gathered.and_then(queue), queue(next)) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        if !same {
            self.hand_over(gathered, messages);
        }
    }

    /// Messages for a subscription that has just been given up go nowhere.
    fn hand_over(&self, gathered: Option<u64>, messages: &mut Vec<Message>) {
        match gathered.and_then(|sid| self.routes.get(&sid)) {
            Some(queue) => queue.put(messages),
            None => messages.clear(),
        }
    }

    fn note_info(&mut self, json: &Bytes) {
        let Some(info) = Info::parse(json) else {
            tracing::warn!("NATS says something about itself that cannot be read");
            return;
        };
        if info.lame_duck && !self.info.lame_duck {
            tracing::warn!("the NATS server is about to shut down; looking for another one");
            // What clients ask for during the move, a standby at another server hears.
            self.link.note_silence();
            self.link.move_away();
        }
        self.link.set_max_payload(info.max_payload);
        self.info = info;
    }

    fn note_error(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text).escape_debug().to_string();
        self.errors += 1;
        if Forbidden::is_about(&text) {
            self.link.forbid(&text);
        }
        // A client whose inbox this server may not publish to causes one with every message.
        let is_news = self.reported.as_deref() != Some(&*text);
        if is_news && self.errors <= 10 || self.errors.is_power_of_two() {
            let (errors, error) = (self.errors, text.as_str());
            let lower = text.to_ascii_lowercase();
            if lower.contains("permissions violation") {
                tracing::error!(
                    error,
                    errors,
                    "NATS forbids this server something that it needs; check the permissions of its user"
                );
            } else if lower.contains("slow consumer") {
                tracing::error!(error, errors, "NATS finds this server too slow");
            } else {
                tracing::error!(error, errors, "the NATS server reports an error");
            }
        }
        self.reported = Some(text);
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, link: Arc<Link>) -> Ended {
    let mut buffer = BytesMut::new();
    loop {
        link.to_write(&mut buffer).await;
        if let Err(error) = writer.write_all(&buffer).await {
            return Ended::Failed(error);
        }
        if let Err(error) = writer.flush().await {
            return Ended::Failed(error);
        }
        Link::recycle(&mut buffer);
    }
}

async fn keep_alive(link: &Link, pulse: &Pulse, silence: Duration, is_there: &Look<'_>) -> Ended {
    let mut ticks = interval(silence / PINGS_PER_SILENCE);
    // A process that was frozen must not find all its questions unanswered at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut seen = 0;
    let mut silent = 0;
    let mut unanswered = Unanswered::default();
    loop {
        ticks.tick().await;
        let reads = pulse.reads.load(SeqCst);
        if reads != seen || pulse.paused.load(SeqCst) {
            silent = 0;
        } else {
            silent += 1;
        }
        seen = reads;
        if silent >= PINGS_PER_SILENCE && silent.is_multiple_of(PINGS_PER_SILENCE) {
            let time = silence * (silent / PINGS_PER_SILENCE);
            if silent >= PINGS_PER_SILENCE * SILENCES_MAX || !is_there().await {
                // It may have answered during the look.
                if pulse.reads.load(SeqCst) == seen {
                    link.note_silence();
                    return Ended::Silent(time);
                }
            }
        }
        let looks = unanswered.look(link, pulse);
        let time = silence / PINGS_PER_SILENCE * looks;
        if time >= UNANSWERED_MAX {
            link.note_silence();
            return Ended::Unanswered(time);
        }
        link.ask_again();
        link.keep_alive(PINGS_OPEN_MAX);
    }
}

/// How often one ping was found without its answer. Looks are counted, not time: a process that was frozen has not read the
/// answers yet.
#[derive(Debug, Default)]
struct Unanswered {
    ping: Option<Instant>,
    looks: u32,
    bytes_before: u64,
}

impl Unanswered {
    fn look(&mut self, link: &Link, pulse: &Pulse) -> u32 {
        let (ping, bytes) = (link.oldest_ping(), pulse.bytes.load(SeqCst));
        let is_flooded = bytes - self.bytes_before > BACKLOG_BYTES;
        if ping.is_none() || ping != self.ping || is_flooded || pulse.paused.load(SeqCst) {
            *self = Self {
                ping,
                looks: 0,
                bytes_before: bytes,
            };
        } else {
            self.looks += 1;
        }
        self.looks
    }
}
