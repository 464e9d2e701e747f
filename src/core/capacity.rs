//! How many more requests the gathering batch takes. A batch that is on its way to the store holds up the next one, and that is
//! soon full when some clients send without a pause. So each keeps a part for the requests of clients that have little under
//! way: these go with the next batch, and do not wait for the one after it.

use super::broker::Broker;

/// The reserve is an eighth on top of each bound.
const RESERVE: usize = 8;

/// How much may be taken at once: so many requests, and so many bytes or one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub requests: usize,
    pub bytes: usize,
}

impl From<usize> for Quota {
    /// So many requests, whatever their size.
    fn from(requests: usize) -> Self {
        let bytes = usize::MAX;
        Self { requests, bytes }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// For requests of anybody.
    For(Quota),
    /// For requests of clients that have little under way.
    Reserve(Quota),
    None,
}

impl Broker {
    /// How much may still be handed in for the next batch.
    pub fn capacity(&self) -> Capacity {
        let reserve = || self.left(|bound| bound + bound / RESERVE);
        let all = self.left(|bound| bound).map(Capacity::For);
        all.or_else(|| reserve().map(Capacity::Reserve))
            .unwrap_or(Capacity::None)
    }

    /// Requests of anybody may be handed in.
    pub fn has_capacity(&self) -> bool {
        self.left(|bound| bound).is_some()
    }

    fn left(&self, bound: impl Fn(usize) -> usize) -> Option<Quota> {
        let (limits, commits) = (&self.settings.limits, &self.commits);
        let has_room = commits.waiting() < bound(2 * limits.batch_messages)
            && commits.answers_bytes() < bound(limits.answers_bytes)
            && self.loads.starts() < bound(limits.batch_messages);
        let messages = bound(limits.batch_messages).saturating_sub(commits.messages());
        let rows = bound(limits.batch_rows).saturating_sub(commits.rows());
        let quota = Quota {
            requests: messages.min(rows),
            bytes: bound(limits.batch_bytes).saturating_sub(commits.bytes()),
        };
        (has_room && quota.requests > 0 && quota.bytes > 0).then_some(quota)
    }
}
