//! The frame of the files the other way round: what `records` and `index` read.

use super::checksum::Checksum;
use super::index::Entry;
use super::records::VERSION;

/// What a journal's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Records of clients.
    Connected = 1,
    /// Records of subscriptions, which share the number.
    Sent = 5,
}

impl Step {
    /// A new subscription.
    pub const SUBSCRIBED: Self = Self::Connected;
}

/// Before the first record of every file.
pub fn version() -> [u8; 4] {
    VERSION.to_le_bytes()
}

/// `None` where it is too long for the frame.
pub fn untyped(payload: &[u8], checksum: &Checksum) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok()?;
    Some(frame(length, payload, checksum))
}

/// `None` where it is too long for the frame.
pub fn typed(step: Step, payload: &[u8], checksum: &Checksum) -> Option<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok();
    let length = length.filter(|length| *length < 1 << 24)?;
    Some(frame(((step as u32) << 24) | length, payload, checksum))
}

fn frame(header: u32, payload: &[u8], checksum: &Checksum) -> Vec<u8> {
    let sum = checksum.of(payload);
    [&header.to_le_bytes()[..], &sum.to_le_bytes()[..], payload].concat()
}

/// An entry of an index.
pub fn indexed(entry: &Entry, checksum: &Checksum) -> Vec<u8> {
    let Entry {
        sequence,
        at,
        timestamp,
        size,
    } = entry;
    let body = [
        &sequence.to_le_bytes()[..],
        &at.to_le_bytes()[..],
        &timestamp.to_le_bytes()[..],
        &size.to_le_bytes()[..],
    ]
    .concat();
    let sum = checksum.of(&body);
    [&body[..], &sum.to_le_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::former::files::checksum::IEEE;

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    /// As a real server wrote them.
    #[test]
    fn a_slice_its_index_and_a_journal_are_byte_for_byte_those_of_the_former_server() {
        let checksum = Checksum::new(IEEE);
        let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let message = bytes("08011203666f6f220568656c6c6f28808080c5ddf0959a16");
        let record = untyped(&message, &checksum).unwrap();
        assert_eq!(
            hex(&[&version()[..], &record].concat()),
            "01000000180000006284c22808011203666f6f220568656c6c6f28808080c5ddf0959a16"
        );
        let entry = Entry {
            sequence: 1,
            at: 4,
            timestamp: 1_600_000_000_000_000_000,
            size: 24,
        };
        assert_eq!(
            hex(&indexed(&entry, &checksum)),
            "010000000000000004000000000000000000a0d88557341618000000338ce0d1"
        );
        let subscription =
            "080112026d6522085f494e424f582e312a085f494e424f582e32308008381e420364757248075001";
        let record = typed(Step::SUBSCRIBED, &bytes(subscription), &checksum).unwrap();
        assert_eq!(hex(&record), format!("280000016434aa32{subscription}"));
    }
}
