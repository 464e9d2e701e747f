//! Everything that a new term starts from: the tables' rows, without the messages.

use std::collections::BTreeMap;

use super::batch::{ChannelRow, ClientRow, Counters, Held, PositionRow, SubscriptionRow};
use super::ids::{ChannelId, ClientId, PositionId, SubscriptionId};
use super::progress::Pages;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub counters: Counters,
    pub channels: BTreeMap<ChannelId, ChannelRow>,
    pub clients: BTreeMap<ClientId, ClientRow>,
    /// With what pages say is acked.
    pub positions: BTreeMap<PositionId, PositionRow>,
    /// Of those positions that have some.
    pub pages: BTreeMap<PositionId, Pages>,
    /// By position and page, of queue groups. What is told of a position that is not here has to be deleted.
    pub holders: BTreeMap<PositionId, BTreeMap<u64, Held>>,
    pub subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
}
