//! Whether NATS is there and answers: asked for signs of life, and given up on when there are none.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::reading::ReadActivity;
use super::{Look, SessionEnd};
use crate::core::time::Instant;
use crate::nats::link::Link;

/// NATS is asked for a sign of life so often within the time that it may be silent.
const PINGS_PER_SILENCE: u32 = 4;

/// A NATS server that answers others may be silent for so many times as long: it is busy.
const SILENCES_MAX: u32 = 4;

const PINGS_OPEN_MAX: usize = 3;

/// A ping that is not answered for so long means that NATS does not receive us, although we receive it: a cut of one direction.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);

/// Unless so much came meanwhile that the answer may be waiting behind it.
const BACKLOG_BYTES: u64 = 8 << 20;

/// Ends when NATS is given up on. `silence`: how long it may give no sign of life before `is_there` has a look at it.
pub(super) async fn keep_alive(
    link: &Link,
    activity: &ReadActivity,
    silence: Duration,
    is_there: &Look<'_>,
) -> SessionEnd {
    let mut ticks = interval(silence / PINGS_PER_SILENCE);
    // A process that was frozen must not find all its questions unanswered at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut seen = 0;
    let mut silent = 0;
    let mut overdue_ping = OverduePing::default();
    loop {
        ticks.tick().await;
        let reads = activity.reads.load(SeqCst);
        if reads != seen || activity.paused.load(SeqCst) {
            silent = 0;
        } else {
            silent += 1;
        }
        seen = reads;
        if silent >= PINGS_PER_SILENCE && silent.is_multiple_of(PINGS_PER_SILENCE) {
            let time = silence * (silent / PINGS_PER_SILENCE);
            if silent >= PINGS_PER_SILENCE * SILENCES_MAX || !is_there().await {
                // It may have answered during the look.
                if activity.reads.load(SeqCst) == seen {
                    link.note_silence();
                    return SessionEnd::Silent(time);
                }
            }
        }
        let looks = overdue_ping.look(link, activity);
        let time = silence / PINGS_PER_SILENCE * looks;
        if time >= UNANSWERED_MAX {
            link.note_silence();
            return SessionEnd::Unanswered(time);
        }
        link.ask_again();
        link.repeat_answers();
        link.keep_alive(PINGS_OPEN_MAX);
    }
}

/// How often one ping was found without its answer. Looks are counted, not time: a process that was frozen has not read the
/// answers yet.
#[derive(Debug, Default)]
struct OverduePing {
    ping: Option<Instant>,
    looks: u32,
    bytes_before: u64,
}

impl OverduePing {
    fn look(&mut self, link: &Link, activity: &ReadActivity) -> u32 {
        let (ping, bytes) = (link.oldest_ping(), activity.bytes.load(SeqCst));
        let is_flooded = bytes - self.bytes_before > BACKLOG_BYTES;
        if ping.is_none() || ping != self.ping || is_flooded || activity.paused.load(SeqCst) {
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
