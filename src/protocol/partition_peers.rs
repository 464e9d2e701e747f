//! What groups of servers with one cluster ID say to each other: which channels each of them serves, so that no two
//! serve the same. The messages are those of NATS Streaming's partitioning; the sender's group stands in a field that
//! its servers leave empty, because the members of one group serve the same channels and are no conflict.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message as _;

use super::pb;
use crate::core::limits::ChannelPattern;

/// `CtrlMsg.msg_type` of a list of channels.
const PARTITIONING: i32 = 4;

/// Bytes of a message beside the list: the type, and the lengths and tags of three fields.
const FRAME_BYTES: usize = 32;

/// Who sends a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// Unique per process.
    pub server_id: String,
    /// Which tables it serves from: the same for all members of a group. Empty when a NATS Streaming server sends.
    pub tables: String,
    /// For people.
    pub group: String,
}

impl Sender {
    pub fn is_of_group(&self, other: &Self) -> bool {
        !self.tables.is_empty() && self.tables == other.tables
    }

    fn group_field(&self) -> String {
        format!("{} {}", self.tables, self.group)
    }

    fn parse(server_id: &[u8], group: &[u8]) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let field = text(group);
        let (tables, group) = field.split_once(' ').unwrap_or(("", ""));
        Self {
            server_id: text(server_id),
            tables: tables.to_owned(),
            group: group.to_owned(),
        }
    }
}

/// A name is too long for one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "message payload too small to send channels list: {channel:?} does not fit into the {max} bytes that NATS takes; \
     raise its max_payload"
)]
pub struct TooSmall {
    pub channel: String,
    pub max: usize,
}

/// The list in as many requests as messages of `max_payload` bytes take.
pub fn requests(
    sender: &Sender,
    channels: &[ChannelPattern],
    max_payload: usize,
) -> Result<Vec<Bytes>, TooSmall> {
    let group = sender.group_field();
    let room = max_payload.saturating_sub(FRAME_BYTES + sender.server_id.len() + group.len());
    let mut lists = vec![BytesMut::new()];
    for channel in channels {
        let name = channel.as_str().as_bytes();
        let length = u16::try_from(name.len()).ok();
        let Some(length) = length.filter(|_| name.len() + 2 <= room) else {
            return Err(TooSmall {
                channel: channel.as_str().to_owned(),
                max: max_payload,
            });
        };
        if lists
            .last()
            .is_some_and(|list| list.len() + 2 + name.len() > room)
        {
            lists.push(BytesMut::new());
        }
        if let Some(list) = lists.last_mut() {
            list.put_u16_le(length);
            list.put_slice(name);
        }
    }
    let lists = lists.into_iter();
    Ok(lists.map(|list| message(sender, list.freeze())).collect())
}

/// `None` for what is no list of channels, or an empty one. Names that no entry can have are left out: they match no
/// channel.
pub fn request(payload: Bytes) -> Option<(Sender, Vec<ChannelPattern>)> {
    let (sender, mut data) = parse(payload)?;
    let mut channels = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        let name = rest.get(..length)?;
        let name = std::str::from_utf8(name).ok();
        channels.extend(name.and_then(|name| ChannelPattern::parse(name.to_owned().into())));
        data = data.slice(2 + length..);
    }
    (data.is_empty() && !channels.is_empty()).then_some((sender, channels))
}

/// Names the entry that the asked server's list has a channel in common with.
pub fn answer(sender: &Sender, conflict: Option<&ChannelPattern>) -> Bytes {
    let data = conflict.map_or_else(Bytes::new, |channel| channel.as_str().to_owned().into());
    message(sender, data)
}

/// Who answered, and the entry that is in conflict.
pub fn answered(payload: Bytes) -> Option<(Sender, Option<String>)> {
    let (sender, data) = parse(payload)?;
    let conflict = (!data.is_empty()).then(|| String::from_utf8_lossy(&data).into_owned());
    Some((sender, conflict))
}

fn message(sender: &Sender, data: Bytes) -> Bytes {
    let message = pb::CtrlMsg {
        msg_type: PARTITIONING,
        server_id: sender.server_id.clone().into(),
        data,
        ref_id: sender.group_field().into(),
    };
    message.encode_to_vec().into()
}

fn parse(payload: Bytes) -> Option<(Sender, Bytes)> {
    let sent = pb::CtrlMsg::decode(payload).ok()?;
    (sent.msg_type == PARTITIONING)
        .then(|| (Sender::parse(&sent.server_id, &sent.ref_id), sent.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[&str]) -> Vec<ChannelPattern> {
        let entry = |text: &&str| ChannelPattern::parse((*text).to_owned().into());
        texts.iter().filter_map(entry).collect()
    }

    fn sender() -> Sender {
        Sender {
            server_id: "me".to_owned(),
            tables: "g1".to_owned(),
            group: "pair a".to_owned(),
        }
    }

    #[test]
    fn a_list_is_encoded_as_nats_streaming_does() {
        let nobody = Sender {
            server_id: "S".to_owned(),
            ..Sender::default()
        };
        let sent = requests(&nobody, &entries(&["foo", "bar.*"]), 1 << 20).unwrap();

        // Type 4, server "S", then the lengths in 16 bits, the lower byte first.
        let expected = b"\x08\x04\x12\x01S\x1a\x0c\x03\0foo\x05\0bar.*";
        assert!(sent[0].starts_with(expected), "{:?}", sent[0]);
        let of_nats_streaming = Bytes::from_static(expected);
        let (found, list) = request(of_nats_streaming).unwrap();
        assert_eq!((found, list), (nobody, entries(&["foo", "bar.*"])));
    }

    /// Acceptance: 162.
    #[test]
    fn a_list_larger_than_a_message_is_split_and_a_name_larger_than_one_is_refused() {
        let names: Vec<String> = (0..100).map(|n| format!("channel.{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let channels = entries(&names);

        let sent = requests(&sender(), &channels, 256).unwrap();

        assert!(sent.len() > 3 && sent.iter().all(|message| message.len() <= 256));
        let lists = sent.into_iter().map(|message| request(message).unwrap());
        let mut together = Vec::new();
        for (from, list) in lists {
            assert_eq!(from, sender());
            together.extend(list);
        }
        assert_eq!(together, channels);
        let refusal = requests(&sender(), &channels, 50).unwrap_err().to_string();
        assert!(
            refusal.starts_with("message payload too small to send channels list: \"channel.000\""),
            "{refusal}"
        );
    }

    #[test]
    fn answers_name_the_conflict_and_the_group() {
        let channel = entries(&["foo.>"]);

        let refused = answered(answer(&sender(), channel.first())).unwrap();
        assert_eq!(refused, (sender(), Some("foo.>".to_owned())));
        assert_eq!(answered(answer(&sender(), None)).unwrap(), (sender(), None));
    }

    #[test]
    fn members_of_a_group_know_each_other_and_servers_without_one_are_strangers() {
        let other = Sender {
            server_id: "other".to_owned(),
            ..sender()
        };
        assert!(sender().is_of_group(&other));
        let stranger = Sender::default();
        assert!(!stranger.is_of_group(&stranger));
    }

    /// Acceptance: 162.
    #[test]
    fn what_is_no_list_is_passed_over() {
        let of_another_kind = pb::CtrlMsg {
            msg_type: 3,
            data: Bytes::from_static(b"\x03\0foo"),
            ..Default::default()
        };
        let cut_off = pb::CtrlMsg {
            msg_type: PARTITIONING,
            data: Bytes::from_static(b"\x09\0foo"),
            ..Default::default()
        };
        for payload in [
            Bytes::new(),
            Bytes::from_static(b"\xff\xff"),
            of_another_kind.encode_to_vec().into(),
            cut_off.encode_to_vec().into(),
            answer(&sender(), None),
        ] {
            assert_eq!(request(payload.clone()), None, "{payload:?}");
        }
    }
}
