//! The SQL of the documents, asked of tables as a server makes them: each statement is understood by Postgres, and each view,
//! function and column that a page names is there. (docs/cookbook.md is run by `cookbook.rs`.)
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::pair::Group;

fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    let pages = pages.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), text)
    });
    pages.collect()
}

fn statements(page: &str) -> Vec<String> {
    let mut statements = Vec::new();
    for part in page.split("```sql\n").skip(1) {
        let block = part.split("```").next().unwrap();
        let lines = block
            .lines()
            .map(|line| line.split("--").next().unwrap().trim_end());
        let block = lines.collect::<Vec<_>>().join("\n");
        let ends = block
            .split(";\n")
            .map(|it| it.trim().trim_end_matches(';').to_owned());
        statements.extend(ends.filter(|it| !it.is_empty()));
    }
    statements
}

/// What stands for something that a reader has, and what begins and ends a transaction.
fn is_a_sketch(statement: &str) -> bool {
    statement.contains('…') || ["BEGIN", "COMMIT"].contains(&statement)
}

/// A procedure waits for a server; the function of its name takes the same arguments and can be planned.
fn as_function(statement: &str) -> String {
    match statement.strip_prefix("CALL stanby.") {
        Some(call) if !call.starts_with("await_request") => format!("SELECT stanby.request_{call}"),
        Some(call) => format!("SELECT stanby.{call}"),
        None => statement.to_owned(),
    }
}

async fn names(connection: &mut PgConnection, query: &str) -> BTreeSet<String> {
    let rows = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
    rows.fetch_all(connection)
        .await
        .unwrap()
        .into_iter()
        .collect()
}

#[tokio::test]
async fn statements_views_and_columns_in_the_documents_are_those_of_the_tables() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    group.server().wait_until_active().await;
    let mut connection = PgConnection::connect(&group.database_url).await.unwrap();
    let connection = &mut connection;
    let begin =
        "SET search_path = stanby, public; CREATE TABLE public.orders (id int, paid boolean)";
    sqlx::raw_sql(AssertSqlSafe(begin))
        .execute(&mut *connection)
        .await
        .unwrap();
    let in_schema = "= 'stanby'::regnamespace";
    let relations = names(
        connection,
        &format!("SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace {in_schema}"),
    )
    .await;
    let columns = names(
        connection,
        &format!(
            "SELECT c.relname || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             WHERE relkind IN ('r', 'v') AND relnamespace {in_schema}"
        ),
    )
    .await;
    let functions = names(
        connection,
        &format!("SELECT proname::text FROM pg_proc WHERE pronamespace {in_schema}"),
    )
    .await;

    let (mut planned, mut named) = (0, 0);
    for (page, text) in pages() {
        if page != "cookbook.md" {
            for statement in statements(&text).iter().filter(|it| !is_a_sketch(it)) {
                // Roles that nobody has made here; any of Postgres' own will do, as nothing is carried out.
                let statement = as_function(statement)
                    .replace("'stanby_operator'", "'pg_monitor'")
                    .replace("'billing_app'", "'pg_monitor'");
                if statement.starts_with("SELECT stanby.await_request") {
                    assert!(functions.contains("await_request"), "{page}: {statement}");
                    continue;
                }
                let plan = format!("EXPLAIN {statement}");
                let result = sqlx::raw_sql(AssertSqlSafe(plan))
                    .execute(&mut *connection)
                    .await;
                assert!(
                    result.is_ok(),
                    "{page}: {statement}: {}",
                    result.unwrap_err()
                );
                planned += 1;
            }
        }
        for code in text.split('`').skip(1).step_by(2) {
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            for (at, _) in code.match_indices("stanby.") {
                let inside =
                    code[..at].ends_with(|c: char| is_word(c) || matches!(c, '/' | '-' | '.'));
                let name: String = code[at + 7..].chars().take_while(|&c| is_word(c)).collect();
                let file = [
                    "toml", "json", "yaml", "sql", "pem", "log", "conf", "service",
                ];
                if inside || name.is_empty() || file.contains(&name.as_str()) {
                    continue;
                }
                let is_known = relations.contains(&name) || functions.contains(&name);
                assert!(is_known, "{page}: stanby.{name}");
                named += 1;
            }
            if let Some((relation, column)) = code.split_once('.')
                && relations.contains(relation)
                && !column.is_empty()
                && !["rs", "md", "sql"].contains(&column)
                && column.chars().all(is_word)
            {
                assert!(columns.contains(code), "{page}: {code}");
                named += 1;
            }
        }
    }
    assert!(
        planned > 15 && named > 30,
        "{planned} statements, {named} names"
    );
}
