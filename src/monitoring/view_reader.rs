//! What the pages read from the tables: through a store of its own, so that no page takes a connection from those that
//! deliver, a few reads at a time, each of them under a limit.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ring::hmac;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::finding::Finding;
use crate::clock::Clock;
use crate::core::time::Instant;
use crate::store::{Error, Store};

/// Reads under way at once, and so the connections that the pages take.
const PLACES: usize = 2;

/// For as long a page waits for its turn.
const TURN_LIMIT: Duration = Duration::from_secs(5);

/// After that it is created again.
const EXAMINATION_LASTS: Duration = Duration::from_secs(15);

/// Why a page cannot be read at the moment.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("the server is starting: it does not know its tables yet")]
    Starting,
    #[error("too many pages are being read at this server")]
    Busy,
    #[error("the tables cannot be read: {0}")]
    Tables(#[from] Error),
}

/// Looks at database, NATS and settings.
pub type Doctor = Box<dyn Fn() -> BoxFuture<'static, Result<Vec<Finding>, Error>> + Send + Sync>;

/// Cheap to clone; all clones share the places.
#[derive(Clone, Debug)]
pub struct ViewReader {
    opened: Arc<OnceLock<OpenedViews>>,
    places: Arc<Semaphore>,
}

struct OpenedViews {
    store: Store,
    /// The same at all servers of these tables.
    key: hmac::Key,
    doctor: Doctor,
    /// What a diagnosis has found last, and when.
    diagnosis: Mutex<Option<(Instant, Vec<Finding>)>>,
}

impl fmt::Debug for OpenedViews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Default for ViewReader {
    fn default() -> Self {
        Self {
            opened: Arc::default(),
            places: Arc::new(Semaphore::new(PLACES)),
        }
    }
}

impl ViewReader {
    /// `secret` is what the servers of these tables share and nobody else knows.
    pub fn open(&self, store: Store, secret: &[u8], doctor: Doctor) {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&secret, b"what people are logged in to the console with");
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        // It is opened once.
        let opened = OpenedViews {
            store,
            key,
            doctor,
            diagnosis: Mutex::default(),
        };
        self.opened.set(opened).ok();
    }

    /// What any server of the pair signs with, so that its peer believes it. `None`: this server is starting.
    pub fn key(&self) -> Option<&hmac::Key> {
        self.opened.get().map(|opened| &opened.key)
    }

    /// What `stanby doctor` finds with the settings of this server: one diagnosis at a time, which all share who ask
    /// while it is young.
    pub async fn diagnose(&self) -> Result<Vec<Finding>, Unread> {
        let opened = self.opened.get().ok_or(Unread::Starting)?;
        let mut diagnosis = opened.diagnosis.lock().await;
        let now = Clock.now().monotonic;
        if let Some((at, findings)) = &*diagnosis
            && now.since(*at) < EXAMINATION_LASTS
        {
            return Ok(findings.clone());
        }
        let findings = (opened.doctor)().await?;
        *diagnosis = Some((Clock.now().monotonic, findings.clone()));
        Ok(findings)
    }

    pub async fn read<T>(
        &self,
        read: impl AsyncFnOnce(&Store) -> Result<T, Error>,
    ) -> Result<T, Unread> {
        let opened = self.opened.get().ok_or(Unread::Starting)?;
        let place = timeout(TURN_LIMIT, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(Unread::Busy);
        };
        Ok(read(&opened.store).await?)
    }
}
