//! A broker whose steps can be taken back, for a Postgres that refuses some of what clients ask for. What is handed in is
//! carried out on top of a savepoint (a copy of the broker); nothing leaves before its batch is committed. When the batch
//! is refused, the broker is as it was, and the inputs are tried again in halves, until the one is found that cannot be
//! stored. A request is answered with the refusal, a timer is put off, progress of a subscription is not written for a
//! while; everything else goes on.
//!
//! It costs a copy of the state per batch, so a term begins with it only where something was refused before.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::batch::Batch;
use super::broker::Broker;
use super::deadlines::Due;
use super::event::Event;
use super::ids::{ChannelId, PositionId, Subject};
use super::limits::Limits;
use super::memory_size;
use super::outbound::Outbound;
use super::refusal::Refusal;
use super::request::Request;
use super::suspects::{Alike, Suspects};
use super::time::Now;
use super::withheld;

mod answers;

use answers::{UNASKED, not_stored, refuse};

/// What cannot be written is tried again after this.
pub const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Requests whose refusals have not left are kept up to here. The senders of others see a timeout when the term ends first.
const GIVEN_UP_BYTES: usize = 8 << 20;

/// After so many requests in a row that were refused for one cause, the others that came with them may be refused without
/// being tried one by one: see [`Alike`].
const ALIKE_MAX: usize = 16;

/// What was to be stored and is set aside, because Postgres refuses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedWrite {
    /// For people: whose, and which channel.
    pub what: String,
    pub refusal: Refusal,
    /// Nothing but refusals lately: the server is of no use to anybody.
    pub is_everything: bool,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are events")]
pub(super) enum Input {
    Event(Event),
    /// The earliest timer that is due, or (`All`) all of them.
    Timers(Timers, Due),
    Limits(Box<Limits>),
    /// Positions whose progress was refused together with that of others.
    Progress(Vec<PositionId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timers {
    All,
    First,
}

/// What a broker is handed in a term with savepoints.
#[derive(Debug, Default)]
pub struct Savepoints {
    /// To be tried next, each in one batch; then what came in since.
    steps: VecDeque<Vec<Input>>,
    waiting: Vec<Input>,
    /// On its way to the tables.
    tried: Option<Tried>,
    /// Requests that were refused, and where their answers go, which have not left: they wait for a commit, or for a NATS that
    /// takes nothing. The next term judges them when this one ends before. Those without an answer wait for a commit only.
    given_up: Vec<(Option<Subject>, Request)>,
    given_up_bytes: usize,
    last_refusal: Option<Refusal>,
    /// Requests in a row that were refused for the same cause.
    alike: usize,
    /// Publishers of which something was refused lately: what they send is tried after that of others.
    suspects: Suspects,
    refused: Vec<RefusedWrite>,
    /// Something was carried out since this was last asked.
    has_moved: bool,
    /// Limits were suspended because of what followed from a commit, and that is not carried out yet.
    is_suspended: bool,
    /// The state itself cannot be stored.
    hopeless: Option<Refusal>,
}

#[derive(Debug)]
struct Tried {
    before: Box<Broker>,
    inputs: Vec<Input>,
    /// The rows that may have to be left out.
    progress: Vec<PositionId>,
    /// Positions of these whose messages' deliveries are counted.
    counted: BTreeSet<PositionId>,
    trims: BTreeSet<ChannelId>,
}

impl Savepoints {
    /// False while something is on its way or to be tried before anything new.
    pub fn is_idle(&self) -> bool {
        self.tried.is_none() && self.steps.is_empty() && self.waiting.is_empty()
    }

    /// Requests and timers may be handed in: they go with the next batch. While one batch follows from the other (a limit drops
    /// many messages) it never is idle, and who asks for something then would wait until that is over.
    pub fn takes_more(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty()
    }

    /// Nothing that the broker would send or read may leave before what led to it is known to be stored.
    pub fn is_open(&self) -> bool {
        self.tried.is_some()
    }

    pub fn handle(&mut self, event: Event) {
        self.waiting.push(Input::Event(event));
    }

    pub(super) fn handle_due(&mut self, due: Due) {
        self.waiting.push(Input::Timers(Timers::All, due));
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.waiting.push(Input::Limits(Box::new(limits)));
    }

    /// Requests that are not carried out yet, in their order: what a term that ends leaves behind. Before them those whose
    /// refusal nobody has been told.
    pub fn leave(&mut self, broker: &Broker) -> Vec<Request> {
        let tried = self.tried.take().map(|tried| tried.inputs);
        let steps = tried.into_iter().chain(self.steps.drain(..)).flatten();
        let inputs = steps.chain(self.waiting.drain(..));
        let requests = inputs.filter_map(|input| match input {
            Input::Event(event) => event.into_request(),
            Input::Timers(..) | Input::Limits(_) | Input::Progress(_) => None,
        });
        let unanswered = broker.unanswered();
        let given_up = std::mem::take(&mut self.given_up).into_iter();
        let given_up = given_up
            .filter(|(to, _)| to.as_ref().is_none_or(|to| unanswered.contains(to)))
            .map(|(_, request)| request);
        given_up.chain(requests).collect()
    }

    /// What the term has to end for: there is nothing to take back any more.
    pub fn hopeless(&self) -> Option<&Refusal> {
        self.hopeless.as_ref()
    }

    /// True when something was carried out since this was last asked: there may be more to send, to read and to commit.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// What was refused since this was last asked.
    pub fn take_refused(&mut self) -> Vec<RefusedWrite> {
        std::mem::take(&mut self.refused)
    }

    /// Carries out what waits, until something has to be committed. All that the broker has to send and to read must be
    /// out of it by now, as long as nothing is open.
    pub fn poll_batch(&mut self, broker: &mut Broker, now: Now) -> Option<Batch> {
        if !broker.has_unsent() {
            self.keep_given_up(Option::is_none);
        }
        while self.tried.is_none() && !broker.has_outbound() {
            if self.steps.is_empty() {
                let waiting = std::mem::take(&mut self.waiting);
                self.steps.extend(self.suspects.set_apart(waiting));
            }
            let mut inputs = self.steps.pop_front().unwrap_or_default();
            broker.let_others_first(!self.steps.is_empty());
            if inputs.is_empty() && !broker.has_batch() {
                return None;
            }
            let before = Box::new(broker.clone());
            let mut done = carry_out(broker, &inputs, now);
            let is_release = matches!(inputs[..], [Input::Event(Event::Committed(_))]);
            if is_release && self.steps.is_empty() && broker.has_batch() {
                let waiting = std::mem::take(&mut self.waiting);
                let mut steps = self.suspects.set_apart(waiting).into_iter();
                let along = steps.next().unwrap_or_default();
                self.steps.extend(steps);
                done += carry_out(broker, &along, now);
                inputs.extend(along);
            }
            self.has_moved |= done > 0;
            let rest = inputs.split_off(done);
            if !rest.is_empty() {
                self.steps.push_front(rest);
            }
            if let Some(batch) = broker.poll_batch() {
                self.tried = Some(Tried {
                    before,
                    inputs,
                    progress: batch.progress.keys().copied().collect(),
                    counted: batch.counts.keys().map(|key| key.0).collect(),
                    trims: batch.trims.keys().copied().collect(),
                });
                return Some(batch);
            }
        }
        None
    }

    /// The batch is in the tables.
    pub fn committed(&mut self, event: Event) {
        // A refusal that may leave now has not left yet.
        self.keep_given_up(Option::is_some);
        let tried = self.tried.take();
        for input in tried.iter().flat_map(|tried| &tried.inputs) {
            if is_request(input) {
                self.alike = 0;
            }
            self.suspects.clear(input);
        }
        self.is_suspended = false;
        // Releases answers, and may have more to be written.
        self.steps.push_front(vec![Input::Event(event)]);
    }

    /// The batch is not in the tables and never will be. The broker is as it was before.
    ///
    /// # Panics
    /// When no batch was on its way.
    pub fn refused(&mut self, broker: &mut Broker, refusal: &Refusal, now: Now) {
        let tried = self
            .tried
            .take()
            .expect("a batch is refused after it was handed out");
        *broker = *tried.before;
        let mut inputs = tried.inputs;
        // Progress that went along with what was to be tried.
        let mut along = tried.progress;
        along.retain(|position| !inputs.iter().any(|input| is_progress_of(input, *position)));
        if refusal.part == "delivery counts" {
            along.retain(|position| tried.counted.contains(position));
        }
        match refusal.part {
            "progress" | "delivery counts" if !along.is_empty() => {
                broker.withhold_progress(&along);
                self.steps.push_front(inputs);
                return self.split_progress(along, refusal);
            }
            "messages trimmed" if !tried.trims.is_empty() => {
                let names = broker.suspend_limits(&tried.trims, now.monotonic + RETRY_AFTER);
                self.steps.push_front(inputs);
                let what = format!("the limits of channel {}", names.join(", "));
                return self.note_refused(what, refusal, false);
            }
            part => {
                if let Some(what) = broker.withhold(part, now.monotonic + RETRY_AFTER) {
                    self.steps.push_front(inputs);
                    return self.note_refused(what, refusal, false);
                }
            }
        }
        if inputs.len() > 1 {
            let is_known = self.alike >= ALIKE_MAX || self.suspects.are_known(&inputs, ALIKE_MAX);
            if is_known && self.is_like_last(refusal) {
                match Alike::sort(inputs) {
                    Alike::Apart { first, others } => {
                        self.steps.push_front(others);
                        self.steps.push_front(first);
                        return;
                    }
                    Alike::All { tried, requests } => {
                        self.steps.push_front(tried);
                        for input in requests {
                            self.give_up(input, refusal, broker, now);
                        }
                        return;
                    }
                    Alike::Unknown(all) => inputs = all,
                }
            }
            let second = inputs.split_off(inputs.len() / 2);
            self.steps.push_front(second);
            self.steps.push_front(inputs);
            return;
        }
        match inputs.pop() {
            Some(input) => self.give_up(input, refusal, broker, now),
            None => self.hopeless = Some(refusal.clone()),
        }
    }

    fn keep_given_up(&mut self, stays: impl Fn(&Option<Subject>) -> bool) {
        self.given_up.retain(|(to, _)| stays(to));
        let requests = self.given_up.iter();
        self.given_up_bytes = requests
            .map(|(_, request)| memory_size::request(request))
            .sum();
    }

    fn is_like_last(&self, refusal: &Refusal) -> bool {
        let last = self.last_refusal.as_ref();
        last.is_some_and(|last| last.is_like(refusal))
    }

    /// One input that cannot be stored by itself.
    fn give_up(&mut self, input: Input, refusal: &Refusal, broker: &mut Broker, now: Now) {
        if is_request(&input) {
            self.alike = if self.is_like_last(refusal) {
                self.alike + 1
            } else {
                1
            };
        }
        self.last_refusal = Some(refusal.clone());
        self.suspects.add(&input);
        let is_everything = self.alike >= ALIKE_MAX;
        match input {
            Input::Event(event @ Event::Committed(_)) => {
                if std::mem::replace(&mut self.is_suspended, true) {
                    self.hopeless = Some(refusal.clone());
                    return;
                }
                broker.suspend_all(now.monotonic + RETRY_AFTER);
                self.steps.push_front(vec![Input::Event(event)]);
                self.note_refused("the limits of all channels".to_owned(), refusal, false);
            }
            Input::Event(Event::Loaded { load, .. }) => {
                let what = broker.refuse_load(load, not_stored(refusal));
                self.note_refused(what, refusal, is_everything);
            }
            Input::Event(Event::Request(request)) => {
                let bytes = self.given_up_bytes + memory_size::request(&request);
                let kept = (bytes <= GIVEN_UP_BYTES).then(|| request.clone());
                let (what, outbound) = refuse(request, refusal);
                let to = outbound.as_ref().and_then(|outbound| match outbound {
                    Outbound::Reply { to, .. } => Some(to.clone()),
                    Outbound::Deliver { .. } | Outbound::Probe { .. } => None,
                });
                if let Some(request) = kept
                    && (to.is_some() || broker.has_batch())
                {
                    self.given_up.push((to, request));
                    self.given_up_bytes = bytes;
                }
                broker.send_refusal(outbound);
                self.note_refused(what, refusal, is_everything);
            }
            // They only lead to reads, and what was refused went along with them. Nobody would make these reads again.
            Input::Event(
                event @ (Event::LoadFailed(_)
                | Event::GoneNoted
                | Event::OutboxNoted
                | Event::PoliciesNoted),
            ) => broker.handle(event, now),
            Input::Event(
                Event::Pong(_)
                | Event::Unreachable(_)
                | Event::NoResponders(_)
                | Event::Reconnected
                | Event::Paused,
            ) => self.note_refused(UNASKED.to_owned(), refusal, is_everything),
            Input::Timers(Timers::All, due) => {
                // One by one, as long as some are due.
                self.steps
                    .push_front(vec![Input::Timers(Timers::First, due)]);
            }
            Input::Timers(Timers::First, due) => {
                let what = broker.defer_first_timer(due, now.monotonic, RETRY_AFTER, refusal);
                if let Some(what) = what {
                    self.note_refused(what, refusal, false);
                }
            }
            Input::Limits(_) => self.note_refused("new limits".to_owned(), refusal, false),
            Input::Progress(positions) => {
                let [position] = positions[..] else {
                    return self.split_progress(positions, refusal);
                };
                let what = broker.defer_progress(position, now.monotonic + RETRY_AFTER);
                self.note_refused(what, refusal, false);
            }
        }
    }

    /// Progress that was refused together is written again in halves.
    fn split_progress(&mut self, mut positions: Vec<PositionId>, refusal: &Refusal) {
        self.last_refusal = Some(refusal.clone());
        if positions.len() > 1 {
            let second = positions.split_off(positions.len() / 2);
            self.steps.push_back(vec![Input::Progress(positions)]);
            self.steps.push_back(vec![Input::Progress(second)]);
        } else {
            self.steps.push_back(vec![Input::Progress(positions)]);
        }
    }

    fn note_refused(&mut self, what: String, refusal: &Refusal, is_everything: bool) {
        let refusal = refusal.clone();
        self.refused.push(RefusedWrite {
            what,
            refusal,
            is_everything,
        });
    }
}

fn is_progress_of(input: &Input, position: PositionId) -> bool {
    matches!(input, Input::Progress(positions) if positions.contains(&position))
}

pub(super) fn is_request(input: &Input) -> bool {
    matches!(input, Input::Event(event) if withheld::is_request(event))
}

/// One, and more as long as there is room. Returns how many.
fn carry_out(broker: &mut Broker, inputs: &[Input], now: Now) -> usize {
    let mut done = 0;
    for input in inputs {
        if done > 0 && !broker.has_capacity() {
            break;
        }
        apply(broker, input, now);
        done += 1;
    }
    done
}

fn apply(broker: &mut Broker, input: &Input, now: Now) {
    match input {
        Input::Event(event) => broker.handle(event.clone(), now),
        Input::Timers(Timers::All, due) => broker.handle_due(*due, now),
        Input::Timers(Timers::First, due) => broker.handle_first_timer(*due, now),
        Input::Limits(limits) => broker.set_limits(limits, now),
        Input::Progress(positions) => broker.write_progress(positions),
    }
}
