//! Keys that operators give: they encrypt the keys of terms and a known value, never a message.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::secret::Secret;
use crate::store::error::Error;

/// An operator's key is often a text made by a person: each guess at it costs this much.
pub(super) const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).expect("is not 0");

/// A row that says more was not written by a server, and would keep it busy for minutes.
const ITERATIONS_MAX: u32 = 10_000_000;

const SALT_BYTES: usize = 16;

const KNOWN_VALUE: &[u8] = b"the right key";

/// A row of `encryption_keys`: what it takes to tell whether one has the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct KeyRow {
    pub(super) number: i32,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: i32,
    pub(super) known_value: Vec<u8>,
    /// For people.
    pub(super) first_used_at: String,
}

#[derive(Clone)]
pub(super) struct OperatorKey {
    pub(super) row: KeyRow,
    key: Arc<LessSafeKey>,
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OperatorKey")
            .field(&self.row.number)
            .finish()
    }
}

impl OperatorKey {
    /// A key that the tables do not know yet, and that has no number yet. Takes a good part of a second, as `recognise` does.
    pub(super) fn new(secret: &Secret, iterations: NonZeroU32) -> Result<Self, Error> {
        let salt = random::<SALT_BYTES>()?.to_vec();
        let key = derive(secret, &salt, iterations);
        let known_value = seal(&key, b"known value", KNOWN_VALUE)?;
        Ok(Self {
            row: KeyRow {
                number: 0,
                salt,
                iterations: iterations.get().cast_signed(),
                known_value,
                first_used_at: String::new(),
            },
            key: Arc::new(key),
        })
    }

    /// `None` when `secret` is not the key of the row.
    pub(super) fn recognise(row: &KeyRow, secret: &Secret) -> Option<Self> {
        let iterations = u32::try_from(row.iterations).ok()?;
        let iterations = NonZeroU32::new(iterations).filter(|n| n.get() <= ITERATIONS_MAX)?;
        let key = derive(secret, &row.salt, iterations);
        let opened = open(&key, b"known value", &row.known_value)?;
        (opened == KNOWN_VALUE).then(|| Self {
            row: row.clone(),
            key: Arc::new(key),
        })
    }

    /// `purpose` must be the same to unwrap.
    pub(super) fn wrap(&self, purpose: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Error> {
        seal(&self.key, purpose, bytes)
    }

    /// `None` when it was wrapped by another key, for another purpose, or changed since.
    pub(super) fn unwrap(&self, purpose: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
        open(&self.key, purpose, wrapped)
    }
}

fn derive(secret: &Secret, salt: &[u8], iterations: NonZeroU32) -> LessSafeKey {
    let mut bytes = [0; 32];
    let text = secret.expose().as_bytes();
    pbkdf2::derive(PBKDF2_HMAC_SHA256, iterations, salt, text, &mut bytes);
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("32 bytes are a key"))
}

/// The nonce goes first. Random ones will do: a key seals one value per term, not one per message.
fn seal(key: &LessSafeKey, purpose: &[u8], bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let nonce = random::<NONCE_LEN>()?;
    let mut sealed = nonce.to_vec();
    sealed.extend_from_slice(bytes);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key
        .seal_in_place_separate_tag(nonce, Aad::from(purpose), &mut sealed[NONCE_LEN..])
        .map_err(|_| Error::Failed("a key is too long to be encrypted".to_owned()))?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn open(key: &LessSafeKey, purpose: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let opened = key.open_in_place(nonce, Aad::from(purpose), &mut body);
    opened.ok().map(|opened| opened.to_vec())
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Unavailable("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_recognised_by_its_row_and_another_is_not() {
        let rounds = NonZeroU32::new(10).unwrap();
        let mut key = OperatorKey::new(&"the one".into(), rounds).unwrap();
        key.row.number = 3;
        let wrapped = key.wrap(b"epoch 7", b"a term's key").unwrap();

        let same = OperatorKey::recognise(&key.row, &"the one".into()).unwrap();
        assert_eq!(same.unwrap(b"epoch 7", &wrapped).unwrap(), b"a term's key");
        assert_eq!(same.unwrap(b"epoch 8", &wrapped), None);
        assert_eq!(same.unwrap(b"epoch 7", &wrapped[..5]), None);
        assert!(OperatorKey::recognise(&key.row, &"another".into()).is_none());
        assert_eq!(format!("{key:?}"), "OperatorKey(3)");
    }

    #[test]
    fn a_row_that_would_keep_a_server_busy_is_no_key() {
        for iterations in [0, -1, i32::MAX] {
            let row = KeyRow {
                number: 1,
                salt: vec![1],
                iterations,
                known_value: vec![0; 50],
                first_used_at: String::new(),
            };
            assert!(OperatorKey::recognise(&row, &"k".into()).is_none());
        }
    }
}
