//! One subscription: acks each message as it comes, and notes how long it was under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use bytes::{Bytes, BytesMut};

use super::histogram::Histogram;
use super::publisher;
use super::timeline::Timeline;
use crate::cli::failure::Failure;
use crate::core::time::Instant;
use crate::nats::wire::{Message, encode};
use crate::protocol::client;

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) client_id: String,
    pub(super) channel: String,
    pub(super) ack_inbox: String,
    /// Members share what comes; others get everything.
    in_group: bool,
    /// Messages that the group is still to get in this phase.
    pub(super) awaited: Arc<AtomicU64>,
    highest: u64,
    pub(super) delivered: u64,
    pub(super) redelivered: u64,
    pub(super) latency: Histogram,
    pub(super) timeline: Timeline,
    pub(super) last_delivery: Instant,
    started: Instant,
}

impl Subscriber {
    pub(super) fn new(
        client_id: String,
        channel: String,
        ack_inbox: String,
        in_group: bool,
        awaited: Arc<AtomicU64>,
    ) -> Self {
        Self {
            client_id,
            channel,
            ack_inbox,
            in_group,
            awaited,
            highest: 0,
            delivered: 0,
            redelivered: 0,
            latency: Histogram::default(),
            timeline: Timeline::default(),
            last_delivery: Instant::default(),
            started: Instant::default(),
        }
    }

    /// A phase begins; what was measured before is forgotten.
    pub(super) fn begin(&mut self, now: Instant) {
        self.delivered = 0;
        self.redelivered = 0;
        self.latency = Histogram::default();
        self.timeline = Timeline::default();
        self.last_delivery = now;
        self.started = now;
    }

    pub(super) fn is_done(&self) -> bool {
        self.awaited.load(Relaxed) == 0
    }

    /// Appends the ack to `out`. True when the message is one that was awaited.
    pub(super) fn take(
        &mut self,
        message: &Message,
        out: &mut BytesMut,
        now: Instant,
    ) -> Result<bool, Failure> {
        let payload = Bytes::copy_from_slice(message.payload());
        let delivery = client::delivery(payload).context("a message cannot be read")?;
        let ack = client::ack(&self.channel, delivery.sequence);
        encode::publish(self.ack_inbox.as_bytes(), None, &ack, out);
        if delivery.redelivered {
            self.redelivered += 1;
        }
        let is_new = if self.in_group {
            !delivery.redelivered
        } else {
            delivery.sequence > self.highest
        };
        if !is_new {
            return Ok(false);
        }
        self.highest = delivery.sequence;
        self.delivered += 1;
        if let Some(sent) = publisher::stamp(&delivery.data) {
            self.latency.add(nanos(now.since(sent)));
        }
        let one_less = |awaited: u64| awaited.checked_sub(1);
        // More than were awaited come from others who publish here.
        self.awaited.fetch_update(Relaxed, Relaxed, one_less).ok();
        Ok(true)
    }

    /// So many messages came with one read.
    pub(super) fn note(&mut self, messages: u64, now: Instant) {
        self.timeline.add(now.since(self.started), messages);
        self.last_delivery = now;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
