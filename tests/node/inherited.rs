//! Settings that a role, a database or `ALTER SYSTEM` makes its sessions begin with: a pair serves as it does without
//! them, or says which one has to go.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::timeout;

use crate::cli::{code, stanby, stderr};
use crate::pair::{Group, Pair};
use crate::startup::{as_role_of, refusal_of};
use crate::takeover::Work;

/// What any role may set for itself.
const PLAIN: &[(&str, &str)] = &[
    ("client_min_messages", "error"),
    ("synchronous_commit", "off"),
    ("row_security", "on"),
    ("statement_timeout", "3s"),
    ("lock_timeout", "1ms"),
    ("idle_session_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "2s"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("search_path", "evil, pg_catalog"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "on"),
    ("backslash_quote", "on"),
    ("bytea_output", "escape"),
    ("DateStyle", "German"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Asia/Kathmandu"),
    ("extra_float_digits", "-15"),
    ("client_encoding", "LATIN1"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("exit_on_error", "on"),
    ("quote_all_identifiers", "on"),
    ("check_function_bodies", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "on"),
    ("jit_above_cost", "0"),
    ("enable_indexscan", "off"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_sort", "off"),
    ("work_mem", "64kB"),
    ("cursor_tuple_fraction", "0"),
    ("vacuum_cost_delay", "10ms"),
    ("default_statistics_target", "1"),
    ("tcp_keepalives_idle", "100"),
    ("client_connection_check_interval", "1h"),
    ("xmlbinary", "hex"),
    ("application_name", "stranger"),
];

/// What only a superuser may set, and for others.
const PRIVILEGED: &[(&str, &str)] = &[
    ("session_replication_role", "replica"),
    ("zero_damaged_pages", "on"),
    ("ignore_checksum_failure", "on"),
    ("track_activities", "off"),
];

/// Of a role of its own, whose tables these are, and which the tests do not use themselves.
async fn group_of_role(cluster: &Group, scope: &str, settings: &[(&str, &str)]) -> Group {
    let name = &cluster.cluster_id;
    let role = format!("owner_{name}");
    let mut statements = format!(
        "CREATE ROLE {role} LOGIN; ALTER DATABASE {name} OWNER TO {role};
        CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO {role};
        CREATE TABLE evil.pg_settings (name text, setting text);
        CREATE TABLE evil.messages (id int); CREATE TABLE evil.leadership (id int);
        GRANT ALL ON ALL TABLES IN SCHEMA evil TO {role};
        CREATE FUNCTION evil.pg_advisory_lock(bigint) RETURNS void LANGUAGE sql AS '';
        CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';"
    );
    for (setting, value) in settings {
        let value = match *setting {
            "search_path" => (*value).to_owned(),
            _ => format!("'{value}'"),
        };
        let scope = scope.replace("{database}", name);
        writeln!(
            statements,
            "ALTER ROLE {role} {scope} SET {setting} = {value};"
        )
        .unwrap();
    }
    cluster.tables().execute(statements).await;
    let mut group = cluster.beside("stanby", &["--lease", "1s"]);
    group.database_url = as_role_of(&cluster.database_url, &role);
    group
}

#[tokio::test]
async fn a_pair_serves_alike_whatever_its_role_sets() {
    serves_alike("").await;
}

#[tokio::test]
async fn a_pair_serves_alike_whatever_its_database_sets() {
    serves_alike("IN DATABASE {database}").await;
}

async fn serves_alike(scope: &str) {
    let Some(cluster) = Group::new(&[]).await else {
        return;
    };
    let pair = Pair::of(group_of_role(&cluster, scope, PLAIN).await).await;
    let work = Work::start(&cluster).await;
    work.progress_with_standbys(&[&pair.standby]).await;

    pair.active.kill().await;
    assert_eq!(pair.standby.wait_until_active().await, 2);
    work.progress(100).await;

    work.finish(&cluster).await;
}

#[tokio::test]
async fn a_setting_that_the_role_may_not_undo_is_named_with_the_remedy() {
    for (setting, value) in PRIVILEGED {
        let Some(cluster) = Group::new(&[]).await else {
            return;
        };
        let group = group_of_role(&cluster, "", &[(setting, value)]).await;

        let line = refusal_of(&group.database_url).await;

        let remedy = format!(
            "ALTER ROLE \"owner_{}\" RESET {setting}",
            cluster.cluster_id
        );
        assert!(line.contains(&remedy), "{remedy} in {line}");
        // Commands say the same, and at once.
        let shown = ["status", "--database-url", &group.database_url];
        let shown = timeout(Duration::from_secs(5), stanby(&shown)).await;
        let shown = shown.expect("it ends at once");
        let told = stderr(&shown);
        assert!(told.contains(&remedy), "{remedy} in {told}");
        assert_eq!(code(&shown), Some(1), "{told}");
    }
}

/// The role sets it for the tests' own sessions, too: these look at the server and at what a command prints.
#[tokio::test]
async fn a_server_is_active_and_its_status_is_shown_where_the_role_may_see_no_views() {
    let Some(cluster) = Group::new(&[]).await else {
        return;
    };
    let setting = "restrict_nonsystem_relation_kind";
    let known = "SELECT count(*) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'";
    if cluster.tables().number(known).await == 0 {
        return;
    }
    let group = group_of_role(&cluster, "", &[(setting, "view")]).await;

    let server = group.server();
    server.wait_until_active().await;
    let shown = stanby(&["status", "--database-url", &group.database_url]).await;
    assert_eq!(code(&shown), Some(0), "{}", stderr(&shown));
}
