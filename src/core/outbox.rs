//! What applications publish in transactions of their own: rows of a table, which this term reads, carries out like
//! requests of clients, and takes from the table in the transaction that stores their messages. So each is published
//! once, whatever ends when.
//!
//! One page at a time: the next is read when the rows of the one before are gone from the table, so that no row can be
//! read twice. While rows come the table is looked at every [`BUSY_PAUSE`], later every [`IDLE_PAUSE`], and not at all
//! while nobody has ever used it (but where transactions can be prepared: those cannot notify).
//!
//! Nothing here is a cursor: a transaction that began early and commits late has low numbers. What a read passes over is
//! proven: see `scan_ranges`.
//!
//! What is acked in SQL (`sql_acks`) is read by the same statement, and rows of either table are gone before the next one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;

use super::broker::Broker;
use super::deadlines::Timer;
use super::deliverable::TooLarge;
use super::ids::{ChannelId, ChannelName, ClientId, Guid, PositionId};
use super::load::LoadQuery;
use super::loads::Purpose;
use super::scan_ranges::{ScanRanges, ScannedPage};
use super::sql_acks::{AckId, AckRow, SqlAcks};
use super::time::{Instant, Timestamp};

mod refused_rows;

use refused_rows::reason;

/// Between two looks while rows come.
pub const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Between two looks when nothing has come for a while.
pub const IDLE_PAUSE: Duration = Duration::from_millis(50);

/// The table is read from its beginning at least so often.
const RESCAN_EVERY: Duration = Duration::from_secs(10);

/// The most bytes of one page. Rows that wait for a batch take up no more than this and one row.
const PAGE_ROWS: usize = 4096;
const PAGE_BYTES: usize = 4 << 20;

/// A page with so many rows was worth its read: the next one follows without a pause.
const MANY_ROWS: usize = 256;

/// Rows that are carried out in one turn.
const ROWS_PER_TURN: usize = 512;

/// While so many rows are put off, no others are read. Each read names them.
const PUT_OFF_MAX: usize = 8192;

/// Number of a row of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxId(pub u64);

/// A message that somebody publishes in SQL, as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    pub id: OutboxId,
    pub guid: ByteString,
    pub channel: ByteString,
    pub reply: ByteString,
    /// Who was logged in.
    pub publisher: ByteString,
    /// Or how many bytes there are, when those are more than the read was to bring.
    pub data: Result<Bytes, u64>,
}

/// What a read has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxPage {
    /// Somebody has used the outbox, ever.
    pub is_used: bool,
    /// In the order in which they are to be published.
    pub rows: Vec<OutboxRow>,
    /// The lowest and the highest of those without a time.
    pub now: Option<(OutboxId, OutboxId)>,
    /// The rows without a time are all that there were where the read asked, or those up to this one.
    pub through: Option<OutboxId>,
    /// Acks in SQL, in the order of their numbers.
    pub acks: Vec<AckRow>,
    /// These are all that there were where the read asked, or those up to this one.
    pub acks_through: Option<AckId>,
    /// When the next row is due that waits for its time.
    pub next_due: Option<Timestamp>,
    /// Every transaction before this one had ended when the page was read, and each from `next` on began later.
    pub ended_before: u64,
    pub next: u64,
    /// Every transaction before this one that has acked in SQL had ended when the page was read. As `ended_before` where the read
    /// was not to settle that.
    pub acks_ended_before: u64,
}

/// What a batch does about the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboxChange {
    /// Their messages are in the batch.
    pub taken: Vec<OutboxId>,
    /// They cannot be stored, and why.
    pub refused: Vec<(OutboxId, String)>,
    /// Messages that are put back after a failover, whose rows may be back, too.
    pub put_back: Vec<Guid>,
    /// Acks that the position covers as the batch leaves it.
    pub acked: Vec<(PositionId, AckId)>,
    /// Negative acks, and those of positions that there are no more.
    pub acks_dropped: Vec<AckId>,
}

impl OutboxChange {
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
            && self.refused.is_empty()
            && self.put_back.is_empty()
            && self.acked.is_empty()
            && self.acks_dropped.is_empty()
    }
}

/// What is asked for and not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reading {
    #[default]
    Nothing,
    AcksAlone,
    All,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    is_used: bool,
    reading: Reading,
    /// It may have been used since the read under way saw it.
    is_noted: bool,
    waiting: VecDeque<OutboxRow>,
    pub(super) acks: SqlAcks,
    unread: ScanRanges,
    rescanned_at: Option<Instant>,
    pub(super) pause: Duration,
    /// Rows of the last page.
    last_page: usize,
    /// Rows that Postgres does not let go of, up to [`PUT_OFF_MAX`] and one turn, and when each is tried again.
    put_off: BTreeMap<OutboxId, Instant>,
    /// Rows that are carried out in one turn are halved so often, for Postgres refuses to store them all.
    halvings: u32,
}

impl Outbox {
    fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.acks.waiting.is_empty()
    }

    fn rows_per_turn(&self) -> usize {
        (ROWS_PER_TURN >> self.halvings).max(1)
    }
}

impl Broker {
    /// Somebody has published, or may have for the first time.
    pub(super) fn outbox_noted(&mut self) {
        self.outbox.is_noted = true;
        self.outbox.pause = BUSY_PAUSE;
        self.deadlines.set_by(Timer::Outbox, self.now.monotonic);
    }

    /// It may be time to read the outbox, or to carry out what was read.
    pub(super) fn turn_to_outbox(&mut self) {
        if self.is_draining {
            return;
        }
        if !self.outbox.has_waiting() {
            return self.read_outbox();
        }
        self.carry_out_sql_acks();
        for _ in 0..self.outbox.rows_per_turn() {
            if !self.has_capacity() {
                break;
            }
            let Some(row) = self.outbox.waiting.pop_front() else {
                break;
            };
            self.take_row(row);
        }
        if self.outbox.has_waiting() {
            // A commit of these rows may make room earlier; others, and answers that leave, do not tell.
            let pause = if self.has_capacity() {
                Duration::ZERO
            } else {
                BUSY_PAUSE
            };
            let again = self.now.monotonic + pause;
            self.deadlines.set_by(Timer::Outbox, again);
        } else if !self.commits.changes_outbox() {
            // None of the rows led to anything: no commit says when to look again.
            self.look_again_later(None);
        }
    }

    fn read_outbox(&mut self) {
        if self.outbox.reading != Reading::Nothing || self.commits.changes_outbox() {
            return;
        }
        let now = self.now.monotonic;
        let put_off = &mut self.outbox.put_off;
        put_off.retain(|_, until| *until > now);
        let has_place = put_off.len() < PUT_OFF_MAX;
        let put_off = put_off.keys().copied().collect();
        let rescanned_at = self.outbox.rescanned_at;
        if has_place && rescanned_at.is_none_or(|at| now.since(at) >= RESCAN_EVERY) {
            self.outbox.rescanned_at = Some(now);
            self.outbox.unread.rescan();
        }
        if self.outbox.acks.giving_up.ask() {
            self.outbox.acks.read_all();
        }
        self.outbox.reading = if has_place {
            Reading::All
        } else {
            Reading::AcksAlone
        };
        self.outbox.is_noted = false;
        let want = LoadQuery::Outbox {
            gaps: if has_place {
                self.outbox.unread.gaps()
            } else {
                Vec::new()
            },
            ack_gaps: self.outbox.acks.gaps(now),
            due: if has_place {
                self.now.wall
            } else {
                Timestamp(0)
            },
            put_off,
            rows: PAGE_ROWS,
            bytes: PAGE_BYTES,
            payload_bytes: self.settings.limits.payload_bytes,
            settles: self.outbox.acks.giving_up.waits(),
        };
        self.loads.ask(ChannelId(0), want, Purpose::Outbox);
    }

    pub(super) fn outbox_loaded(&mut self, mut page: OutboxPage) {
        self.learn_who_can_ack(&page);
        let outbox = &mut self.outbox;
        let reads_rows = std::mem::take(&mut outbox.reading) == Reading::All;
        outbox.is_used |= page.is_used;
        if reads_rows {
            outbox.unread.observe(&ScannedPage {
                ids: page.rows.iter().map(|row| row.id.0).collect(),
                lowest: page.now.map(|(lowest, _)| lowest.0),
                highest: page.now.map(|(_, highest)| highest.0),
                through: page.through.map(|through| through.0),
                ended_before: page.ended_before,
                next: page.next,
            });
        }
        outbox.acks.unread.observe(&ScannedPage {
            ids: page.acks.iter().map(|row| row.id.0).collect(),
            // Acks that came too early stay in the table, and are read again.
            lowest: None,
            highest: page.acks.last().map(|row| row.id.0),
            through: page.acks_through.map(|through| through.0),
            ended_before: page.ended_before,
            next: page.next,
        });
        // A rescan finds them, too.
        page.rows
            .retain(|row| !outbox.put_off.contains_key(&row.id));
        outbox.last_page = page.rows.len() + page.acks.len();
        let now = self.now.monotonic;
        if outbox.last_page > 0 {
            outbox.pause = BUSY_PAUSE;
            outbox.waiting.extend(page.rows);
            outbox.acks.waiting.extend(page.acks);
            return self.deadlines.set_by(Timer::Outbox, now);
        }
        if outbox.is_noted {
            return self.deadlines.set_by(Timer::Outbox, now);
        }
        if outbox.is_used || outbox.acks.giving_up.waits() {
            let next_due = page.next_due.filter(|_| reads_rows);
            self.look_again_later(next_due);
        }
    }

    fn look_again_later(&mut self, due: Option<Timestamp>) {
        let now = self.now;
        let due = due.map(|due| due.since(now.wall));
        let pause = self.outbox.pause.max(BUSY_PAUSE);
        self.outbox.pause = (2 * pause).min(IDLE_PAUSE);
        let pause = due.map_or(pause, |due| due.min(pause));
        self.deadlines.set_by(Timer::Outbox, now.monotonic + pause);
    }

    /// A batch is in the tables.
    pub(super) fn outbox_committed(&mut self) {
        let outbox = &mut self.outbox;
        outbox.halvings = outbox.halvings.saturating_sub(1);
        let is_wanted = outbox.is_used || outbox.is_noted || outbox.acks.giving_up.waits();
        if !is_wanted && !outbox.has_waiting() {
            return;
        }
        let is_behind = outbox.last_page >= MANY_ROWS || outbox.has_waiting();
        let pause = if is_behind || outbox.is_noted {
            Duration::ZERO
        } else {
            BUSY_PAUSE
        };
        self.deadlines
            .set_by(Timer::Outbox, self.now.monotonic + pause);
    }

    fn take_row(&mut self, row: OutboxRow) {
        let (id, channel) = (row.id, row.channel.clone());
        match self.publish_row(row) {
            Ok(()) => {
                self.traffic.sql_published += 1;
                self.commits.take_from_outbox(id);
            }
            Err(why) => self.refuse_row(id, &channel, why),
        }
    }

    fn publish_row(&mut self, row: OutboxRow) -> Result<(), String> {
        let channel = ChannelName::parse(row.channel)
            .ok_or("its channel has no valid name: 1 to 1024 bytes without / * >, no empty part")?;
        let partition = self.settings.partition.as_ref();
        if partition.is_some_and(|partition| !partition.contains(&channel)) {
            return Err(
                "another group of servers serves its channel: publish in the schema of that group"
                    .to_owned(),
            );
        }
        let guid = Guid::parse(row.guid).ok_or("its guid is empty")?;
        let most = self.settings.limits.payload_bytes;
        let data = row
            .data
            .map_err(|bytes| TooLarge::payload(bytes, most).to_string())?;
        self.fits_once_stored(&channel, &row.reply, data.len())
            .map_err(|too_large| too_large.to_string())?;
        let publisher = publisher_name(&row.publisher);
        self.traffic.in_messages += 1;
        self.traffic.in_bytes += (data.len() + row.reply.len()) as u64;
        let appended = self.append_message(&channel, publisher, guid, row.reply, data);
        let id = appended.map_err(|rejection| reason(&rejection))?;
        self.enforce_limits(id);
        Ok(())
    }
}

/// The role, as far as it can be the name of a client.
fn publisher_name(role: &str) -> ClientId {
    let allowed = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = role.chars().map(allowed).take(63).collect();
    let sql = || ClientId::parse("sql".into()).expect("it is a valid name");
    ClientId::parse(name.into()).unwrap_or_else(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_with_any_name_publish_under_one_that_clients_may_have() {
        assert_eq!(publisher_name("billing app").as_str(), "billing_app");
        assert_eq!(publisher_name("").as_str(), "sql");
    }
}
