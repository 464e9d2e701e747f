//! Short forms for building inputs.

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message;
use stanby::core::ids::Subject;
use stanby::protocol::Subjects;
use stanby::protocol::subjects::Prefixes;

pub(crate) const ACK_TOKEN: u128 = 7;

pub(crate) fn hex(text: &str) -> Bytes {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("a vector is hex"))
        .collect()
}

pub(crate) fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(crate) fn subject(text: &str) -> Subject {
    Subject::parse(text.into()).expect("a valid subject")
}

/// A reply subject as it came with a request.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is passed where a reply may be missing"
)]
pub(crate) fn reply() -> Option<ByteString> {
    Some(REPLY.into())
}

pub(crate) const REPLY: &str = "_INBOX.reply";

pub(crate) fn subjects() -> Subjects {
    Subjects::new("test-cluster", &Prefixes::default()).expect("a valid cluster ID")
}
