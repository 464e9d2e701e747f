//! What operators ask for: rows of a table, which this term reads, carries out between the requests of clients in the
//! order of their numbers, and answers in the transaction that stores what they have changed. So each is carried out
//! once or not at all, whatever ends when.
//!
//! A row waits, is taken (a batch of its own, so that whoever waits in vain can take it back until then), is under way
//! where it takes many batches, and is done or refused. What is under way says in the table how far it has come: a next
//! term goes on from there. One is carried out at a time, in steps that leave the others their turns.
//!
//! | words | decided in |
//! |---|---|
//! | `channel create`, `channel purge`, `channel delete`; `channel limits` | `channel`; `limits` |
//! | `message republish`, `message delete` | `message` |
//! | `dlq redrive` | `dead_letters` |
//! | `durable seek`, `pause`, `resume`, `ack`, `skip`, `remove` | `durable`, `settle` |
//! | `client kick`, `step-down` | `client` |

mod arguments;
mod channel;
mod client;
mod dead_letters;
mod durable;
mod limits;
mod message;
mod settle;

use std::collections::VecDeque;
use std::time::Duration;

use bytestring::ByteString;

use self::arguments::Arguments;
use self::dead_letters::Redrive;
use self::durable::Found;
use super::broker::Broker;
use super::deadlines::Timer;
use super::ids::{ChannelId, PositionId, Sequence};
use super::load::{Load, LoadQuery, Loaded};
use super::loads::Purpose;
use super::notice::Notice;
use super::time::Instant;

/// Between two looks while requests come.
pub const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Between two looks when nothing has come for a while.
pub const IDLE_PAUSE: Duration = Duration::from_millis(100);

/// Rows of one page.
const PAGE_ROWS: usize = 64;

/// The step after this one comes in the next turn of the loop.
const NEXT_TURN: Duration = Duration::from_nanos(1);

/// Number of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    pub id: RequestId,
    /// As the command line has it: `channel purge`.
    pub verb: ByteString,
    pub arguments: Vec<(ByteString, ByteString)>,
    /// Only say what it would do.
    pub dry_run: bool,
    /// A server has taken it, and how far it has come; `None`: it waits.
    pub taken: Option<Underway>,
}

/// How far a request has come that takes many batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Underway {
    /// What was decided when it began: the last sequence that it is about.
    pub through: Option<Sequence>,
    /// What is done so far.
    pub messages: u64,
    pub bytes: u64,
}

/// What a read has found: those that are not answered, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestPage {
    /// Somebody has asked for something, ever.
    pub is_used: bool,
    pub rows: Vec<RequestRow>,
}

/// What a batch changes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestChange {
    Taken,
    Underway(Underway),
    Done(Facts),
    Refused(RequestError),
}

/// What was done, or would be.
pub type Facts = Vec<(&'static str, Fact)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    Number(u64),
    Text(String),
    Flag(bool),
    Nothing,
}

impl From<u64> for Fact {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Fact {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<Sequence> for Fact {
    fn from(sequence: Sequence) -> Self {
        Self::Number(sequence.0)
    }
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<bool> for Fact {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Why a request is refused, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    pub error: String,
    /// A sentence.
    pub hint: String,
}

impl RequestError {
    fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            hint: hint.into(),
        }
    }
}

/// Where a request stands after a step.
enum Step {
    Done(Facts),
    /// Something has been asked for, or a commit will tell: that calls again.
    Wait(Stage),
    /// There is more to do, after others have had their turn.
    GoOn(Stage),
}

/// What a request is about to do next.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// A read is to tell where a time begins.
    Since(Committed),
    /// Limits drop what the channel is to lose.
    Purge(ChannelId),
    /// Subscriptions of the channel are being closed.
    Delete(ChannelId),
    /// The messages are being read.
    Read(ChannelId),
    /// Rows of dead letters of the channel are being read, and then their messages.
    DeadLetters(ChannelId),
    LettersMessages(ChannelId),
    /// Messages are being settled, from this sequence on.
    Settle(Found, Sequence),
    /// Members of the group are being closed.
    Remove(PositionId),
}

/// What the channel had committed when a read was asked for.
type Committed = Sequence;

#[derive(Clone, Debug, Default)]
pub(super) struct Admin {
    is_used: bool,
    /// A read is asked for and not answered.
    is_reading: bool,
    /// Somebody may have asked since the read under way saw the table.
    is_noted: bool,
    /// To be taken.
    found: Vec<RequestId>,
    /// Taken, in their order. The first one is carried out.
    taken: VecDeque<RequestRow>,
    stage: Option<Stage>,
    answer: Option<(Load, Loaded)>,
    /// How far this term has come with the dead letters of the request under way.
    redrive: Redrive,
    pause: Duration,
    /// The term is to end as soon as what was answered is stored, and then that it is.
    steps_down: Option<bool>,
}

impl Broker {
    /// Somebody asks for something, or may have for the first time.
    pub(super) fn requests_noted(&mut self) {
        self.admin.is_noted = true;
        self.admin.pause = BUSY_PAUSE;
        self.look_at_requests(Duration::ZERO);
    }

    fn look_at_requests(&mut self, after: Duration) {
        let at = self.now.monotonic + after;
        self.deadlines.set_by(Timer::Requests, at);
    }

    /// It may be time to read requests, or to carry out what was read.
    pub(super) fn turn_to_requests(&mut self) {
        if self.is_draining {
            return;
        }
        let found = std::mem::take(&mut self.admin.found);
        let takes = !found.is_empty();
        for id in found {
            self.commits.answer_request(id, RequestChange::Taken);
        }
        if self.admin.taken.is_empty() {
            if !takes {
                self.read_requests();
            }
        } else if self.has_capacity() {
            self.carry_out_request();
        } else {
            self.look_at_requests(BUSY_PAUSE);
        }
    }

    fn read_requests(&mut self) {
        if self.admin.is_reading || self.commits.changes_requests() {
            return;
        }
        self.admin.is_reading = true;
        self.admin.is_noted = false;
        let want = LoadQuery::Requests { rows: PAGE_ROWS };
        self.loads.ask(ChannelId(0), want, Purpose::Requests);
    }

    pub(super) fn requests_loaded(&mut self, page: RequestPage) {
        let admin = &mut self.admin;
        admin.is_reading = false;
        admin.is_used |= page.is_used;
        if !page.rows.is_empty() {
            admin.pause = BUSY_PAUSE;
            for row in page.rows {
                if row.taken.is_some() {
                    admin.taken.push_back(row);
                } else {
                    admin.found.push(row.id);
                }
            }
            return self.look_at_requests(Duration::ZERO);
        }
        if admin.is_noted {
            return self.look_at_requests(Duration::ZERO);
        }
        if !admin.is_used {
            return;
        }
        let pause = admin.pause.max(BUSY_PAUSE);
        admin.pause = (2 * pause).min(IDLE_PAUSE);
        self.look_at_requests(pause);
    }

    /// A batch that changed requests is in the tables.
    pub(super) fn requests_committed(&mut self) {
        if self.admin.steps_down.is_some() {
            self.admin.steps_down = Some(true);
        }
        self.look_at_requests(Duration::ZERO);
    }

    /// True once an operator has asked for the end of this term, and has the answer.
    pub fn steps_down(&self) -> bool {
        self.admin.steps_down == Some(true)
    }

    /// Some are under way.
    pub(super) fn has_requests(&self) -> bool {
        !self.admin.taken.is_empty()
    }

    /// A read that the request under way waits for.
    pub(super) fn request_answered(&mut self, asked: Load, loaded: Loaded) {
        self.admin.answer = Some((asked, loaded));
        self.look_at_requests(Duration::ZERO);
    }

    /// Something has happened that the request under way may wait for.
    pub(super) fn request_may_go_on(&mut self) {
        if self.admin.stage.is_some() {
            self.look_at_requests(NEXT_TURN);
        }
    }

    fn carry_out_request(&mut self) {
        let Some(row) = self.admin.taken.front().cloned() else {
            return;
        };
        let step = match self.admin.stage.take() {
            None => self.begin_request(&row),
            Some(stage) => self.go_on(&row, stage),
        };
        match step {
            Ok(Step::Wait(stage)) => self.admin.stage = Some(stage),
            Ok(Step::GoOn(stage)) => {
                self.admin.stage = Some(stage);
                self.look_at_requests(NEXT_TURN);
            }
            Ok(Step::Done(facts)) => self.end_request(RequestChange::Done(facts)),
            Err(error) => self.end_request(RequestChange::Refused(error)),
        }
    }

    fn end_request(&mut self, change: RequestChange) {
        let Some(row) = self.admin.taken.pop_front() else {
            return;
        };
        self.admin.stage = None;
        self.admin.answer = None;
        self.admin.redrive = Redrive::default();
        let refused = match &change {
            RequestChange::Refused(error) => Some(error.error.clone()),
            RequestChange::Taken | RequestChange::Underway(_) | RequestChange::Done(_) => None,
        };
        self.notices.push_back(Notice::RequestAnswered {
            id: row.id,
            verb: shortened(&row.verb),
            dry_run: row.dry_run,
            refused,
        });
        self.commits.answer_request(row.id, change);
        if !self.admin.taken.is_empty() {
            self.look_at_requests(NEXT_TURN);
        }
    }

    fn begin_request(&mut self, row: &RequestRow) -> Result<Step, RequestError> {
        let mut arguments = Arguments::new(&row.arguments);
        let given = &mut arguments;
        match &*row.verb {
            "channel create" => self.create_channel(row, given),
            "channel limits" => self.change_limits(row, given),
            "channel purge" => self.begin_purge(row, given),
            "channel delete" => self.begin_delete(row, given),
            "message republish" | "message delete" => self.read_messages(row, given),
            "dlq redrive" => self.begin_redrive(row, given),
            "durable seek" => self.begin_seek(row, given),
            "durable pause" => self.pause(row, given, true),
            "durable resume" => self.pause(row, given, false),
            "durable ack" => self.ack_for(row, given),
            "durable skip" => self.begin_skip(row, given),
            "durable remove" => self.begin_remove(row, given),
            "client kick" => self.kick(row, given),
            "step-down" => self.step_down(row, given),
            other => Err(arguments::unknown_verb(other)),
        }
    }

    fn go_on(&mut self, row: &RequestRow, stage: Stage) -> Result<Step, RequestError> {
        let mut arguments = Arguments::new(&row.arguments);
        match stage {
            Stage::Since(committed) => {
                let Some((asked, loaded)) = self.admin.answer.take() else {
                    return Ok(Step::Wait(Stage::Since(committed)));
                };
                let Loaded::FirstSince { first, hole } = loaded else {
                    return Ok(Step::Wait(Stage::Since(committed)));
                };
                let first = self.first_found(&asked, first, hole, committed);
                let before = first.map_or(committed, Sequence::previous);
                match &*row.verb {
                    "channel purge" => self.purge_through(row, asked.channel, before),
                    "channel limits" => {
                        self.limits_since(row, &mut arguments, asked.channel, before)
                    }
                    _ => self.seek_since(row, &mut arguments, asked.channel, first),
                }
            }
            Stage::Purge(channel) => self.look_at_purge(row, channel),
            Stage::Delete(channel) => self.go_on_deleting(row, channel),
            Stage::Read(channel) => match self.admin.answer.take() {
                Some((_, loaded)) => self.messages_read(row, &mut arguments, channel, loaded),
                None => Ok(Step::Wait(Stage::Read(channel))),
            },
            Stage::DeadLetters(channel) => match self.admin.answer.take() {
                Some((_, loaded)) => self.letters_read(row, &mut arguments, channel, loaded),
                None => Ok(Step::Wait(Stage::DeadLetters(channel))),
            },
            Stage::LettersMessages(channel) => match self.admin.answer.take() {
                Some((_, loaded)) => {
                    self.letters_messages_read(row, &mut arguments, channel, loaded)
                }
                None => Ok(Step::Wait(Stage::LettersMessages(channel))),
            },
            Stage::Settle(found, from) => self.go_on_settling(&mut arguments, &found, from),
            Stage::Remove(position) => Ok(self.go_on_removing(position)),
        }
    }

    /// How far the request under way has come, as a next term should know it.
    fn note_underway(&mut self, underway: Underway) {
        if let Some(row) = self.admin.taken.front_mut() {
            row.taken = Some(underway);
            let change = RequestChange::Underway(underway);
            self.commits.answer_request(row.id, change);
        }
    }

    /// Postgres refuses to store what the last step has done: the request is refused. Says whose it was.
    pub(super) fn refuse_request(&mut self, why: &str, retry_at: Instant) -> String {
        let Some(row) = self.admin.taken.front() else {
            self.admin.found.clear();
            self.deadlines.set(Timer::Requests, retry_at);
            return "a look for requests of operators".to_owned();
        };
        let what = format!("{} (request {})", shortened(&row.verb), row.id.0);
        let hint = "Nothing of this step is stored; the log of the server and `stanby doctor` say what is wrong.";
        self.end_request(RequestChange::Refused(RequestError::new(why, hint)));
        self.look_at_requests(Duration::ZERO);
        what
    }
}

/// As much of it as a log line or an error should show.
fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(100)].to_owned()
}
