//! What somebody has added to the servers' tables and what acts on each row that is written or deleted: triggers, rules, policies,
//! constraints and unique indexes. One that fails takes the row with it.

use super::error::Fault;
use super::migrate;
use super::source::{Parameter, Source};

/// Constraints and unique indexes that the migrations make, primary keys aside. Postgres has given most of them their names.
const OURS: [&str; 27] = [
    "admin_requests_arguments_check",
    "admin_requests_check",
    "admin_requests_state_check",
    "channel_grants_channels_check",
    "channels_name",
    "fed_channels_through_check",
    "leadership_one_row_check",
    "message_id_windows_duplicates_for_check",
    "message_id_windows_longest",
    "pending_acks_once",
    "policies_backoff_check",
    "policies_backoff_intervals",
    "policies_channel_check",
    "policies_check",
    "policies_check1",
    "policies_dead_letter_check",
    "policies_durable_check",
    "policies_max_deliveries_check",
    "policies_once",
    "policies_poison_check",
    "policies_queue_group_check",
    "policies_texts",
    "policies_when_full_check",
    "server_info_one_row_check",
    "set_limits_channel",
    "set_limits_not_negative",
    "told_settings_settings_check",
];

/// $1: our tables. $2: our triggers. $3: our constraints and unique indexes.
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
        UNION ALL
        SELECT c.relname, format('constraint %I on %I', k.conname, c.relname),
            format('ALTER TABLE %I.%I DROP CONSTRAINT %I', current_schema(), c.relname, k.conname)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.contype IN ('c', 'u', 'x', 'f') AND k.conname <> ALL ($3::text[])
            AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        UNION ALL
        -- It forbids to delete a row that one of theirs refers to.
        SELECT c.relname, format('foreign key %I of %s to %I', k.conname, k.conrelid::regclass, c.relname),
            format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid JOIN pg_class t ON t.oid = k.conrelid
        WHERE k.contype = 'f' AND t.relnamespace <> c.relnamespace
            AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        UNION ALL
        SELECT c.relname, format('unique index %I on %I', i.relname, c.relname),
            format('DROP INDEX %I.%I', current_schema(), i.relname)
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
        WHERE x.indisunique AND i.relname <> ALL ($3::text[])
            AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid)
            AND c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
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
    let rules = OURS.into_iter().map(str::to_owned).collect();
    let parameters = [
        Parameter::Texts(tables),
        Parameter::Texts(ours),
        Parameter::Texts(rules),
    ];
    let rows = source.all(ADDITIONS, &parameters).await?;
    let addition = |row: &super::source::Line| {
        Ok(Addition {
            what: row.get("what")?,
            remedy: row.get("remedy")?,
        })
    };
    rows.iter().map(addition).collect()
}
