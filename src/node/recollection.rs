//! After a failover of Postgres: what the new primary lacks may be in the memory of a server that is not the one that takes
//! over. The new active asks the others before it puts back what is missing, and each answers, whatever its role.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::shared::Node;
use crate::clock::Clock;
use crate::core::ids::{ChannelId, Sequence};
use crate::core::time::Instant;
use crate::nats::{self, Inbox};
use crate::protocol::recollection::{self, Piece, Question};

/// A server that lives answers within this, and goes on within it. One that is frozen or dead is not waited for longer.
const ANSWER_LIMIT: Duration = Duration::from_millis(750);

/// All answers together take no longer: clients wait for the first one.
const ANSWERS_LIMIT: Duration = Duration::from_secs(5);

/// More than servers keep in memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A group has a few servers; more are a mistake or a flood.
const SERVERS_MAX: usize = 16;

impl Node {
    /// Answers other servers until the node stops.
    pub(super) async fn answer_questions(self: Arc<Self>, mut inbox: Inbox) {
        loop {
            let message = tokio::select! {
                () = self.shutdown.cancelled() => return,
                message = inbox.next() => message,
            };
            let Ok(message) = message else { return };
            let Some(question) = Question::decode(&self.signer, message.payload()) else {
                continue;
            };
            if let Err(error) = self.answer_question(&question).await {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(
                    error,
                    "cannot send another server the messages that this one has in memory"
                );
            }
        }
    }

    async fn answer_question(&self, question: &Question) -> Result<(), nats::Error> {
        if *self.asked_with() == Some(question.nonce) {
            return Ok(());
        }
        let last_sign = self.presence.last_peer_here();
        let account = {
            let mut history = self.history();
            if let Some(sign) = last_sign {
                history.observed_active(sign);
            }
            history.account(&question.has)
        };
        let pieces = recollection::pieces(
            &account,
            &self.signer,
            &question.nonce,
            &self.leadership.server_id,
            self.nats.max_payload(),
        );
        tracing::info!(
            messages = account.messages.len(),
            "another server takes over after a failover of Postgres; this one sends it the messages that it has in memory"
        );
        for piece in pieces {
            self.nats.publish(&question.reply, None, &piece).await?;
        }
        Ok(())
    }

    /// Listens for questions from now on.
    pub(super) fn subscribe_to_questions(&self) -> Result<Inbox, nats::Error> {
        let mut inbox = self.nats.inbox();
        inbox.subscribe(self.config.subjects.servers())?;
        Ok(inbox)
    }

    /// Learns what the others have in memory beyond tables that have these channels up to these sequences. Takes as long as the one does who committed last, and a bounded
    /// time where that one is not there.
    pub(super) async fn ask_what_others_remember(&self, has: BTreeMap<ChannelId, Sequence>) {
        let began = Clock.now().monotonic;
        match timeout(ANSWERS_LIMIT, self.ask_others(has)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    error,
                    "the other servers cannot be asked which messages they have in memory"
                );
            }
        }
        tracing::info!(
            is_exact = self.history().is_exact(),
            took_ms = Clock.now().monotonic.since(began).as_millis(),
            "asked the other servers which messages they have in memory"
        );
    }

    async fn ask_others(&self, has: BTreeMap<ChannelId, Sequence>) -> Result<(), nats::Error> {
        let mut nonce = [0; 16];
        // With one that can be guessed, an old answer could be taken for one to this question.
        if ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut nonce).is_err() {
            tracing::warn!(
                "the system gives no random numbers, so the other servers are not asked which messages they have in memory"
            );
            return Ok(());
        }
        let mut inbox = self.nats.inbox();
        let reply = self.nats.new_subject();
        inbox.subscribe(&reply)?;
        let question = Question { nonce, reply, has };
        *self.asked_with() = Some(nonce);
        let payload = question.encode(&self.signer, self.nats.max_payload());
        let subject = self.config.subjects.servers();
        let reply = Some(question.reply.as_str());
        self.nats.publish(subject, reply, &payload).await?;
        let mut answers = Answers::default();
        let mut until = Clock.now().monotonic + ANSWER_LIMIT;
        while let Some(rest) = rest(until) {
            let Ok(message) = timeout(rest, inbox.next()).await else {
                return Ok(());
            };
            let Some(piece) = Piece::decode(&self.signer, message?.payload(), &nonce) else {
                continue;
            };
            until = Clock.now().monotonic + ANSWER_LIMIT;
            let server = piece.server_id.clone();
            let Some(account) = answers.take(piece).and_then(recollection::account) else {
                continue;
            };
            tracing::info!(
                server,
                epoch = account.served.0,
                messages = account.messages.len(),
                "another server has sent the messages that it has in memory"
            );
            let mut history = self.history();
            history.learn(account, Clock.now().monotonic);
            if history.is_exact() {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn rest(until: Instant) -> Option<Duration> {
    let rest = until.since(Clock.now().monotonic);
    (!rest.is_zero()).then_some(rest)
}

/// Accounts of which not all pieces are there.
#[derive(Debug, Default)]
struct Answers {
    servers: BTreeMap<String, VecDeque<Bytes>>,
    bytes: usize,
}

impl Answers {
    /// The whole account, when this was its last piece.
    fn take(&mut self, piece: Piece) -> Option<Bytes> {
        self.bytes += piece.data.len();
        if self.bytes > ANSWER_BYTES_MAX || self.servers.len() > SERVERS_MAX {
            return None;
        }
        let pieces = self.servers.entry(piece.server_id).or_default();
        // Pieces from one connection to NATS arrive in order; a gap is a lost piece.
        if pieces.len() != piece.number as usize {
            return None;
        }
        pieces.push_back(piece.data);
        if !piece.is_last {
            return None;
        }
        let mut whole = BytesMut::new();
        for piece in pieces.drain(..) {
            whole.extend_from_slice(&piece);
        }
        Some(whole.freeze())
    }
}
