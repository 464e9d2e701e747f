//! The messages of a channel page by page, for commands that read all of them: whoever asks goes on behind `through`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::encryption;
use super::error::{Error, Fault};
use super::pool::Store;
use crate::core::ids::{ChannelId, LoadId, Sequence};
use crate::core::load::{Load, LoadQuery, Loaded, Unreadable};
use crate::core::message::Message;
use crate::core::ranges::Ranges;

/// As many messages, and bytes of them, as are in memory at once.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    pub messages: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Page {
    /// In order.
    pub messages: Vec<Arc<Message>>,
    pub unreadable: Vec<Unreadable>,
    /// The last sequence that the page speaks for; at least the first that was asked for.
    pub through: Sequence,
    /// What was not found and is noted as gone.
    pub gone: Ranges,
    /// The first that is neither there nor noted as gone, and how many of that kind there are.
    pub missing: Option<(Sequence, u64)>,
}

impl Store {
    /// Makes ready to read messages that are encrypted, of all terms so far. Fails when this process has not their keys.
    pub async fn open_keys(&self) -> Result<(), Error> {
        let mut pooled = self.checkout().await?;
        let limit = self.statement_timeout * 2 + Duration::from_secs(1);
        let done = timeout(limit, async {
            let keys = encryption::keys(&mut pooled.source()).await?;
            Ok::<_, Fault>((keys, encryption::terms(&mut pooled.source()).await?))
        })
        .await;
        let (keys, terms) = pooled.checkin(done, "reading what messages are encrypted with")?;
        self.keyring.open(keys, terms).await.map(drop)
    }

    /// The next messages from `first` on, none past `last`.
    pub async fn page(
        &self,
        channel: ChannelId,
        (first, last): (Sequence, Sequence),
        size: PageSize,
    ) -> Result<Page, Error> {
        let load = Load {
            id: LoadId::default(),
            channel,
            query: LoadQuery::Range {
                first,
                last,
                count: size.messages,
                bytes: size.bytes,
            },
        };
        let Loaded::Messages {
            messages,
            unreadable,
            through,
            gone,
        } = self.load(&load).await?
        else {
            return Err(Error::Failed("a page of messages is none".to_owned()));
        };
        let through = through.max(first);
        let mut missing = None;
        let mut found = messages.iter().map(|it| it.sequence).peekable();
        let mut broken = unreadable.iter().map(|it| it.sequence).peekable();
        let mut due = first;
        while due <= through {
            let is_there = found.next_if_eq(&due).is_some() || broken.next_if_eq(&due).is_some();
            if !is_there && !gone.contains(due) {
                let (_, count) = missing.get_or_insert((due, 0));
                *count += 1;
            }
            due = due.next();
        }
        Ok(Page {
            messages,
            unreadable,
            through,
            gone,
            missing,
        })
    }
}
