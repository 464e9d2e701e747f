//! The life of one established connection: reads, writes and asks for signs of life, until one of them fails.
//! Reading, writing and waiting go on side by side, so that none can hold up the others.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::keep_alive::keep_alive;
use self::reading::{ReadActivity, Reading};
use super::dial::Line;
use super::link::Link;
use super::overlap::Overlap;
use super::wire::{Info, Violation};
use crate::clock::Clock;

mod keep_alive;
mod reading;

/// For each step of the way to another NATS server.
const MOVE_LIMIT: Duration = Duration::from_secs(2);

/// So long a NATS server is read on after another one knows the subscriptions: news of them go round the cluster.
const SETTLE: Duration = Duration::from_millis(300);

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    Closed,
    Failed(io::Error),
    Violation(Violation),
    /// For so long.
    Silent(Duration),
    /// It speaks, and does not answer: for so long.
    Unanswered(Duration),
    /// Another server has taken over.
    Moved,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("NATS closed it"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Violation(violation) => write!(f, "NATS sent {violation}"),
            Self::Silent(time) => write!(f, "NATS gave no sign of life for {time:?}"),
            Self::Unanswered(time) => write!(
                f,
                "NATS sends, and answered no ping for {time:?}: nothing from this server arrives there"
            ),
            Self::Moved => f.write_str("this server connects to another one"),
        }
    }
}

/// How a session went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) ended: SessionEnd,
    /// The last error that NATS reported.
    pub(super) reported: Option<String>,
    /// Nothing was read for so long that NATS may have given up on us.
    pub(super) was_slow: bool,
    /// What NATS said last of itself.
    pub(super) info: Info,
}

/// Whether the server answers others.
pub(super) type Look<'a> = dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> + Sync + 'a;

/// Runs until the connection that the link has begun ends; being dropped ends it too.
/// `silence`: how long NATS may give no sign of life before `is_there` has a look at it.
pub(super) async fn run(
    line: Line,
    link: &Arc<Link>,
    silence: Duration,
    is_there: &Look<'_>,
    moved: impl Future<Output = Line>,
    overlap: Overlap,
) -> (Outcome, Option<Next>) {
    let mut next = None;
    let Line {
        stream,
        parser,
        info,
        ..
    } = line;
    let (mut reader, writer) = tokio::io::split(stream);
    let activity = ReadActivity::default();
    let mut reading = Reading::new(link, &activity, parser, info, overlap);
    reading.take_early();
    // A task of its own, or a stream of requests would keep the answers waiting. It ends with this function.
    let mut writing = JoinSet::new();
    writing.spawn(write(writer, Arc::clone(link)));
    let ended = tokio::select! {
        ended = reading.run(&mut reader) => ended,
        Some(ended) = writing.join_next() => ended.unwrap_or(SessionEnd::Closed),
        ended = keep_alive(link, &activity, silence, is_there) => ended,
        line = moved => {
            next = Some(line);
            SessionEnd::Moved
        }
    };
    let next = match next {
        Some(line) => change_over(&mut reading, &mut reader, line).await,
        None => None,
    };
    // Nothing is to be written any more to the one that is left: a writer that is still there could take what the next one has to know.
    writing.shutdown().await;
    if next.as_ref().is_some_and(|next| next.is_clean) {
        link.finish_move();
    } else {
        link.end();
    }
    let outcome = Outcome {
        ended,
        was_slow: reading.was_slow(),
        reported: reading.reported,
        info: reading.info,
    };
    (outcome, next)
}

/// The connection that follows, and what it has to know.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) line: Line,
    /// Nothing was lost on the way: the link goes on.
    pub(super) is_clean: bool,
    pub(super) overlap: Overlap,
}

/// Leaves one NATS server for another one: subscribes there first, and reads the one that is left to its end.
async fn change_over(
    reading: &mut Reading<'_>,
    reader: &mut (impl AsyncRead + Unpin),
    mut line: Line,
) -> Option<Next> {
    let link = reading.link;
    reading.notes = Some(Overlap::default());
    let subscribed = timeout(MOVE_LIMIT, line.subscribe(link.begin_move()));
    let Ok(Ok(early)) = subscribed.await else {
        return None;
    };
    // Others of the cluster have to learn of it before they learn that nobody listens here any more.
    let settled = timeout(SETTLE, reading.run(reader)).await;
    let is_clean = settled.is_err() && {
        let answer = link.leave();
        let drained = async {
            tokio::select! {
                answered = answer => answered.is_ok(),
                _ = reading.run(reader) => false,
            }
        };
        timeout(MOVE_LIMIT, drained).await.unwrap_or(false)
    };
    let mut overlap = reading.notes.take().unwrap_or_default();
    overlap.end(early, Clock.now().monotonic);
    Some(Next {
        line,
        is_clean,
        overlap,
    })
}

async fn write(mut writer: impl AsyncWrite + Unpin, link: Arc<Link>) -> SessionEnd {
    let mut buffer = BytesMut::new();
    loop {
        link.to_write(&mut buffer).await;
        if let Err(error) = writer.write_all(&buffer).await {
            return SessionEnd::Failed(error);
        }
        if let Err(error) = writer.flush().await {
            return SessionEnd::Failed(error);
        }
        Link::recycle(&mut buffer);
    }
}
