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
        let lack = MissingRight {
            what: format!("may not use schema {schema}"),
            remedy: format!("GRANT USAGE ON SCHEMA {} TO {}", quoted(schema), whose.role),
        };
        return Ok(vec![whose.explain(lack)]);
    }
    let mut missing = on_tables(connection, schema, &whose.role).await?;
    // Without this right the version cannot be read either.
    if !missing
        .iter()
        .any(|lack| lack.what.starts_with(MAY_NOT_READ))
    {
        let version = SchemaVersion::read(connection, schema).await?;
        missing.extend(whose.lacks_to_migrate(schema, version));
    }
    if !missing.is_empty() {
        let first = missing.remove(0);
        missing.insert(0, whose.explain(first));
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
    let lack = whose.lacks_to_migrate(schema, version);
    Ok(lack.map(|lack| whose.explain(lack)))
}

/// Who is connected, and what of the schema is theirs.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each answers a question of its own"
)]
struct Whose {
    /// Whose rights count, as an SQL identifier, and so the database.
    role: String,
    /// How the role that logs in stops acting as `role`, where it is another one.
    to_act_as_itself: Option<String>,
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
                    AND c.relname = ANY ($2) AND NOT pg_has_role(c.relowner, 'USAGE')),
                CASE WHEN current_user <> session_user THEN session_user::text END,
                (SELECT CASE
                    WHEN s.setrole = 0 THEN format('ALTER DATABASE %I RESET role', d.datname)
                    WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I RESET role', r.rolname)
                    ELSE format('ALTER ROLE %I IN DATABASE %I RESET role', r.rolname, d.datname) END
                 FROM pg_db_role_setting s, pg_roles r, pg_database d
                 WHERE r.rolname = session_user AND d.datname = current_database()
                    AND s.setrole IN (0, r.oid) AND s.setdatabase IN (0, d.oid) AND (s.setrole <> 0 OR s.setdatabase <> 0)
                    AND EXISTS (SELECT FROM unnest(s.setconfig) AS c WHERE c LIKE 'role=%')
                 -- As Postgres lets them take precedence.
                 ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1)
             FROM (VALUES ($1)) AS s(name) LEFT JOIN pg_namespace n ON n.nspname = s.name",
        )
        .bind(schema)
        .bind(migrate::objects())
        .fetch_one(connection)
        .await?;
        let may_make_tables: bool = row.try_get(5)?;
        let owns_tables: bool = row.try_get(6)?;
        let (login, reset): (Option<&str>, Option<&str>) = (row.try_get(7)?, row.try_get(8)?);
        let to_act_as_itself = login.map(|login| {
            let how = reset.unwrap_or("leave role out of the options in the database URL");
            format!("let {} act as itself: {how}", quoted(login))
        });
        Ok(Self {
            role: quoted(row.try_get(0)?),
            to_act_as_itself,
            database: quoted(row.try_get(1)?),
            exists: row.try_get(2)?,
            may_use: row.try_get(3)?,
            may_make_schemas: row.try_get(4)?,
            may_make_tables,
            may_change_tables: may_make_tables && owns_tables,
        })
    }

    fn lacks_to_migrate(&self, schema: &str, version: SchemaVersion) -> Option<MissingRight> {
        let (name, to) = (quoted(schema), &self.role);
        let by_the_owner = "run `stanby migrate` as the schema's owner";
        match version {
            SchemaVersion::Current | SchemaVersion::Newer { .. } => None,
            SchemaVersion::Empty if !self.exists => {
                (!self.may_make_schemas).then(|| MissingRight {
                    what: format!("may not make schema {schema}"),
                    remedy: format!(
                        "GRANT CREATE ON DATABASE {} TO {to}, or run `stanby migrate` as a role that may",
                        self.database
                    ),
                })
            }
            SchemaVersion::Empty => (!self.may_make_tables).then(|| MissingRight {
                what: format!("may not make tables in schema {schema}"),
                remedy: format!("GRANT CREATE ON SCHEMA {name} TO {to}, or {by_the_owner}"),
            }),
            SchemaVersion::Older { .. } => (!self.may_change_tables).then(|| MissingRight {
                what: format!("may not change the tables of schema {schema}"),
                remedy: by_the_owner.to_owned(),
            }),
        }
    }

    /// Where the role that logs in acts as another one, says so, and how that ends.
    fn explain(&self, lack: MissingRight) -> MissingRight {
        let MissingRight { what, remedy } = lack;
        match &self.to_act_as_itself {
            None => MissingRight { what, remedy },
            Some(otherwise) => MissingRight {
                what: format!("acts as {}, and {what}", self.role),
                remedy: format!("{remedy}, or {otherwise}"),
            },
        }
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
