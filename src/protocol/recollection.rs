//! What servers ask each other after a failover of Postgres: the last messages that they committed, which the new primary may
//! lack. Clients never see it. Who does not know the secret of the tables is neither answered nor believed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;
use ring::hmac;

use super::pb;
use crate::core::commit_history::{Account, HighWaterMark};
use crate::core::ids::{ChannelId, ChannelName, ClientId, Epoch, Guid, Sequence};
use crate::core::message::Message;
use crate::core::time::Timestamp;

/// What a piece takes beside its data.
const PIECE_OVERHEAD: usize = 512;

/// Signs and checks what servers of one group send each other.
#[derive(Clone, Debug)]
pub struct Signer(hmac::Key);

impl Signer {
    /// All servers of a group have the same secret, and use it for other things, too.
    pub fn new(secret: &[u8]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let own = hmac::sign(&secret, b"what servers remember");
        Self(hmac::Key::new(hmac::HMAC_SHA256, own.as_ref()))
    }

    fn sign(&self, kind: u8, body: Vec<u8>) -> Vec<u8> {
        let mut signing = hmac::Context::with_key(&self.0);
        signing.update(&[kind]);
        signing.update(&body);
        let signature = Bytes::copy_from_slice(signing.sign().as_ref());
        let body = Bytes::from(body);
        pb::Signed { body, signature }.encode_to_vec()
    }

    fn open(&self, kind: u8, payload: &[u8]) -> Option<Bytes> {
        let signed = pb::Signed::decode(payload).ok()?;
        let mut checked = Vec::with_capacity(signed.body.len() + 1);
        checked.push(kind);
        checked.extend_from_slice(&signed.body);
        hmac::verify(&self.0, &checked, &signed.signature).ok()?;
        Some(signed.body)
    }
}

const QUESTION: u8 = 1;
const ANSWER: u8 = 2;

/// What do you have in memory of these channels beyond these sequences, and of others?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Used for this question alone.
    pub nonce: [u8; 16],
    pub reply: String,
    pub has: BTreeMap<ChannelId, Sequence>,
}

impl Question {
    /// Names as many channels as `bytes_max` allow. Of those that are not named more is answered than is needed.
    pub fn encode(&self, signer: &Signer, bytes_max: usize) -> Vec<u8> {
        // Two numbers of ten bytes at most.
        let count = bytes_max.saturating_sub(PIECE_OVERHEAD) / 20;
        let named = || self.has.iter().take(count);
        let question = pb::MemoryQuestion {
            nonce: Bytes::copy_from_slice(&self.nonce),
            reply: Bytes::copy_from_slice(self.reply.as_bytes()),
            channels: named().map(|(channel, _)| channel.0).collect(),
            last_sequences: named().map(|(_, last)| last.0).collect(),
        };
        signer.sign(QUESTION, question.encode_to_vec())
    }

    /// `None` for what no server of the group has asked.
    pub fn decode(signer: &Signer, payload: &[u8]) -> Option<Self> {
        let body = signer.open(QUESTION, payload)?;
        let question = pb::MemoryQuestion::decode(body).ok()?;
        let channels = question.channels.into_iter().map(ChannelId);
        let last = question.last_sequences.into_iter().map(Sequence);
        Some(Self {
            nonce: question.nonce.as_ref().try_into().ok()?,
            reply: String::from_utf8(question.reply.into()).ok()?,
            has: channels.zip(last).collect(),
        })
    }
}

/// One piece of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub server_id: String,
    pub number: u32,
    pub is_last: bool,
    pub data: Bytes,
}

impl Piece {
    /// `None` for what does not answer the question with this nonce, or comes from nobody of the group.
    pub fn decode(signer: &Signer, payload: &[u8], nonce: &[u8]) -> Option<Self> {
        let body = signer.open(ANSWER, payload)?;
        let piece = pb::MemoryPiece::decode(body).ok()?;
        (piece.nonce == nonce).then_some(())?;
        Some(Self {
            server_id: String::from_utf8(piece.server_id.into()).ok()?,
            number: piece.number,
            is_last: piece.is_last,
            data: piece.data,
        })
    }
}

/// The account as messages of at most `bytes_max` each, at least one.
pub fn pieces(
    account: &Account,
    signer: &Signer,
    nonce: &[u8],
    server_id: &str,
    bytes_max: usize,
) -> Vec<Vec<u8>> {
    let whole = Bytes::from(encode(account));
    let size = bytes_max.saturating_sub(PIECE_OVERHEAD).max(1);
    let count = whole.len().div_ceil(size).max(1);
    let piece = |number: usize| {
        let from = number * size;
        let piece = pb::MemoryPiece {
            nonce: Bytes::copy_from_slice(nonce),
            server_id: Bytes::copy_from_slice(server_id.as_bytes()),
            number: u32::try_from(number).unwrap_or(u32::MAX),
            is_last: number + 1 == count,
            data: whole.slice(from..whole.len().min(from + size)),
        };
        signer.sign(ANSWER, piece.encode_to_vec())
    };
    (0..count).map(piece).collect()
}

fn encode(account: &Account) -> Vec<u8> {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let channel =
        |(id, (mark, known_in)): (&ChannelId, &(HighWaterMark, Epoch))| pb::RememberedChannel {
            channel: id.0,
            name: text(mark.name.as_str()),
            created_at: mark.created_at.0,
            last_sequence: mark.last.0,
            known_in: known_in.0,
        };
    let message = |(id, message): &(ChannelId, Arc<Message>)| pb::RememberedMessage {
        channel: id.0,
        sequence: message.sequence.0,
        published_at: message.published_at.0,
        client_id: text(message.client_id.as_str()),
        guid: text(message.guid.as_str()),
        reply: text(&message.reply),
        data: message.data.clone(),
    };
    let account = pb::MemoryAccount {
        served: account.served.0,
        channels: account.channels.iter().map(channel).collect(),
        messages: account.messages.iter().map(message).collect(),
    };
    account.encode_to_vec()
}

/// The pieces put together; `None` when they are not what a server makes.
pub fn account(whole: Bytes) -> Option<Account> {
    let account = pb::MemoryAccount::decode(whole).ok()?;
    let text = |bytes: Bytes| ByteString::try_from(bytes).ok();
    let channel = |of: pb::RememberedChannel| {
        let mark = HighWaterMark {
            name: ChannelName::parse(text(of.name)?)?,
            created_at: Timestamp(of.created_at),
            last: Sequence(of.last_sequence),
        };
        Some((ChannelId(of.channel), (mark, Epoch(of.known_in))))
    };
    let message = |of: pb::RememberedMessage| {
        let message = Message {
            sequence: Sequence(of.sequence),
            published_at: Timestamp(of.published_at),
            client_id: ClientId::parse(text(of.client_id)?)?,
            guid: Guid::parse(text(of.guid)?)?,
            reply: text(of.reply)?,
            data: of.data,
        };
        Some((ChannelId(of.channel), Arc::new(message)))
    };
    Some(Account {
        served: Epoch(account.served),
        channels: account
            .channels
            .into_iter()
            .map(channel)
            .collect::<Option<_>>()?,
        messages: account
            .messages
            .into_iter()
            .map(message)
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, bytes: usize) -> (ChannelId, Arc<Message>) {
        let message = Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(-7),
            client_id: ClientId::parse("me".into()).expect("valid"),
            guid: Guid::parse("g".into()).expect("valid"),
            reply: "there".into(),
            data: vec![b'x'; bytes].into(),
        };
        (ChannelId(1), Arc::new(message))
    }

    fn remembered() -> Account {
        let mark = HighWaterMark {
            name: ChannelName::parse("orders".into()).expect("valid"),
            created_at: Timestamp(1),
            last: Sequence(9),
        };
        Account {
            served: Epoch(3),
            channels: BTreeMap::from([(ChannelId(1), (mark, Epoch(3)))]),
            messages: vec![message(8, 10), message(9, 5000)],
        }
    }

    #[test]
    fn an_account_larger_than_a_message_of_nats_comes_in_pieces() {
        let signer = Signer::new(b"secret");
        let sent = pieces(&remembered(), &signer, &[7; 16], "A", 2000);

        assert!(sent.len() > 2);
        assert!(sent.iter().all(|piece| piece.len() <= 2000));
        let piece = |payload: &Vec<u8>| Piece::decode(&signer, payload, &[7; 16]).expect("valid");
        let got: Vec<Piece> = sent.iter().map(piece).collect();
        assert!(
            got.iter()
                .zip(0..)
                .all(|(piece, number)| piece.number == number)
        );
        assert!(got[..got.len() - 1].iter().all(|piece| !piece.is_last));
        assert!(got[got.len() - 1].is_last);
        let whole: Vec<u8> = got.iter().flat_map(|piece| piece.data.to_vec()).collect();
        assert_eq!(account(whole.into()), Some(remembered()));
    }

    #[test]
    fn nobody_is_believed_who_does_not_know_the_secret() {
        let (ours, others) = (Signer::new(b"secret"), Signer::new(b"other"));
        let question = Question {
            nonce: [1; 16],
            reply: "_INBOX.1".to_owned(),
            has: BTreeMap::from([(ChannelId(1), Sequence(5)), (ChannelId(2), Sequence(0))]),
        };
        let asked = question.encode(&ours, 1 << 20);
        assert_eq!(Question::decode(&ours, &asked), Some(question.clone()));
        assert_eq!(Question::decode(&others, &asked), None);
        let answer = pieces(&remembered(), &ours, &[7; 16], "A", 1 << 20).remove(0);
        assert!(Piece::decode(&ours, &answer, &[7; 16]).is_some());
        assert_eq!(Piece::decode(&others, &answer, &[7; 16]), None);
        assert_eq!(Piece::decode(&ours, &answer, &[8; 16]), None);
        // A question is no answer.
        assert_eq!(Piece::decode(&ours, &asked, &[1; 16]), None);

        let few = question.encode(&ours, PIECE_OVERHEAD + 20);
        let few = Question::decode(&ours, &few).expect("valid");
        assert_eq!(few.has.len(), 1);
    }
}
