//! The node's connection to NATS. It reconnects for as long as it exists; what is published meanwhile is
//! dropped by `egress`. Opening it fails at once when NATS cannot be reached: whether to try again is the
//! caller's decision.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::counters::{Counters, Counts};
use super::error::Error;

const RECONNECT_DELAY: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Three unanswered pings in a row end a connection that is dead without having said so.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Publishes that wait for the socket. The sender waits when there are more.
const SEND_QUEUE: usize = 4096;

/// As many messages as the Go client lets a subscription hold back.
const RECEIVE_QUEUE: usize = 512 * 1024;

/// How late the health may be when the event that announces a change got lost.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Settings {
    /// `nats://host:port` or `tls://host:port`, without user info. At least one.
    pub servers: Vec<String>,
    /// How the connection is called in the NATS server's monitoring.
    pub name: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
    pub credentials_file: Option<PathBuf>,
    pub nkey_seed_file: Option<PathBuf>,
    pub tls: Tls,
    /// Messages that may wait on each subscription; what comes on top is lost.
    pub receive_queue: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Refuses servers without TLS; `tls://` in the server's URL does the same.
    pub required: bool,
    /// Trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl Settings {
    pub fn new(servers: Vec<String>, name: impl Into<String>) -> Self {
        Self {
            servers,
            name: name.into(),
            user: None,
            password: None,
            token: None,
            credentials_file: None,
            nkey_seed_file: None,
            tls: Tls::default(),
            receive_queue: RECEIVE_QUEUE,
        }
    }

    fn queue_capacity(&self) -> usize {
        self.receive_queue.max(1)
    }

    fn addresses(&self) -> Result<Vec<ServerAddr>, Error> {
        if self.servers.is_empty() {
            return Err(Error::InvalidSettings(
                "no NATS server is named; give at least one URL".into(),
            ));
        }
        self.servers.iter().map(|server| address(server)).collect()
    }

    /// Fit for an error text: `addresses` has made sure that no credentials are in there.
    fn shown(&self) -> String {
        self.servers.join(", ")
    }

    async fn options(&self) -> Result<ConnectOptions, Error> {
        let mut options = ConnectOptions::new()
            .name(&self.name)
            .connection_timeout(CONNECT_TIMEOUT)
            .ping_interval(PING_INTERVAL)
            .client_capacity(SEND_QUEUE)
            .subscription_capacity(self.queue_capacity())
            .reconnect_delay_callback(|attempts| {
                if attempts <= 1 {
                    Duration::ZERO
                } else {
                    RECONNECT_DELAY
                }
            })
            .require_tls(self.tls.required);
        if let Some(file) = &self.tls.ca_file {
            options = options.add_root_certificates(file.clone());
        }
        if let Some(client) = &self.tls.client {
            options = options
                .add_client_certificate(client.certificate_file.clone(), client.key_file.clone());
        }
        if let Some(user) = &self.user {
            let password = self.password.clone().unwrap_or_default();
            options = options.user_and_password(user.clone(), password);
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(file) = &self.nkey_seed_file {
            let seed = read(file, "the nkey seed file").await?;
            options = options.nkey(seed.trim().to_owned());
        }
        if let Some(file) = &self.credentials_file {
            let what = "the credentials file";
            let credentials = read(file, what).await?;
            options =
                options
                    .credentials(&credentials)
                    .map_err(|source| Error::UnreadableFile {
                        what,
                        path: file.display().to_string(),
                        source,
                    })?;
        }
        Ok(options)
    }
}

async fn read(file: &PathBuf, what: &'static str) -> Result<String, Error> {
    tokio::fs::read_to_string(file)
        .await
        .map_err(|source| Error::UnreadableFile {
            what,
            path: file.display().to_string(),
            source,
        })
}

fn address(server: &str) -> Result<ServerAddr, Error> {
    // The text may hold a password that the parser did not recognise as one.
    let invalid = |why: &str| {
        let shown = server.rsplit_once('@').map_or(server, |(_, host)| host);
        Error::InvalidSettings(format!("{shown:?} is not the URL of a NATS server: {why}"))
    };
    let address: ServerAddr = server
        .parse()
        .map_err(|_| invalid("it should look like nats://host:4222"))?;
    if address.username().is_some() || address.password().is_some() {
        return Err(invalid(
            "credentials do not belong into it, but into their own settings",
        ));
    }
    Ok(address)
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "[REDACTED]");
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("user", &self.user)
            .field("password", &hidden(&self.password))
            .field("token", &hidden(&self.token))
            .field("credentials_file", &self.credentials_file)
            .field("nkey_seed_file", &self.nkey_seed_file)
            .field("tls", &self.tls)
            .field("receive_queue", &self.receive_queue)
            .finish_non_exhaustive()
    }
}

/// A handle; the connection closes when the last one is dropped. What is to arrive before that needs a
/// [`Connection::flush`].
#[derive(Clone, Debug)]
pub struct Connection {
    client: Client,
    counters: Arc<Counters>,
    connected: watch::Receiver<bool>,
    queue_capacity: usize,
    /// Ends the task that watches the health: it holds a client and would keep the connection open.
    _watched: Arc<DropGuard>,
}

impl Connection {
    pub async fn open(settings: &Settings, tasks: &TaskTracker) -> Result<Self, Error> {
        let addresses = settings.addresses()?;
        let counters = Arc::new(Counters::default());
        let changed = Arc::new(Notify::new());
        let observer = Arc::new(Observer {
            counters: Arc::clone(&counters),
            changed: Arc::clone(&changed),
            last_trouble: Mutex::default(),
        });
        let options = settings.options().await?.event_callback(move |event| {
            let observer = Arc::clone(&observer);
            async move { observer.observe(&event) }
        });
        let client = options
            .connect(addresses)
            .await
            .map_err(|source| match source.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    Error::Unauthorized {
                        servers: settings.shown(),
                    }
                }
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Tls
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => Error::Unreachable {
                    servers: settings.shown(),
                    source,
                },
            })?;

        let (health, connected) = watch::channel(true);
        let stop = CancellationToken::new();
        tasks.spawn(watch_health(client.clone(), changed, health, stop.clone()));
        Ok(Self {
            client,
            counters,
            connected,
            queue_capacity: settings.queue_capacity(),
            _watched: Arc::new(stop.drop_guard()),
        })
    }

    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// As [`Self::is_connected`], to be waited for; up to 100 ms late.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Waits until NATS has taken everything that was sent before, and everything that NATS had sent to this
    /// connection by then is in the queues of its subscriptions.
    pub async fn flush(&self, limit: Duration) -> Result<(), Error> {
        timeout(limit, self.round_trip())
            .await
            .map_err(|_| Error::NoAnswer(limit))?
    }

    async fn round_trip(&self) -> Result<(), Error> {
        let inbox = self.client.new_inbox();
        let mut echo = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(|_| Error::Closed)?;
        self.client
            .publish(inbox, Bytes::new())
            .await
            .map_err(|_| Error::Closed)?;
        echo.next().await.map(drop).ok_or(Error::Closed)
    }

    /// Largest message that the NATS server takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// For what has no need of events: the command line's own publisher and subscriber.
    pub fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn queue_capacity(&self) -> usize {
        self.queue_capacity
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }
}

async fn watch_health(
    client: Client,
    changed: Arc<Notify>,
    health: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let mut ticks = interval(HEALTH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            _ = ticks.tick() => {}
        }
        let connected = client.connection_state() == State::Connected;
        health.send_if_modified(|known| std::mem::replace(known, connected) != connected);
    }
}

/// Looks at what the client library reports. It drops reports when too many wait, so nothing is decided by
/// them alone.
struct Observer {
    counters: Arc<Counters>,
    changed: Arc<Notify>,
    /// Attempts to reconnect fail four times a second, mostly for one reason.
    last_trouble: Mutex<Option<String>>,
}

impl Observer {
    fn observe(&self, event: &Event) {
        match event {
            Event::Connected => {
                tracing::info!("connected to NATS");
                self.is_news(None);
                self.changed.notify_one();
            }
            Event::Disconnected => {
                tracing::warn!("lost the connection to NATS; reconnecting");
                self.changed.notify_one();
            }
            Event::SlowConsumer(_) => {
                let overflows = self.counters.add_overflow();
                if overflows.is_power_of_two() {
                    tracing::error!(
                        overflows,
                        "messages from NATS come faster than they can be taken and are being lost; their \
                         senders will see timeouts"
                    );
                }
            }
            Event::LameDuckMode => tracing::warn!("the NATS server is about to shut down"),
            Event::ServerError(error) => {
                tracing::error!(%error, "the NATS server reports an error; check this server's permissions");
            }
            Event::ClientError(error) => {
                let error = error.to_string();
                if self.is_news(Some(error.clone())) {
                    tracing::warn!(error, "cannot reconnect to NATS; trying on");
                }
            }
            Event::Closed | Event::Draining => {
                tracing::debug!("the connection to NATS is being closed");
                self.changed.notify_one();
            }
        }
    }

    fn is_news(&self, trouble: Option<String>) -> bool {
        let mut last = self
            .last_trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let news = *last != trouble;
        *last = trouble;
        news
    }
}
