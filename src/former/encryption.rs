//! Payloads that nats-streaming-server has encrypted: a byte for the cipher, a nonce, the payload and a tag.

use std::fmt;

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, Digest, SHA256, digest};

use crate::config::secret::Secret;
use crate::core::ids::{ChannelName, Sequence};

const AES: u8 = 1;
const CHACHA: u8 = 2;

const TAG_BYTES: usize = 16;

const MASTER_BYTES: usize = 32;

/// The bytes of a nonce before its counter.
const DRAWN_BYTES: usize = 4;

/// What the former server may have encrypted with, in the order in which they are tried.
#[derive(Clone, Default)]
pub struct Keys {
    masters: Vec<Digest>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.masters.len()).finish()
    }
}

impl Keys {
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| !secret.is_empty());
        Self {
            masters: secrets
                .map(|secret| digest(&SHA256, secret.expose().as_bytes()))
                .collect(),
        }
    }

    pub fn of_channel(&self, name: &ChannelName) -> ChannelKeys {
        let keys = self.masters.iter();
        Self::ciphers(keys.map(|master| channel_key(master, name)))
    }

    /// The keys for the log of a Raft node.
    pub fn of_log(&self) -> ChannelKeys {
        Self::ciphers(self.masters.iter().copied())
    }

    fn ciphers(keys: impl Iterator<Item = Digest>) -> ChannelKeys {
        ChannelKeys {
            keys: keys
                .map(|key| ChannelKey {
                    aes: cipher_key(&AES_256_GCM, &key),
                    chacha: cipher_key(&CHACHA20_POLY1305, &key),
                })
                .collect(),
        }
    }
}

/// The format has as many zero bytes before the key and the name as these have together.
fn channel_key(master: &Digest, name: &ChannelName) -> Digest {
    let name = name.as_str().as_bytes();
    let mut key = Context::new(&SHA256);
    key.update(&vec![0; MASTER_BYTES + 1 + name.len()]);
    key.update(master.as_ref());
    key.update(b".");
    key.update(name);
    key.finish()
}

fn cipher_key(cipher: &'static ring::aead::Algorithm, key: &Digest) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(cipher, key.as_ref()).expect("both take 32 bytes"))
}

/// What decrypts the payloads of one channel.
#[derive(Debug)]
pub struct ChannelKeys {
    keys: Vec<ChannelKey>,
}

struct ChannelKey {
    aes: LessSafeKey,
    chacha: LessSafeKey,
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelKey")
    }
}

impl ChannelKeys {
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// As the former server would: a payload that does not begin like an encrypted one was stored as it is.
    pub fn open(&self, data: Bytes) -> Result<Bytes, &'static str> {
        let Some(sealed) = Sealed::of(&data) else {
            return Ok(data);
        };
        if self.is_empty() {
            return Ok(data);
        }
        for key in &self.keys {
            let mut body = sealed.body.to_vec();
            let nonce = Nonce::assume_unique_for_key(*sealed.nonce);
            let key = if sealed.cipher == AES {
                &key.aes
            } else {
                &key.chacha
            };
            if let Ok(opened) = key.open_in_place(nonce, Aad::empty(), &mut body) {
                let length = opened.len();
                body.truncate(length);
                return Ok(body.into());
            }
        }
        Err(
            "its payload begins like an encrypted one, and the given key does not decrypt it; give the key that the former \
             server had when it stored it, in NATS_STREAMING_ENCRYPTION_KEY or, for the import alone, in \
             STANBY_FROM_ENCRYPTION_KEY",
        )
    }
}

/// True for what can hardly be anything else: the nonces of a channel count its messages.
pub fn looks_encrypted(data: &[u8], sequence: Sequence) -> bool {
    let Some(sealed) = Sealed::of(data).filter(|sealed| sealed.body.len() > TAG_BYTES) else {
        return false;
    };
    let mut counter = [0; NONCE_LEN - DRAWN_BYTES];
    counter.copy_from_slice(&sealed.nonce[DRAWN_BYTES..]);
    (1..=sequence.0.saturating_add(1)).contains(&u64::from_be_bytes(counter))
}

/// What marks an encrypted payload, for the former server: its first byte.
pub fn is_cipher(first: u8) -> bool {
    matches!(first, AES | CHACHA)
}

struct Sealed<'a> {
    cipher: u8,
    nonce: &'a [u8; NONCE_LEN],
    body: &'a [u8],
}

static NO_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

impl<'a> Sealed<'a> {
    fn of(data: &'a [u8]) -> Option<Self> {
        let (&cipher, rest) = data.split_first()?;
        if !is_cipher(cipher) {
            return None;
        }
        // What is too short is decrypted in vain.
        let (nonce, body) = rest.split_first_chunk().unwrap_or((&NO_NONCE, &[]));
        Some(Self {
            cipher,
            nonce,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: [&str; 2] = [
        "01000102030405060708090a0b77703b1a143cebac9ae8b9471246b3b1e6c939a51d",
        "02000102030405060708090a0ba512f0bd8e5368f32de75e4b9b0355bfb09ad01a55",
    ];

    fn bytes(hex: &str) -> Bytes {
        let decoded = data_encoding::HEXLOWER.decode(hex.as_bytes());
        decoded.unwrap().into()
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::parse(name.into()).unwrap()
    }

    fn keys(texts: &[&str]) -> ChannelKeys {
        let secrets: Vec<Secret> = texts.iter().map(|&text| text.into()).collect();
        Keys::new(&secrets).of_channel(&channel("foo"))
    }

    #[test]
    fn keys_are_derived_as_the_former_server_does() {
        let master = digest(&SHA256, b"testkey");
        let expected = "f7adfb33c7099549cbe4914b815ee420108607adf04d79e2d4d3fefc65becc81";
        assert_eq!(
            channel_key(&master, &channel("foo")).as_ref(),
            bytes(expected)
        );
    }

    #[test]
    fn both_ciphers_are_decrypted_with_the_right_key_among_others() {
        for sealed in SEALED {
            assert_eq!(keys(&["testkey"]).open(bytes(sealed)).unwrap(), "hello");
            let among = keys(&["wrong", "", "testkey"]);
            assert_eq!(among.open(bytes(sealed)).unwrap(), "hello");
            assert!(keys(&["wrong"]).open(bytes(sealed)).is_err());
            let other = Keys::new(&["testkey".into()]).of_channel(&channel("bar"));
            assert!(other.open(bytes(sealed)).is_err());
        }
    }

    #[test]
    fn plain_payloads_stay_as_they_are() {
        for plain in ["", "00", "03ff", "68656c6c6f"] {
            assert_eq!(keys(&["testkey"]).open(bytes(plain)), Ok(bytes(plain)));
        }
        assert!(keys(&["testkey"]).open(bytes("01ff")).is_err());
        assert_eq!(keys(&[]).open(bytes("01ff")), Ok(bytes("01ff")));
    }

    #[test]
    fn without_a_key_encrypted_payloads_are_recognised_by_their_counter() {
        let sealed = |counter: &str| bytes(&format!("01aabbccdd{counter}{}", "00".repeat(21)));
        let seventh = "0000000000000007";
        assert!(looks_encrypted(&sealed(seventh), Sequence(7)));
        assert!(looks_encrypted(&sealed(seventh), Sequence(9)));
        assert!(!looks_encrypted(&sealed(seventh), Sequence(5)));
        assert!(!looks_encrypted(&sealed("1111111111111111"), Sequence(7)));
        assert!(!looks_encrypted(b"\x01short", Sequence(7)));
        assert!(!looks_encrypted(b"", Sequence(7)));
    }
}
