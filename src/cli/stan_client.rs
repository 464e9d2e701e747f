//! A small client of NATS Streaming for `pub` and `sub`: connects, stays alive, asks, closes.
//!
//! One connection, one task that answers heartbeats and sends pings. It does not reconnect on its own when the
//! server has replaced or forgotten it: the command ends and says so.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::task::TaskTracker;

use super::failure::Failure;
use crate::config::{NatsConfig, NatsFlags};
use crate::nats::{self, Connection, Inbox};
use crate::node::nats_settings;
use crate::protocol::client::{self, Connected};
use crate::protocol::subjects::Prefixes;

const PROTOCOL: i32 = 1;
const PING_INTERVAL_SECONDS: i32 = 5;
/// With the interval: how long a takeover may last before the client gives up.
const PINGS_OUT_MAX: i32 = 12;

#[derive(Debug)]
pub(super) struct StanClient {
    pub(super) nats: Connection,
    pub(super) client_id: String,
    pub(super) connection_id: String,
    pub(super) subjects: Connected,
    timeout: Duration,
    /// Holds one task; aborted when this is dropped.
    keep_alive: JoinSet<Failure>,
}

impl StanClient {
    /// `client_id` is made up when there is none. `timeout` holds for each request.
    pub(super) async fn connect(
        flags: &NatsFlags,
        client_id: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let nats = connect_nats(&flags.nats()?).await?;
        Self::over(nats, flags, client_id, timeout).await
    }

    /// On a connection that others may share.
    pub(super) async fn over(
        nats: Connection,
        flags: &NatsFlags,
        client_id: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        let discover = flags.subjects(&Prefixes::default())?.discover().clone();
        let connection_id = unique(&nats);
        let client_id = match client_id {
            Some(id) => id.to_owned(),
            None => format!("stanby-{connection_id}"),
        };
        let heartbeat_inbox = nats.new_subject();
        let pong_inbox = nats.new_subject();
        let heartbeats = subscribe(&nats, &heartbeat_inbox)?;
        let pongs = subscribe(&nats, &pong_inbox)?;

        let request = client::connect_request(&client::Connect {
            client_id: &client_id,
            heartbeat_inbox: &heartbeat_inbox,
            protocol: PROTOCOL,
            connection_id: connection_id.as_bytes(),
            ping_interval: PING_INTERVAL_SECONDS,
            ping_max_out: PINGS_OUT_MAX,
        });
        // The server may probe the inbox before it answers, so the task must be there first.
        let mut keep_alive = JoinSet::new();
        let (agreed, start) = tokio::sync::oneshot::channel();
        let alive = KeepAlive {
            nats: nats.clone(),
            heartbeats,
            pongs,
            pong_inbox,
        };
        keep_alive.spawn(alive.run(start));

        let answer = ask(&nats, &discover, request, timeout).await.map_err(|failure| {
            failure.context(|| {
                format!(
                    "no streaming server answers for cluster ID {:?}; check --cluster-id, and that one is active",
                    flags.cluster_id
                )
            })
        })?;
        let subjects = client::connect_response(answer).map_err(refused)?;
        let ping = Pings {
            subject: subjects.pings.to_string(),
            request: client::ping_request(connection_id.as_bytes()),
            interval: Duration::from_secs(u64::try_from(subjects.ping_interval).unwrap_or(0)),
            out_max: subjects.ping_max_out,
        };
        // An old server asks for none. The task is gone only when NATS is, which the next request finds out.
        if subjects.protocol >= 1 && !ping.interval.is_zero() && !ping.subject.is_empty() {
            agreed.send(ping).ok();
        }
        Ok(Self {
            nats,
            client_id,
            connection_id,
            subjects,
            timeout,
            keep_alive,
        })
    }

    /// Does not return while the server knows this client.
    pub(super) async fn lost(&mut self) -> Failure {
        match self.keep_alive.join_next().await {
            Some(Ok(failure)) => failure,
            Some(Err(_)) | None => {
                Failure::Failed(anyhow!("the connection to the server has ended"))
            }
        }
    }

    /// For a caller that waits for the loss of many clients at once: ends with it. The client itself does not notice
    /// any more.
    pub(super) fn take_keep_alive(&mut self) -> JoinSet<Failure> {
        std::mem::take(&mut self.keep_alive)
    }

    pub(super) async fn ask(&self, subject: &str, request: Bytes) -> Result<Bytes, Failure> {
        ask(&self.nats, subject, request, self.timeout).await
    }

    /// Hears what comes to `inbox`.
    pub(super) fn subscribe(&self, inbox: &str) -> Result<Inbox, Failure> {
        subscribe(&self.nats, inbox)
    }

    /// Unique, for message IDs and inboxes.
    pub(super) fn unique(&self) -> String {
        unique(&self.nats)
    }

    /// Takes leave of the server, so that it need not find out by heartbeats.
    pub(super) async fn close(self) -> Result<(), Failure> {
        let request = client::close_request(&self.client_id);
        let answer = self.ask(&self.subjects.close_client, request).await?;
        client::close_response(answer).map_err(refused)
    }
}

pub(super) async fn connect_nats(config: &NatsConfig) -> Result<Connection, Failure> {
    let settings = nats_settings(config, "stanby".to_owned());
    let opened = Connection::open(&settings, &TaskTracker::new()).await;
    opened.map_err(not_let_in)
}

/// What it means for a command that NATS cannot be connected to.
pub(super) fn not_let_in(error: nats::Error) -> Failure {
    let ours = matches!(
        error,
        nats::Error::InvalidSettings(_) | nats::Error::UnreadableFile { .. }
    );
    if ours {
        Failure::Failed(error.into())
    } else {
        Failure::Unreachable(error.into())
    }
}

fn subscribe(nats: &Connection, inbox: &str) -> Result<Inbox, Failure> {
    let mut messages = nats.inbox();
    let subscribed = messages.subscribe(inbox);
    subscribed.map_err(|error| Failure::Unreachable(error.into()))?;
    Ok(messages)
}

async fn ask(
    nats: &Connection,
    subject: &str,
    request: Bytes,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let inbox = nats.new_subject();
    let mut answers = subscribe(nats, &inbox)?;
    let sent = nats.publish(subject, Some(&inbox), &request).await;
    sent.map_err(|error| Failure::Failed(error.into()))?;
    let answer = tokio::time::timeout(timeout, answers.next()).await;
    let answer = answer.map_err(|_| {
        Failure::Unreachable(anyhow!("no answer within {} s", timeout.as_secs_f32()))
    })?;
    let answer = answer.map_err(|error| Failure::Unreachable(error.into()))?;
    if answer.is_no_responders() {
        return Err(Failure::Unreachable(anyhow!(
            "no server listens on {subject}"
        )));
    }
    Ok(answer.detached().1)
}

pub(super) fn refused(error: client::Error) -> Failure {
    Failure::Failed(error.into())
}

/// The random part of a fresh inbox.
pub(super) fn unique(nats: &Connection) -> String {
    let inbox = nats.new_subject();
    inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
}

struct Pings {
    subject: String,
    request: Bytes,
    interval: Duration,
    out_max: i32,
}

struct KeepAlive {
    nats: Connection,
    heartbeats: Inbox,
    pongs: Inbox,
    pong_inbox: String,
}

impl KeepAlive {
    /// Answers heartbeats, and sends pings once `start` says which. Ends when the server is lost.
    async fn run(mut self, mut start: tokio::sync::oneshot::Receiver<Pings>) -> Failure {
        let mut waiting = true;
        let mut pings: Option<Pings> = None;
        let mut out = 0;
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                heartbeat = self.heartbeats.next() => {
                    let Ok(heartbeat) = heartbeat else { return nats_lost() };
                    let reply = heartbeat.reply().and_then(|reply| std::str::from_utf8(reply).ok());
                    if let Some(reply) = reply && self.nats.publish(reply, None, b"").await.is_err() {
                        return nats_lost();
                    }
                }
                pong = self.pongs.next() => {
                    let Ok(pong) = pong else { return nats_lost() };
                    // Nobody there at the moment counts as no answer.
                    if !pong.is_no_responders() {
                        match client::ping_response(pong.detached().1) {
                            Ok(()) => out = 0,
                            Err(error) => return refused(error),
                        }
                    }
                }
                found = &mut start, if waiting => {
                    waiting = false;
                    if let Ok(found) = found {
                        ticks = tokio::time::interval(found.interval);
                        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                        pings = Some(found);
                    }
                }
                _ = ticks.tick(), if pings.is_some() => {
                    let Some(pings) = &pings else { continue };
                    out += 1;
                    if out > pings.out_max {
                        return Failure::Unreachable(anyhow!("the server no longer answers pings"));
                    }
                    let reply = Some(self.pong_inbox.as_str());
                    if self.nats.publish(&pings.subject, reply, &pings.request).await.is_err() {
                        return nats_lost();
                    }
                }
            }
        }
    }
}

fn nats_lost() -> Failure {
    Failure::Unreachable(anyhow!("the connection to NATS has ended"))
}
