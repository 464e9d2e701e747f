//! What a broker leaves undone because Postgres refuses to store it, until it is tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::batch::Batch;
use super::broker::Broker;
use super::deadlines::{Due, Timer};
use super::event::Event;
use super::ids::{ChannelId, LoadId, PositionId, Sequence, Subject};
use super::loads::Purpose;
use super::outbound::{Outbound, Reply};
use super::refusal::Refusal;
use super::rejection::Rejection;
use super::request::Request;
use super::time::{Instant, Now};

#[derive(Clone, Debug, Default)]
pub(super) struct Withheld {
    /// Channels whose limits are not enforced; their timer for expiry is set.
    pub(super) limits: BTreeSet<ChannelId>,
    /// Positions whose progress is not written.
    progress: BTreeSet<PositionId>,
    /// Those of them that have moved since.
    moved: BTreeSet<PositionId>,
    /// What is for people only is not written.
    notes: bool,
    /// Requests wait that are to be tried in batches of their own.
    pub(super) others_wait: bool,
}

impl Withheld {
    /// True when the progress waits here.
    pub(super) fn keeps(&mut self, position: PositionId) -> bool {
        let keeps = self.progress.contains(&position);
        if keeps {
            self.moved.insert(position);
        }
        keeps
    }

    pub(super) fn withholds(&self, position: PositionId) -> bool {
        self.progress.contains(&position)
    }

    pub(super) fn strip(&self, batch: &mut Batch) {
        if !self.progress.is_empty() {
            // They show that the messages are acked, as long as the positions do not.
            let acked = &mut batch.outbox.acked;
            acked.retain(|(position, _)| !self.progress.contains(position));
        }
        if self.notes {
            batch.heartbeats.clear();
            batch.unreadable.clear();
            batch.lost.clear();
            batch.gone = super::gone::GoneNotes::default();
        }
    }
}

impl Broker {
    pub(super) fn has_outbound(&self) -> bool {
        self.commits.has_outbound()
    }

    /// True while something has not left that clients are to be told or asked.
    pub(super) fn has_unsent(&self) -> bool {
        self.commits.answers_bytes() > 0
    }

    /// Where the answers go that have not left.
    pub(super) fn unanswered(&self) -> BTreeSet<&Subject> {
        let unsent = self.commits.unsent();
        let replies = unsent.filter_map(|outbound| match outbound {
            Outbound::Reply { to, .. } => Some(to),
            Outbound::Deliver { .. } | Outbound::Probe { .. } => None,
        });
        replies.collect()
    }

    /// See [`super::commits::Commits::release_answers`].
    pub(super) fn release_answers(&mut self) {
        self.commits.release_answers();
    }

    /// Answers with a refusal, after everything that was decided before.
    pub(super) fn send_refusal(&mut self, outbound: Option<Outbound>) {
        if let Some(outbound) = outbound {
            self.commits.send_after_commit(outbound);
        }
    }

    /// What was read led to something that cannot be stored. A subscribe that waited for it is refused; other reads are
    /// made again. Says whose it was.
    pub(super) fn refuse_load(&mut self, load: LoadId, rejection: Rejection) -> String {
        match self.loads.answered(load) {
            Some((_, Purpose::Start(start))) => {
                let request = &start.request;
                let what = format!(
                    "a subscribe of client {} on channel {}",
                    request.client_id, request.channel
                );
                self.answer(start.reply, Reply::SubscribeRefused(rejection));
                what
            }
            Some((asked, purpose)) => {
                let what = format!("what follows from a read of channel {}", asked.channel);
                self.loads.ask(asked.channel, asked.query, purpose);
                what
            }
            None => "what follows from a read".to_owned(),
        }
    }

    /// What went along with what was tried, and nobody waits for, does not go with the next batch. Says what it was; `None` where nothing
    /// of this part of a batch went along.
    pub(super) fn withhold(&mut self, part: &str, until: Instant) -> Option<String> {
        match part {
            // For people only.
            "heartbeats" | "unreadable messages" | "lost ranges" => {
                self.withheld.notes = true;
                Some(format!("the {part}"))
            }
            "outbox" => self.put_off_refused_rows(until),
            "requests" if self.commits.forget_answered_requests() => {
                self.deadlines.set(Timer::Requests, until);
                Some("the answers to operators".to_owned())
            }
            _ => None,
        }
    }

    pub(super) fn withhold_progress(&mut self, positions: &[PositionId]) {
        for &position in positions {
            self.withheld.progress.insert(position);
            if self.commits.forget_move(position) {
                self.withheld.moved.insert(position);
            }
        }
    }

    /// Lets progress that was withheld go with the next batch.
    pub(super) fn write_progress(&mut self, positions: &[PositionId]) {
        for position in positions {
            self.withheld.progress.remove(position);
            if self.withheld.moved.remove(position) {
                self.commits.move_position(*position);
            }
        }
        self.commits.flush_progress();
    }

    /// It is withheld until then. Says whose it is.
    pub(super) fn defer_progress(&mut self, position: PositionId, until: Instant) -> String {
        self.deadlines.set(Timer::Withheld(position), until);
        let group = self.groups.get(&position);
        let channel = group.and_then(|group| self.channels.get(group.channel));
        let name = channel.map_or_else(String::new, |channel| {
            format!(" on channel {}", channel.row.name)
        });
        format!("the progress of position {position}{name}")
    }

    /// The limits of these channels are not enforced until then. Says which they are.
    pub(super) fn suspend_limits(
        &mut self,
        channels: &BTreeSet<ChannelId>,
        until: Instant,
    ) -> Vec<String> {
        let mut names = Vec::new();
        for &id in channels {
            self.withheld.limits.insert(id);
            self.deadlines.set(Timer::Expiry(id), until);
            self.request_may_go_on();
            let channel = self.channels.get(id).map(|channel| &channel.row.name);
            let name = channel.or(self.purging.get(&id).map(|purge| &purge.row.name));
            names.push(name.map_or_else(|| id.to_string(), ToString::to_string));
        }
        names
    }

    /// The limits of all channels.
    pub(super) fn suspend_all(&mut self, until: Instant) {
        let channels = self.channels.iter().map(|(id, _)| id);
        let all = channels.chain(self.purging.keys().copied()).collect();
        self.suspend_limits(&all, until);
    }

    /// What goes on by itself waits for its timers while `others_wait`.
    pub(super) fn let_others_first(&mut self, others_wait: bool) {
        self.withheld.others_wait = others_wait;
    }

    /// The pause is over.
    pub(super) fn resume_limits(&mut self, id: ChannelId) {
        self.withheld.limits.remove(&id);
        if let Some(channel) = self.channels.get_mut(id) {
            // They may be back.
            channel.hidden_through = Sequence::ZERO;
        }
        self.trimmed(id);
    }

    /// Only the earliest of those that are due.
    pub(super) fn handle_first_timer(&mut self, due: Due, now: Now) {
        self.now = now;
        if let Some(timer) = self.deadlines.pop_due(due.by) {
            self.go_off(timer, due.answers_wait);
        }
    }

    /// Puts the earliest of those that are due off. Says what it is for.
    pub(super) fn defer_first_timer(
        &mut self,
        due: Due,
        now: Instant,
        after: Duration,
        refusal: &Refusal,
    ) -> Option<String> {
        let timer = self.deadlines.pop_due(due.by)?;
        let what = match &timer {
            Timer::Heartbeat(client) => format!("a heartbeat of client {client}"),
            Timer::Probe(_) => "the end of a client that does not answer".to_owned(),
            Timer::Expiry(channel) => format!("the limits of channel number {channel}"),
            Timer::Inactivity(channel) => format!("the deletion of channel number {channel}"),
            Timer::Redelivery(position) => format!("a redelivery of position {position}"),
            Timer::Outbox => return self.refuse_outbox(refusal, now + after),
            Timer::Requests => {
                return Some(self.refuse_request(&refusal.to_string(), now + after));
            }
            Timer::Orphans => "the end of subscriptions whose client has gone".to_owned(),
            Timer::Progress | Timer::Withheld(_) => "progress of subscriptions".to_owned(),
            Timer::LoadRetry | Timer::ForgetStored | Timer::Unregistered(_) | Timer::Unseen(_) => {
                "what was due".to_owned()
            }
        };
        self.deadlines.set(timer, now + after);
        Some(what)
    }
}

/// Events that are requests, or lead to what is written for one.
pub(super) fn is_request(event: &Event) -> bool {
    matches!(
        event,
        Event::Request(
            Request::Connect { .. }
                | Request::Publish { .. }
                | Request::Subscribe { .. }
                | Request::Unsubscribe { .. }
                | Request::CloseSubscription { .. }
                | Request::CloseClient { .. }
        )
    )
}
