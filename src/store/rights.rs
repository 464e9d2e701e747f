//! What the role of the database URL may not do and would have to, each with what an administrator runs to change
//! that. Asks only; changes nothing.

use sqlx::{PgConnection, Row};

use super::error::Fault;
use super::identifier::quoted;
use super::migrate::{self, COMPATIBILITY_TABLE, VERSIONS_TABLE};
use super::version::SchemaVersion;

/// A right that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingRight {
    /// Follows the name of the role: "may not …".
    pub what: String,
    pub remedy: String,
}

/// The rights that the connected role lacks to serve from the schema. What does not exist yet needs the right to create it.
pub(super) async fn lacking(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Vec<MissingRight>, Fault> {
    let whose = Whose::read(connection, schema).await?;
    if whose.exists && !whose.may_use {
        return Ok(vec![MissingRight {
            what: format!("may not use schema {schema}"),
            remedy: format!("GRANT USAGE ON SCHEMA {} TO {}", quoted(schema), whose.role),
        }]);
    }
    let mut missing = on_tables(connection, schema, &whose.role).await?;
    // Without this right the version cannot be read either.
    if !missing
        .iter()
        .any(|lack| lack.what.starts_with(MAY_NOT_READ))
    {
        let version = SchemaVersion::read(connection, schema).await?;
        missing.extend(to_migrate(connection, schema, version).await?);
    }
    Ok(missing)
}

/// What keeps the role from bringing tables of this version to the newest.
pub(super) async fn to_migrate(
    connection: &mut PgConnection,
    schema: &str,
    version: SchemaVersion,
) -> Result<Option<MissingRight>, Fault> {
    let whose = Whose::read(connection, schema).await?;
    let (name, to) = (quoted(schema), &whose.role);
    let by_the_owner = "run `stanby migrate` as the schema's owner";
    Ok(match version {
        SchemaVersion::Current | SchemaVersion::Newer { .. } => None,
        SchemaVersion::Empty if !whose.exists => (!whose.may_make_schemas).then(|| MissingRight {
            what: format!("may not make schema {schema}"),
            remedy: format!(
                "GRANT CREATE ON DATABASE {} TO {to}, or run `stanby migrate` as a role that may",
                whose.database
            ),
        }),
        SchemaVersion::Empty => (!whose.may_make_tables).then(|| MissingRight {
            what: format!("may not make tables in schema {schema}"),
            remedy: format!("GRANT CREATE ON SCHEMA {name} TO {to}, or {by_the_owner}"),
        }),
        SchemaVersion::Older { .. } => (!whose.may_change_tables).then(|| MissingRight {
            what: format!("may not change the tables of schema {schema}"),
            remedy: by_the_owner.to_owned(),
        }),
    })
}

/// Who is connected, and what of the schema is theirs.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
struct Whose {
    /// As an SQL identifier, and so the database.
    role: String,
    database: String,
    exists: bool,
    may_use: bool,
    may_make_schemas: bool,
    may_make_tables: bool,
    /// Makes new ones, and owns those that there are.
    may_change_tables: bool,
}

impl Whose {
    async fn read(connection: &mut PgConnection, schema: &str) -> Result<Self, Fault> {
        let row = sqlx::query(
            "SELECT current_user::text, current_database()::text, n.oid IS NOT NULL,
                coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
                has_database_privilege(current_database(), 'CREATE'),
                coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
                NOT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid
                    AND c.relname = ANY ($2) AND NOT pg_has_role(c.relowner, 'USAGE'))
             FROM (VALUES ($1)) AS s(name) LEFT JOIN pg_namespace n ON n.nspname = s.name",
        )
        .bind(schema)
        .bind(migrate::objects())
        .fetch_one(connection)
        .await?;
        let may_make_tables: bool = row.try_get(5)?;
        let owns_tables: bool = row.try_get(6)?;
        Ok(Self {
            role: quoted(row.try_get(0)?),
            database: quoted(row.try_get(1)?),
            exists: row.try_get(2)?,
            may_use: row.try_get(3)?,
            may_make_schemas: row.try_get(4)?,
            may_make_tables,
            may_change_tables: may_make_tables && owns_tables,
        })
    }
}

/// So many tables are named one by one in a statement.
const NAMED_MAX: usize = 4;

const MAY_NOT_READ: &str = "may not SELECT";

/// Functions that applications and operators call, and no server.
const FOR_APPLICATIONS: [&str; 9] = [
    "publish",
    "published",
    "ack",
    "nack",
    "set_policy",
    "drop_policy",
    "redrive",
    "grant_channel",
    "ensure_granted",
];

/// On what is there: the server reads all of it, and writes every table but those about versions.
async fn on_tables(
    connection: &mut PgConnection,
    schema: &str,
    to: &str,
) -> Result<Vec<MissingRight>, Fault> {
    let rows = sqlx::query(
        "SELECT p.privilege, array_agg(c.relname::text ORDER BY c.relname)
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p(privilege)
         WHERE n.nspname = $1 AND c.relname = ANY ($3) AND NOT has_table_privilege(c.oid, p.privilege)
            AND (c.relkind = 'r' AND c.relname <> ALL ($2) OR c.relkind IN ('r', 'v') AND p.privilege = 'SELECT')
         GROUP BY p.privilege
         UNION ALL
         SELECT 'EXECUTE', array_agg(f.proname::text ORDER BY f.proname)
         FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
         WHERE n.nspname = $1 AND f.proname = ANY ($3) AND f.proname <> ALL ($4)
            AND NOT has_function_privilege(f.oid, 'EXECUTE')
         HAVING count(*) > 0",
    )
    .bind(schema)
    .bind([VERSIONS_TABLE, COMPATIBILITY_TABLE].as_slice())
    .bind(migrate::objects())
    .bind(FOR_APPLICATIONS.as_slice())
    .fetch_all(connection)
    .await?;
    let mut missing = Vec::new();
    for row in &rows {
        let (privilege, names): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        let what = format!("may not {privilege} {}", names.join(", "));
        let remedy = match (privilege.as_str(), names.len()) {
            ("EXECUTE", _) => {
                format!(
                    "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {} TO {to}",
                    quoted(schema)
                )
            }
            (_, 1..=NAMED_MAX) => {
                let tables = names
                    .iter()
                    .map(|name| format!("{}.{}", quoted(schema), quoted(name)));
                let tables: Vec<String> = tables.collect();
                format!("GRANT {privilege} ON {} TO {to}", tables.join(", "))
            }
            _ => format!(
                "GRANT {privilege} ON ALL TABLES IN SCHEMA {} TO {to}",
                quoted(schema)
            ),
        };
        missing.push(MissingRight { what, remedy });
    }
    Ok(missing)
}
