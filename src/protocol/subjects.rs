//! Every subject that a cluster ID stands for. Nothing else spells one out.

use bytestring::ByteString;
use thiserror::Error;

use crate::core::ids::Subject;

/// Where clients look for a server unless they are configured otherwise.
pub const DISCOVER_PREFIX: &str = "_STAN.discover";

/// Where clients expect the acks of what they publish: each makes its own inbox below it.
pub const CLIENT_ACKS: &str = "_STAN.acks.>";

/// Longest cluster ID and longest prefix, in bytes. Together with what follows them in a subject they stay
/// below [`crate::core::ids::SUBJECT_BYTES_MAX`].
const PART_BYTES_MAX: usize = 512;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    #[error(
        "cluster ID {0:?} cannot be part of a NATS subject; use 1 to {PART_BYTES_MAX} characters without \
         dots, wildcards or white space"
    )]
    ClusterId(String),
    #[error(
        "{what} prefix {prefix:?} is not a NATS subject; use tokens without wildcards or white space, \
         separated by single dots, {PART_BYTES_MAX} characters at most"
    )]
    Prefix { what: &'static str, prefix: String },
}

/// The prefixes that a site may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// [`DISCOVER_PREFIX`] unless set; clients must be configured with the same.
    pub discover: Option<String>,
    /// `_INBOX.<cluster ID>` unless set, because many sites let clients publish to `_INBOX.>` and nothing else
    /// of this kind.
    pub ack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    discover: ByteString,
    pings: ByteString,
    publish_prefix: ByteString,
    publish_wildcard: ByteString,
    subscribe: ByteString,
    unsubscribe: ByteString,
    close_subscription: ByteString,
    close_client: ByteString,
    ack_prefix: ByteString,
    ack_wildcard: ByteString,
    servers: ByteString,
}

impl Subjects {
    pub fn new(cluster_id: &str, prefixes: &Prefixes) -> Result<Self, Error> {
        if !is_token(cluster_id) {
            return Err(Error::ClusterId(cluster_id.to_owned()));
        }
        let discover_prefix = prefixes.discover.as_deref().unwrap_or(DISCOVER_PREFIX);
        ensure_prefix("discover", discover_prefix)?;
        let ack_prefix = match &prefixes.ack {
            Some(prefix) => {
                ensure_prefix("ack", prefix)?;
                prefix.clone()
            }
            None => format!("_INBOX.{cluster_id}"),
        };

        let discover = format!("{discover_prefix}.{cluster_id}");
        let publish_prefix = format!("_STAN.pub.{cluster_id}");
        Ok(Self {
            pings: format!("{discover}.pings").into(),
            discover: discover.into(),
            publish_wildcard: format!("{publish_prefix}.>").into(),
            publish_prefix: publish_prefix.into(),
            subscribe: format!("_STAN.sub.{cluster_id}").into(),
            unsubscribe: format!("_STAN.unsub.{cluster_id}").into(),
            close_subscription: format!("_STAN.subclose.{cluster_id}").into(),
            close_client: format!("_STAN.close.{cluster_id}").into(),
            ack_wildcard: format!("{ack_prefix}.>").into(),
            ack_prefix: ack_prefix.into(),
            servers: format!("_STAN.servers.{cluster_id}").into(),
        })
    }

    /// Takes connects: the one subject that clients know by themselves.
    pub fn discover(&self) -> &ByteString {
        &self.discover
    }

    pub fn pings(&self) -> &ByteString {
        &self.pings
    }

    /// A client publishes to this, a dot and the channel.
    pub fn publish_prefix(&self) -> &ByteString {
        &self.publish_prefix
    }

    pub fn publish_wildcard(&self) -> &ByteString {
        &self.publish_wildcard
    }

    pub fn subscribe(&self) -> &ByteString {
        &self.subscribe
    }

    pub fn unsubscribe(&self) -> &ByteString {
        &self.unsubscribe
    }

    pub fn close_subscription(&self) -> &ByteString {
        &self.close_subscription
    }

    pub fn close_client(&self) -> &ByteString {
        &self.close_client
    }

    /// For `core::limits::Settings`: ack inboxes are this, the subscription's number and a token.
    pub fn ack_prefix(&self) -> &ByteString {
        &self.ack_prefix
    }

    /// False for one that a server with another prefix gave out.
    pub fn is_ack_inbox(&self, inbox: &str) -> bool {
        inbox
            .strip_prefix(&*self.ack_prefix)
            .is_some_and(|rest| rest.starts_with('.'))
    }

    /// Where actives of this cluster ID tell each other that they are there. No client has anything to do with it.
    pub fn servers(&self) -> &ByteString {
        &self.servers
    }

    /// One subscription for all acks, so that a takeover does not have to make one per subscription.
    pub fn ack_wildcard(&self) -> &ByteString {
        &self.ack_wildcard
    }
}

fn is_token(text: &str) -> bool {
    !text.contains(['.', '*', '>']) && is_short_subject(text)
}

fn ensure_prefix(what: &'static str, prefix: &str) -> Result<(), Error> {
    if is_short_subject(prefix) {
        Ok(())
    } else {
        Err(Error::Prefix {
            what,
            prefix: prefix.to_owned(),
        })
    }
}

fn is_short_subject(text: &str) -> bool {
    text.len() <= PART_BYTES_MAX && Subject::parse(text.into()).is_some()
}
