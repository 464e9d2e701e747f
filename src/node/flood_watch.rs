//! Tells what is wrong on the way to NATS: requests are refused because their clients send more than is carried out, or NATS
//! does not let this server listen, or does not take what it sends.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::status_publisher::StatusPublisher;
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::monitoring::condition::Condition;
use crate::nats::Connection;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// So often it is tried whether inboxes can be reached.
const TRY_EVERY: u32 = 20;

/// Without another refusal for so long, it has passed.
const PASSED_AFTER: Duration = Duration::from_secs(10);

/// Until the node stops.
pub(super) async fn watch(nats: Connection, status: StatusPublisher, shutdown: CancellationToken) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = nats.counts().refused;
    let mut last: Option<Instant> = None;
    for look in 0_u32.. {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        // One that is forbidden among many is one client's; if this server's own are, too, then all of them are.
        let rejects = nats.rejects();
        let answers_nobody = rejects.is_some() && !nats.may_use_inboxes();
        match nats.forbids() {
            Some(error) => status.raise(
                Condition::NatsForbids,
                format!(
                    "the NATS server does not let this server listen: {error}; requests of clients do not arrive: give its user the \
                     permissions that `stanby nats-permissions` prints, and look at max_subscriptions; it asks again by itself"
                ),
            ),
            None if answers_nobody => status.raise(
                Condition::NatsForbids,
                format!(
                    "the NATS server does not let this server answer: {}; no client gets answers or messages: give its user the \
                     permissions that `stanby nats-permissions` prints",
                    rejects.as_deref().unwrap_or_default()
                ),
            ),
            None => status.clear(Condition::NatsForbids),
        }
        if look % TRY_EVERY == 0 && nats.is_connected() {
            // Not while too much waits for the socket: there will be another time.
            timeout(LOOK_EVERY, nats.try_inbox()).await.ok();
        }
        match rejects {
            Some(error) => status.raise(
                Condition::NatsRejects,
                format!(
                    "the NATS server does not take what this server sends to a client: {error}; that client gets no answers or messages: give the \
                     user of the servers the permissions that `stanby nats-permissions` prints, or raise max_control_line, whichever it is"
                ),
            ),
            None => status.clear(Condition::NatsRejects),
        }
        let now = Clock.now().monotonic;
        let refused = nats.counts().refused;
        if refused > known {
            known = refused;
            last = Some(now);
            status.raise(
                Condition::PublishesRefused,
                "some clients send more than is carried out, and the rest of it is refused \
                 (stanby_nats_refused_total counts it), so that others need not wait for it; let them wait for answers \
                 (max pub acks in flight), and look at how long commits take",
            );
        } else if last.is_some_and(|last| now.since(last) >= PASSED_AFTER) {
            last = None;
            status.clear(Condition::PublishesRefused);
        }
    }
}
