//! What a standby received while another node was active. When it takes over, it cannot know which of those
//! requests were carried out: they are judged again, after the ones have been taken out that must not happen
//! twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytestring::ByteString;

use super::batch::ChannelRow;
use super::broker::Broker;
use super::dedup::{Digester, StoredPublish, StoredPublishes};
use super::ids::{ChannelId, ChannelName, Sequence, Subject};
use super::outbound::Reply;
use super::request::{Ack, Connect, Publish, Request};
use super::shadow::Taken;
use super::snapshot::Snapshot;
use super::time::{Instant, Timestamp};

/// More messages than were received may have been stored since the first one that was received: the order in which
/// the two nodes received them may differ a little.
const SEARCH_SLACK: u64 = 1000;

/// Publishes that nobody here has received so far, and that a slow route may yet bring although they are stored: so many are
/// looked for in all channels together, and so many more among those that limits have dropped. A takeover reads these in
/// a fraction of a second; with all that a high rate stores within the window it would take longer than what it looks
/// for can be late. Each costs some hundred bytes until the window is over.
pub const LATE_COPIES_MAX: usize = 100_000;

/// Where in a channel to look for publishes that may have been received, or may still arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchRange {
    /// All after this one, however old.
    pub after: Sequence,
    /// And all that are not older than this.
    pub since: Timestamp,
    /// But none up to here, however young.
    pub floor: Sequence,
}

/// Where to look for what the last active stored within `window` of its end: among its last messages by number in
/// the channels that they name, by time in all. Times are compared with each other only, because another
/// node's clock has made them.
pub fn search_ranges<'a>(
    snapshot: &Snapshot,
    received: impl Iterator<Item = &'a Request>,
    window: Duration,
) -> BTreeMap<ChannelId, SearchRange> {
    let mut received_of: BTreeMap<&ChannelName, u64> = BTreeMap::new();
    for publish in publishes(received) {
        *received_of.entry(&publish.channel).or_default() += 1;
    }
    let end = snapshot
        .channels
        .values()
        .map(|row| row.last_published_at)
        .max();
    let window = i64::try_from(window.as_nanos()).unwrap_or(i64::MAX);
    let since = Timestamp(end.unwrap_or_default().0.saturating_sub(window));
    // Those that are being deleted too: they may have been named while they lived.
    let used: Vec<_> = snapshot
        .channels
        .iter()
        .map(|(&id, row)| (id, row, received_of.get(&row.name).copied()))
        .filter(|(_, row, received)| received.is_some() || row.last_published_at >= since)
        .collect();
    let share = (LATE_COPIES_MAX / used.len().max(1)) as u64;
    let slack = SEARCH_SLACK.min(share);
    let range = |(id, row, received): (ChannelId, &ChannelRow, Option<u64>)| {
        let back = |count: u64| Sequence(row.last_sequence.0.saturating_sub(count));
        let range = SearchRange {
            after: back(received.map_or(0, |received| received + slack)),
            since,
            floor: back(received.unwrap_or(0) + share),
        };
        (id, range)
    };
    used.into_iter().map(range).collect()
}

/// The publishes among the requests, to be looked up in the store.
pub fn publishes<'a>(
    received: impl Iterator<Item = &'a Request>,
) -> impl Iterator<Item = &'a Publish> {
    received.filter_map(Request::as_publish)
}

/// The connections, by heartbeat inbox, that the requests open, to be looked up in the store.
pub fn connections<'a>(
    received: impl Iterator<Item = &'a Request>,
) -> impl Iterator<Item = &'a Subject> {
    connects(received).map(|request| &request.heartbeat_inbox)
}

fn connects<'a>(received: impl Iterator<Item = &'a Request>) -> impl Iterator<Item = &'a Connect> {
    received.filter_map(|request| {
        if let Request::Connect { request, .. } = request {
            Some(request)
        } else {
            None
        }
    })
}

/// What the tables say of the requests that were received.
#[derive(Clone, Debug, Default)]
pub struct Outcomes {
    /// Stored, whether or not a limit has dropped them since.
    pub stored: StoredPublishes,
    /// Heartbeat inboxes of connections that have ended since.
    pub closed: BTreeSet<Subject>,
}

/// As the store has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// In any order.
    pub kept: Vec<(ChannelId, StoredPublish)>,
    /// Dropped by limits lately, perhaps with their channel.
    pub dropped: BTreeSet<(ChannelName, StoredPublish)>,
}

impl Outcomes {
    /// `digester` is the store's.
    pub fn new<'a>(
        snapshot: &Snapshot,
        stored: Stored,
        closed: BTreeSet<Subject>,
        received: impl Iterator<Item = &'a Request>,
        digester: Digester,
    ) -> Self {
        let mut known = StoredPublishes::new(digester);
        for connect in connects(received) {
            known.add_connection(connect.connection_id.clone(), connect.client_id.clone());
        }
        for (client, row) in &snapshot.clients {
            known.add_connection(row.connection_id.clone(), client.clone());
        }
        for (id, publish) in stored.kept {
            if let Some(row) = snapshot.channels.get(&id) {
                known.add(row.name.clone(), publish);
            }
        }
        for (name, publish) in stored.dropped {
            known.add(name, publish);
        }
        Self {
            stored: known,
            closed,
        }
    }
}

/// Acks received so long after a position was moved are taken for acks of before: the batch that moved it was on its way, and the
/// clock of Postgres is not this server's. What they ack is delivered again.
const MOVING: Duration = Duration::from_secs(1);

/// What of the acks that were received is of before an operator moved their position: what they were for is to be delivered again.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    /// By ack inbox, for how long the position has been where it is.
    ages: BTreeMap<ByteString, Duration>,
}

impl Moves {
    pub fn of(snapshot: &Snapshot) -> Self {
        let rows = snapshot.subscriptions.values();
        let ages = rows.filter_map(|row| {
            let age = snapshot.moved.get(&row.position)?;
            Some((row.ack_inbox.to_text(), *age))
        });
        Self {
            ages: ages.collect(),
        }
    }

    /// An ack that came in at `at`.
    fn void(&self, ack: &Ack, at: Instant, now: Instant) -> bool {
        let age = self.ages.get(&ack.ack_inbox);
        age.is_some_and(|&age| now.since(at) + MOVING >= age)
    }
}

/// The requests that a new term begins with, with the times they were received: first what is to be carried out, in the order it
/// was received, then publishes that are stored and want only an answer, the last one first. Whoever publishes one at a time waits
/// for the answer to the last; those to all others have most likely come before.
///
/// `broker` is as the tables are.
pub(super) fn plan(
    shadow: Taken,
    outcomes: &Outcomes,
    moves: &Moves,
    broker: &Broker,
    now: Instant,
) -> Vec<(Instant, Request)> {
    // From the last to the first: what came later decides whether an earlier request still counts.
    let mut connected_later = BTreeSet::new();
    let mut left_later = BTreeSet::new();
    let (mut unsubscribed_later, mut closed_later) = (BTreeSet::new(), BTreeSet::new());
    let Taken { received, earlier } = shadow;
    let connects = connects(received.iter().map(|(_, request)| request));
    let connects = connects.filter(|it| !outcomes.closed.contains(&it.heartbeat_inbox));
    let connecting: BTreeSet<ByteString> = connects.map(|it| it.client_id.to_text()).collect();
    let mut planned = Vec::with_capacity(received.len());
    let mut answers = Vec::new();
    let is_stored = |request: &Publish| outcomes.stored.contains(request);
    for (at, request) in received.into_iter().rev() {
        let request = match request {
            Request::Connect { request, reply } => {
                connected_later.insert(request.client_id.to_text());
                // Its client would be back with some of its subscriptions, and not know of it.
                let has_ended = outcomes.closed.contains(&request.heartbeat_inbox);
                (!has_ended).then_some(Request::Connect { request, reply })
            }
            Request::Publish { request, reply } => {
                if is_stored(&request) {
                    answers.extend(answer(at, request, reply));
                    continue;
                }
                Some(Request::Publish { request, reply })
            }
            // Done for a client that is gone, or that has left the subscription: it would stay for ever.
            Request::Subscribe { request, .. }
                if connected_later.contains(request.client_id.as_str())
                    || left_later
                        .contains(&(request.client_id.to_text(), request.channel.clone())) =>
            {
                None
            }
            // A close names no connection: it was meant for the one before.
            Request::CloseClient { client_id, .. } if connected_later.contains(&client_id) => None,
            // An earlier term has most likely ended what is not there, and died before its answer. What never was there is answered
            // like that, too.
            Request::CloseClient { client_id, reply }
                if !connecting.contains(&client_id) && !broker.has_client(&client_id) =>
            {
                answered(reply, Reply::ClientClosed)
            }
            // Asked again, because nobody answered: the later one is whose answer is waited for.
            Request::Unsubscribe { request, .. } if !unsubscribed_later.insert(request.clone()) => {
                None
            }
            Request::CloseSubscription { request, .. } if !closed_later.insert(request.clone()) => {
                None
            }
            Request::Unsubscribe { request, reply }
            | Request::CloseSubscription { request, reply }
                if broker.lacks_subscription(&request) =>
            {
                left_later.insert((request.client_id, request.channel));
                answered(reply, Reply::Left)
            }
            Request::Unsubscribe { request, reply } => {
                left_later.insert((request.client_id.clone(), request.channel.clone()));
                Some(Request::Unsubscribe { request, reply })
            }
            Request::CloseSubscription { request, reply } => {
                left_later.insert((request.client_id.clone(), request.channel.clone()));
                Some(Request::CloseSubscription { request, reply })
            }
            Request::Ack(ack) => (!moves.void(&ack, at, now)).then_some(Request::Ack(ack)),
            request @ (Request::Subscribe { .. }
            | Request::CloseClient { .. }
            | Request::Answered { .. }) => Some(request),
            // Clients ping again by themselves; a term leaves publishes that were stored before as publishes.
            Request::AlreadyStored { .. } | Request::Ping { .. } => None,
        };
        planned.extend(request.map(|request| (at, request)));
    }
    for (at, request) in earlier.into_iter().rev() {
        if let Request::Publish { request, reply } = request
            && is_stored(&request)
        {
            answers.extend(answer(at, request, reply));
        }
    }
    planned.reverse();
    planned.append(&mut answers);
    planned
}

fn answered(reply: Option<Subject>, answer: Reply) -> Option<Request> {
    reply.map(|reply| Request::Answered { answer, reply })
}

/// The request that only answers a publish that is stored already.
fn answer(at: Instant, request: Publish, reply: Option<Subject>) -> Option<(Instant, Request)> {
    reply.map(|reply| (at, Request::AlreadyStored { request, reply }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn row(name: &str, last: u64, seconds: i64) -> ChannelRow {
        ChannelRow {
            name: ChannelName::parse(name.into()).expect("valid"),
            created_at: Timestamp(0),
            deleting: false,
            first_sequence: Sequence(1),
            last_sequence: Sequence(last),
            last_published_at: Timestamp(seconds * SECOND),
            message_count: last,
            byte_count: 0,
        }
    }

    fn ranges(rows: Vec<ChannelRow>) -> BTreeMap<ChannelId, SearchRange> {
        let snapshot = Snapshot {
            channels: (1..).map(ChannelId).zip(rows).collect(),
            ..Snapshot::default()
        };
        search_ranges(&snapshot, std::iter::empty(), Duration::from_secs(5))
    }

    #[test]
    fn only_channels_that_were_published_to_lately_are_looked_at() {
        let found = ranges(vec![row("quiet", 9, 4), row("busy", 9, 10)]);

        let busy = SearchRange {
            after: Sequence(9),
            since: Timestamp(5 * SECOND),
            floor: Sequence::ZERO,
        };
        assert_eq!(found, BTreeMap::from([(ChannelId(2), busy)]));
    }

    #[test]
    fn channels_share_how_far_a_takeover_looks_back() {
        let floor = |channels: u32| {
            let rows = (0..channels).map(|n| row(&format!("c{n}"), 1_000_000, 10));
            ranges(rows.collect())[&ChannelId(1)].floor
        };

        assert_eq!(floor(1), Sequence(900_000));
        assert_eq!(floor(100), Sequence(999_000));
    }
}
