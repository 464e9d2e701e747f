//! A subscription on the pages, with the names and types of NATS Streaming's.

use serde::Serialize;

use crate::core::report::Subscription;

#[derive(Serialize)]
pub(super) struct Subscriptionz {
    client_id: String,
    inbox: String,
    ack_inbox: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    durable_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    queue_name: String,
    is_durable: bool,
    is_offline: bool,
    max_inflight: u32,
    /// Seconds.
    ack_wait: u64,
    last_sent: u64,
    pending_count: usize,
    is_stalled: bool,
}

impl From<Subscription> for Subscriptionz {
    fn from(subscription: Subscription) -> Self {
        let Subscription {
            durable_name,
            queue_group,
            ..
        } = subscription;
        let is_durable = durable_name.is_some();
        // The exporter and KEDA's scaler take durable groups apart at the colon.
        let (durable_name, queue_name) = match (durable_name, queue_group) {
            (Some(durable), Some(group)) => (String::new(), format!("{durable}:{group}")),
            (durable, group) => (durable.unwrap_or_default(), group.unwrap_or_default()),
        };
        let client_id = subscription.client_id.map(|id| id.to_string());
        Self {
            client_id: client_id.unwrap_or_default(),
            inbox: subscription.inbox,
            ack_inbox: subscription.ack_inbox,
            durable_name,
            queue_name,
            is_durable,
            is_offline: !subscription.online,
            max_inflight: subscription.max_in_flight,
            ack_wait: subscription.ack_wait.as_secs(),
            last_sent: subscription.last_sent.0,
            pending_count: subscription.in_flight,
            is_stalled: subscription.stalled,
        }
    }
}

pub(super) fn listed(subscriptions: Vec<Subscription>) -> Vec<Subscriptionz> {
    subscriptions.into_iter().map(Subscriptionz::from).collect()
}
