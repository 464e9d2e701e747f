//! How much there is of everything, and the traffic since the first term of the process.

use super::broker::Broker;
use super::group::Group;

/// How much there is of everything, for the status page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub clients: usize,
    pub channels: usize,
    /// Online subscriptions, queue members, offline durables and empty durable groups (one each).
    pub subscriptions: usize,
    pub messages: u64,
    pub bytes: u64,
    pub traffic: Traffic,
}

macro_rules! traffic {
    ($($(#[doc = $doc:literal])* $field:ident),+ $(,)?) => {
        /// Since the term began, or since the first one of the process.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Traffic {
            $($(#[doc = $doc])* pub $field: u64,)+
        }

        impl std::ops::Add for Traffic {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field + other.$field,)+ }
            }
        }
    };
}

traffic! {
    in_messages,
    in_bytes,
    out_messages,
    out_bytes,
    /// Passed over by a subscription because NATS does not deliver messages of their size.
    skipped_messages,
    /// Deliveries that were not the first of their message to their group.
    redelivered_messages,
    /// Messages settled by an ack, once per subscription or group.
    acked_messages,
    /// Messages that a limit dropped before every durable of their channel had acked them.
    dropped_unacked,
    /// Passed over by a subscription because their rows cannot be read.
    unreadable_messages,
    /// Connects above the rate.
    refused_connects,
    /// Published in SQL, and stored or about to be.
    sql_published,
    /// Published in SQL, and moved to `outbox_refused`.
    sql_refused,
    /// Acks in SQL that are carried out.
    sql_acked,
    /// Negative ones.
    sql_nacked,
    /// Passed over because a policy allows no further delivery, dead letters included.
    poison_messages,
    dead_letters,
}

impl Broker {
    pub fn counts(&self) -> Counts {
        let rows = || self.channels.iter().map(|(_, channel)| &channel.row);
        Counts {
            clients: self.clients.len(),
            channels: self.channels.len(),
            subscriptions: self.groups.values().map(Group::subscriptions).sum(),
            messages: rows().map(|row| row.message_count).sum(),
            bytes: rows().map(|row| row.byte_count).sum(),
            traffic: self.traffic,
        }
    }
}

impl Counts {
    /// What there is now, and the traffic of all terms: of this one and of `earlier` ones.
    #[must_use]
    pub fn after(self, earlier: Self) -> Self {
        Self {
            traffic: self.traffic + earlier.traffic,
            ..self
        }
    }
}
