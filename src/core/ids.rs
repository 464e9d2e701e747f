//! Names and numbers that must not be mixed up. Text that came from a client is parsed here once, at the
//! edge; past this point it cannot be malformed, too long for an index, or dangerous in a NATS protocol line.

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;
use bytestring::ByteString;

/// Longest client ID, channel, durable or queue group name, in bytes. NATS Streaming's SQL columns hold
/// 1,024 characters; one more would also not fit an index entry.
pub const NAME_BYTES_MAX: usize = 1024;

/// Longest NATS subject accepted from a client, in bytes. A NATS protocol line carries at most 4,096 bytes
/// and some of them hold two subjects.
pub const SUBJECT_BYTES_MAX: usize = 1920;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ByteString);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The text without its type, sharing its memory.
            pub fn to_text(&self) -> ByteString {
                self.0.clone()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

text_type! {
    /// A registered application: 1 to [`NAME_BYTES_MAX`] of `a-z A-Z 0-9 _ -`.
    ClientId
}

impl ClientId {
    pub fn parse(text: ByteString) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let valid = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(allowed);
        valid.then_some(Self(text))
    }
}

text_type! {
    /// A log of messages: 1 to [`NAME_BYTES_MAX`] bytes without `/`, `*`, `>`, NUL, and without empty tokens
    /// between dots (the reference's rule, plus the length and NUL, which Postgres text cannot hold).
    ChannelName
}

impl ChannelName {
    pub fn parse(text: ByteString) -> Option<Self> {
        static KINDS: Kinds = Kinds::forbidding(b"/*>\0");
        let valid = text.len() <= NAME_BYTES_MAX && KINDS.of(&text) & (FORBIDDEN | EMPTY) == 0;
        valid.then_some(Self(text))
    }

    /// The key under which names that differ only in case collide.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

text_type! {
    /// The name that lets a subscription outlive its client: 1 to [`NAME_BYTES_MAX`] bytes, no NUL.
    DurableName
}

text_type! {
    /// The name that subscriptions share to divide a channel's messages: 1 to [`NAME_BYTES_MAX`] bytes, no NUL.
    QueueName
}

fn is_plain_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.bytes().any(|b| b == 0)
}

impl DurableName {
    pub fn parse(text: ByteString) -> Option<Self> {
        is_plain_name(&text).then_some(Self(text))
    }
}

impl QueueName {
    pub fn parse(text: ByteString) -> Option<Self> {
        is_plain_name(&text).then_some(Self(text))
    }
}

text_type! {
    /// The publisher's ID of one publish, echoed in its ack. Not empty, no NUL; chosen by the client, not
    /// used to refuse duplicates.
    Guid
}

/// As it goes over the wire.
impl From<Guid> for Bytes {
    fn from(guid: Guid) -> Self {
        guid.0.into_bytes()
    }
}

impl Guid {
    /// The same in memory of its own: one of a large publish would otherwise keep all of that for as long as its
    /// answer waits.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(self.0.to_string().into())
    }

    pub fn parse(text: ByteString) -> Option<Self> {
        (!text.is_empty() && !text.bytes().any(|b| b == 0)).then_some(Self(text))
    }
}

text_type! {
    /// A NATS subject that may be published to: 1 to [`SUBJECT_BYTES_MAX`] bytes, no white space, control
    /// bytes or wildcards, no empty token. Nothing in it can end a NATS protocol line early.
    Subject
}

impl Subject {
    pub fn parse(text: ByteString) -> Option<Self> {
        static KINDS: Kinds = Kinds::forbidding(&CONTROL_AND_SPACE);
        let found = KINDS.of(&text);
        let valid = text.len() <= SUBJECT_BYTES_MAX
            && found & (FORBIDDEN | EMPTY) == 0
            && (found & WILD == 0 || text.split('.').all(|token| token != "*" && token != ">"));
        valid.then_some(Self(text))
    }
}

const CONTROL_AND_SPACE: [u8; 34] = {
    let mut bytes = [0x7f; 34];
    let mut byte = 0;
    while byte <= b' ' {
        bytes[byte as usize] = byte;
        byte += 1;
    }
    bytes
};

const FORBIDDEN: u8 = 1;
const DOT: u8 = 2;
const WILD: u8 = 4;
/// A token between dots.
const EMPTY: u8 = 8;

/// What each byte of a name with dots is. Every request has two such names, which are looked at in one pass, by a table.
struct Kinds([u8; 256]);

impl Kinds {
    const fn forbidding(forbidden: &[u8]) -> Self {
        let mut kinds = [0; 256];
        kinds[b'.' as usize] = DOT;
        kinds[b'*' as usize] = WILD;
        kinds[b'>' as usize] = WILD;
        let mut index = 0;
        while index < forbidden.len() {
            kinds[forbidden[index] as usize] |= FORBIDDEN;
            index += 1;
        }
        Self(kinds)
    }

    /// All kinds that are in it.
    fn of(&self, text: &str) -> u8 {
        let mut before = DOT;
        let mut found = 0;
        for byte in text.bytes() {
            let kind = self.0[usize::from(byte)];
            found |= kind | ((kind & before & DOT) * (EMPTY / DOT));
            before = kind;
        }
        found | ((before & DOT) * (EMPTY / DOT))
    }
}

/// Unique per connection of a client of protocol 1; empty for protocol 0. Opaque bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub Bytes);

impl ConnectionId {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Borrow<[u8]> for ConnectionId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ConnectionId {
    // A connection ID lets its bearer publish as the client: it stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({} bytes)", self.0.len())
    }
}

macro_rules! number_type {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_type! {
    /// A message's number in its channel, from 1; 0 means "before the first".
    Sequence(u64)
}

impl Sequence {
    pub const ZERO: Self = Self(0);

    /// No message gets a higher one: the tables count in `bigint`, and name the end of a range by what comes behind it.
    pub const LAST: Self = Self(i64::MAX.unsigned_abs() - 1);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The sequence before this one; zero stays zero.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

number_type! {
    /// A channel's number in the tables. A channel that is deleted and created again gets a new one.
    ChannelId(u64)
}
number_type! {
    /// A subscription's number, never reused.
    SubscriptionId(u64)
}
number_type! {
    /// Number of a position: what a subscription, or all members of a queue group, share. Never reused.
    PositionId(u64)
}
number_type! {
    /// Number of a term: the proof, after the fact, that no two terms interleaved.
    Epoch(u64)
}
number_type! {
    /// Counts the batches of a term from 1.
    BatchNumber(u64)
}
number_type! {
    /// A request that a client must answer in time.
    ProbeId(u64)
}
number_type! {
    /// A read that the core asked for.
    LoadId(u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acceptance: 5.
    #[test]
    fn client_ids_are_alphanumeric_with_dash_and_underscore() {
        for good in ["id", "id_x", "id-x", "A9"] {
            assert!(ClientId::parse(good.into()).is_some(), "{good}");
        }
        for bad in ["", "a b", "a:b", "a,b", "a.b", "!@#", "é"] {
            assert!(ClientId::parse(bad.into()).is_none(), "{bad}");
        }
        assert!(ClientId::parse("x".repeat(NAME_BYTES_MAX + 1).into()).is_none());
    }

    /// Acceptance: 37, 47.
    #[test]
    fn channel_names_have_no_wildcards_slashes_or_empty_tokens() {
        for good in ["foo", "foo.bar", "with space", "é"] {
            assert!(ChannelName::parse(good.into()).is_some(), "{good}");
        }
        for bad in [
            "", "foo*", "foo.", ".foo", "foo..bar", "foo/bar", "foo.>", "foo*.bar", "foo.bar*",
            "foo.>.*", "a\0b",
        ] {
            assert!(ChannelName::parse(bad.into()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_subject_cannot_carry_a_second_protocol_line() {
        for bad in [
            "",
            "a b",
            "a\r\nPUB x 0\r\n",
            "a\tb",
            "a..b",
            ".a",
            "a.",
            "a.*",
            ">",
            "a\0",
        ] {
            assert!(Subject::parse(bad.into()).is_none(), "{bad:?}");
        }
        for good in ["_INBOX.x.y", "3f6c-uuid", "a*b"] {
            assert!(Subject::parse(good.into()).is_some(), "{good}");
        }
    }
}
