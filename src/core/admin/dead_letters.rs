//! Dead letters are published again where they come from. In steps: a page of rows, their messages, one batch that holds
//! what is published and that these letters were redriven by this request. A next term skips those and goes on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytestring::ByteString;

use super::arguments::{Arguments, channel_name};
use super::channel::{deleted_meanwhile, out_of_range};
use super::message::{channel_full, too_large};
use super::settle::range;
use super::{Fact, RequestError, RequestRow, Stage, Step, Underway};
use crate::core::broker::Broker;
use crate::core::ids::{ChannelId, ChannelName, Guid, Sequence};
use crate::core::load::{LoadQuery, Loaded};
use crate::core::loads::Purpose;
use crate::core::message::{Message, encoded_size};
use crate::core::policy::StoredDeadLetter;
use crate::core::retention::Added;

/// Dead letters of one step.
const DEAD_LETTERS_PER_STEP: usize = 256;

/// And bytes of their messages, but for the first.
const BYTES_PER_STEP: usize = 1 << 20;

/// Rows of one page where nothing but counts is wanted.
const ROWS_PER_COUNT: usize = 4096;

/// Channels that are named in the answer.
const NAMED_MAX: usize = 5;

/// How far this term has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Redrive {
    /// All up to here were looked at.
    after: Sequence,
    /// A page of rows whose messages are being read.
    dead_letters: VecDeque<StoredDeadLetter>,
    /// What would be published.
    messages: u64,
    bytes: u64,
    /// Where to.
    to: BTreeMap<ByteString, Added>,
    /// What cannot be published now, and the first reason why.
    left: u64,
    why_left: Option<String>,
}

impl Redrive {
    fn leave(&mut self, why: impl Into<String>) {
        self.left += 1;
        self.why_left.get_or_insert_with(|| why.into());
    }
}

/// Which letters, from where to where.
type Bounds = Option<(Sequence, Sequence)>;

impl Broker {
    pub(super) fn begin_redrive(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
    ) -> Result<Step, RequestError> {
        let name = given.channel()?;
        let bounds = bounds(given)?;
        let to = given.text("to_channel").map(channel_name).transpose()?;
        given.finish()?;
        let id = self.find_channel(&name)?;
        if let Some(to) = &to {
            if *to == name {
                return Err(RequestError::new(
                    format!("{name} is the channel of the dead letters itself"),
                    "Name another channel, or leave it out: each goes back to where it came from.",
                ));
            }
            // A mistyped name would leave all of them.
            self.find_channel(to)?;
        }
        let channel = self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        let begun = row.taken.and_then(|taken| taken.through);
        let last = begun.unwrap_or(channel.committed);
        if let Some((first, through)) = bounds {
            // What limits have dropped since is no mistake of whoever asks for more.
            for sequence in [first, through] {
                if sequence == Sequence::ZERO || sequence > last {
                    return Err(out_of_range(channel, sequence));
                }
            }
        }
        if begun.is_none() && !row.dry_run {
            // What becomes a dead letter from here on is not asked for.
            self.note_underway(Underway {
                through: Some(last),
                ..Underway::default()
            });
        }
        Ok(self.read_letters(row, id, bounds, last))
    }

    fn read_letters(
        &mut self,
        row: &RequestRow,
        id: ChannelId,
        bounds: Bounds,
        last: Sequence,
    ) -> Step {
        let (first, through) = bounds.unwrap_or((Sequence(1), last));
        let rows = if row.dry_run {
            ROWS_PER_COUNT
        } else {
            DEAD_LETTERS_PER_STEP
        };
        let want = LoadQuery::DeadLetters {
            first: first.max(self.admin.redrive.after.next()),
            last: through,
            again: bounds.map(|_| row.id),
            rows,
        };
        self.loads.ask(id, want, Purpose::Request);
        Step::Wait(Stage::DeadLetters(id))
    }

    pub(super) fn letters_read(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
        loaded: Loaded,
    ) -> Result<Step, RequestError> {
        let Loaded::DeadLetters(letters) = loaded else {
            return Ok(Step::Wait(Stage::DeadLetters(id)));
        };
        let Some(last) = letters.last().map(|letter| letter.sequence) else {
            return self.end_redrive(row, given, id);
        };
        if row.dry_run {
            let to = given.text("to_channel");
            for letter in &letters {
                self.count_dead_letter(letter, to);
            }
            self.admin.redrive.after = last;
            return self.next_letters(row, given, id);
        }
        let sequences = letters.iter().map(|letter| letter.sequence).collect();
        self.admin.redrive.dead_letters = letters.into();
        let want = LoadQuery::Exactly {
            sequences,
            bytes: BYTES_PER_STEP,
        };
        self.loads.ask(id, want, Purpose::Request);
        Ok(Step::Wait(Stage::LettersMessages(id)))
    }

    pub(super) fn letters_messages_read(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
        loaded: Loaded,
    ) -> Result<Step, RequestError> {
        let Loaded::Messages {
            messages, through, ..
        } = loaded
        else {
            return Ok(Step::Wait(Stage::LettersMessages(id)));
        };
        self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        let to = given.text("to_channel");
        let before = self.admin.taken.front().and_then(|row| row.taken);
        let mut underway = before.unwrap_or_default();
        let mut messages = messages.into_iter().peekable();
        while let Some(letter) = self.admin.redrive.dead_letters.pop_front() {
            if letter.sequence > through {
                // It did not fit, and neither did those behind it.
                break;
            }
            self.admin.redrive.after = letter.sequence;
            while messages
                .next_if(|it| it.sequence < letter.sequence)
                .is_some()
            {}
            let Some(message) = messages.next_if(|it| it.sequence == letter.sequence) else {
                let why = format!("message {} cannot be read", letter.sequence);
                self.admin.redrive.leave(why);
                continue;
            };
            if self.redrive_dead_letter(row, &letter, &message, to) {
                self.commits.note_redriven(id, letter.sequence, row.id);
                underway.messages += 1;
                underway.bytes += letter.bytes;
            }
        }
        self.admin.redrive.dead_letters.clear();
        self.note_underway(underway);
        self.next_letters(row, given, id)
    }

    fn next_letters(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
    ) -> Result<Step, RequestError> {
        let bounds = bounds(given)?;
        let taken = self.admin.taken.front().and_then(|row| row.taken);
        let through = taken.and_then(|taken| taken.through);
        let last = self.channels.get(id).map(|channel| channel.committed);
        let last = through.or(last).ok_or_else(deleted_meanwhile)?;
        Ok(self.read_letters(row, id, bounds, last))
    }

    /// True when it is published.
    fn redrive_dead_letter(
        &mut self,
        row: &RequestRow,
        letter: &StoredDeadLetter,
        message: &Arc<Message>,
        to: Option<&str>,
    ) -> bool {
        let bytes = message.data.len();
        let (to, target) = match self.target_of(letter, bytes, to) {
            Ok(target) => target,
            Err(why) => {
                self.admin.redrive.leave(why);
                return false;
            }
        };
        let guid = format!("redriven-{}-{}", row.id.0, letter.sequence);
        let guid = Guid::parse(guid.into()).expect("it is not empty");
        let (client, data) = (message.client_id.clone(), message.data.clone());
        let reply = letter.reply.clone();
        if self.append_message(&to, client, guid, reply, data).is_err() {
            self.admin.redrive.leave(channel_full(&to).error);
            return false;
        }
        self.enforce_limits(target);
        true
    }

    /// What would become of it, after those before it.
    fn count_dead_letter(&mut self, letter: &StoredDeadLetter, to: Option<&str>) {
        let bytes = usize::try_from(letter.bytes).unwrap_or(usize::MAX);
        let target = self.target_of(letter, bytes, to);
        let now = self.now.wall;
        let redrive = &mut self.admin.redrive;
        match target {
            Ok((to, id)) => {
                let last = self
                    .channels
                    .get(id)
                    .map(|channel| channel.row.last_sequence);
                let (to, reply) = (to.as_str(), letter.reply.len());
                let size = encoded_size(last.unwrap_or_default(), now, to.len(), reply, bytes);
                redrive.messages += 1;
                redrive.bytes += letter.bytes;
                let added = redrive.to.entry(to.into()).or_default();
                added.messages += 1;
                added.bytes += size;
            }
            Err(why) => redrive.leave(why),
        }
    }

    /// The channel that the letter goes to, or why it goes nowhere. One that is gone is not created again: that may be what
    /// its messages died of.
    fn target_of(
        &mut self,
        letter: &StoredDeadLetter,
        bytes: usize,
        to: Option<&str>,
    ) -> Result<(ChannelName, ChannelId), String> {
        let name = to.unwrap_or(&letter.origin);
        let name = channel_name(name).map_err(|error| error.error)?;
        let id = self.find_channel(&name).map_err(|error| error.error)?;
        // In a dry run, what would have been published there before.
        let added = self.admin.redrive.to.get(name.as_str()).copied();
        if self.is_full_beside(id, added.unwrap_or_default()) {
            return Err(channel_full(&name).error);
        }
        self.fits_once_stored(&name, &letter.reply, bytes)
            .map_err(|why| too_large(letter.sequence, &name, why))?;
        Ok((name, id))
    }

    fn end_redrive(
        &mut self,
        row: &RequestRow,
        given: &mut Arguments<'_>,
        id: ChannelId,
    ) -> Result<Step, RequestError> {
        let channel = self.channels.get(id).ok_or_else(deleted_meanwhile)?;
        let name = channel.row.name.clone();
        let taken = self.admin.taken.front().and_then(|row| row.taken);
        let redrive = std::mem::take(&mut self.admin.redrive);
        let (messages, bytes) = if row.dry_run {
            (redrive.messages, redrive.bytes)
        } else {
            let taken = taken.unwrap_or_default();
            (taken.messages, taken.bytes)
        };
        if messages == 0
            && redrive.left == 0
            && let Some((first, last)) = bounds(given)?
        {
            let which = if first == last {
                format!("message {first} of channel {name} is no dead letter")
            } else {
                format!("of messages {first} to {last} of channel {name} none is a dead letter")
            };
            return Err(RequestError::new(
                which,
                "`dlq list` and view dead_letter_status list those that are.",
            ));
        }
        let mut facts = vec![
            ("channel", name.as_str().into()),
            ("messages", messages.into()),
            ("bytes", bytes.into()),
            ("left", redrive.left.into()),
            (
                "why_left",
                redrive.why_left.map_or(Fact::Nothing, Fact::Text),
            ),
        ];
        if row.dry_run {
            facts.push(("to_channels", named(&redrive.to)));
        }
        Ok(Step::Done(facts))
    }
}

/// Those that are named, or (`None`) all that were never redriven.
fn bounds(given: &mut Arguments<'_>) -> Result<Bounds, RequestError> {
    let names = ["sequence", "first", "last"];
    let is_given = names.into_iter().any(|name| given.text(name).is_some());
    if is_given {
        range(given).map(Some)
    } else {
        Ok(None)
    }
}

/// `orders (3), billing (2)`
fn named(to: &BTreeMap<ByteString, Added>) -> Fact {
    let named = to.iter().take(NAMED_MAX);
    let named = named.map(|(name, added)| format!("{name} ({})", added.messages));
    let mut named = named.collect::<Vec<_>>().join(", ");
    if to.len() > NAMED_MAX {
        named = format!("{named} and {} more", to.len() - NAMED_MAX);
    }
    Fact::Text(named)
}
