//! The pages of the reference that only a running server and its tables can tell: metrics, the HTTP API, views and functions.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::page::{cell, is_what_the_program_says};
use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;

const HOW: &str = "cargo test --test node -- reference";
const WRITTEN: &str = "<!-- Written by `UPDATE=1 cargo test --test node -- reference`. -->";

#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn metrics(page: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let metric = metrics.entry(name.to_owned()).or_default();
            help.clone_into(&mut metric.help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let metric = metrics.entry(name.to_owned()).or_default();
            kind.clone_into(&mut metric.kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let of = ["", "_bucket", "_sum", "_count"];
            let name = of.iter().find_map(|end| {
                metrics
                    .contains_key(name.strip_suffix(end)?)
                    .then_some(name.strip_suffix(end)?)
            });
            let labels = rest.rsplit_once('}').unwrap().0;
            let metric = metrics.get_mut(name.unwrap()).unwrap();
            let named = labels
                .split("\",")
                .map(|label| label.split('=').next().unwrap().to_owned());
            metric.labels.extend(named.filter(|label| label != "le"));
        }
    }
    metrics
}

fn rows(metrics: &BTreeMap<String, Metric>, prefix: &str) -> String {
    let mut rows = String::new();
    for (name, metric) in metrics.iter().filter(|(name, _)| name.starts_with(prefix)) {
        let Metric { kind, help, labels } = metric;
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (help, labels) = (cell(help.trim_end_matches('.')), labels.join(", "));
        writeln!(rows, "| `{name}` | {kind} | {help} | {labels} |").unwrap();
    }
    rows
}

#[tokio::test]
async fn the_reference_of_metrics_and_of_the_api_is_what_a_server_says() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "a-token-that-nobody-guesses\n").unwrap();
    let server = group.server_with(&["--api-token-file", token.to_str().unwrap()]);
    server.wait_until_active().await;
    let client = group.client("billing-1").await;
    let _durable = client.subscribe("orders", "", "billing").await.unwrap();
    client
        .publisher("orders")
        .await
        .send_until_acked(LIMIT)
        .await;
    let page = wait_until(LIMIT, async || {
        let (_, page) = server.get("/metrics").await?;
        let whole = page.contains("stanby_durable_lag{") && page.contains("nss_chan_subs");
        if whole {
            Ok(page)
        } else {
            Err("no durable yet".to_owned())
        }
    })
    .await;
    let metrics = metrics(&page);
    let head = "| metric | type | meaning | labels |\n|---|---|---|---|\n";
    let text = format!(
        "# Metrics\n\n{WRITTEN}\n\n\
        `GET /metrics` of a server that is active. A standby leaves out the series of channels and durables, so sums over a pair count\n\
        nothing twice. [Monitor](../monitoring.md#metrics) says which to watch; [Error texts](errors.md#conditions) lists the kinds of\n\
        `stanby_condition`.\n\n\
        ## Of stanby\n\n{head}{}\n\
        ## Under the names of the exporter for NATS Streaming\n\n\
        For dashboards that exist.\n\n{head}{}",
        rows(&metrics, "stanby_"),
        rows(&metrics, "nss_")
    );
    is_what_the_program_says("docs/reference/metrics.md", HOW, &text);

    let (code, document) = server.get("/api/openapi.json").await.unwrap();
    assert_eq!(code, 200, "{document}");
    is_what_the_program_says("docs/reference/http.md", HOW, &api(&document));
}

fn api(document: &str) -> String {
    let document: Value = serde_json::from_str(document).unwrap();
    let mut page = format!(
        "# Pages and HTTP API\n\n{WRITTEN}\n\n\
        ## Pages\n\n\
        [Monitor](../monitoring.md#health) lists the pages: health, `/metrics`, and those of NATS Streaming and NATS.\n\n\
        ## API\n\n\
        [Change channels, durables and clients](../administration.md#over-http) explains the token, errors and how to wait. The server\n\
        describes the API at `/api/openapi.json` (OpenAPI 3.1). Parameters are fields of a JSON object in the body of the request.\n\n"
    );
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let method = method.to_uppercase();
            let summary = cell(operation["summary"].as_str().unwrap());
            writeln!(page, "### `{method} {path}`\n\n{summary}.\n").unwrap();
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let Some(properties) = body["properties"].as_object() else {
                continue;
            };
            page.push_str("| field | type | meaning |\n|---|---|---|\n");
            for (name, property) in properties {
                let kind = property["type"].as_str().unwrap();
                let meaning = cell(property["description"].as_str().unwrap());
                writeln!(page, "| `{name}` | {kind} | {meaning} |").unwrap();
            }
            page.push('\n');
        }
    }
    page
}

/// Relations of a kind with their comments, and of each its columns.
async fn relations(connection: &mut PgConnection, kind: &str, filter: &str) -> String {
    let query = format!(
        "SELECT c.relname, obj_description(c.oid, 'pg_class'),
            coalesce(array_agg(ARRAY[a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)]
                ORDER BY a.attnum) FILTER (WHERE a.attname IS NOT NULL), '{{}}')::text[]
         FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = 'stanby'::regnamespace AND c.relkind = '{kind}' AND {filter}
         GROUP BY c.oid, c.relname ORDER BY c.relname"
    );
    let query = query
        .replace("array_agg(ARRAY[", "array_agg(concat_ws(E'\\x01', ")
        .replace(
            "col_description(c.oid, a.attnum)]",
            "coalesce(col_description(c.oid, a.attnum), ''))",
        );
    let found = sqlx::query(AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .unwrap();
    let mut page = String::new();
    for row in found {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        writeln!(page, "### {name}\n").unwrap();
        if let Some(comment) = comment {
            writeln!(page, "{}\n", sentence(&comment)).unwrap();
        }
        page.push_str("| column | type | meaning |\n|---|---|---|\n");
        for column in row.get::<Vec<String>, _>(2) {
            let mut parts = column.splitn(3, '\x01');
            let (name, kind) = (parts.next().unwrap(), parts.next().unwrap());
            let meaning = cell(parts.next().unwrap());
            writeln!(page, "| `{name}` | {kind} | {meaning} |").unwrap();
        }
        page.push('\n');
    }
    page
}

fn sentence(comment: &str) -> String {
    cell(comment).replace("\\|", "|")
}

async fn functions(connection: &mut PgConnection, kind: char, filter: &str) -> String {
    let query = format!(
        "SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')' ||
                coalesce(' returns ' || pg_get_function_result(p.oid), ''), obj_description(p.oid, 'pg_proc')
         FROM pg_proc p WHERE p.pronamespace = 'stanby'::regnamespace AND p.prokind = '{kind}'
           AND obj_description(p.oid, 'pg_proc') {filter} AND p.prorettype <> 'trigger'::regtype
         ORDER BY 1"
    );
    let found = sqlx::query(AssertSqlSafe(query))
        .fetch_all(connection)
        .await
        .unwrap();
    let mut page = String::new();
    for row in found {
        let (signature, comment): (String, String) = (row.get(0), row.get(1));
        let name = signature.split('(').next().unwrap().to_owned();
        if !page.contains(&format!("### {name}\n")) {
            writeln!(page, "### {name}\n").unwrap();
        }
        let comment = sentence(comment.trim_start_matches("Internal: "));
        let (first, rest) = comment.split_at(1);
        let comment = first.to_uppercase() + rest;
        writeln!(page, "```sql\n{signature}\n```\n\n{comment}\n").unwrap();
    }
    page
}

#[tokio::test]
async fn the_reference_of_views_and_functions_is_what_the_tables_say() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    group.server().wait_until_active().await;
    let mut connection = PgConnection::connect(&group.database_url).await.unwrap();
    let connection = &mut connection;
    let views = relations(connection, "v", "true").await;
    let functions_for_users = functions(connection, 'f', "NOT LIKE 'Internal: %'").await;
    let functions_inside = functions(connection, 'f', "LIKE 'Internal: %'").await;
    let procedures = functions(connection, 'p', "IS NOT NULL").await;
    let commented = "obj_description(c.oid, 'pg_class') IS NOT NULL";
    let tables = relations(connection, "r", commented).await;
    let text = format!(
        "# Views and functions\n\n{WRITTEN}\n\n\
        What is in the schema of a group of servers (`stanby` unless `--schema` names another one), from its comments. Views are made\n\
        to be read. Everything in the tables belongs to the active: read it, and change it only by the functions and procedures\n\
        here. [Secure](../security.md#roles-in-postgres) says which role may read and call what.\n\n\
        ## Views\n\n{views}## Functions\n\n{functions_for_users}## Procedures\n\n{procedures}## Tables\n\n{tables}\
        ## Internal functions\n\nServers, views and the functions above call these.\n\n{functions_inside}"
    );
    let without: Vec<&str> = text
        .lines()
        .filter(|line| line.ends_with(" |  |"))
        .collect();
    assert!(
        without.is_empty(),
        "columns without a comment:\n{}",
        without.join("\n")
    );
    is_what_the_program_says("docs/reference/sql.md", HOW, &text);
}
