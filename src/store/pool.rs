//! The connections that reads go over: opened where a login succeeds, each setting for itself what it needs, checked out for one call, and proved to be
//! on the right server.

use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, Postgres, Row};
use tokio::sync::{OnceCell, watch};
use tokio::time::timeout;

use super::encryption::Keyring;
use super::error::Error;
use super::fence::{self, Gate};
use super::pooled_connection::PooledConnection;
use super::proven::ATTEMPTS_MAX;
use crate::config::database::{DatabaseError, DatabaseErrorKind, DatabaseUrl};
use crate::postgres::bridge::Bridge;
use crate::postgres::{find, pins, pooler};

/// Loads that wait for a free connection are the core's to bound (`Limits::loads`).
const CONNECTIONS_MAX: u32 = 4;

/// A connection that answered so lately is taken to be alive; a call that finds it dead is made again by its
/// caller.
const FRESH: Duration = Duration::from_secs(1);

/// So long a read waits for a lock. Only who locks a whole table is in its way, and may be for hours.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Cheap to clone; all clones share the pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) pool: PgPool,
    bridge: Bridge,
    pub(super) url: DatabaseUrl,
    pub(super) schema: String,
    application_name: String,
    pub(super) statement_timeout: Duration,
    pub(super) keyring: Keyring,
    pub(super) gate: Gate,
    /// Set once no pooler was found in between.
    is_direct: Arc<OnceCell<()>>,
    /// Why connections are not let in that would be refused again: the pool tries on in silence until its time is up.
    refused: Arc<watch::Sender<Option<DatabaseError>>>,
}

impl Store {
    /// Connects at the first call. To be called within a tokio runtime.
    pub fn open(
        url: &DatabaseUrl,
        schema: &str,
        application_name: &str,
        statement_timeout: Duration,
    ) -> Self {
        let pinned = Pinned {
            url: url.clone(),
            statements: pins::statements(schema),
            statement_timeout,
        };
        let bridge = Bridge::open(url);
        let gate = Gate::default();
        let fenced = gate.clone();
        let refused = Arc::new(watch::Sender::new(None));
        let telling = Arc::clone(&refused);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(url.connect_timeout() + statement_timeout)
            .idle_timeout(Duration::from_mins(10))
            // In place of a ping before every call: a busy pool's connections have just proved themselves.
            .test_before_acquire(false)
            .before_acquire(move |connection, pooled| {
                let is_outdated = fenced.outdates(pooled.age);
                Box::pin(async move {
                    if is_outdated {
                        return Ok(false);
                    }
                    if pooled.idle_for >= FRESH {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| {
                let (pinned, refused) = (pinned.clone(), Arc::clone(&telling));
                // `SET` and not startup options: poolers and proxies refuse those.
                Box::pin(async move {
                    let applied = pinned.apply(connection).await;
                    if let Err(error) = &applied {
                        let failure = DatabaseError::of_pool(&pinned.url, error);
                        if failure.kind == DatabaseErrorKind::Refused {
                            refused.send_replace(Some(failure));
                        }
                    }
                    applied
                })
            })
            .connect_lazy_with(bridge.options().application_name(application_name));
        Self {
            pool,
            bridge,
            url: url.clone(),
            schema: schema.to_owned(),
            application_name: application_name.to_owned(),
            statement_timeout,
            keyring: Keyring::default(),
            gate,
            is_direct: Arc::default(),
            refused,
        }
    }

    /// For who has looked for a pooler at this URL: it takes two connections more, for which a role that is limited may have no room.
    #[must_use]
    pub fn known_direct(self) -> Self {
        self.is_direct.set(()).ok();
        self
    }

    /// Connections, and those of them that nobody uses.
    pub fn pool_use(&self) -> (u32, u32) {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        (self.pool.size(), idle)
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Leads new connections to where a login succeeds now.
    pub(super) async fn find(&self) -> Result<(), Error> {
        let is_known = self.is_direct.get().is_some();
        self.refuse_poolers().await?;
        if is_known {
            drop(Box::pin(find::connect(&self.url, &|_| ())).await?);
        }
        let options = self.bridge.options();
        let options = options.application_name(&self.application_name);
        self.pool.set_connect_options(options);
        Ok(())
    }

    /// To be asked before anything is set: behind a pooler it would be set for others.
    pub async fn refuse_poolers(&self) -> Result<(), Error> {
        let limit = self.statement_timeout + Duration::from_secs(1);
        let looked = self.is_direct.get_or_try_init(|| async {
            if Box::pin(pooler::is_between(&self.url, limit)).await? {
                return Err(Error::Pooler(pooler::sentence(&self.url)));
            }
            Ok(())
        });
        looked.await.copied()
    }

    /// A connection of the pool, or why there is none: at once where another try would bring the same.
    async fn acquire(&self) -> Result<PoolConnection<Postgres>, DatabaseError> {
        let mut refused = self.refused.subscribe();
        tokio::select! {
            acquired = self.pool.acquire() => {
                acquired.map_err(|error| DatabaseError::of_pool(&self.url, &error))
            }
            _ = refused.changed() => {
                let refusal = refused.borrow().clone();
                Err(refusal.unwrap_or_else(|| DatabaseError::of_timeout(&self.url, "connecting")))
            }
        }
    }

    pub(super) async fn checkout(&self) -> Result<PooledConnection<'_>, Error> {
        if self.pool.size() == 0 {
            // The pool tries again in silence, and when its time is up it does not know why any more.
            self.find().await?;
        }
        let connection = match self.acquire().await {
            Ok(connection) => connection,
            Err(_) if self.pool.size() < CONNECTIONS_MAX => {
                // Another host takes writes by now, or another password is the right one.
                self.find().await?;
                self.acquire().await?
            }
            Err(error) => return Err(error.into()),
        };
        Ok(PooledConnection {
            connection: Some(connection),
            url: &self.url,
            gate: &self.gate,
            in_transaction: false,
        })
    }

    /// A connection in a transaction that has proved whose tables it sees. Those that lead elsewhere are closed, and
    /// others tried.
    pub(super) async fn checkout_proven(&self) -> Result<PooledConnection<'_>, Error> {
        let pooled = self.try_checkout_proven().await;
        pooled.inspect_err(|error| self.gate.failed(error))
    }

    async fn try_checkout_proven(&self) -> Result<PooledConnection<'_>, Error> {
        let fence = self.gate.fence();
        let limit = self.statement_timeout + Duration::from_secs(1);
        for _ in 0..ATTEMPTS_MAX {
            let mut pooled = self.checkout().await?;
            pooled.in_transaction = true;
            let proved = timeout(limit, async {
                let mut source = pooled.source();
                source.execute(fence::BEGIN).await?;
                fence.prove(&mut source).await
            });
            match proved.await {
                Ok(Ok(Ok(()))) => return Ok(pooled),
                Ok(Ok(Err(wrong_server))) => self.leave(pooled, &wrong_server).await,
                Ok(Err(fault)) => return Err(fault.into_error(&self.url)),
                Err(_) => {
                    let what = "asking which server this is";
                    return Err(DatabaseError::of_timeout(&self.url, what).into());
                }
            }
        }
        Err(self.wrong_server())
    }

    /// Whether reading goes again, after it has failed: nobody else may want to read for a while.
    pub async fn try_reading(&self) {
        if self.gate.reads().failing.is_some()
            && let Ok(pooled) = self.checkout_proven().await
        {
            // How it went is known to the gate.
            pooled.end(Ok(Ok(())), "asking which server this is").ok();
        }
    }

    pub(super) fn wrong_server(&self) -> Error {
        let wrong_server = self.gate.reads().wrong_server;
        Error::Unavailable(wrong_server.unwrap_or_else(|| "connections lead elsewhere".to_owned()))
    }
}

/// What each connection sets for itself.
#[derive(Clone)]
struct Pinned {
    url: DatabaseUrl,
    statements: String,
    statement_timeout: Duration,
}

impl Pinned {
    async fn apply(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let set = sqlx::raw_sql(AssertSqlSafe(self.statements.clone()));
        let rows = set.fetch_all(&mut *connection).await?;
        let settings: Result<Vec<(&str, &str)>, _> = rows
            .iter()
            .map(|row| Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?)))
            .collect();
        pins::ensure(&self.url, settings?).map_err(|why| sqlx::Error::Configuration(why.into()))?;
        let limit = self.statement_timeout.as_millis();
        // Less: that it is a lock is to be told, and whose.
        let lock = LOCK_WAIT.min(self.statement_timeout / 2).as_millis();
        let set = format!("SET statement_timeout = {limit}; SET lock_timeout = {lock}");
        connection.execute(AssertSqlSafe(set)).await?;
        Ok(())
    }
}
