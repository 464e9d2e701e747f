//! Which version the tables of a schema have, and what that means for this server.

use std::fmt;

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::error::Fault;
use super::identifier::quoted;
use super::migrate::{COMPATIBILITY_TABLE, NEWEST, VERSIONS_TABLE, is_known};

/// The version of a schema's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaVersion {
    /// No server was ever started on the schema, or it does not exist.
    Empty,
    /// To be migrated first.
    Older {
        version: i64,
    },
    Current,
    /// A newer server has migrated the tables and says whether this one can work with them.
    Newer {
        version: i64,
        is_usable: bool,
    },
}

impl SchemaVersion {
    /// True when a server of this version can serve from the tables as they are.
    pub fn is_usable(self) -> bool {
        match self {
            Self::Current => true,
            Self::Newer { is_usable, .. } => is_usable,
            Self::Empty | Self::Older { .. } => false,
        }
    }

    pub(super) async fn read(connection: &mut PgConnection, schema: &str) -> Result<Self, Fault> {
        let table = format!("{}.{VERSIONS_TABLE}", quoted(schema));
        // Looked up without CREATE … IF NOT EXISTS, which asks for the right to create even when there is nothing to.
        if !is_table(connection, &table).await? {
            return Ok(Self::Empty);
        }
        let applied: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT version FROM {table} WHERE success"
        )))
        .fetch_all(&mut *connection)
        .await?;
        let newest = applied.iter().copied().max().unwrap_or(0);
        if newest > NEWEST {
            return Ok(Self::Newer {
                version: newest,
                is_usable: oldest_server(connection, schema).await? <= NEWEST,
            });
        }
        if is_known(&applied) {
            Ok(Self::Current)
        } else {
            Ok(Self::Older { version: newest })
        }
    }
}

/// What follows the name of the schema.
impl fmt::Display for SchemaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("holds no tables yet"),
            Self::Older { version } => {
                write!(f, "has version {version}, this server needs {NEWEST}")
            }
            Self::Current => write!(f, "has version {NEWEST}, which is this server's"),
            Self::Newer {
                version,
                is_usable: true,
            } => {
                write!(
                    f,
                    "has version {version}; this server knows {NEWEST} and can work with it"
                )
            }
            Self::Newer {
                version,
                is_usable: false,
            } => write!(
                f,
                "has version {version}, this server knows versions up to {NEWEST}: a newer server has \
                 migrated it; run that version, or name another schema"
            ),
        }
    }
}

/// The oldest version whose servers can work on the tables; the newest there is where the tables do not tell.
async fn oldest_server(connection: &mut PgConnection, schema: &str) -> Result<i64, Fault> {
    let table = format!("{}.{COMPATIBILITY_TABLE}", quoted(schema));
    if !is_table(connection, &table).await? {
        return Ok(i64::MAX);
    }
    let question = format!("SELECT coalesce(max(oldest_server), 0) FROM {table}");
    Ok(sqlx::query(AssertSqlSafe(question))
        .fetch_one(connection)
        .await?
        .try_get(0)?)
}

async fn is_table(connection: &mut PgConnection, name: &str) -> Result<bool, Fault> {
    Ok(sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(name)
        .fetch_one(connection)
        .await?)
}
