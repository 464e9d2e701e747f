//! Tables that Postgres keeps no log of. Whoever makes one of ours such a table, to be faster, loses what is in it.

use super::error::Fault;
use super::migrate;
use super::source::{Parameter, Source};

/// Those that the migrations make so hold nothing between two commits, and are not among the names that are asked for.
const UNLOGGED: &str = "SELECT format('%I.%I', current_schema(), relname) AS name FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind = 'r' AND relpersistence = 'u' AND relname = ANY ($1)
    ORDER BY relname";

/// What is wrong, and the statements that mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlogged {
    pub what: String,
    pub remedy: String,
}

impl Unlogged {
    /// `tables`: as SQL names them.
    fn of(tables: &[String]) -> Option<Self> {
        let alter = |table: &String| format!("ALTER TABLE {table} SET LOGGED");
        (!tables.is_empty()).then(|| Self {
            what: format!(
                "Postgres keeps no log of {}: a crash or a failover empties what is UNLOGGED, acked messages included",
                tables.join(", ")
            ),
            remedy: tables.iter().map(alter).collect::<Vec<_>>().join("; "),
        })
    }
}

pub(super) async fn read(source: &mut Source<'_>) -> Result<Option<Unlogged>, Fault> {
    let ours = migrate::objects().into_iter().map(str::to_owned).collect();
    let rows = source.all(UNLOGGED, &[Parameter::Texts(ours)]).await?;
    let names: Result<Vec<String>, Fault> = rows.iter().map(|row| row.get("name")).collect();
    Ok(Unlogged::of(&names?))
}
