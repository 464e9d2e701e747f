//! What NATS sends: read, cut into frames, and handed over in its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::SessionEnd;
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::nats::forbidden::Forbidden;
use crate::nats::link::{Link, Routes};
use crate::nats::overlap::Overlap;
use crate::nats::rejections::About;
use crate::nats::wire::{Frame, Info, Message, Parser, Violation};

/// nats-server waits so long for a slow client before it cuts it off.
const SLOW_LIMIT: Duration = Duration::from_secs(10);

/// What the reader lets the others know.
#[derive(Debug, Default)]
pub(super) struct ReadActivity {
    /// Reads that brought something.
    pub(super) reads: AtomicU64,
    /// And how much they brought.
    pub(super) bytes: AtomicU64,
    /// Nothing is being read: silence means nothing.
    pub(super) paused: AtomicBool,
}

pub(super) struct Reading<'a> {
    pub(super) link: &'a Link,
    activity: &'a ReadActivity,
    parser: Parser,
    pub(super) info: Info,
    routes: Routes,
    generation: u64,
    /// Errors that NATS reported in this session.
    errors: u64,
    pub(super) reported: Option<String>,
    paused_at: Option<Instant>,
    /// The end of the last pause.
    was_slow_at: Option<Instant>,
    /// By the NATS server before.
    before: Overlap,
    /// What the one after may send, too.
    pub(super) notes: Option<Overlap>,
}

impl<'a> Reading<'a> {
    /// Everything that one connection sends, behind what `before` knows of the one before.
    pub(super) fn new(
        link: &'a Link,
        activity: &'a ReadActivity,
        parser: Parser,
        info: Info,
        before: Overlap,
    ) -> Self {
        Self {
            link,
            activity,
            parser,
            info,
            routes: Routes::new(),
            generation: u64::MAX,
            errors: 0,
            reported: None,
            paused_at: None,
            was_slow_at: None,
            before,
            notes: None,
        }
    }

    /// Until the connection ends, and how.
    pub(super) async fn run(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> SessionEnd {
        // What came along with the first answer.
        if let Err(violation) = self.take_frames() {
            return SessionEnd::Violation(violation);
        }
        loop {
            if !self.link.budget.has_room() {
                self.pause().await;
            }
            match reader.read_buf(self.parser.room()).await {
                Ok(0) => return SessionEnd::Closed,
                Ok(read) => {
                    self.activity.bytes.fetch_add(read as u64, SeqCst);
                }
                Err(error) => return SessionEnd::Failed(error),
            }
            self.activity.reads.fetch_add(1, SeqCst);
            if let Err(violation) = self.take_frames() {
                return SessionEnd::Violation(violation);
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
        self.activity.paused.store(true, SeqCst);
        self.link.budget.room().await;
        self.activity.paused.store(false, SeqCst);
        self.paused_at = None;
        self.was_slow_at = Some(Clock.now().monotonic);
    }

    pub(super) fn was_slow(&self) -> bool {
        let recently = |at: Instant| Clock.now().monotonic.since(at) < SLOW_LIMIT;
        self.paused_at.is_some() || self.was_slow_at.is_some_and(recently)
    }

    /// Everything that is complete, in its order.
    fn take_frames(&mut self) -> Result<(), Violation> {
        self.link.refresh(&mut self.routes, &mut self.generation);
        let mut messages = Vec::new();
        // The subscription whose messages are gathered.
        let mut gathered = None;
        // Once for all that one read brought: a clock is not free.
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
    pub(super) fn take_early(&mut self) {
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
            // What clients ask for during the move, a standby at another server receives.
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
        let about = About::of(&text);
        if let Some(about) = about {
            self.link.note_rejection(about, &text);
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
            } else if about == Some(About::Length) {
                tracing::error!(
                    error,
                    errors,
                    "the inbox of a client is longer than the NATS server takes, and ends the connection; nothing is sent there any more: \
                     raise max_control_line of the NATS server, or use shorter inboxes"
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
