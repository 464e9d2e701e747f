//! What the terms before stored last. A publish is recognised by its channel, its GUID, its client and its content: GUIDs are
//! the clients' to choose, and one that comes twice does not make two publishes one.
//!
//! A NATS route that is slow may bring a publish to this node only after the node has taken over, though the last active received
//! it in time and stored it: it is acked, and not stored again.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use super::broker::Broker;
use super::deadlines::Timer;
use super::ids::{ChannelName, ClientId, ConnectionId, Guid, Subject};
use super::message::Message;
use super::outbound::Reply;
use super::request::{Publish, Publisher};
use super::time::Instant;

/// Tells contents apart.
pub type Digest = u128;

/// Makes the digest of a reply text and data, as the store makes it of what it holds. The core has no hash of its own that the
/// store could make, too.
pub type Digester = fn(reply: &str, data: &[u8]) -> Digest;

/// A publish that is stored, or was until a limit dropped it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredPublish {
    pub guid: Guid,
    /// `None`: not noted. It may be anybody's.
    pub client_id: Option<ClientId>,
    /// `None`: not noted, or too long to be read for this. It may be anything.
    pub content: Option<Digest>,
}

/// Who sent it and what it says, as far as that is noted.
type Copied = (Option<ClientId>, Option<Digest>);

/// Publishes that are stored, to be looked up.
#[derive(Clone, Debug)]
pub struct StoredPublishes {
    by_guid: BTreeMap<(ChannelName, Guid), Vec<Copied>>,
    /// Who has which connection. Publishes name one or the other.
    clients: BTreeMap<ConnectionId, ClientId>,
    digester: Digester,
}

impl Default for StoredPublishes {
    fn default() -> Self {
        Self::new(digest)
    }
}

impl StoredPublishes {
    pub fn new(digester: Digester) -> Self {
        Self {
            by_guid: BTreeMap::new(),
            clients: BTreeMap::new(),
            digester,
        }
    }

    pub fn add(&mut self, channel: ChannelName, publish: StoredPublish) {
        let copies = self.by_guid.entry((channel, publish.guid)).or_default();
        copies.push((publish.client_id, publish.content));
    }

    /// A message that is about to be stored.
    pub fn add_message(&mut self, channel: ChannelName, message: &Message) {
        let stored = StoredPublish {
            guid: message.guid.clone(),
            client_id: Some(message.client_id.clone()),
            content: Some((self.digester)(&message.reply, &message.data)),
        };
        self.add(channel, stored);
    }

    pub(super) fn add_connection(&mut self, connection: ConnectionId, client: ClientId) {
        if !connection.is_empty() {
            self.clients.insert(connection, client);
        }
    }

    /// False when the publisher is a connection that nobody has: its publishes are refused.
    pub(super) fn knows(&self, publisher: &Publisher) -> bool {
        match publisher {
            Publisher::Connection(connection) => self.clients.contains_key(connection),
            Publisher::Client(_) => true,
        }
    }

    /// True when this publish is among them. One of a connection that nobody knows is recognised by what it says: its client
    /// has gone, and would be refused.
    pub fn contains(&self, publish: &Publish) -> bool {
        let client = match &publish.publisher {
            Publisher::Connection(connection) => self.clients.get(connection).map(ClientId::as_str),
            Publisher::Client(client) => Some(&**client),
        };
        let content = (&*publish.reply, &*publish.data);
        let found = self.find(&publish.channel, &publish.guid, client, content);
        found.is_some()
    }

    /// As [`Self::contains`], of a message that a node has in memory.
    pub(super) fn contains_message(&self, channel: &ChannelName, message: &Message) -> bool {
        let content = (&*message.reply, &*message.data);
        let client = Some(message.client_id.as_str());
        let found = self.find(channel, &message.guid, client, content);
        found.is_some()
    }

    /// Which of those with the GUID it is.
    fn find(
        &self,
        channel: &ChannelName,
        guid: &Guid,
        client: Option<&str>,
        (reply, data): (&str, &[u8]),
    ) -> Option<usize> {
        let copies = self.by_guid.get(&(channel.clone(), guid.clone()))?;
        let digest = (self.digester)(reply, data);
        copies.iter().position(|(by, content)| {
            let is_whose = by
                .as_ref()
                .zip(client)
                .is_none_or(|(by, client)| by.as_str() == client);
            is_whose && content.is_none_or(|content| content == digest)
        })
    }

    /// Forgets the publish; false when it is not among them.
    fn take(&mut self, publish: &Publish, client: Option<&str>) -> bool {
        let content = (&*publish.reply, &*publish.data);
        let Some(at) = self.find(&publish.channel, &publish.guid, client, content) else {
            return false;
        };
        let key = (publish.channel.clone(), publish.guid.clone());
        if let Some(copies) = self.by_guid.get_mut(&key) {
            copies.swap_remove(at);
            if copies.is_empty() {
                self.by_guid.remove(&key);
            }
        }
        true
    }
}

/// For stores that have no other.
pub fn digest(reply: &str, data: &[u8]) -> Digest {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(reply.len());
    hasher.write(reply.as_bytes());
    hasher.write(data);
    hasher.finish().into()
}

impl Broker {
    /// Knows these publishes until `until`. Their number is the caller's to bound.
    pub fn remember_stored(&mut self, stored: StoredPublishes, until: Instant) {
        self.stored_before = stored;
        self.deadlines.set(Timer::ForgetStored, until);
    }

    pub(super) fn forget_stored(&mut self) {
        self.stored_before = StoredPublishes::default();
    }

    /// True when the publish was stored by a term before, and has got its answer.
    pub(super) fn was_stored_before(&mut self, request: &Publish, reply: Option<&Subject>) -> bool {
        if self.stored_before.by_guid.is_empty() {
            return false;
        }
        let client = self.clients.publisher(&request.publisher);
        // Each comes late once at most.
        let known = self
            .stored_before
            .take(request, client.map(ClientId::as_str));
        if known {
            self.answer(reply.cloned(), Reply::Published(request.guid.clone()));
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelName {
        ChannelName::parse("orders".into()).expect("valid")
    }

    fn client(name: &str) -> ClientId {
        ClientId::parse(name.to_owned().into()).expect("valid")
    }

    fn publish(publisher: Publisher, data: &'static str) -> Publish {
        Publish {
            publisher,
            guid: Guid::parse("g".into()).expect("valid"),
            channel: channel(),
            reply: "".into(),
            data: data.into(),
        }
    }

    fn stored(by: Option<&str>, content: Option<&str>) -> StoredPublishes {
        let mut stored = StoredPublishes::default();
        let publish = StoredPublish {
            guid: Guid::parse("g".into()).expect("valid"),
            client_id: by.map(client),
            content: content.map(|data| digest("", data.as_bytes())),
        };
        stored.add(channel(), publish);
        stored.add_connection(ConnectionId("c1".into()), client("me"));
        stored.add_connection(ConnectionId("c2".into()), client("you"));
        stored
    }

    fn by_client(name: &'static str) -> Publisher {
        Publisher::Client(name.into())
    }

    fn by_connection(id: &'static str) -> Publisher {
        Publisher::Connection(ConnectionId(id.into()))
    }

    #[test]
    fn a_publish_is_recognised_by_client_guid_and_content() {
        let stored = stored(Some("me"), Some("x"));
        for (publisher, data, known) in [
            (by_client("me"), "x", true),
            (by_connection("c1"), "x", true),
            (by_client("you"), "x", false),
            (by_connection("c2"), "x", false),
            (by_client("me"), "y", false),
            (by_connection("c1"), "y", false),
            // The client may have gone.
            (by_connection("c9"), "x", true),
            (by_connection("c9"), "y", false),
        ] {
            let publish = publish(publisher, data);
            assert_eq!(stored.contains(&publish), known, "{publish:?}");
        }
    }

    #[test]
    fn what_was_not_noted_makes_no_difference() {
        assert!(stored(None, None).contains(&publish(by_client("me"), "x")));
        assert!(stored(None, Some("x")).contains(&publish(by_client("me"), "x")));
        assert!(!stored(None, Some("x")).contains(&publish(by_client("me"), "y")));
        assert!(!stored(Some("me"), None).contains(&publish(by_client("you"), "x")));
    }

    #[test]
    fn each_is_taken_once() {
        let mut stored = stored(Some("me"), Some("x"));
        let publish = publish(by_client("me"), "x");

        assert!(!stored.take(&publish, Some("you")));
        assert!(stored.take(&publish, Some("me")));
        assert!(!stored.take(&publish, Some("me")));
    }
}
