//! The request that comes with every message, read by hand. A standby reads each of them, too, and prost's way through its fields
//! takes several times as long.

use bytes::Bytes;

use super::pb;

/// The first byte of a field says which it is and that a length follows.
const CLIENT_ID: u8 = 0x0a;
const GUID: u8 = 0x12;
const SUBJECT: u8 = 0x1a;
const REPLY: u8 = 0x22;
const DATA: u8 = 0x2a;
const CONN_ID: u8 = 0x32;

/// What the clients of NATS Streaming send: each field at most once, in their order, and nothing else, so that there is little in it
/// that is not kept. `None`: it is something else, and prost is to say what.
pub(super) fn read(payload: &Bytes) -> Option<pb::PubMsg> {
    let mut sent = pb::PubMsg::default();
    let (mut at, mut before) = (0, 0);
    while let Some(&key) = payload.get(at) {
        let (length, begin) = length(payload, at + 1)?;
        let end = begin.checked_add(length)?;
        if key <= before || end > payload.len() {
            return None;
        }
        let field = match key {
            CLIENT_ID => &mut sent.client_id,
            GUID => &mut sent.guid,
            SUBJECT => &mut sent.subject,
            REPLY => &mut sent.reply,
            DATA => &mut sent.data,
            CONN_ID => &mut sent.conn_id,
            _ => return None,
        };
        *field = payload.slice(begin..end);
        (at, before) = (end, key);
    }
    Some(sent)
}

/// A varint of up to four bytes, and where it ends.
fn length(payload: &[u8], begin: usize) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, &byte) in payload.get(begin..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some((length, begin + place + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn what_clients_send_is_read_as_prost_reads_it(
            fields in (bytes(40), bytes(40), bytes(40), bytes(200), bytes(20_000), bytes(40)),
        ) {
            let (client_id, guid, subject, reply, data, conn_id) = fields;
            let sent = pb::PubMsg { client_id, guid, subject, reply, data, conn_id, sha256: Bytes::new() };
            prop_assert_eq!(read(&sent.encode_to_vec().into()), Some(sent));
        }

        #[test]
        fn whatever_else_is_read_as_prost_reads_it_or_left_to_it(
            // Mostly keys and lengths that mean something.
            payload in vec(prop_oneof![
                Just(CLIENT_ID), Just(GUID), Just(DATA), Just(0x52), Just(0x08), 0_u8..8, any::<u8>(),
            ], 0..60),
        ) {
            let payload = Bytes::from(payload);
            if let Some(sent) = read(&payload) {
                prop_assert_eq!(pb::PubMsg::decode(payload).ok(), Some(sent));
            }
        }
    }
}
