//! How many more requests the gathering batch takes. A batch that is on its way to the store holds up the next one, and that is
//! soon full when some clients send without a pause. So each keeps a part for the requests of clients that have little under
//! way: these go with the next batch, and do not wait for the one after it.

use super::broker::Broker;

/// The reserve is an eighth on top of each bound.
const RESERVE: usize = 8;

/// Requests, by the average size of those that the batch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Of anybody.
    For(usize),
    /// Of clients that have little under way.
    Reserve(usize),
    None,
}

impl Broker {
    /// How many requests may still be handed in for the next batch.
    pub fn room(&self) -> Room {
        let reserve = || self.left(|bound| bound + bound / RESERVE);
        let room = self.left(|bound| bound).map(Room::For);
        room.or_else(|| reserve().map(Room::Reserve))
            .unwrap_or(Room::None)
    }

    /// Requests of anybody may be handed in.
    pub fn has_room(&self) -> bool {
        self.left(|bound| bound).is_some()
    }

    /// At least one, or `None`.
    fn left(&self, bound: impl Fn(usize) -> usize) -> Option<usize> {
        let (limits, commits) = (&self.settings.limits, &self.commits);
        let fits = commits.rows() < bound(limits.batch_rows)
            && commits.waiting() < bound(2 * limits.batch_messages)
            && commits.answers_bytes() < bound(limits.answers_bytes)
            && self.loads.starts() < bound(limits.batch_messages);
        let messages = bound(limits.batch_messages).saturating_sub(commits.messages());
        let bytes = bound(limits.batch_bytes).saturating_sub(commits.bytes());
        let each = commits.bytes() / commits.messages().max(1);
        let left = messages.min(bytes.div_ceil(each.max(1)));
        (fits && left > 0).then_some(left)
    }
}
