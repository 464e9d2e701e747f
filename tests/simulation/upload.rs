//! What goes to the database takes time by its bytes, where the link is narrow. A large batch goes in pieces, as the server
//! sends it: each that is answered renews the lease.

use std::time::Duration;

use stanby::core::batch::Batch;
use stanby::core::upload::UploadWindow;

use crate::client::PING_LIMIT;
use crate::database::{DatabaseStep, SessionId};
use crate::node::Input;
use crate::plan::Sabotage;
use crate::world::{Step, Time, World, nanos};

/// Of a row, beside its messages' bytes.
const ROW_BYTES: usize = 64;

/// The most that a server puts into one batch.
const CEILING_BYTES: usize = 8 << 20;

/// Of each node; it learns what the link carries.
#[derive(Debug)]
pub(crate) struct Upload(UploadWindow);

impl Upload {
    pub(crate) fn new(lease: Duration) -> Self {
        Self(UploadWindow::new(lease, CEILING_BYTES))
    }

    /// The most bytes of the next statement.
    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

fn bytes_of(batch: &Batch) -> usize {
    let messages: usize = batch.messages.iter().map(|(_, it)| it.bytes()).sum();
    let rows = batch.positions.len() + batch.progress.len() + batch.subscriptions.len();
    messages + rows * ROW_BYTES
}

impl World {
    /// Bytes per second to the database.
    fn rate(&self) -> Option<u64> {
        let narrow = (self.time < self.database.narrow_until).then_some(self.database.narrow_rate);
        narrow.filter(|_| !self.calm)
    }

    /// When the last byte of a batch arrives whose first one leaves now.
    pub(crate) fn upload(&mut self, node: usize, id: SessionId, batch: &Batch) -> Time {
        let Some(rate) = self.rate() else {
            return self.time;
        };
        let mut left = bytes_of(batch);
        let mut at = self.time;
        while left > 0 {
            let window = self.nodes[node].upload.bytes();
            let piece = if self.plan.is(Sabotage::UploadAtOnce) {
                left
            } else {
                left.min(window)
            };
            let took = Duration::from_nanos(piece as u64 * 1_000_000_000 / rate);
            self.nodes[node].upload.0.carried(piece, took);
            left -= piece;
            at += nanos(took);
            if left > 0 {
                self.at(at, Step::Database(DatabaseStep::Piece { session: id }));
            }
        }
        // Answers wait for the batch under way and for the next one, which gathers as long as this one takes.
        if at - self.time > nanos(PING_LIMIT / 4) {
            self.is_behind_until(at);
        }
        at
    }

    /// One of several has arrived.
    pub(crate) fn piece_arrives(&mut self, id: SessionId) {
        let Some(node) = self.database.node_of(id) else {
            return;
        };
        if self.nodes[node].cut_until > self.time {
            return;
        }
        self.becomes_idle(id);
        self.reply(id, Input::Extended { session: id });
    }
}
