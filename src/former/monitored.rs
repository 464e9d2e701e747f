//! What the monitoring pages of a running server tell of durables, and how far each of them is for certain.
//!
//! A page shows the last message that a subscription was sent and how many are not acked, but not which. So all up to the
//! last one is acked at the moments when nothing is pending, and a durable begins behind the latest of these: what it has
//! acked since comes again, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::error::Broken;
use super::pending::Pending;
use super::records::{Kind, Owner, Subscription};
use crate::core::ids::{
    ChannelId, ChannelName, ClientId, DurableName, QueueName, Subject, SubscriptionId,
};

/// Between the two names of a durable queue group.
const SEPARATOR: char = ':';

/// A subscription on a page. What is not needed is not read.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub struct Shown {
    pub client_id: String,
    pub inbox: String,
    pub ack_inbox: String,
    pub durable_name: String,
    pub queue_name: String,
    pub is_durable: bool,
    pub max_inflight: i64,
    /// Seconds.
    pub ack_wait: i64,
    pub last_sent: u64,
    pub pending_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// Client and durable.
    Durable(String, String),
    /// As the pages write it: durable and group, with a colon between them.
    Group(String),
}

#[derive(Clone, Debug)]
struct Known {
    /// All up to this one is acked.
    settled: u64,
    last_sent: u64,
    /// It has had messages in flight whenever somebody looked.
    never_idle: bool,
    ack_inboxes: BTreeSet<String>,
    shown: Shown,
}

/// All durables of a server, over any number of looks at its pages.
#[derive(Clone, Debug, Default)]
pub struct Durables {
    known: BTreeMap<(ChannelName, Key), Known>,
    /// Subscriptions without a durable name, at the last look.
    others: u64,
}

impl Durables {
    /// Takes a look at all of its channels. What is not there any more is forgotten.
    pub fn observe<'a>(
        &mut self,
        channels: impl IntoIterator<Item = (&'a ChannelName, &'a [Shown])>,
    ) {
        self.others = 0;
        let mut before = std::mem::take(&mut self.known);
        for (channel, shown) in channels {
            let mut groups: BTreeMap<Key, Vec<&Shown>> = BTreeMap::new();
            for one in shown {
                match key(one) {
                    Some(key) => groups.entry(key).or_default().push(one),
                    None => self.others += 1,
                }
            }
            for (key, members) in groups {
                let place = (channel.clone(), key);
                let known = Known::of(&members, before.remove(&place));
                self.known.insert(place, known);
            }
        }
    }

    /// As records of the former server, offline: nothing on the pages shows the connection of a client. With notes of those
    /// that begin again for want of knowledge. The error names what cannot be understood.
    pub fn subscriptions(
        &self,
        ids: &BTreeMap<ChannelName, ChannelId>,
    ) -> (Vec<Subscription>, Vec<String>, Vec<String>) {
        let (mut found, mut notes, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        for ((channel, key), known) in &self.known {
            let Some(&id) = ids.get(channel) else {
                continue;
            };
            let number = SubscriptionId(found.len() as u64 + 1);
            match known.subscription(key, id, number) {
                Ok(subscription) => found.push(subscription),
                Err(why) => problems.push(format!("{} of channel {channel:?}: {why}", key.named())),
            }
            if known.never_idle && known.last_sent > 0 {
                notes.push(format!(
                    "{} of channel {channel:?} had messages in flight whenever it was read, so it is not known \
                     which are acked: it begins again with the first message of the channel",
                    key.named()
                ));
            }
        }
        if self.others > 0 {
            notes.push(format!(
                "subscriptions without a durable name were left out ({}): their clients subscribe again when they connect",
                self.others
            ));
        }
        (found, notes, problems)
    }
}

impl Known {
    fn of(members: &[&Shown], before: Option<Self>) -> Self {
        let last_sent = members.iter().map(|it| it.last_sent).max();
        let last_sent = last_sent.unwrap_or_default();
        let is_idle = members.iter().all(|it| it.pending_count == 0);
        let ack_inboxes: BTreeSet<String> = members.iter().map(|it| it.ack_inbox.clone()).collect();
        // A group's member with the newest message may have left; one of the same name that was created again has nothing of
        // the one before.
        let before = before.filter(|before| {
            last_sent >= before.settled || !before.ack_inboxes.is_disjoint(&ack_inboxes)
        });
        let last_sent = before
            .as_ref()
            .map_or(last_sent, |it| it.last_sent.max(last_sent));
        let shown = members.first().map(|it| (*it).clone()).unwrap_or_default();
        Self {
            settled: match &before {
                _ if is_idle => last_sent,
                Some(before) => before.settled,
                None => 0,
            },
            never_idle: !is_idle && before.is_none_or(|it| it.never_idle),
            last_sent,
            ack_inboxes,
            shown,
        }
    }

    fn subscription(
        &self,
        key: &Key,
        channel: ChannelId,
        id: SubscriptionId,
    ) -> Result<Subscription, Broken> {
        let durable_name = |name: &str| {
            DurableName::parse(name.into()).ok_or_else(|| format!("{name:?} is no durable name"))
        };
        let (kind, owner) = match key {
            Key::Durable(client, durable) => (
                Kind::Durable(durable_name(durable)?),
                Some(self.owner(client)?),
            ),
            Key::Group(names) => {
                let (durable, queue) = names
                    .split_once(SEPARATOR)
                    .ok_or("its group is durable and names no durable")?;
                let queue = QueueName::parse(queue.into())
                    .ok_or_else(|| format!("{queue:?} is no name of a queue group"))?;
                (Kind::DurableQueue(durable_name(durable)?, queue), None)
            }
        };
        let mut pending = Pending::default();
        pending.sent_up_to(self.settled);
        Ok(Subscription {
            id,
            channel,
            kind,
            owner,
            is_closed: true,
            pending,
        })
    }

    fn owner(&self, client: &str) -> Result<Owner, Broken> {
        let shown = &self.shown;
        let subject = |text: &str, what: &str| {
            Subject::parse(text.into()).ok_or_else(|| format!("its {what} {text:?} is no subject"))
        };
        Ok(Owner {
            client_id: ClientId::parse(client.into())
                .ok_or_else(|| format!("{client:?} is no client ID"))?,
            inbox: subject(&shown.inbox, "inbox")?,
            ack_inbox: subject(&shown.ack_inbox, "ack inbox")?,
            max_in_flight: u32::try_from(shown.max_inflight.max(1)).unwrap_or(u32::MAX),
            ack_wait: Duration::from_secs(shown.ack_wait.max(1).unsigned_abs()),
        })
    }
}

impl Key {
    fn named(&self) -> String {
        match self {
            Self::Durable(client, durable) => format!("durable {durable:?} of client {client:?}"),
            Self::Group(names) => format!("durable queue group {names:?}"),
        }
    }
}

/// `None` of what ends with its client.
fn key(shown: &Shown) -> Option<Key> {
    match (shown.queue_name.is_empty(), shown.is_durable) {
        (false, true) => Some(Key::Group(shown.queue_name.clone())),
        (true, _) if !shown.durable_name.is_empty() => Some(Key::Durable(
            shown.client_id.clone(),
            shown.durable_name.clone(),
        )),
        (false, false) | (true, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> ChannelName {
        ChannelName::parse("orders".into()).unwrap()
    }

    fn durable(last_sent: u64, pending_count: u64) -> Shown {
        Shown {
            client_id: "app".to_owned(),
            inbox: "inbox".to_owned(),
            ack_inbox: "acks".to_owned(),
            durable_name: "d".to_owned(),
            is_durable: true,
            max_inflight: 10,
            ack_wait: 30,
            last_sent,
            pending_count,
            ..Shown::default()
        }
    }

    fn member(ack_inbox: &str, last_sent: u64, pending_count: u64) -> Shown {
        Shown {
            client_id: ack_inbox.to_owned(),
            ack_inbox: ack_inbox.to_owned(),
            durable_name: String::new(),
            queue_name: "d:workers".to_owned(),
            ..durable(last_sent, pending_count)
        }
    }

    /// Up to where the only one has acked, and the notes.
    fn after(looks: &[&[Shown]]) -> (u64, Vec<String>) {
        let mut durables = Durables::default();
        for look in looks {
            durables.observe([(&orders(), *look)]);
        }
        let ids = BTreeMap::from([(orders(), ChannelId(1))]);
        let (found, notes, problems) = durables.subscriptions(&ids);
        assert_eq!(problems, [""; 0]);
        assert_eq!(found.len(), 1);
        assert!(found[0].pending.sequences.is_empty());
        (found[0].pending.last_sent, notes)
    }

    #[test]
    fn a_durable_stands_where_nothing_was_pending_for_the_last_time() {
        assert_eq!(after(&[&[durable(9, 0)]]), (9, vec![]));
        let looks: [&[Shown]; 3] = [&[durable(9, 0)], &[durable(15, 3)], &[durable(20, 1)]];
        assert_eq!(after(&looks), (9, vec![]));
        let looks: [&[Shown]; 3] = [&[durable(9, 2)], &[durable(15, 0)], &[durable(20, 1)]];
        assert_eq!(after(&looks), (15, vec![]));
    }

    #[test]
    fn a_durable_that_is_never_idle_begins_anew_and_is_named() {
        let (from, notes) = after(&[&[durable(9, 1)], &[durable(12, 1)]]);
        assert_eq!(from, 0);
        assert!(
            notes[0].contains("durable \"d\" of client \"app\""),
            "{notes:?}"
        );
    }

    #[test]
    fn a_durable_that_was_made_anew_has_nothing_of_the_one_before() {
        let anew = Shown {
            ack_inbox: "others".to_owned(),
            ..durable(3, 1)
        };
        assert_eq!(after(&[&[durable(9, 0)], &[anew]]).0, 0);
    }

    #[test]
    fn a_group_stands_where_all_of_its_members_together_do() {
        let busy: &[Shown] = &[member("a", 7, 0), member("b", 9, 1)];
        let idle: &[Shown] = &[member("a", 7, 0), member("b", 9, 0)];
        assert_eq!(after(&[busy]).0, 0);
        assert_eq!(after(&[idle]).0, 9);
        // The one with the newest message has left, and has acked it.
        assert_eq!(after(&[idle, &[member("a", 7, 0)]]).0, 9);
        assert_eq!(after(&[idle, &[member("a", 7, 1)]]).0, 9);
        assert_eq!(after(&[idle, &[member("c", 7, 1)]]).0, 0);
    }

    #[test]
    fn what_ends_with_its_client_is_left_out_and_counted() {
        let plain = Shown {
            durable_name: String::new(),
            is_durable: false,
            ..durable(4, 0)
        };
        let mut durables = Durables::default();
        durables.observe([(&orders(), &[plain][..])]);
        let ids = BTreeMap::from([(orders(), ChannelId(1))]);
        let (found, notes, _) = durables.subscriptions(&ids);
        assert!(found.is_empty());
        assert!(notes[0].contains("left out (1)"), "{notes:?}");
    }
}
