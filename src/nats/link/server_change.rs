//! From one NATS server to another one, without losing anything.

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::Link;
use crate::clock::Clock;
use crate::nats::wire::encode;

/// From one NATS server to another one, without losing anything.
#[derive(Debug, Default)]
pub(super) struct Move {
    /// The subscriptions that the other server knows.
    pub(super) sids: Vec<u64>,
    /// All that the one that is left still gets.
    pub(super) farewell: BytesMut,
}

impl Link {
    /// The way to another NATS server begins: nothing is written until [`Self::leave`]. Returns what makes the other one
    /// know the subscriptions.
    pub(in crate::nats) fn begin_move(&self) -> BytesMut {
        let mut state = self.lock();
        let mut out = BytesMut::new();
        for (&sid, subscription) in &state.subscriptions {
            encode::subscribe(&subscription.subject, sid, &mut out);
        }
        state.moving = Some(Move {
            sids: state.subscriptions.keys().copied().collect(),
            farewell: BytesMut::new(),
        });
        out
    }

    /// Says goodbye to the NATS server that is there, after all that is urgent. When the receiver gets its answer, that
    /// server has taken it all, and everything that it sent has been read.
    pub(in crate::nats) fn leave(&self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(moving) = &mut state.moving {
            moving.farewell = state.out.take_urgent();
            for &sid in state.subscriptions.keys() {
                encode::unsubscribe(sid, &mut moving.farewell);
            }
            moving.farewell.extend_from_slice(encode::PING);
            let confirms = state.out.ask();
            state.note_ping(confirms, Some(sender));
            self.to_write.notify_one();
        }
        receiver
    }

    /// The other NATS server is the one that is there now.
    pub(in crate::nats) fn finish_move(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(moving) = state.moving.take() else {
            return;
        };
        let mut first = BytesMut::new();
        // It takes no notice of those that it knows.
        for (&sid, subscription) in &state.subscriptions {
            encode::subscribe(&subscription.subject, sid, &mut first);
        }
        for sid in moving.sids {
            if !state.subscriptions.contains_key(&sid) {
                encode::unsubscribe(sid, &mut first);
            }
        }
        state.pings.clear();
        state.out.go_on(first, Clock.now().monotonic);
        for round_trip in std::mem::take(&mut state.early) {
            state.ping(Some(round_trip));
        }
        self.to_write.notify_one();
    }
}
