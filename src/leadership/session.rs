//! Opens a session for the lock, makes Postgres watch over it, and closes it hard: a server that gives up on a
//! session must not leave it behind with the lock.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, SimpleQueryMessage};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::error::Error;
use super::key::lock_key;
use super::locks::slice;
use crate::config::database::{DatabaseError, DatabaseUrl};
use crate::core::lease::Lease;
use crate::postgres::find;
use crate::postgres::holders::{self, HOLDERS, LockHolder, READ_BY_TAKEOVERS};
use crate::postgres::pins::{self, PinError};

/// What one server brings to the race.
#[derive(Clone, Debug)]
pub struct Settings {
    pub url: DatabaseUrl,
    pub schema: String,
    pub cluster_id: String,
    pub group: String,
    /// Unique per process.
    pub server_id: String,
    pub lease: Lease,
    /// Longest that one statement of a commit may take.
    pub statement_timeout: Duration,
}

/// Postgres cuts longer names.
const APPLICATION_NAME_BYTES: usize = 63;
pub(super) const APPLICATION_PREFIX: &str = "stanby/";

impl Settings {
    pub fn lock_key(&self) -> i64 {
        lock_key(&self.schema)
    }

    /// What `pg_stat_activity` shows: `stanby/<cluster>/<group>/<server id>`. Long cluster IDs and groups are cut,
    /// so that the server can still be distinguished from the others.
    pub fn application_name(&self) -> String {
        let server = &self.server_id[..self.server_id.floor_char_boundary(32)];
        let fixed = APPLICATION_PREFIX.len() + 2 + server.len();
        let cluster = &self.cluster_id;
        let cluster = &cluster[..cluster.floor_char_boundary(
            16.max((APPLICATION_NAME_BYTES - fixed).saturating_sub(self.group.len())),
        )];
        let room = (APPLICATION_NAME_BYTES - fixed).saturating_sub(cluster.len());
        let group = &self.group[..self.group.floor_char_boundary(room)];
        format!("{APPLICATION_PREFIX}{cluster}/{group}/{server}")
    }

    /// What one call may take before the session is given up: Postgres cancels the statement first.
    pub(super) fn call_limit(&self) -> Duration {
        self.statement_timeout + Duration::from_secs(1)
    }
}

/// An open session. Dropping it closes the socket at once.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) url: DatabaseUrl,
    pub(super) backend_pid: i32,
    limit: Duration,
    closed: CancellationToken,
    why_closed: Arc<OnceLock<String>>,
    /// Payloads of what others notify this session of, once it listens. While nobody reads them, only the first
    /// few are kept.
    pub(super) notified: mpsc::Receiver<String>,
    _hang_up: DropGuard,
}

const NOTIFICATIONS_MAX: usize = 4;

impl Session {
    pub(super) async fn open(settings: &Settings, tracker: &TaskTracker) -> Result<Self, Error> {
        let (name, lease) = (settings.application_name(), settings.lease.duration());
        let adjust = move |config: &mut Config| {
            config
                .application_name(&name)
                .keepalives_idle(Duration::from_secs(1))
                .keepalives_interval(Duration::from_secs(1))
                .keepalives_retries(2)
                .tcp_user_timeout(lease);
        };
        let (client, connection) = find::connect(&settings.url, &adjust).await?;

        let hang_up = CancellationToken::new();
        let closed = CancellationToken::new();
        let why_closed = Arc::new(OnceLock::new());
        let (notifications, notified) = mpsc::channel(NOTIFICATIONS_MAX);
        tracker.spawn({
            let (hang_up, closed) = (hang_up.clone(), closed.clone().drop_guard());
            let (why_closed, url) = (Arc::clone(&why_closed), settings.url.clone());
            async move {
                let ended = tokio::select! {
                    ended = drive(connection, notifications) => ended,
                    () = hang_up.cancelled() => Ok(()),
                };
                if let Err(ended) = ended {
                    let why = match ended {
                        ConnectionEnd::Failed(error) => DatabaseError::of_session(&url, &error).text,
                        ConnectionEnd::NotReplicated => format!(
                            "a commit was cancelled at {} while it waited for a synchronous replica, which may \
                             lack it",
                            url.address()
                        ),
                    };
                    drop(why_closed.set(why));
                }
                drop(closed);
            }
        });
        let mut session = Self {
            client,
            url: settings.url.clone(),
            backend_pid: 0,
            limit: settings.call_limit(),
            closed,
            why_closed,
            notified,
            _hang_up: hang_up.drop_guard(),
        };
        session.backend_pid = session.ask_backend_pid().await?;
        Ok(session)
    }

    /// Which process of Postgres answers. Asked without a prepared statement, which behind a transaction pooler would
    /// be an error of its own.
    pub(super) async fn ask_backend_pid(&self) -> Result<i32, Error> {
        let question = self
            .client
            .simple_query("SELECT pg_catalog.pg_backend_pid()");
        let answer = self
            .call("asking for the session's process", question)
            .await?;
        let pid = answer.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            row.get(0)?.parse().ok()
        });
        pid.ok_or_else(|| {
            let place = self.url.address();
            Error::Refused(format!(
                "what answers at {place} does not behave like Postgres"
            ))
        })
    }

    /// Sets what is not to be inherited, and makes sure that it stuck. Not to be called behind a transaction pooler: it
    /// would set it for others.
    pub(super) async fn pin(&self, settings: &Settings) -> Result<(), Error> {
        let pins = pins::statements(&settings.schema);
        let pinned = self.client.simple_query(&pins);
        let rows = self.call("setting what a session rests on", pinned).await?;
        let rows = rows.iter().filter_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            Some((row.get(0)?, row.get(1)?))
        });
        pins::ensure(&self.url, rows).map_err(|error| Error::Refused(error.to_string()))
    }

    /// How long a statement may take, and how long it may wait for one lock. Zero for any time.
    pub(super) async fn set_timeouts(
        &self,
        statement: Duration,
        lock: Duration,
    ) -> Result<(), Error> {
        let set = format!(
            "SET statement_timeout = {}; SET lock_timeout = {}",
            statement.as_millis(),
            lock.as_millis()
        );
        self.call("setting timeouts", self.client.batch_execute(&set))
            .await
    }

    /// Who holds a lock that somebody waits for, most likely on these tables; or who keeps takeovers from beginning, if anybody does.
    pub(super) async fn lock_holder(
        &self,
        tables: &[&str],
        of_takeovers: bool,
    ) -> Result<Option<LockHolder>, Error> {
        let asked = async {
            let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
                (&tables, Type::TEXT_ARRAY),
                (&READ_BY_TAKEOVERS, Type::TEXT_ARRAY),
                (&of_takeovers, Type::BOOL),
            ];
            let row = self.client.query_typed_opt(HOLDERS, &parameters).await?;
            row.map(|row| holder_of(&row)).transpose()
        };
        self.call("looking who holds a lock", asked).await
    }

    /// Sets the timeouts by which Postgres itself ends a session whose server is frozen, dead or unreachable, and
    /// makes sure that they stuck. Of a session that is pinned.
    pub(super) async fn arm(&self, settings: &Settings) -> Result<(), Error> {
        let lease = settings.lease.duration().as_millis();
        let wanted = [
            ("idle_session_timeout", lease.to_string()),
            ("idle_in_transaction_session_timeout", lease.to_string()),
            (
                "statement_timeout",
                settings.statement_timeout.as_millis().to_string(),
            ),
            // Somebody else's lock is named rather than waited for.
            (
                "lock_timeout",
                slice(settings.lease).as_millis().to_string(),
            ),
            ("tcp_keepalives_idle", "1".to_owned()),
            ("tcp_keepalives_interval", "1".to_owned()),
            ("tcp_keepalives_count", "2".to_owned()),
            ("tcp_user_timeout", lease.to_string()),
            ("client_connection_check_interval", (lease / 4).to_string()),
        ];
        let mut set = String::new();
        for (name, value) in &wanted {
            // Those that not every platform has, and that are the second line only.
            if !is_optional(name) {
                write!(set, "SET {name} = '{value}'; ").expect("a String takes everything");
            }
        }
        self.call("setting timeouts", self.client.batch_execute(&set))
            .await?;
        for (name, value) in &wanted {
            if is_optional(name) {
                let set = format!("SET {name} = '{value}'");
                if let Err(error) = self
                    .call("setting timeouts", self.client.batch_execute(&set))
                    .await
                {
                    tracing::debug!(setting = name, %error, "this Postgres does not have the setting");
                }
            }
        }
        self.read_back(&wanted).await
    }

    async fn read_back(&self, wanted: &[(&str, String)]) -> Result<(), Error> {
        let rows = self
            .call(
                "reading timeouts",
                self.client.query(
                    "SELECT name, setting FROM pg_settings WHERE name = ANY($1)",
                    &[&wanted.iter().map(|(name, _)| *name).collect::<Vec<_>>()],
                ),
            )
            .await?;
        for (name, value) in wanted.iter().filter(|(name, _)| !is_optional(name)) {
            let kept = rows
                .iter()
                .find(|row| row.try_get(0).is_ok_and(|found: &str| found == *name));
            let kept: &str = kept.and_then(|row| row.try_get(1).ok()).unwrap_or_default();
            if kept != value {
                let changed = PinError::changed(&self.url, name, kept, value);
                return Err(Error::Refused(changed.to_string()));
            }
        }
        Ok(())
    }

    /// One call under the session's limit. After a timeout the session is of no use any more: what was asked may
    /// still happen.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        self.call_within(self.limit, what, call).await
    }

    pub(super) async fn call_within<T>(
        &self,
        limit: Duration,
        what: &str,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Error> {
        match timeout(limit, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_closed() => Err(Error::Unavailable(self.why_closed())),
            Ok(Err(error)) => Err(DatabaseError::of_session(&self.url, &error).into()),
            Err(_) => Err(DatabaseError::of_timeout(&self.url, what).into()),
        }
    }

    /// The same; `None` when somebody else held a lock for longer than this session waits for one. Nothing was done then.
    pub(super) async fn call_unless_locked<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<Option<T>, Error> {
        let call = async {
            match call.await {
                Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(None),
                answered => answered.map(Some),
            }
        };
        self.call(what, call).await
    }

    /// Resolves when the connection has ended, also while nothing is asked.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + use<> {
        self.closed.clone().cancelled_owned()
    }

    pub(super) fn why_closed(&self) -> String {
        let why = self.why_closed.get().cloned();
        why.unwrap_or_else(|| format!("Postgres at {} closed the session", self.url.address()))
    }
}

enum ConnectionEnd {
    Failed(tokio_postgres::Error),
    NotReplicated,
}

/// Where Postgres warns that a commit no longer waits for a replica. Its text is in the server's language.
const NOT_REPLICATED: &str = "SyncRepWaitForLSN";

/// Does the reading and writing of a session until it ends.
///
/// A commit whose wait for a replica is cancelled is answered as if it had waited. The session ends before that answer is
/// read: the first commit of the next term waits for the same replica, and so for all that is in the tables by then.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    notifications: mpsc::Sender<String>,
) -> Result<(), ConnectionEnd>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut messages = stream::poll_fn(|context| connection.poll_message(context));
    while let Some(message) = messages.next().await {
        match message.map_err(ConnectionEnd::Failed)? {
            AsyncMessage::Notification(notification) => {
                // A second notification does not help.
                drop(notifications.try_send(notification.payload().to_owned()));
            }
            AsyncMessage::Notice(notice) if notice.routine() == Some(NOT_REPLICATED) => {
                return Err(ConnectionEnd::NotReplicated);
            }
            AsyncMessage::Notice(notice) => {
                tracing::debug!(notice = notice.message(), "Postgres says");
            }
            _ => {}
        }
    }
    Ok(())
}

fn holder_of(row: &Row) -> Result<LockHolder, tokio_postgres::Error> {
    let row = holders::Row {
        pid: row.try_get("pid")?,
        role: row.try_get("role")?,
        application: row.try_get("application")?,
        state: row.try_get("state")?,
        since: row.try_get("since")?,
        prepared: row.try_get("prepared")?,
        holds: row.try_get("holds")?,
        locks_all: row.try_get("locks_all")?,
    };
    Ok(row.into())
}

fn is_optional(name: &str) -> bool {
    name.starts_with("tcp_") || name == "client_connection_check_interval"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(cluster: &str, group: &str, server: &str) -> Settings {
        Settings {
            url: DatabaseUrl::parse("host=localhost user=u").unwrap(),
            schema: "stanby".to_owned(),
            cluster_id: cluster.to_owned(),
            group: group.to_owned(),
            server_id: server.to_owned(),
            lease: Lease::DEFAULT,
            statement_timeout: Duration::from_secs(10),
        }
    }

    #[test]
    fn the_server_id_survives_in_the_application_name() {
        let short = settings("test-cluster", "ft", "q3bpB9rTkKJdAnlp0y5zXw");
        assert_eq!(
            short.application_name(),
            "stanby/test-cluster/ft/q3bpB9rTkKJdAnlp0y5zXw"
        );

        for (cluster, group) in [
            ("c".repeat(200), "g".repeat(200)),
            ("é".repeat(99), String::new()),
        ] {
            let long = settings(&cluster, &group, "q3bpB9rTkKJdAnlp0y5zXw").application_name();
            assert!(long.len() <= APPLICATION_NAME_BYTES, "{long}");
            assert!(long.ends_with("/q3bpB9rTkKJdAnlp0y5zXw"), "{long}");
        }
    }
}
