//! Encrypts the payloads of one term, and decrypts them later. Pure but for the bytes of a new key.
//!
//! `data` of an encrypted row is the number of the encryption (8 bytes, big endian), the payload encrypted, and the tag
//! (16 bytes). The number counts all encryptions of the term, so no two have one nonce under one key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};

use crate::config::encryption::Cipher;
use crate::core::ids::{ChannelId, Epoch};
use crate::core::message::Message;

const NUMBER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Bytes that an encrypted payload is longer than before. `readable_messages` knows it, too.
pub(in crate::store) const OVERHEAD: i32 = 24;

pub(super) const KEY_BYTES: usize = 32;

/// So many encryptions share a key that is derived from the term's: far fewer than wear one out.
const PER_BLOCK_BITS: u32 = 24;

/// The key of one term, whichever process served it.
pub(super) struct TermKey {
    epoch: Epoch,
    cipher: Cipher,
    secret: Prk,
}

impl fmt::Debug for TermKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TermKey").field(&self.epoch).finish()
    }
}

impl TermKey {
    pub(super) fn new(epoch: Epoch, cipher: Cipher, bytes: &[u8; KEY_BYTES]) -> Self {
        Self {
            epoch,
            cipher,
            secret: Prk::new_less_safe(HKDF_SHA256, bytes),
        }
    }

    fn block(&self, block: u64) -> LessSafeKey {
        let algorithm = match self.cipher {
            Cipher::Aes => &AES_256_GCM,
            Cipher::ChaCha => &CHACHA20_POLY1305,
        };
        let number = block.to_be_bytes();
        let info = [b"stanby messages".as_slice(), &number];
        let key = self.secret.expand(&info, algorithm);
        LessSafeKey::new(UnboundKey::from(key.expect("a key is short")))
    }
}

/// What the encryption is bound to: the row, so that it is of no use in the place of another, and who published what.
fn bind(place: &mut Vec<u8>, epoch: Epoch, channel: ChannelId, message: &Message) {
    place.clear();
    let published_at = message.published_at.0.cast_unsigned();
    for number in [epoch.0, channel.0, message.sequence.0, published_at] {
        place.extend(number.to_be_bytes());
    }
    for text in [
        message.client_id.as_str(),
        message.guid.as_str(),
        &message.reply,
    ] {
        place.extend((text.len() as u64).to_be_bytes());
        place.extend(text.as_bytes());
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - NUMBER_BYTES..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// Encrypts what a term stores. There is one per term, and no way to make a second one.
#[derive(Debug)]
pub struct Sealer {
    key: Arc<TermKey>,
    next: Mutex<Next>,
}

#[derive(Debug)]
struct Next {
    number: u64,
    block: u64,
    key: LessSafeKey,
}

/// Encrypted payloads of a batch.
#[derive(Debug)]
pub(in crate::store) struct Sealed {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Sealer {
    pub(super) fn new(key: Arc<TermKey>) -> Self {
        let next = Next {
            number: 0,
            block: 0,
            key: key.block(0),
        };
        Self {
            key,
            next: Mutex::new(next),
        }
    }

    pub(in crate::store) fn seal(&self, messages: &[(ChannelId, Arc<Message>)]) -> Sealed {
        // A panic while it was held came after counting.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let total = messages
            .iter()
            .map(|(_, message)| NUMBER_BYTES + message.data.len() + TAG_BYTES);
        let mut bytes = Vec::with_capacity(total.sum());
        let mut ends = Vec::with_capacity(messages.len());
        let mut place = Vec::new();
        for (channel, message) in messages {
            let number = next.number;
            next.number += 1;
            let block = number >> PER_BLOCK_BITS;
            if block != next.block {
                next.key = self.key.block(block);
                next.block = block;
            }
            bind(&mut place, self.key.epoch, *channel, message);
            bytes.extend(number.to_be_bytes());
            let begin = bytes.len();
            bytes.extend_from_slice(&message.data);
            let tag = next
                .key
                .seal_in_place_separate_tag(nonce(number), Aad::from(&place), &mut bytes[begin..])
                .expect("NATS brings no message of many gigabytes");
            bytes.extend_from_slice(tag.as_ref());
            ends.push(bytes.len());
        }
        Sealed { bytes, ends }
    }
}

impl Sealed {
    /// In the order of the messages.
    pub(in crate::store) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins
            .zip(&self.ends)
            .map(|(begin, &end)| &self.bytes[begin..end])
    }
}

/// The keys of terms that a process could read from the tables.
pub(super) type TermKeys = BTreeMap<Epoch, Arc<TermKey>>;

/// Decrypts the rows of one read.
#[derive(Debug)]
pub(in crate::store) struct Opener {
    keys: Arc<TermKeys>,
    /// Neighbours mostly have the same.
    last: Option<(Epoch, u64, LessSafeKey)>,
}

impl Opener {
    pub(super) fn new(keys: Arc<TermKeys>) -> Self {
        Self { keys, last: None }
    }

    /// The payload of a row, of which `message` is everything else. The error says what is wrong with the row.
    pub(in crate::store) fn open(
        &mut self,
        epoch: Epoch,
        channel: ChannelId,
        message: &Message,
        data: &[u8],
    ) -> Result<Bytes, OpenError> {
        let Some(term) = self.keys.get(&epoch) else {
            return Err(OpenError::NoKey(epoch));
        };
        let (number, body) = data
            .split_first_chunk::<NUMBER_BYTES>()
            .ok_or(OpenError::Changed)?;
        let number = u64::from_be_bytes(*number);
        let block = number >> PER_BLOCK_BITS;
        let last = self.last.take();
        let last = last.filter(|last| last.0 == epoch && last.1 == block);
        let (.., key) = self
            .last
            .insert(last.unwrap_or_else(|| (epoch, block, term.block(block))));
        let mut place = Vec::new();
        bind(&mut place, epoch, channel, message);
        let mut body = body.to_vec();
        let opened = key.open_in_place(nonce(number), Aad::from(&place), &mut body);
        let length = opened.map_err(|_| OpenError::Changed)?.len();
        body.truncate(length);
        Ok(body.into())
    }
}

/// Why a payload stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::store) enum OpenError {
    #[error("it is encrypted, and its key in table term_keys, row {0}, is missing or damaged")]
    NoKey(Epoch),
    #[error("it cannot be decrypted: the row was changed, or moved from another place")]
    Changed,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::ids::{ClientId, Guid, Sequence};
    use crate::core::time::Timestamp;

    const CHANNEL: ChannelId = ChannelId(5);

    fn message(sequence: u64, data: &'static [u8]) -> Message {
        Message {
            sequence: Sequence(sequence),
            published_at: Timestamp(7),
            client_id: ClientId::parse("alice".into()).unwrap(),
            guid: Guid::parse("guid".into()).unwrap(),
            reply: "".into(),
            data: Bytes::from_static(data),
        }
    }

    fn batch(messages: &[&Message]) -> Vec<(ChannelId, Arc<Message>)> {
        let messages = messages.iter().map(|&message| Arc::new(message.clone()));
        messages.map(|message| (CHANNEL, message)).collect()
    }

    fn key(cipher: Cipher) -> Arc<TermKey> {
        Arc::new(TermKey::new(Epoch(3), cipher, &[9; KEY_BYTES]))
    }

    fn opener(key: &Arc<TermKey>) -> Opener {
        Opener::new(Arc::new([(Epoch(3), Arc::clone(key))].into()))
    }

    #[test]
    fn what_was_sealed_is_opened_in_its_own_row_only() {
        for cipher in [Cipher::Aes, Cipher::ChaCha] {
            let key = key(cipher);
            let (first, second) = (message(1, b"secret"), message(2, b""));
            let sealed = Sealer::new(Arc::clone(&key)).seal(&batch(&[&first, &second]));
            let payloads: Vec<&[u8]> = sealed.payloads().collect();
            let lengths: Vec<usize> = payloads.iter().map(|data| data.len()).collect();
            let overhead = usize::try_from(OVERHEAD).unwrap();
            assert_eq!(lengths, [6 + overhead, overhead]);
            assert!(!payloads[0].windows(6).any(|part| part == b"secret"));

            let mut opener = opener(&key);
            let mut open = |epoch, channel, message: &Message, data: &[u8]| {
                opener.open(Epoch(epoch), channel, message, data)
            };
            assert_eq!(open(3, CHANNEL, &first, payloads[0]).unwrap(), "secret");
            assert_eq!(open(3, CHANNEL, &second, payloads[1]).unwrap(), "");

            let mut changed = payloads[0].to_vec();
            *changed.last_mut().unwrap() ^= 1;
            let mut of_bob = first.clone();
            of_bob.client_id = ClientId::parse("bob".into()).unwrap();
            let mut of_another = first.clone();
            of_another.guid = Guid::parse("another".into()).unwrap();
            let mut answered = first.clone();
            answered.reply = "inbox".into();
            let mut later = first.clone();
            later.published_at = Timestamp(8);
            let other = ChannelId(6);
            for (channel, message, data) in [
                (other, &first, payloads[0]),
                (CHANNEL, &second, payloads[0]),
                (CHANNEL, &of_bob, payloads[0]),
                (CHANNEL, &of_another, payloads[0]),
                (CHANNEL, &answered, payloads[0]),
                (CHANNEL, &later, payloads[0]),
                (CHANNEL, &first, &changed),
                (CHANNEL, &first, &payloads[0][..3]),
                (CHANNEL, &first, b"plain"),
            ] {
                let opened = open(3, channel, message, data);
                assert_eq!(opened, Err(OpenError::Changed));
            }
            let opened = open(4, CHANNEL, &first, payloads[0]);
            assert_eq!(opened, Err(OpenError::NoKey(Epoch(4))));
        }
    }

    #[test]
    fn no_two_encryptions_of_a_term_have_one_number() {
        let sealer = Sealer::new(key(Cipher::Aes));
        // A batch that was not committed may come again with the same sequences.
        let same = batch(&[&message(1, b"x")]);
        let mut seen = BTreeSet::new();
        for _ in 0..100 {
            let sealed = sealer.seal(&same);
            let data = sealed.payloads().next().unwrap().to_vec();
            assert!(seen.insert(data[..NUMBER_BYTES].to_vec()));
        }
    }

    #[test]
    fn the_key_changes_with_the_block_and_both_sides_know() {
        let key = key(Cipher::Aes);
        let sealer = Sealer::new(Arc::clone(&key));
        sealer.next.lock().unwrap().number = (1 << PER_BLOCK_BITS) - 1;
        let message = message(1, b"secret");

        let sealed = sealer.seal(&batch(&[&message, &message]));

        let mut opener = opener(&key);
        for data in sealed.payloads() {
            let opened = opener.open(Epoch(3), CHANNEL, &message, data);
            assert_eq!(opened.unwrap(), "secret");
        }
        let (_, block, _) = opener.last.unwrap();
        assert_eq!(block, 1);
    }
}
