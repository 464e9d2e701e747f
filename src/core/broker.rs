//! The core's surface: what goes in, what comes out, and which file decides what.
//!
//! | input | decided in |
//! |---|---|
//! | connect, ping, close, heartbeats | `connecting`, `connect_rate` |
//! | what is left of a client that has gone | `orphans` |
//! | publish | `publishing` |
//! | what applications publish and ack in SQL | `outbox`, `sql_acks`, `scan_ranges` |
//! | what operators ask for | `admin` |
//! | subscribe | `subscribing`, `start_position` |
//! | unsubscribe, close of a subscription | `unsubscribing` |
//! | new messages to subscriptions, acks | `delivery`; what NATS carries `deliverable` |
//! | whose messages go next | `round_robin`; within a queue group `members` |
//! | who may have more in flight, and whose it was before a takeover | `resource_usage`, `holders` |
//! | messages that were not acked | `redelivery` |
//! | how often they are delivered, and what becomes of them then | `policy`, `delivery_attempts`, `poison`, `giving_up` |
//! | subscriptions that nobody listens to | `no_responders` |
//! | limits of channels | `channel_limits`, `retention`, `guid_window` |
//! | messages that are gone without a limit, and those that are only not seen | `gone`, `unseen` |
//! | channels of other groups, requests that overtake their client's connect | `partition`, `pending_clients` |
//! | publishes that an earlier term stored | `replay`, `dedup` |
//! | the begin of a term | `takeover`, `restore` |
//! | what Postgres refuses to store | `savepoint`, `suspects`, `withheld`, `refusal` |
//! | what Postgres lost when it failed over | `replicas`, `commit_history`, `failover_repair` |
//! | what leaves with which commit | `commits` |
//!
//! Around the broker: `standby` and `active` are the roles, `shadow` and `request_journal` keep requests for the next term, `attempts` says when to try
//! again, `upload` how large a statement may be, and `capacity` when the batch is full.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytestring::ByteString;

use super::admin::Admin;
use super::batch::{Batch, Counters};
use super::channel_limits::Overrides;
use super::channels::Channels;
use super::commits::Commits;
use super::connect_rate::ConnectRate;
use super::counts::Traffic;
use super::deadlines::{Deadlines, Due, Timer};
use super::dedup::StoredPublishes;
use super::event::Event;
use super::group::Group;
use super::ids::{ChannelId, ChannelName, ClientId, LoadId, PositionId, Subject, SubscriptionId};
use super::limits::Settings;
use super::load::{Load, Loaded};
use super::loads::{Loads, Purpose};
use super::notice::Notice;
use super::outbound::{Outbound, Reply};
use super::outbox::Outbox;
use super::pending_clients::PendingClients;
use super::policy::Policies;
use super::registry::Registry;
use super::request::{Durables, Request};
use super::resource_usage::ResourceUsage;
use super::retention::Purge;
use super::tail::Tail;
use super::time::{Instant, Now};
use super::withheld::Withheld;

/// Timers that are handled in one go.
const TIMERS_PER_TURN: usize = 1024;

/// The state of one term. Made by [`Broker::restore`], dropped when the term ends.
#[derive(Clone, Debug)]
pub struct Broker {
    pub(super) settings: Settings,
    /// As of the call under way.
    pub(super) now: Now,
    /// When the request under way was received, which is earlier where it had to wait for this term or a frozen process.
    pub(super) received_at: Instant,
    /// When the term began.
    pub(super) began: Instant,
    pub(super) counters: Counters,
    pub(super) clients: Registry,
    pub(super) connect_rate: ConnectRate,
    /// The last client that was new found no room.
    pub(super) is_full: bool,
    pub(super) channels: Channels,
    /// Deleted channels whose messages are still being dropped.
    pub(super) purging: BTreeMap<ChannelId, Purge>,
    /// Publishes that the terms before stored last.
    pub(super) stored_before: StoredPublishes,
    /// Clients with a subscription that nobody listened to.
    pub(super) in_doubt: BTreeSet<ClientId>,
    /// Groups that wait for messages which are missing, or did.
    pub(super) waiting_for_unseen: BTreeSet<PositionId>,
    pub(super) groups: BTreeMap<PositionId, Group>,
    /// What all of these have in flight.
    pub(super) usage: ResourceUsage,
    /// Subscriptions of clients that have gone, which are closed in steps.
    pub(super) orphans: BTreeSet<(PositionId, SubscriptionId)>,
    /// The ack inboxes of online subscriptions.
    pub(super) ack_inboxes: BTreeMap<ByteString, (PositionId, SubscriptionId)>,
    pub(super) tail: Tail,
    /// Bytes of messages that groups have read ahead, new ones and those to be redelivered.
    pub(super) paged_bytes: usize,
    /// Groups that wait for their turn to deliver.
    pub(super) in_line: VecDeque<PositionId>,
    /// The turns that were given last were cut short.
    pub(super) turns_are_cut: bool,
    /// What all turns of the term have cost.
    pub(super) steps: u64,
    /// The term is about to end: nothing is delivered any more.
    pub(super) is_draining: bool,
    pub(super) deadlines: Deadlines,
    pub(super) commits: Commits,
    pub(super) loads: Loads,
    pub(super) withheld: Withheld,
    pub(super) pending_clients: PendingClients,
    pub(super) outbox: Outbox,
    pub(super) policies: Policies,
    pub(super) admin: Admin,
    /// Limits that operators have set for single channels.
    pub(super) set_limits: BTreeMap<ChannelName, Overrides>,
    pub(super) notices: VecDeque<Notice>,
    pub(super) traffic: Traffic,
}

impl Broker {
    pub fn handle(&mut self, event: impl Into<Event>, now: Now) {
        self.handle_late(event.into(), now.monotonic, now);
    }

    /// The same with a request that was received earlier, or may have been.
    pub fn handle_late(&mut self, event: Event, received_at: Instant, now: Now) {
        self.now = now;
        self.received_at = received_at;
        match event {
            Event::Request(request) => {
                if self.settings.partition.is_none() {
                    self.carry_out(request);
                } else if let Some(request) = self.admit(request) {
                    self.carry_out(request);
                }
            }
            Event::Pong(probe) => self.probe_answered(probe),
            Event::Unreachable(probe) => self.probe_failed(probe),
            Event::NoResponders(ack_inbox) => self.handle_no_responders(&ack_inbox),
            Event::Reconnected => self.probe_again(true),
            Event::Paused => self.probe_again(false),
            Event::Committed(number) => self.committed(number),
            Event::GoneNoted => self.look_for_gone(),
            Event::OutboxNoted => {
                self.outbox_noted();
                self.requests_noted();
            }
            Event::PoliciesNoted => self.look_for_policies(),
            Event::Loaded { load, result } => self.loaded(load, result),
            Event::LoadFailed(load) => {
                self.loads.fail(load);
                let at = self.now.monotonic + self.settings.limits.load_retry;
                self.deadlines.set_by(Timer::LoadRetry, at);
            }
        }
    }

    pub(super) fn carry_out(&mut self, request: Request) {
        match request {
            Request::Connect { request, reply } => self.connect(request, reply),
            Request::Publish { request, reply } => self.publish(request, reply),
            Request::Subscribe { request, reply } => self.subscribe(request, reply),
            Request::Unsubscribe { request, reply } => {
                self.leave(&request, Durables::Forget, reply);
            }
            Request::CloseSubscription { request, reply } => {
                self.leave(&request, Durables::Keep, reply);
            }
            Request::CloseClient { client_id, reply } => {
                self.close_client_on_request(&client_id, reply);
            }
            Request::Ping {
                connection_id,
                reply,
            } => self.ping(&connection_id, reply),
            Request::Ack(ack) => self.ack(&ack),
            Request::Answered { answer, reply } => self.answer(Some(reply), answer),
            Request::AlreadyStored { request, reply: to } => {
                let reply = Reply::Published(request.guid);
                self.commits.send_now(Outbound::Reply { to, reply });
            }
        }
    }

    /// To be called when `next_timeout` has passed. Takes a bounded number of timers: while more are due,
    /// `next_timeout` has still passed, and others may have their turn before the next call.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = Due {
            by: now.monotonic,
            answers_wait: false,
        };
        self.handle_due(due, now);
    }

    pub(super) fn handle_due(&mut self, due: Due, now: Now) {
        self.now = now;
        self.received_at = now.monotonic;
        for _ in 0..TIMERS_PER_TURN {
            let Some(timer) = self.deadlines.pop_due(due.by) else {
                return;
            };
            self.go_off(timer, due.answers_wait);
        }
    }

    pub(super) fn go_off(&mut self, timer: Timer, answers_wait: bool) {
        let now = self.now;
        match timer {
            Timer::Heartbeat(client) => self.send_heartbeat(&client),
            // The question has not left yet, or the answer may wait where nothing is taken from: behind a savepoint, for want of
            // room, or because the term is about to end.
            Timer::Probe(probe)
                if answers_wait
                    || self.is_draining
                    || !self.has_capacity()
                    || !self.clients.has_left(probe) =>
            {
                let again = now.monotonic + self.settings.heartbeats.duplicate_timeout;
                self.deadlines.set(timer, again);
            }
            Timer::Probe(probe) => self.probe_failed(probe),
            Timer::Redelivery(position) => self.redeliver_due(position),
            Timer::Expiry(channel) => self.resume_limits(channel),
            Timer::Inactivity(channel) => self.check_inactivity(channel),
            Timer::Progress => self.commits.flush_progress(),
            Timer::Withheld(position) => self.write_progress(&[position]),
            Timer::Unseen(position) => self.deliver(position),
            Timer::LoadRetry => self.loads.retry_failed(),
            Timer::ForgetStored => self.forget_stored(),
            Timer::Unregistered(name) => self.stop_waiting_for(name),
            Timer::Orphans => self.close_orphans(),
            Timer::Outbox => self.turn_to_outbox(),
            Timer::Requests => self.turn_to_requests(),
        }
    }

    /// When something is due next, whatever events come.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// What time it is, before something is polled: what leaves now counts from now.
    pub fn look(&mut self, now: Now) {
        self.now = now;
    }

    /// A message that may leave the node: answers and probes first, then deliveries.
    pub fn poll_outbound(&mut self) -> Option<Outbound> {
        loop {
            let outbound = self.poll_answer().or_else(|| self.poll_delivery());
            if outbound.is_some() || !self.has_turns() {
                return outbound;
            }
        }
    }

    /// A read that the store should make; answered by `Event::Loaded` or `Event::LoadFailed`.
    pub fn poll_load(&mut self) -> Option<Load> {
        self.loads.poll(self.settings.limits.loads)
    }

    /// Something to log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// True when [`Self::poll_batch`] has something to commit.
    pub(super) fn has_batch(&self) -> bool {
        self.commits.is_due()
    }

    /// The writes to commit next; `None` while a batch is out or nothing needs one. Answered by
    /// `Event::Committed`; a batch that fails ends the term, and with it this broker.
    pub fn poll_batch(&mut self) -> Option<Batch> {
        if !self.commits.is_due() {
            return None;
        }
        let (mut batch, touched, moved) = self.commits.take();
        for id in touched {
            if let Some(channel) = self.channels.get_mut(id) {
                channel.trimmed = 0;
                batch.channels.insert(id, Some(channel.row.clone()));
            }
        }
        for position in moved {
            if self.withheld.keeps(position) {
                continue;
            }
            if let Some(group) = self.groups.get_mut(&position) {
                match batch.positions.get_mut(&position) {
                    Some(row) => *row = Some(group.row()),
                    None => {
                        batch.progress.insert(position, group.take_change());
                    }
                }
                if let Some(attempts) = &mut group.attempts {
                    let counts = attempts.take_changes(&group.in_flight).into_iter();
                    let counts = counts.map(|(sequence, count)| ((position, sequence), count));
                    batch.counts.extend(counts);
                }
                let pages = group.take_holders().into_iter();
                let holders = pages.map(|(page, holders)| ((position, page), holders));
                batch.holders.extend(holders);
            }
        }
        self.withheld.strip(&mut batch);
        let marks = batch.counts.iter();
        let marks = marks.filter(|(_, count)| count.as_ref().is_some_and(|it| it.is_given_up));
        self.commits
            .tell_of_given_up(marks.map(|(&key, _)| key).collect());
        self.deadlines.clear(&Timer::Progress);
        Some(batch)
    }

    /// The term is about to end: nothing more is delivered, and progress that waits for other writes goes with a batch
    /// at once.
    pub fn flush(&mut self) {
        self.is_draining = true;
        self.commits.flush_progress();
    }

    /// Limits the batches to come to what the link to Postgres carries in time.
    pub fn set_batch_bytes(&mut self, bytes: usize) {
        self.settings.limits.batch_bytes = bytes;
    }

    /// True when no batch is out or needed and nothing waits to be sent.
    pub fn is_drained(&self) -> bool {
        self.commits.is_drained()
    }

    /// Answers once everything decided so far is committed: any of it may have led to the answer.
    pub(super) fn answer(&mut self, to: Option<Subject>, reply: Reply) {
        if let Some(to) = to {
            self.commits
                .send_after_commit(Outbound::Reply { to, reply });
        }
    }

    fn committed(&mut self, number: super::ids::BatchNumber) {
        let release = self.commits.committed(number);
        if release.changed_outbox {
            self.outbox_committed();
        }
        if release.changed_requests {
            self.requests_committed();
        }
        self.marks_committed(release.given_up);
        for (position, subscription) in release.started {
            self.started(position, subscription);
        }
        for (id, last) in release.appended {
            let Some(channel) = self.channels.get_mut(id) else {
                continue;
            };
            channel.committed = last;
            let positions: Vec<PositionId> = channel.groups.iter().copied().collect();
            for position in positions {
                self.deliver(position);
            }
            self.enforce_limits(id);
        }
        for position in release.moved {
            if let Some(group) = self.groups.get_mut(&position) {
                group.moving -= 1;
            }
            self.deliver(position);
        }
        for position in release.left {
            self.arm_redelivery(position, self.now.monotonic);
            self.deliver(position);
        }
        for id in release.trimmed {
            self.go_on_trimming(id);
        }
        self.go_on_closing_orphans();
    }

    fn loaded(&mut self, load: LoadId, result: Loaded) {
        let Some((asked, purpose)) = self.loads.answered(load) else {
            return;
        };
        match (purpose, result) {
            (
                Purpose::Page(position),
                Loaded::Messages {
                    mut messages,
                    mut unreadable,
                    mut through,
                    gone,
                },
            ) => {
                self.note_gone(asked.channel, &gone);
                if self.is_overtaken(position, &asked) {
                    return self.page_overtaken(position);
                }
                let unseen = self.cut_page(&asked, &mut messages, &mut unreadable, &mut through);
                self.note_unreadable(asked.channel, unreadable);
                self.wait_for_unseen(position, unseen);
                self.page_loaded(position, messages, through);
            }
            (
                Purpose::Redelivery(position),
                Loaded::Messages {
                    messages,
                    unreadable,
                    through,
                    gone,
                },
            ) => {
                self.note_gone(asked.channel, &gone);
                let rows = unreadable.iter().map(|row| row.sequence).collect();
                self.note_unreadable(asked.channel, unreadable);
                self.redelivery_loaded(position, &asked, messages, rows, through);
            }
            (Purpose::Start(start), Loaded::FirstSince { first, hole }) => {
                self.start_loaded(&asked, *start, first, hole);
            }
            (Purpose::Oldest, Loaded::Oldest { oldest, gone }) => {
                self.oldest_loaded(asked.channel, oldest, &gone);
            }
            (Purpose::Gone, Loaded::Gone(ranges)) => self.gone_loaded(&ranges),
            (Purpose::Outbox, Loaded::Outbox(page)) => self.outbox_loaded(page),
            (Purpose::Policies, Loaded::Policies(policies)) => self.policies_loaded(policies),
            (Purpose::Requests, Loaded::Requests(page)) => self.requests_loaded(page),
            (Purpose::Request, loaded) => self.request_answered(asked, loaded),
            (purpose, result) => {
                panic!("the store answers what it is asked: {purpose:?} {result:?}")
            }
        }
    }
}
