//! Every subject that a cluster ID stands for. Nothing else spells one out.

use bytestring::ByteString;
use thiserror::Error;

use crate::core::ids::Subject;
use crate::core::limits::ChannelPattern;
use crate::core::partition::{Partition, overlap};

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
         wildcards, white space or empty parts between dots"
    )]
    ClusterId(String),
    #[error(
        "{what} prefix {prefix:?} is not a NATS subject; use tokens without wildcards or white space, \
         separated by single dots, {PART_BYTES_MAX} characters at most"
    )]
    Prefix { what: &'static str, prefix: String },
    #[error(
        "channel {0:?} cannot be served by this group alone: NATS has no subject with white space in its name; \
         leave it out"
    )]
    Channel(String),
}

/// The prefixes that a site may change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    /// [`DISCOVER_PREFIX`] unless set; clients must be configured with the same.
    pub discover: Option<String>,
    /// `_INBOX.<cluster ID>` unless set, because many sites let clients publish to `_INBOX.>` and nothing else
    /// of this kind.
    pub ack: Option<String>,
    /// Follows the usual ack prefix where several groups of servers share the cluster ID, so that none of them receives
    /// the others' acks. A token.
    pub group: Option<String>,
}

/// What clients are given when they connect, beside the subject that they know by themselves. Very old servers of NATS
/// Streaming made these with a random name in place of the cluster ID, and their clients keep using them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdvertisedSubjects {
    pub publish_prefix: String,
    pub subscribe: String,
    pub unsubscribe: String,
    pub close_subscription: String,
    pub close_client: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    discover: ByteString,
    pings: ByteString,
    publish_prefix: ByteString,
    publish_wildcard: ByteString,
    /// Where there are other groups: the channels that publishes are taken for. Empty: all.
    channels: Vec<ChannelPattern>,
    /// A publish may match several of them.
    overlapping: bool,
    partition_peers: ByteString,
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
        // Dots are taken as there: it may be several tokens.
        if cluster_id.contains(['*', '>']) || !is_short_subject(cluster_id) {
            return Err(Error::ClusterId(cluster_id.to_owned()));
        }
        let discover_prefix = prefixes.discover.as_deref().unwrap_or(DISCOVER_PREFIX);
        ensure_prefix("discover", discover_prefix)?;
        let ack_prefix = match (&prefixes.ack, &prefixes.group) {
            (Some(prefix), _) => {
                ensure_prefix("ack", prefix)?;
                prefix.clone()
            }
            (None, Some(group)) => format!("_INBOX.{cluster_id}.{group}"),
            (None, None) => format!("_INBOX.{cluster_id}"),
        };

        let discover = format!("{discover_prefix}.{cluster_id}");
        let publish_prefix = format!("_STAN.pub.{cluster_id}");
        Ok(Self {
            pings: format!("{discover}.pings").into(),
            discover: discover.into(),
            publish_wildcard: format!("{publish_prefix}.>").into(),
            publish_prefix: publish_prefix.into(),
            channels: Vec::new(),
            overlapping: false,
            partition_peers: format!("_STAN.part.{cluster_id}").into(),
            subscribe: format!("_STAN.sub.{cluster_id}").into(),
            unsubscribe: format!("_STAN.unsub.{cluster_id}").into(),
            close_subscription: format!("_STAN.subclose.{cluster_id}").into(),
            close_client: format!("_STAN.close.{cluster_id}").into(),
            ack_wildcard: format!("{ack_prefix}.>").into(),
            ack_prefix: ack_prefix.into(),
            servers: format!("_STAN.servers.{cluster_id}").into(),
        })
    }

    /// The same, but for what clients were given by a server before.
    pub fn advertising(self, advertised: AdvertisedSubjects) -> Result<Self, Error> {
        for subject in [
            &advertised.publish_prefix,
            &advertised.subscribe,
            &advertised.unsubscribe,
            &advertised.close_subscription,
            &advertised.close_client,
        ] {
            ensure_prefix("former", subject)?;
        }
        Ok(Self {
            publish_wildcard: format!("{}.>", advertised.publish_prefix).into(),
            publish_prefix: advertised.publish_prefix.into(),
            subscribe: advertised.subscribe.into(),
            unsubscribe: advertised.unsubscribe.into(),
            close_subscription: advertised.close_subscription.into(),
            close_client: advertised.close_client.into(),
            ..self
        })
    }

    /// The same subjects, but publishes are taken for these channels only.
    pub fn serving(mut self, partition: &Partition) -> Result<Self, Error> {
        self.channels = partition.widest();
        for channel in &self.channels {
            if channel.as_str().bytes().any(|b| b <= b' ' || b == 0x7f) {
                return Err(Error::Channel(channel.as_str().to_owned()));
            }
        }
        // A name that matched a wildcard would be part of it.
        let wildcards = self.channels.iter().filter(|channel| !channel.is_literal());
        let wildcards: Vec<&ChannelPattern> = wildcards.collect();
        self.overlapping = wildcards.iter().enumerate().any(|(index, channel)| {
            let mut later = wildcards[index + 1..].iter();
            later.any(|other| overlap(channel, other))
        });
        Ok(self)
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

    /// What publishes are taken from: all of them unless there are other groups.
    pub fn publishes(&self) -> Vec<String> {
        if self.channels.is_empty() {
            return vec![self.publish_wildcard.to_string()];
        }
        let channels = self.channels.iter();
        channels
            .map(|channel| format!("{}.{}", self.publish_prefix, channel.as_str()))
            .collect()
    }

    /// A publish that matches several of [`Self::publishes`] comes once for each. True for the one to be taken.
    pub fn is_first(&self, index: usize, subject: &[u8]) -> bool {
        if !self.overlapping {
            return true;
        }
        let channel = subject
            .strip_prefix(self.publish_prefix.as_bytes().as_ref())
            .and_then(|rest| rest.strip_prefix(b"."))
            .and_then(|channel| std::str::from_utf8(channel).ok());
        let Some(channel) = channel else {
            return true;
        };
        let first = self
            .channels
            .iter()
            .position(|entry| entry.matches(channel));
        first.is_none_or(|first| first == index)
    }

    /// True when a publish to this subject may be one to this channel. NATS permissions are about the subject, so that
    /// the request must not name another channel.
    pub fn is_publish_to(&self, subject: &[u8], channel: &str) -> bool {
        subject
            .strip_prefix(self.publish_prefix.as_bytes().as_ref())
            .and_then(|rest| rest.strip_prefix(b"."))
            == Some(channel.as_bytes())
    }

    /// True for subjects on which servers are asked something or talk among each other. No client listens there, and
    /// nothing that a client asked for may be sent there: the server may publish where the client may not.
    pub fn is_of_servers(&self, subject: &str) -> bool {
        [
            &self.discover,
            &self.pings,
            &self.subscribe,
            &self.unsubscribe,
            &self.close_subscription,
            &self.close_client,
            &self.servers,
            &self.partition_peers,
        ]
        .iter()
        .any(|&own| *own == subject)
            || subject
                .strip_prefix(&*self.publish_prefix)
                .is_some_and(|rest| rest.starts_with('.'))
    }

    /// Where groups of servers tell each other which channels they serve.
    pub fn partition_peers(&self) -> &ByteString {
        &self.partition_peers
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
