//! The queue of deliveries on their way out. They rest on messages that are committed, so they wait for room alone.

use std::collections::VecDeque;

use crate::core::ids::{PositionId, SubscriptionId};
use crate::core::memory_size;
use crate::core::outbound::Outbound;

#[derive(Clone, Debug)]
struct Delivery {
    to: SubscriptionId,
    of: PositionId,
    /// What it costs.
    bytes: usize,
    outbound: Outbound,
}

#[derive(Clone, Debug, Default)]
pub(in crate::core) struct DeliveryQueue {
    queue: VecDeque<Delivery>,
    bytes: usize,
    /// Messages of some of them may have been acked or dropped since.
    settled_meanwhile: bool,
}

impl DeliveryQueue {
    /// Sends a message of a position to a subscription; returns what it costs until it has left, in bytes.
    pub(in crate::core) fn push(
        &mut self,
        to: SubscriptionId,
        of: PositionId,
        outbound: Outbound,
    ) -> usize {
        let bytes = memory_size::outbound(&outbound);
        self.bytes += bytes;
        self.queue.push_back(Delivery {
            to,
            of,
            bytes,
            outbound,
        });
        bytes
    }

    /// With the position that it is of, where its message may have been settled since it was sent.
    pub(in crate::core) fn pop(&mut self) -> Option<(Option<PositionId>, Outbound)> {
        let Some(delivery) = self.queue.pop_front() else {
            self.settled_meanwhile = false;
            return None;
        };
        self.bytes -= delivery.bytes;
        let of = self.settled_meanwhile.then_some(delivery.of);
        Some((of, delivery.outbound))
    }

    /// Drops what goes to a subscription that has ended: its client does not listen any more.
    pub(in crate::core) fn forget(&mut self, to: SubscriptionId) {
        let mut forgotten = 0;
        self.queue.retain(|delivery| {
            let stays = delivery.to != to;
            forgotten += if stays { 0 } else { delivery.bytes };
            stays
        });
        self.bytes -= forgotten;
    }

    /// A message is in flight no more: a delivery of it that waits is not wanted.
    pub(in crate::core) fn settled(&mut self) {
        self.settled_meanwhile = !self.queue.is_empty();
    }

    pub(in crate::core) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::core) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The count of bytes says what is there. Looks at all of it.
    pub(super) fn is_consistent(&self) -> bool {
        let bytes = self.queue.iter().map(|delivery| delivery.bytes);
        bytes.sum::<usize>() == self.bytes
    }
}
