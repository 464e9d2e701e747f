//! What a process can encrypt and decrypt: the keys that it was given, and what they open in the tables.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_postgres::Client;

use super::operator_key::{ITERATIONS, KeyRow, OperatorKey, random};
use super::tables::{self, TermRow};
use super::term_key::{KEY_BYTES, Opener, Sealer, TermKey, TermKeys};
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::config::encryption::{Cipher, Encryption};
use crate::config::secret::Secret;
use crate::core::ids::Epoch;
use crate::store::error::Error;

/// With more keys of terms than this, those that no message needs are looked for. It takes a look at each channel.
const TERMS_OF_NOTE: usize = 1000;

/// Cheap to clone; all clones know the same. The default one has no key.
#[derive(Clone, Default)]
pub struct Keyring {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    encryption: Encryption,
    cluster_id: String,
    /// Iterations for new keys; `None`: the default.
    iterations: Option<NonZeroU32>,
    /// The key to encrypt with, where the tables do not know it yet: no takeover has the time to derive it.
    unused: Mutex<Option<OperatorKey>>,
    /// By the rows that they were recognised by: that takes time, and rows do not change. Never held
    /// across an await.
    operators: Mutex<BTreeMap<i32, Operator>>,
    terms: Mutex<Arc<TermKeys>>,
}

#[derive(Clone)]
struct Operator {
    key: OperatorKey,
    /// The one to encrypt with, and not one to read with.
    is_first: bool,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("encrypts", &self.encrypts())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is in there is put there whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    /// Keys are of use with tables of this cluster only.
    pub fn new(encryption: &Encryption, cluster_id: &str) -> Self {
        Self::with_iterations(encryption, cluster_id, ITERATIONS)
    }

    /// New keys are derived in so many rounds: fewer make them easier to guess, more make servers start more slowly.
    pub fn with_iterations(
        encryption: &Encryption,
        cluster_id: &str,
        iterations: NonZeroU32,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                encryption: encryption.clone(),
                cluster_id: cluster_id.to_owned(),
                iterations: Some(iterations),
                ..Inner::default()
            }),
        }
    }

    pub fn encrypts(&self) -> bool {
        self.inner.encryption.key.is_some()
    }

    pub(in crate::store) fn opener(&self) -> Opener {
        Opener::new(Arc::clone(&lock(&self.inner.terms)))
    }

    /// Fails when one of the keys that messages are encrypted with was not given. Says how many there are.
    pub(in crate::store) async fn check(&self, keys: Vec<KeyRow>) -> Result<usize, Error> {
        let operators = self.recognise(keys).await?;
        if let Some(secret) = &self.inner.encryption.key
            && !operators.values().any(|operator| operator.is_first)
        {
            self.unused(secret).await?;
        }
        Ok(operators.len())
    }

    /// Opens what the messages so far are decrypted with.
    pub(in crate::store) async fn open(
        &self,
        keys: Vec<KeyRow>,
        rows: Vec<TermRow>,
    ) -> Result<Found, Error> {
        let operators = self.recognise(keys).await?;
        let mut terms = TermKeys::new();
        let mut stale = Vec::new();
        let total = rows.len();
        for row in rows {
            let by = operators.get(&row.key_number);
            let Some((term, bytes)) = by.and_then(|by| self.term(&by.key, &row)) else {
                tracing::error!(
                    row = row.epoch,
                    "a row of table term_keys is damaged: the messages of its term cannot be decrypted; restore the row \
                     from a backup"
                );
                continue;
            };
            terms.insert(Epoch(row.epoch.cast_unsigned()), Arc::new(term));
            if by.is_some_and(|by| !by.is_first) {
                stale.push((row, bytes));
            }
        }
        *lock(&self.inner.terms) = Arc::new(terms);
        Ok(Found {
            operators,
            stale,
            total,
        })
    }

    /// Makes the key of a term, and stores it on the leader session before anything is encrypted with it. `None` where
    /// nothing is to be encrypted.
    pub(in crate::store) async fn begin_term(
        &self,
        client: &Client,
        url: &DatabaseUrl,
        epoch: Epoch,
        found: Found,
    ) -> Result<Option<Sealer>, Error> {
        let failed = |error: tokio_postgres::Error| DatabaseError::of_session(url, &error);
        let Some(secret) = self.inner.encryption.key.clone() else {
            if found.total > 0 {
                tables::forget(client).await.map_err(failed)?;
            }
            return Ok(None);
        };
        let Found {
            operators,
            stale,
            total,
        } = found;
        let first = operators.values().find(|operator| operator.is_first);
        let operator = if let Some(operator) = first {
            operator.key.clone()
        } else {
            let mut operator = self.unused(&secret).await?;
            operator.row.number = operators.keys().max().map_or(1, |last| last + 1);
            operator
        };
        let mut wrapped_anew = Vec::with_capacity(stale.len());
        for (row, bytes) in stale {
            let purpose = self.purpose(row.epoch, &row.cipher);
            wrapped_anew.push(TermRow {
                wrapped_key: operator.wrap(&purpose, &bytes)?,
                ..row
            });
        }
        let cipher = self.inner.encryption.cipher;
        let bytes = random::<KEY_BYTES>()?;
        let mut row = TermRow {
            epoch: epoch.0.cast_signed(),
            key_number: operator.row.number,
            cipher: cipher.to_string(),
            wrapped_key: Vec::new(),
        };
        row.wrapped_key = operator.wrap(&self.purpose(row.epoch, &row.cipher), &bytes)?;
        tables::begin(client, &operator.row, &wrapped_anew, &row)
            .await
            .map_err(failed)?;
        if total > TERMS_OF_NOTE {
            tables::forget(client).await.map_err(failed)?;
        }
        tracing::info!(
            key = operator.row.number,
            %cipher,
            terms_wrapped_anew = wrapped_anew.len(),
            "payloads are encrypted"
        );
        lock(&self.inner.operators).insert(
            operator.row.number,
            Operator {
                key: operator,
                is_first: true,
            },
        );
        let term = Arc::new(TermKey::new(epoch, cipher, &bytes));
        let mut terms = lock(&self.inner.terms);
        let mut more = TermKeys::clone(&terms);
        more.insert(epoch, Arc::clone(&term));
        *terms = Arc::new(more);
        Ok(Some(Sealer::new(term)))
    }

    async fn unused(&self, secret: &Secret) -> Result<OperatorKey, Error> {
        if let Some(made) = lock(&self.inner.unused).clone() {
            return Ok(made);
        }
        let (secret, iterations) = (secret.clone(), self.inner.iterations);
        let made = blocking(move || OperatorKey::new(&secret, iterations.unwrap_or(ITERATIONS)));
        let made = made.await??;
        Ok(lock(&self.inner.unused).insert(made).clone())
    }

    /// The operators' keys of these rows; fails where one is none of those that were given.
    async fn recognise(&self, rows: Vec<KeyRow>) -> Result<BTreeMap<i32, Operator>, Error> {
        let mut operators = BTreeMap::new();
        for row in rows {
            let known = lock(&self.inner.operators).get(&row.number).cloned();
            let known = known.filter(|known| known.key.row.known_value == row.known_value);
            let operator = match known {
                Some(known) => known,
                None => self
                    .try_keys(&row)
                    .await?
                    .ok_or_else(|| self.wrong_key(&row))?,
            };
            lock(&self.inner.operators).insert(row.number, operator.clone());
            operators.insert(row.number, operator);
        }
        Ok(operators)
    }

    async fn try_keys(&self, row: &KeyRow) -> Result<Option<Operator>, Error> {
        let encryption = &self.inner.encryption;
        let first = encryption.key.iter().map(|key| (key.clone(), true));
        let others = encryption.other_keys.iter().map(|key| (key.clone(), false));
        let given: Vec<(Secret, bool)> = first.chain(others).collect();
        let row = row.clone();
        blocking(move || {
            given.iter().find_map(|(secret, is_first)| {
                Some(Operator {
                    key: OperatorKey::recognise(&row, secret)?,
                    is_first: *is_first,
                })
            })
        })
        .await
    }

    fn wrong_key(&self, row: &KeyRow) -> Error {
        let (number, since) = (row.number, &row.first_used_at);
        let has_any = self.encrypts() || !self.inner.encryption.other_keys.is_empty();
        Error::Key(if has_any {
            format!(
                "the tables hold messages that are encrypted with another key than this server was given (number {number}, \
                 in use since {since}); give all servers the same NATS_STREAMING_ENCRYPTION_KEY, and where it was \
                 changed, the other one in STANBY_ENCRYPTION_OTHER_KEYS"
            )
        } else {
            format!(
                "the tables hold encrypted messages, and this server was given no key (number {number}, in use since \
                 {since}); give it NATS_STREAMING_ENCRYPTION_KEY as the other servers, or, to encrypt no more, the \
                 key in STANBY_ENCRYPTION_OTHER_KEYS"
            )
        })
    }

    fn term(&self, operator: &OperatorKey, row: &TermRow) -> Option<(TermKey, [u8; KEY_BYTES])> {
        let cipher = [Cipher::Aes, Cipher::ChaCha]
            .into_iter()
            .find(|cipher| cipher.to_string() == row.cipher)?;
        let bytes = operator.unwrap(&self.purpose(row.epoch, &row.cipher), &row.wrapped_key)?;
        let bytes = bytes.try_into().ok()?;
        let term = TermKey::new(Epoch(row.epoch.cast_unsigned()), cipher, &bytes);
        Some((term, bytes))
    }

    /// What a term's key is for, so that it is of no use in another row or for another cluster.
    fn purpose(&self, epoch: i64, cipher: &str) -> Vec<u8> {
        format!("term {epoch} {cipher} {}", self.inner.cluster_id).into_bytes()
    }
}

/// What the tables hold of keys, and the given ones open.
pub(in crate::store) struct Found {
    operators: BTreeMap<i32, Operator>,
    /// Keys of terms that stand there under another operator's key than the one to encrypt with.
    stale: Vec<(TermRow, [u8; KEY_BYTES])>,
    total: usize,
}

/// Derives keys, which would keep a thread of the runtime busy.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::Unavailable("the process is about to end".to_owned()))
}
