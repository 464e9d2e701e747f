//! The subscriptions of a connection, over reconnects, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::Link;
use crate::nats::error::Error;
use crate::nats::queue::Queue;
use crate::nats::wire::encode;

#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) subject: String,
    pub(super) queue: Arc<Queue>,
}

/// Where messages of the subscriptions go that have had any.
pub(in crate::nats) type Routes = BTreeMap<u64, Arc<Queue>>;

impl Link {
    /// From here on messages to `subject` go to `queue`, over reconnects too.
    pub(in crate::nats) fn subscribe(
        &self,
        subject: &str,
        queue: &Arc<Queue>,
    ) -> Result<u64, Error> {
        ensure_subject(subject)?;
        let mut state = self.lock();
        let state = &mut *state;
        if state.closed {
            return Err(Error::Closed);
        }
        state.last_sid += 1;
        let subscription = Subscription {
            subject: subject.to_owned(),
            queue: Arc::clone(queue),
        };
        state.subscriptions.insert(state.last_sid, subscription);
        self.generation.fetch_add(1, SeqCst);
        if state.connected {
            encode::subscribe(subject, state.last_sid, state.out.urgent());
            self.to_write.notify_one();
        }
        Ok(state.last_sid)
    }

    pub(in crate::nats) fn unsubscribe(&self, sids: &[u64]) {
        let mut state = self.lock();
        let state = &mut *state;
        for &sid in sids {
            let known = state.subscriptions.remove(&sid).is_some();
            if known && state.connected {
                encode::unsubscribe(sid, state.out.urgent());
            }
        }
        self.generation.fetch_add(1, SeqCst);
        self.to_write.notify_one();
    }

    /// Forgets `routes` when the subscriptions have changed since `generation`.
    pub(in crate::nats) fn refresh(&self, routes: &mut Routes, generation: &mut u64) {
        let latest = self.generation.load(SeqCst);
        if latest != *generation {
            *generation = latest;
            routes.clear();
        }
    }

    /// Where messages of this subscription go; `None` when it has been given up.
    pub(in crate::nats) fn route(&self, sid: u64) -> Option<Arc<Queue>> {
        let state = self.lock();
        let subscription = state.subscriptions.get(&sid)?;
        Some(Arc::clone(&subscription.queue))
    }
}

/// Anything else could put a second line into the protocol.
pub(in crate::nats) fn ensure_subject(subject: &str) -> Result<(), Error> {
    if subject.is_empty() || !subject.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return Err(Error::InvalidSubject {
            subject: subject.to_owned(),
        });
    }
    Ok(())
}
