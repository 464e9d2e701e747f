//! Everything that a new term starts from: the tables' rows, without the messages.

use std::collections::BTreeMap;

use super::batch::{ChannelRow, ClientRow, Counters, PositionRow, SubscriptionRow};
use super::ids::{ChannelId, ClientId, PositionId, SubscriptionId};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub counters: Counters,
    pub channels: BTreeMap<ChannelId, ChannelRow>,
    pub clients: BTreeMap<ClientId, ClientRow>,
    pub positions: BTreeMap<PositionId, PositionRow>,
    pub subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
}
