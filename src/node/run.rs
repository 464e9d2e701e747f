//! Runs a node until it is asked to stop: standby, active, standby again, as often as it takes.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::active::{Active, Over};
use super::batches::Upload;
use super::log_throttle::LogThrottle;
use super::managed_nats::ManagedNats;
use super::new_node::NewNode;
use super::shared::{Node, RoleError};
use super::standby_listener::StandbyListener;
use super::start::{Start, Started};
use super::status_publisher::StatusPublisher;
use super::watchdog::Watchdog;
use super::{
    console, descriptors, flood_watch, log_watch, login, read_watch, settings_report,
    takeover_watch,
};
use crate::administration::AdminRequests;
use crate::clock::Clock;
use crate::config::Config;
use crate::config::pages::PagesAddress;
use crate::core::commit_history::CommitHistory;
use crate::core::limits::Limits;
use crate::core::standby::{Failure, Step, TermEnd};
use crate::core::upload::UploadWindow;
use crate::http::{self, Api, Console};
use crate::leadership;
use crate::monitoring::condition::Condition;
use crate::monitoring::reports::Reports;
use crate::monitoring::view_reader::ViewReader;
use crate::nats::AckTokens;
use crate::protocol::recollection::Signer;

/// Longest that one statement may take before Postgres cancels it, and with it the term.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// For the last messages that the node committed, in case a failover of Postgres loses them.
const HISTORY_BYTES: usize = 32 << 20;

/// What is under way when the node stops has so long to end by itself.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// See [`NewNode::run`].
pub(super) async fn run(
    new: NewNode,
    limits: watch::Receiver<Limits>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let NewNode {
        mut config,
        server_id,
        status,
        nats_reloads,
    } = new;
    let tasks = TaskTracker::new();
    let reports = Reports::default();
    let admin = AdminRequests::default();
    let views = ViewReader::default();
    let api = Api::new(admin.clone(), config.api_token_file.clone());
    let console = Console::new(
        views.clone(),
        config.console_users.clone(),
        config.api_token_file.clone(),
    );
    tasks.spawn(
        console
            .clone()
            .take_samples(status.watch(), reports.clone(), shutdown.clone()),
    );
    let for_operators = (api, console);
    let pages = listen(
        &config,
        (&status, &reports),
        for_operators,
        &tasks,
        &shutdown,
    )
    .await?;

    let managed_nats = match &config.managed_nats {
        Some(settings) => {
            let managed = ManagedNats::start(settings, nats_reloads, &status, &tasks).await?;
            config.nats.servers = vec![managed.url.clone()];
            Some(managed)
        }
        None => None,
    };

    let leadership = leadership_settings(&config, server_id);
    let start = Start {
        leadership: &leadership,
        status: &status,
        tasks: &tasks,
        shutdown: &shutdown,
    };
    let Started {
        store,
        ack_secret,
        nats,
        presence,
        partition_peers,
    } = match start.prepare(&mut config, &reports).await {
        Ok(started) => started,
        Err(failure) => {
            if let Some(managed) = managed_nats {
                managed.stop().await;
            }
            if !matches!(failure, RoleError::Shutdown) {
                return Err(failure.into());
            }
            end(&tasks).await;
            return Ok(());
        }
    };
    admin.open(store.clone());
    console::open(&views, &config, &ack_secret);
    let settings = settings_report::settings(&config, &leadership.server_id);
    tasks.spawn(settings_report::report(
        store.clone(),
        settings,
        shutdown.clone(),
    ));
    let conflict = Arc::new(OnceLock::new());
    if let Some(partition_peers) = partition_peers {
        let conflict = Arc::clone(&conflict);
        tasks.spawn(partition_peers.run(status.watch(), conflict, shutdown.clone()));
    }

    let watchdog =
        Watchdog::start(status.liveness()).context("the watchdog thread cannot be started")?;
    let node = Arc::new(Node {
        leadership,
        ack_tokens: AckTokens::new(&ack_secret),
        signer: Signer::new(&ack_secret),
        asked_with: Mutex::default(),
        store,
        nats,
        presence,
        status,
        limits,
        reports,
        watchdog,
        upload: Upload::new(UploadWindow::new(
            config.lease.duration(),
            config.settings().limits.batch_bytes,
        )),
        needs_savepoints: AtomicBool::new(false),
        history: Mutex::new(
            CommitHistory::new(HISTORY_BYTES).with_database_failover(config.promoted),
        ),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        config,
    });
    let questions = node.subscribe_to_questions()?;
    tasks.spawn(Arc::clone(&node).answer_questions(questions));
    tasks.spawn(show_limits(
        node.status.clone(),
        node.limits.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(login::watch(
        node.config.database_url.clone(),
        node.status.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(flood_watch::watch(
        node.nats.clone(),
        node.status.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(log_watch::watch(node.status.clone(), shutdown.clone()));
    let reads = read_watch::watch(node.store.clone(), node.status.clone(), shutdown.clone());
    tasks.spawn(reads);
    tasks.spawn(takeover_watch::watch(
        node.store.clone(),
        node.config.database_url.user().to_owned(),
        node.status.clone(),
        shutdown.clone(),
    ));
    tasks.spawn(descriptors::watch(node.status.clone(), shutdown.clone()));
    let liveness = node.status.liveness();
    let played = Box::pin(liveness.during(node.play_roles())).await;

    drop(node);
    shutdown.cancel();
    if let Some(managed) = managed_nats {
        managed.stop().await;
    }
    end(&tasks).await;
    for pages in pages {
        pages
            .await
            .context("the monitoring pages ended with a panic")?;
    }
    played?;
    match conflict.get() {
        Some(conflict) => anyhow::bail!("{conflict}"),
        None => Ok(()),
    }
}

async fn end(tasks: &TaskTracker) {
    tasks.close();
    if tokio::time::timeout(STOP_LIMIT, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("some tasks did not end within {STOP_LIMIT:?}; not waiting for them");
    }
}

impl Node {
    /// Fails with what only a start with other flags can mend.
    async fn play_roles(&self) -> Result<(), RoleError> {
        let mut listener = StandbyListener::new(self);
        let mut throttle = LogThrottle::default();
        while !self.shutdown.is_cancelled() {
            self.status.standby();
            self.store.lift_fence();
            match Box::pin(self.be_active(&mut listener)).await {
                Ok(()) => throttle = LogThrottle::default(),
                Err(RoleError::Shutdown) => return Ok(()),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    let text = error.to_string();
                    let now = Clock.now().monotonic;
                    let failure = Failure {
                        cause: error.kind(),
                        is_of_nats: error.is_of_nats(),
                        is_lasting: error.is_lasting(),
                    };
                    listener.standby.failed(failure, now);
                    if throttle.should_log(&text, now) {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "cannot become the active; trying again");
                    }
                    self.status.unable(Some(text));
                }
            }
        }
        Ok(())
    }

    /// Carries out one step of a standby after the other, until the lock is there; takes over and serves until the term ends.
    async fn be_active(&self, listener: &mut StandbyListener) -> Result<(), RoleError> {
        let mut granted = None;
        loop {
            match listener.standby.step() {
                Step::Listen => listener.listen(self).await?,
                Step::CheckNats => self.check_nats(listener).await?,
                Step::Queue => {
                    let lock = Box::pin(self.wait_for_lock());
                    granted = Some(listener.listen_during(self, lock).await??);
                }
                Step::TakeOver => break,
                Step::Pause(pause) => {
                    listener
                        .listen_during(self, tokio::time::sleep(pause))
                        .await?;
                }
            }
            listener.standby.done();
        }
        let Some(granted) = granted else {
            return Ok(());
        };
        let takeover = tokio::select! {
            // Reading the tables must not delay shutdown.
            () = self.shutdown.cancelled() => return Err(RoleError::Shutdown),
            taken = Box::pin(self.take_over(granted, listener)) => taken?,
        };
        let since = Clock.now().monotonic;
        let active = Active::new(self, takeover, listener.take_ingress()?);
        let over = Box::pin(active.serve()).await;
        self.term_ended(over, Clock.now().monotonic.since(since), listener);
        Ok(())
    }

    fn term_ended(&self, over: Over, lasted: Duration, listener: &mut StandbyListener) {
        let Over {
            ended,
            ingress,
            left,
        } = over;
        ended.log();
        let (failure, kind) = (ended.failure(), ended.kind());
        let end = TermEnd {
            cause: kind,
            is_listening: listener.listen_on(ingress),
        };
        let now = Clock.now().monotonic;
        listener
            .standby
            .term_ended(end, lasted, left.into_iter(), now);
        if let (Some(end), Some(count)) = (failure, listener.standby.terms_of_one_cause()) {
            self.status.raise(
                Condition::TermsEnd,
                format!(
                    "the last {count} terms of this server ended for the same reason; fix it: {}",
                    end.detail
                ),
            );
        }
    }
}

/// Standbys show the new limits, too.
async fn show_limits(
    status: StatusPublisher,
    mut limits: watch::Receiver<Limits>,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = limits.changed() => match changed {
                Ok(()) => status.limits(&limits.borrow_and_update()),
                Err(_) => return,
            },
            () = shutdown.cancelled() => return,
        }
    }
}

type Pages = tokio::task::JoinHandle<()>;

async fn listen(
    config: &Config,
    (status, reports): (&StatusPublisher, &Reports),
    (api, console): (Api, Console),
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> anyhow::Result<Vec<Pages>> {
    let mut servers: Vec<http::Server> = Vec::new();
    if let Some(address) = &config.http {
        servers.push(http::Server::bind(look_up(address).await?).await?);
    }
    if let Some(secure) = &config.https {
        let certificate = http::Certificate {
            certificate_file: secure.certificate_file.clone(),
            key_file: secure.key_file.clone(),
        };
        let mut server = http::Server::bind(look_up(&secure.address).await?).await?;
        if let Some(plain) = servers.first() {
            server = server.within_limits_of(plain);
        }
        servers.push(server.with_tls(certificate).await?);
    }
    let run = |server: http::Server| {
        tracing::info!(address = %server.local_addr(), "monitoring pages are open");
        let server = server.with_api(api.clone()).with_console(console.clone());
        tasks.spawn(server.run(status.watch(), reports.clone(), Clock, shutdown.clone()))
    };
    Ok(servers.into_iter().map(run).collect())
}

async fn look_up(address: &PagesAddress) -> anyhow::Result<SocketAddr> {
    let address = address.clone();
    Ok(spawn_blocking(move || address.look_up()).await??)
}

pub(super) fn leadership_settings(config: &Config, server_id: String) -> leadership::Settings {
    leadership::Settings {
        url: config.database_url.clone(),
        schema: config.schema.clone(),
        cluster_id: config.cluster_id.clone(),
        group: config
            .ft_group
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
        server_id,
        lease: config.lease,
        statement_timeout: STATEMENT_TIMEOUT,
    }
}

/// 22 characters that no other process has.
pub(super) fn new_server_id() -> anyhow::Result<String> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 22];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes
        .iter()
        .map(|&byte| char::from(ALPHABET[usize::from(byte) % 62]))
        .collect())
}
