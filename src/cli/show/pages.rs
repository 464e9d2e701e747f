//! Messages of a channel page by page, as they were published: decrypted, and never consumed.

use std::sync::Arc;

use anyhow::anyhow;

use crate::cli::failure::Failure;
use crate::cli::status::read_failure;
use crate::core::ids::{ChannelId, LoadId, Sequence};
use crate::core::load::{Load, LoadQuery, Loaded, Unreadable};
use crate::core::message::Message;
use crate::core::time::Timestamp;
use crate::store::Store;

/// What is in memory at once.
const PAGE_MESSAGES: usize = 4096;
const PAGE_BYTES: usize = 8 << 20;

/// A stretch of a channel that is read from its first message to its last.
pub(in crate::cli) struct Pages<'a> {
    store: &'a Store,
    channel: ChannelId,
    next: Sequence,
    last: Sequence,
}

impl<'a> Pages<'a> {
    pub(in crate::cli) fn new(store: &'a Store, channel: ChannelId, first: u64, last: u64) -> Self {
        Self {
            store,
            channel,
            next: Sequence(first.max(1)),
            last: Sequence(last),
        }
    }

    /// `None` after the last one. A page may be empty.
    pub(in crate::cli) async fn next(
        &mut self,
    ) -> Result<Option<(Vec<Arc<Message>>, Vec<Unreadable>)>, Failure> {
        if self.next > self.last {
            return Ok(None);
        }
        let want = LoadQuery::Range {
            first: self.next,
            last: self.last,
            count: PAGE_MESSAGES,
            bytes: PAGE_BYTES,
        };
        let Loaded::Messages {
            messages,
            unreadable,
            through,
            ..
        } = self.load(want).await?
        else {
            return Err(Failure::Failed(anyhow!("a page of messages is none")));
        };
        self.next = through.max(self.next).next();
        Ok(Some((messages, unreadable)))
    }

    /// Begins with the first message at or after this time.
    pub(in crate::cli) async fn skip_to(&mut self, since: i64) -> Result<(), Failure> {
        let Loaded::FirstSince { first, .. } =
            self.load(LoadQuery::FirstSince(Timestamp(since))).await?
        else {
            return Err(Failure::Failed(anyhow!(
                "the time of messages cannot be looked for"
            )));
        };
        self.next = first.map_or_else(|| self.last.next(), |first| first.max(self.next));
        Ok(())
    }

    async fn load(&self, want: LoadQuery) -> Result<Loaded, Failure> {
        let load = Load {
            id: LoadId::default(),
            channel: self.channel,
            query: want,
        };
        self.store.load(&load).await.map_err(read_failure)
    }
}
