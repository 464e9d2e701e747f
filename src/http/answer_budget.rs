//! How much the answers may take: one list is made at a time, and those that are not read yet hold so many bytes in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The size of answers that their readers have yet to take, in KiB. A larger answer is given when there is no other.
const ANSWERS_KIB: u32 = 64 << 10;

/// Smaller ones are not counted: those of probes never wait.
const SMALL_BYTES: usize = 16 << 10;

/// For as long a list waits for its turn, and an answer for room.
const WAIT: Duration = Duration::from_secs(5);

/// Cheap to clone; all clones share the budget.
#[derive(Clone, Debug)]
pub(super) struct AnswerBudget {
    lists: Arc<Semaphore>,
    metrics: Arc<Semaphore>,
    nats: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    refused: Arc<AtomicU64>,
}

impl Default for AnswerBudget {
    fn default() -> Self {
        Self {
            lists: Arc::new(Semaphore::new(1)),
            metrics: Arc::new(Semaphore::new(1)),
            nats: Arc::new(Semaphore::new(1)),
            answers: Arc::new(Semaphore::new(ANSWERS_KIB as usize)),
            refused: Arc::default(),
        }
    }
}

/// Whose turn it is, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl AnswerBudget {
    /// To make a list. `None`: others have taken too long.
    pub(super) async fn list(&self) -> Option<Turn> {
        self.turn(&self.lists).await
    }

    /// To make the metrics, which do not wait for the lists.
    pub(super) async fn metrics(&self) -> Option<Turn> {
        self.turn(&self.metrics).await
    }

    /// To pass on a page of NATS, for which nothing of ours waits.
    pub(super) async fn nats(&self) -> Option<Turn> {
        self.turn(&self.nats).await
    }

    /// Answers that were not given for want of room, since the process started.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse(&self) -> Response {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let headers = [(header::RETRY_AFTER, "5")];
        let why = "too many large answers are under way; ask again\n";
        (StatusCode::SERVICE_UNAVAILABLE, headers, why).into_response()
    }

    async fn turn(&self, turns: &Arc<Semaphore>) -> Option<Turn> {
        let permit = timeout(WAIT, Arc::clone(turns).acquire_owned())
            .await
            .ok()?;
        Some(Turn {
            _permit: permit.ok()?,
        })
    }

    async fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes >> 10)
            .unwrap_or(u32::MAX)
            .clamp(1, ANSWERS_KIB);
        let permit = Arc::clone(&self.answers).acquire_many_owned(kib);
        timeout(WAIT, permit).await.ok()?.ok()
    }
}

/// The turn ends when there is room for what was made in it, not before.
pub(super) async fn bounded(
    State(budget): State<AnswerBudget>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = next.run(request).await.into_parts();
    // A list's turn.
    let turn: Option<Arc<Turn>> = parts.extensions.remove();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let body = if bytes.len() < SMALL_BYTES {
        Body::from(bytes)
    } else {
        let Some(permit) = budget.hold(bytes.len()).await else {
            return budget.refuse();
        };
        Body::from(Bytes::from_owner(CountedBody {
            bytes,
            _permit: permit,
        }))
    };
    drop(turn);
    Response::from_parts(parts, body)
}

/// Until the last of it is written.
struct CountedBody {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for CountedBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Keeps the turn for [`bounded`].
pub(super) fn in_turn(turn: Turn, mut response: Response) -> Response {
    response.extensions_mut().insert(Arc::new(turn));
    response
}
