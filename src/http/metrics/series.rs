//! What an operator wants to know of each channel and of each durable. A durable group is one durable here, whatever
//! the number of its members.

use prometheus_client::registry::Registry;

use super::kinds::{Labels, Seconds, gauges, label, set};
use crate::core::report::{Channel, Subscription};
use crate::monitoring::reports::Behind;

pub(super) fn register(registry: &mut Registry, channels: &[Channel]) {
    let last = "Last sequence of the channel: its growth is the rate of publishes";
    let last = gauges(registry, "channel_last_sequence", last);
    let kept = gauges(registry, "channel_messages", "Messages kept in the channel");
    let bytes = gauges(
        registry,
        "channel_bytes",
        "Bytes of messages kept in the channel",
    );
    let subscriptions = "Subscriptions of the channel, offline durables included";
    let subscriptions = gauges(registry, "channel_subscriptions", subscriptions);
    let lag = "Messages that the durable has yet to be sent or to ack";
    let lag = gauges(registry, "durable_lag", lag);
    let unacked = "Messages sent to the durable and not acked";
    let unacked = gauges(registry, "durable_unacked", unacked);
    let online = "Clients that the durable is attached to";
    let online = gauges(registry, "durable_members", online);
    let stalled = "Members of the durable that take no more before they have acked";
    let stalled = gauges(registry, "durable_stalled_members", stalled);
    let paused = "1: an operator has paused the durable, or a policy has it wait for one message";
    let paused = gauges(registry, "durable_paused", paused);
    let oldest = Seconds::default();
    registry.register(
        "durable_oldest_unacked_seconds",
        "Seconds since the oldest unacked message was first delivered, in this term; 0 when there is none",
        oldest.clone(),
    );
    for channel in channels {
        let labels: Labels = vec![("channel", label(channel.name.as_str()))];
        set(&last, &labels, channel.last.0);
        set(&kept, &labels, channel.messages);
        set(&bytes, &labels, channel.bytes);
        set(&subscriptions, &labels, channel.subscription_count as u64);
        for durable in durables(&channel.subscriptions) {
            let mut labels = labels.clone();
            labels.extend(durable.labels);
            set(&lag, &labels, durable.lag);
            set(&unacked, &labels, durable.unacked);
            set(&online, &labels, durable.online);
            set(&stalled, &labels, durable.stalled);
            set(&paused, &labels, durable.paused);
            oldest.get_or_create(&labels).set(durable.oldest);
        }
    }
}

/// As the tables tell.
pub(super) fn behind(registry: &mut Registry, durables: &[Behind]) {
    let behind = Seconds::default();
    registry.register(
        "durable_behind_seconds",
        "Age of the oldest message that the durable has not acked, sent or not; no takeover makes it younger",
        behind.clone(),
    );
    for durable in durables {
        let group = durable.queue_group.as_deref().unwrap_or_default();
        let client = durable.clients.as_deref().filter(|_| group.is_empty());
        let labels: Labels = vec![
            ("channel", label(&durable.channel)),
            ("durable", label(&durable.durable)),
            ("queue", label(group)),
            ("client_id", label(client.unwrap_or_default())),
        ];
        behind.get_or_create(&labels).set(durable.seconds);
    }
}

struct Durable {
    /// Durable, queue group, and the client where the durable is one client's.
    labels: Labels,
    lag: u64,
    unacked: u64,
    online: u64,
    stalled: u64,
    paused: u64,
    oldest: f64,
}

/// The members of a group stand together.
fn durables(subscriptions: &[Subscription]) -> Vec<Durable> {
    let mut durables: Vec<Durable> = Vec::new();
    for member in subscriptions {
        let Some(name) = &member.durable_name else {
            continue;
        };
        let group = label(member.queue_group.as_deref().unwrap_or_default());
        let client = member.client_id.as_ref().filter(|_| group.is_empty());
        let labels: Labels = vec![
            ("durable", label(name)),
            ("queue", group),
            (
                "client_id",
                client.map_or_else(String::new, |id| label(id.as_str())),
            ),
        ];
        let same = durables.last_mut().filter(|last| last.labels == labels);
        if let Some(durable) = same {
            durable.online += u64::from(member.online);
            durable.stalled += u64::from(member.stalled);
            continue;
        }
        durables.push(Durable {
            labels,
            lag: member.lag,
            unacked: member.group_in_flight as u64,
            online: u64::from(member.online),
            stalled: u64::from(member.stalled),
            paused: u64::from(member.paused),
            oldest: member.oldest_unacked.map_or(0.0, |age| age.as_secs_f64()),
        });
    }
    durables
}
