//! A small client of NATS Streaming for `pub` and `sub`: connects, stays alive, asks, closes.
//!
//! One connection, one task that answers heartbeats and sends pings. It does not reconnect on its own when the
//! server has replaced or forgotten it: the command ends and says so.

use std::time::Duration;

use anyhow::{Context, anyhow};
use async_nats::{Client, ConnectOptions, RequestErrorKind, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::failure::Failure;
use crate::config::{NatsConfig, NatsFlags};
use crate::protocol::client::{self, Connected};
use crate::protocol::subjects::Prefixes;

const NATS_TIMEOUT: Duration = Duration::from_secs(5);
const PROTOCOL: i32 = 1;
const PING_INTERVAL_SECONDS: i32 = 5;
/// With the interval: how long a takeover may last before the client gives up.
const PINGS_OUT_MAX: i32 = 12;

#[derive(Debug)]
pub(super) struct StanClient {
    pub(super) nats: Client,
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
        nats: Client,
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
        let heartbeat_inbox = nats.new_inbox();
        let pong_inbox = nats.new_inbox();
        let heartbeats = subscribe(&nats, heartbeat_inbox.clone()).await?;
        let pongs = subscribe(&nats, pong_inbox.clone()).await?;

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
        // An old server asks for none. The task is gone only when NATS is, which the next request tells.
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

    pub(super) async fn subscribe(&self, inbox: String) -> Result<Subscriber, Failure> {
        subscribe(&self.nats, inbox).await
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

pub(super) async fn connect_nats(config: &NatsConfig) -> Result<Client, Failure> {
    let mut options = ConnectOptions::new()
        .name("stanby")
        .connection_timeout(NATS_TIMEOUT);
    if let Some(user) = &config.user {
        let password = config
            .password
            .as_ref()
            .map(|password| password.expose().to_owned());
        options = options.user_and_password(user.clone(), password.unwrap_or_default());
    }
    if let Some(token) = &config.token {
        options = options.token(token.expose().to_owned());
    }
    if let Some(path) = &config.credentials {
        let read = options.credentials_file(path).await;
        options = read.with_context(|| {
            format!(
                "the NATS credentials file {} cannot be read",
                path.display()
            )
        })?;
    }
    if let Some(path) = &config.nkey {
        let seed = tokio::fs::read_to_string(path).await;
        let seed = seed.with_context(|| {
            format!("the NATS nkey seed file {} cannot be read", path.display())
        })?;
        options = options.nkey(seed.trim().to_owned());
    }
    options = options.require_tls(config.tls.required);
    if let Some(file) = &config.tls.ca {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &config.tls.client {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
        .connect(config.servers.as_slice())
        .await
        .map_err(|error| {
            let servers = config.servers.join(", ");
            Failure::Unreachable(
                anyhow!(error).context(format!("NATS does not let us in at {servers}")),
            )
        })
}

async fn subscribe(nats: &Client, inbox: String) -> Result<Subscriber, Failure> {
    nats.subscribe(inbox)
        .await
        .map_err(|error| Failure::Unreachable(error.into()))
}

async fn ask(
    nats: &Client,
    subject: &str,
    request: Bytes,
    timeout: Duration,
) -> Result<Bytes, Failure> {
    let request = async_nats::Request::new()
        .payload(request)
        .timeout(Some(timeout));
    match nats.send_request(subject.to_owned(), request).await {
        Ok(message) => Ok(message.payload),
        Err(error) => Err(match error.kind() {
            RequestErrorKind::TimedOut => {
                Failure::Unreachable(anyhow!("no answer within {} s", timeout.as_secs_f32()))
            }
            RequestErrorKind::NoResponders => {
                Failure::Unreachable(anyhow!("nobody listens on {subject}"))
            }
            RequestErrorKind::InvalidSubject
            | RequestErrorKind::MaxPayloadExceeded
            | RequestErrorKind::Other => Failure::Failed(error.into()),
        }),
    }
}

pub(super) fn refused(error: client::Error) -> Failure {
    Failure::Failed(error.into())
}

/// The random part of a fresh inbox.
pub(super) fn unique(nats: &Client) -> String {
    let inbox = nats.new_inbox();
    inbox.rsplit('.').next().unwrap_or(&inbox).to_owned()
}

struct Pings {
    subject: String,
    request: Bytes,
    interval: Duration,
    out_max: i32,
}

struct KeepAlive {
    nats: Client,
    heartbeats: Subscriber,
    pongs: Subscriber,
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
                    let Some(heartbeat) = heartbeat else { return nats_lost() };
                    if let Some(reply) = heartbeat.reply && self.nats.publish(reply, Bytes::new()).await.is_err() {
                        return nats_lost();
                    }
                }
                pong = self.pongs.next() => {
                    let Some(pong) = pong else { return nats_lost() };
                    // Nobody there at the moment counts as no answer.
                    if pong.status != Some(StatusCode::NO_RESPONDERS) {
                        match client::ping_response(pong.payload) {
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
                        return Failure::Unreachable(anyhow!("the server does not answer pings any more"));
                    }
                    let (to, reply) = (pings.subject.clone(), self.pong_inbox.clone());
                    if self.nats.publish_with_reply(to, reply, pings.request.clone()).await.is_err() {
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
