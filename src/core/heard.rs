//! What a standby heard while another node was active. When it takes over, it cannot know which of those
//! requests were carried out: they are judged again, after the ones have been taken out that must not happen
//! twice.

use std::collections::BTreeSet;

use super::event::Event;
use super::ids::{ChannelName, Guid};

/// The publishes among the requests, to be looked up in the store.
pub fn publishes(heard: &[Event]) -> impl Iterator<Item = (&ChannelName, &Guid)> {
    heard.iter().filter_map(|event| match event {
        Event::Publish { request, .. } => Some((&request.channel, &request.guid)),
        Event::Connect { .. }
        | Event::Subscribe { .. }
        | Event::Unsubscribe { .. }
        | Event::CloseSubscription { .. }
        | Event::CloseClient { .. }
        | Event::Ping { .. }
        | Event::Ack(_)
        | Event::Refused { .. }
        | Event::AlreadyStored { .. }
        | Event::Pong(_)
        | Event::Unreachable(_)
        | Event::Reconnected
        | Event::Committed(_)
        | Event::Loaded { .. }
        | Event::LoadFailed(_) => None,
    })
}

/// What the tables say of the publishes that were heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    pub stored: BTreeSet<(ChannelName, Guid)>,
    /// Channels in which a limit may have dropped some of those that were stored.
    pub trimmed: BTreeSet<ChannelName>,
}

/// The requests that a new term begins with, in the order they were heard.
pub fn judge(heard: Vec<Event>, done: &Done) -> Vec<Event> {
    // From the last to the first: what came later decides whether an earlier request still counts.
    let mut connected_later = BTreeSet::new();
    let mut left_later = BTreeSet::new();
    let mut stored_later = BTreeSet::new();
    let mut judged: Vec<Event> = Vec::with_capacity(heard.len());
    for event in heard.into_iter().rev() {
        let event = match event {
            Event::Connect { request, reply } => {
                connected_later.insert(request.client_id.to_text());
                Some(Event::Connect { request, reply })
            }
            Event::Publish { request, reply } => {
                let key = (request.channel.clone(), request.guid.clone());
                if done.stored.contains(&key) {
                    stored_later.insert(request.channel);
                    reply.map(|reply| Event::AlreadyStored {
                        guid: request.guid,
                        reply,
                    })
                } else if done.trimmed.contains(&request.channel)
                    && stored_later.contains(&request.channel)
                {
                    // The active came past it: it was stored, and dropped by a limit since. Done again, an old
                    // message would come back as the newest. Without limits at work it is new: two nodes may
                    // hear two publishers in different orders.
                    None
                } else {
                    Some(Event::Publish { request, reply })
                }
            }
            // Done for a client that is gone, or that has left the subscription: it would stay for ever.
            Event::Subscribe { request, .. }
                if connected_later.contains(request.client_id.as_str())
                    || left_later
                        .contains(&(request.client_id.to_text(), request.channel.clone())) =>
            {
                None
            }
            // A close names no connection: it was meant for the one before.
            Event::CloseClient { client_id, .. } if connected_later.contains(&client_id) => None,
            Event::Unsubscribe { request, reply } => {
                left_later.insert((request.client_id.clone(), request.channel.clone()));
                Some(Event::Unsubscribe { request, reply })
            }
            Event::CloseSubscription { request, reply } => {
                left_later.insert((request.client_id.clone(), request.channel.clone()));
                Some(Event::CloseSubscription { request, reply })
            }
            event @ (Event::Subscribe { .. }
            | Event::CloseClient { .. }
            | Event::Ack(_)
            | Event::Refused { .. }
            | Event::AlreadyStored { .. }) => Some(event),
            // Clients ping again by themselves; the rest is never heard from NATS while standing by.
            Event::Ping { .. }
            | Event::Pong(_)
            | Event::Unreachable(_)
            | Event::Reconnected
            | Event::Committed(_)
            | Event::Loaded { .. }
            | Event::LoadFailed(_) => None,
        };
        judged.extend(event);
    }
    judged.reverse();
    judged
}
