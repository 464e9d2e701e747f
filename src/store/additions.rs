//! What somebody has added to the servers' tables and what acts on each row that is written: triggers, rules and policies. One that
//! fails takes the row with it.

use super::error::Fault;
use super::migrate;
use super::source::{Parameter, Source};

/// $1: our tables. $2: our triggers.
const ADDITIONS: &str = "SELECT what, remedy FROM (
        SELECT c.relname, format('trigger %I on %I', t.tgname, c.relname) AS what,
            format('DROP TRIGGER %I ON %I.%I', t.tgname, current_schema(), c.relname) AS remedy
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE NOT t.tgisinternal AND t.tgname <> ALL ($2::text[]) AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        UNION ALL
        SELECT c.relname, format('rule %I on %I', r.rulename, c.relname),
            format('DROP RULE %I ON %I.%I', r.rulename, current_schema(), c.relname)
        FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
        WHERE c.relkind = 'r' AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        UNION ALL
        SELECT c.relname, format('policy %I on %I', p.polname, c.relname),
            format('DROP POLICY %I ON %I.%I', p.polname, current_schema(), c.relname)
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
        WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        UNION ALL
        SELECT c.relname, format('row level security of %I', c.relname),
            format('ALTER TABLE %I.%I DISABLE ROW LEVEL SECURITY', current_schema(), c.relname)
        FROM pg_class c
        WHERE c.relkind = 'r' AND c.relrowsecurity AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    ) added
    WHERE relname = ANY ($1::text[])
    ORDER BY relname, what";

/// Something that acts on our rows and is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    pub what: String,
    /// The statement that takes it away.
    pub remedy: String,
}

pub(super) async fn read(source: &mut Source<'_>) -> Result<Vec<Addition>, Fault> {
    let tables = migrate::objects().into_iter().map(str::to_owned).collect();
    let ours = migrate::triggers().into_iter().map(str::to_owned).collect();
    let parameters = [Parameter::Texts(tables), Parameter::Texts(ours)];
    let rows = source.all(ADDITIONS, &parameters).await?;
    let addition = |row: &super::source::Line| {
        Ok(Addition {
            what: row.get("what")?,
            remedy: row.get("remedy")?,
        })
    };
    rows.iter().map(addition).collect()
}
