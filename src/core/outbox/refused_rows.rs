//! Rows of the outbox that cannot be published: they leave it with the reason, or stay until Postgres lets go of them.

use std::time::Duration;

use bytestring::ByteString;

use super::{OutboxId, PAGE_ROWS};
use crate::core::broker::Broker;
use crate::core::deadlines::Timer;
use crate::core::notice::Notice;
use crate::core::refusal::{self, Refusal};
use crate::core::rejection::Rejection;
use crate::core::savepoint::RETRY_AFTER;
use crate::core::time::Instant;

/// Between two halves that are tried again: longer than until the next rescan, which would bring them together.
const APART: Duration = Duration::from_secs(15);

impl Broker {
    pub(super) fn refuse_row(&mut self, id: OutboxId, channel: &ByteString, why: String) {
        self.traffic.sql_refused += 1;
        let mut channel = channel.to_string();
        channel.truncate(channel.floor_char_boundary(100));
        self.notices.push_back(Notice::SqlRefused {
            id,
            channel,
            why: why.clone(),
        });
        // Where somebody has it locked it stays, and one that is due is in every page. What is retried has a new number.
        if self.outbox.put_off.len() < PAGE_ROWS {
            let until = self.now.monotonic + RETRY_AFTER;
            self.outbox.put_off.insert(id, until);
        }
        self.commits.refuse_from_outbox(id, why);
    }

    /// Postgres refuses to store what the last turn carried out: fewer rows are tried, and at last the one that it is
    /// about is refused. One that Postgres does not let go of, or refuses for what passes, stays in the table and is tried
    /// again. Says whose it was.
    pub(in crate::core) fn refuse_outbox(
        &mut self,
        refusal: &Refusal,
        retry_at: Instant,
    ) -> Option<String> {
        let now = self.now.monotonic;
        if self.outbox.waiting.is_empty() {
            self.deadlines.set_by(Timer::Outbox, retry_at);
            return Some("a look into the outbox".to_owned());
        }
        if refusal.part == "acks in SQL" {
            // No row of the outbox is to blame. All wait, and nothing is read meanwhile.
            self.deadlines.set_by(Timer::Outbox, retry_at);
            return Some(refusal.part.to_owned());
        }
        self.deadlines.set_by(Timer::Outbox, now);
        let stays = refusal.part == "outbox" || refusal::passes(&refusal.sqlstate);
        if stays && refusal::waits_for_others(&refusal.sqlstate) {
            // Each attempt at a locked row keeps everybody waiting.
            // They come back in halves, so that the others of its turn are not tried with it for ever.
            let tried = self.outbox.rows_per_turn().min(self.outbox.waiting.len());
            let rows = self.outbox.waiting.drain(..tried).map(|row| row.id);
            let rows = rows.enumerate().map(|(at, id)| {
                let is_first = 2 * at < tried;
                (id, if is_first { retry_at } else { retry_at + APART })
            });
            self.outbox.put_off.extend(rows);
            return Some(format!("{tried} publishes in SQL"));
        }
        while self.outbox.rows_per_turn() > 1 {
            self.outbox.halvings += 1;
            if self.outbox.rows_per_turn() < self.outbox.waiting.len() {
                return None;
            }
        }
        let row = self.outbox.waiting.pop_front()?;
        let what = format!("a publish in SQL to channel {}", row.channel);
        if stays {
            self.outbox.put_off.insert(row.id, retry_at);
        } else {
            self.refuse_row(row.id, &row.channel, refusal.to_string());
        }
        Some(what)
    }

    /// Rows whose refusal was to go with the next batch stay in the table until then. `None` where there are none.
    pub(in crate::core) fn put_off_refused_rows(&mut self, until: Instant) -> Option<String> {
        let rows = self.commits.forget_refused_rows();
        let count = rows.len();
        self.outbox
            .put_off
            .extend(rows.into_iter().map(|id| (id, until)));
        (count > 0).then(|| format!("the refusal of {count} publishes in SQL"))
    }
}

pub(super) fn reason(rejection: &Rejection) -> String {
    match rejection {
        Rejection::CaseClash { name, existing } => {
            format!("channel {name} differs from channel {existing} only in the case of letters")
        }
        Rejection::TooManyChannels => {
            "its channel is not there, and there are as many as --max-channels allows".to_owned()
        }
        Rejection::NotStored(why) => why.to_string(),
        Rejection::ChannelFull => {
            "its channel is full, and a policy keeps what is in it".to_owned()
        }
        other @ (Rejection::InvalidConnectRequest
        | Rejection::InvalidClientId
        | Rejection::ClientRegistered
        | Rejection::InvalidPublish
        | Rejection::InvalidSubscribe
        | Rejection::ClientIdMissing
        | Rejection::InvalidAckWait
        | Rejection::InvalidMaxInFlight
        | Rejection::InvalidStartPosition
        | Rejection::InvalidChannel
        | Rejection::UnknownClient
        | Rejection::InvalidDurableName
        | Rejection::DuplicateDurable
        | Rejection::InvalidLeave
        | Rejection::UnknownChannel
        | Rejection::UnknownSubscription
        | Rejection::InvalidClose
        | Rejection::ClientReplaced
        | Rejection::TooManyConnects
        | Rejection::TooManyClients
        | Rejection::TooManySubscriptions
        | Rejection::TooMuchWaits) => format!("{other:?}"),
    }
}
