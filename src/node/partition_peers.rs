//! Other groups of servers with the same cluster ID, each with channels of its own: this group announces over NATS which
//! channels it serves, and a group that lists one of theirs does not serve. What is a conflict, `core::partition` says.
//!
//! A node asks before it queues for the lock, and whenever it becomes active; an active asks again from time to time and
//! when NATS was away, because a route between NATS servers may bring groups together that did not know of each other.
//! Every node answers, active or not: the list is what it would serve. Nothing here decides who is active, and a takeover
//! does not wait for it.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::core::partition::Partition;
use crate::monitoring::status::Status;
use crate::nats::wire::Message;
use crate::nats::{self, Connection, Inbox};
use crate::protocol::partition_peers::{self, Sender, TooSmall};

/// When nobody has answered for so long, nobody else will.
const QUIET: Duration = Duration::from_secs(1);

/// Whoever answers without end is not listened to any longer.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// How often an active asks again.
const AGAIN: Duration = Duration::from_secs(30);

/// After a reconnect NATS servers may still be finding each other.
const AFTER_RECONNECT: Duration = Duration::from_millis(500);

/// NATS must confirm the subscription within this.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Nats(#[from] nats::Error),
    #[error(transparent)]
    TooSmall(#[from] TooSmall),
}

/// An entry of this group's list that has a channel in common with another group's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    channel: String,
    with: Sender,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "channel {:?} causes conflict with channels on server {:?}",
            self.channel, self.with.server_id
        )?;
        if !self.with.group.is_empty() {
            write!(f, " of group {:?}", self.with.group)?;
        }
        f.write_str(
            ": two groups with one cluster ID cannot serve the same channel; let only one of them list it under \
             store_limits.channels (--channel-limits)",
        )
    }
}

#[derive(Debug)]
pub(super) struct PartitionPeers {
    nats: Connection,
    subject: String,
    me: Sender,
    partition: Partition,
    /// What others ask.
    asked: Inbox,
}

impl PartitionPeers {
    /// When it returns, NATS delivers what others ask.
    pub(super) async fn listen(
        nats: &Connection,
        subject: &str,
        me: Sender,
        partition: Partition,
    ) -> Result<Self, Error> {
        let mut asked = nats.inbox();
        asked.subscribe(subject)?;
        nats.flush(FLUSH_LIMIT).await?;
        Ok(Self {
            nats: nats.clone(),
            subject: subject.to_owned(),
            me,
            partition,
            asked,
        })
    }

    /// Tells the list and waits for objections. Goes on answering others meanwhile: two that begin at the same time
    /// would otherwise not learn of each other.
    pub(super) async fn ask(&mut self) -> Result<Option<Conflict>, Error> {
        let reply_to = self.nats.new_subject();
        let mut answers = self.nats.inbox();
        answers.subscribe(&reply_to)?;
        let max_payload = self.nats.max_payload();
        for request in partition_peers::requests(&self.me, self.partition.entries(), max_payload)? {
            self.nats
                .publish(&self.subject, Some(&reply_to), &request)
                .await?;
        }
        let mut limit = pin!(sleep(ASK_LIMIT));
        let mut quiet = pin!(sleep(QUIET));
        loop {
            tokio::select! {
                () = &mut limit => return Ok(None),
                () = &mut quiet => return Ok(None),
                answer = answers.next() => {
                    if let Some(conflict) = self.objection(&answer?) {
                        return Ok(Some(conflict));
                    }
                    quiet.set(sleep(QUIET));
                }
                request = self.asked.next() => self.answer(&request?).await?,
            }
        }
    }

    fn objection(&self, answer: &Message) -> Option<Conflict> {
        let (with, channel) = partition_peers::answered(answer.detached().1)?;
        let channel = channel.filter(|_| !self.is_one_of_us(&with))?;
        Some(Conflict { channel, with })
    }

    fn is_one_of_us(&self, other: &Sender) -> bool {
        other.server_id == self.me.server_id || other.is_of_group(&self.me)
    }

    async fn answer(&self, request: &Message) -> Result<(), Error> {
        let (reply, payload) = request.detached();
        let reply = reply.and_then(|reply| String::from_utf8(reply.into()).ok());
        let (Some(reply), Some((from, channels))) = (reply, partition_peers::request(payload))
        else {
            return Ok(());
        };
        if self.is_one_of_us(&from) {
            return Ok(());
        }
        let conflict = self.partition.conflict(&channels);
        if let Some(channel) = conflict {
            tracing::warn!(
                channel = channel.as_str(),
                server.id = from.server_id,
                group = from.group,
                "another group of servers lists a channel that this one serves; this one informs it"
            );
        }
        let answer = partition_peers::answer(&self.me, conflict);
        match self.nats.publish(&reply, None, &answer).await {
            // A reply subject that nobody can publish to: its sender's business.
            Ok(()) | Err(nats::Error::InvalidSubject { .. } | nats::Error::TooLarge { .. }) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Answers and asks until `shutdown`, which it brings about itself when this group has to give way: then it says
    /// so in `conflict`.
    pub(super) async fn run(
        mut self,
        mut status: watch::Receiver<Status>,
        conflict: Arc<OnceLock<String>>,
        shutdown: CancellationToken,
    ) {
        let mut connected = self.nats.connected();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut term = None;
        // It is this node that comes to the others, until they know of it.
        let mut is_new = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                request = self.asked.next() => {
                    let answered = match request {
                        Ok(request) => self.answer(&request).await,
                        Err(error) => Err(error.into()),
                    };
                    if answered.is_err() {
                        // The connection is closed for good: the roles end with it.
                        return;
                    }
                }
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let epoch = status.borrow_and_update().epoch;
                    if epoch != term {
                        term = epoch;
                        is_new = epoch.is_some();
                        again.reset_immediately();
                    }
                }
                Ok(()) = connected.changed() => {
                    if *connected.borrow_and_update() {
                        again.reset_after(AFTER_RECONNECT);
                    }
                }
                _ = again.tick(), if term.is_some() => match self.ask().await {
                    Ok(found) => {
                        let gives_way = found.filter(|found| self.gives_way(found, is_new));
                        if let Some(found) = gives_way {
                            tracing::error!("{found}");
                            // Only this task writes it.
                            conflict.set(found.to_string()).ok();
                            return shutdown.cancel();
                        }
                        is_new = false;
                    }
                    Err(error) => {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "other groups cannot be asked for their channels");
                        again.reset_after(QUIET);
                    }
                }
            }
        }
    }

    /// When two find out later, only one has to end. A NATS Streaming server ends by itself.
    fn gives_way(&self, found: &Conflict, is_new: bool) -> bool {
        let theirs = &found.with.tables;
        let gives_way = is_new || (!theirs.is_empty() && *theirs < self.me.tables);
        if !gives_way {
            tracing::error!("{found}; this group goes on, and the other one has to end");
        }
        gives_way
    }
}

/// For a look from outside: the conflict of a server that would be started, if any.
pub(super) async fn look(
    nats: &Connection,
    subject: &str,
    me: Sender,
    partition: Partition,
) -> Result<Option<Conflict>, Error> {
    let mut partition_peers = PartitionPeers::listen(nats, subject, me, partition).await?;
    partition_peers.ask().await
}
