//! The questions of docs/cookbook.md, asked of a generated store by command and by query.
//!
//! `STANBY_COOKBOOK_MESSAGES` says how many messages it holds; `scripts/cookbook` takes a million and prints the times.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stanby::config::DatabaseUrl;
use stanby::store::Store;
use tokio::time::Instant;

use crate::cli::{code, stanby, stderr, stdout};
use crate::support::postgres;

const BOOK: &str = include_str!("../../docs/cookbook.md");
const STORE: &str = include_str!("cookbook/store.sql");

struct Recipe<'a> {
    question: &'a str,
    command: &'a str,
    query: &'a str,
}

fn recipes() -> Vec<Recipe<'static>> {
    let parts = BOOK.split("\n## ").skip(1);
    let recipes = parts.map(|part| {
        let block = |language: &str| {
            let begin = part.split_once(&format!("```{language}\n")).unwrap().1;
            begin.split_once("```").unwrap().0.trim()
        };
        Recipe {
            question: part.lines().next().unwrap(),
            command: block("sh"),
            query: block("sql"),
        }
    });
    recipes.collect()
}

/// As a shell would, with single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[tokio::test]
async fn every_question_of_the_cookbook_is_answered_by_its_command_and_by_its_query() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let messages = std::env::var("STANBY_COOKBOOK_MESSAGES").unwrap_or_else(|_| "20000".to_owned());
    let messages: u64 = messages.parse().unwrap();
    let url = DatabaseUrl::parse(&database.url).unwrap();
    let store = Store::open(&url, "stanby", "test", Duration::from_secs(10));
    store.migrate().await.unwrap();
    store.close().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    let filled = STORE.replace(":messages", &messages.to_string());
    sqlx::raw_sql(AssertSqlSafe(filled))
        .execute(&mut connection)
        .await
        .unwrap();

    let recipes = recipes();
    assert_eq!(recipes.len(), 30);
    let mut answered = 0;
    let mut times = String::new();
    for Recipe {
        question,
        command,
        query,
    } in &recipes
    {
        // The positions in the book are those of the whole store.
        let command = command.replace("999", &(messages / 1000).saturating_sub(1).to_string());
        let command = words(command.strip_prefix("stanby ").unwrap());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let asked = Instant::now();
        let output = stanby(&[&command[..], &["--database-url", &database.url]].concat()).await;
        let by_command = asked.elapsed();
        assert_eq!(
            code(&output),
            Some(0),
            "{question} {command:?}: {}",
            stderr(&output)
        );
        assert!(!stdout(&output).is_empty(), "{question} {command:?}");

        let asked = Instant::now();
        let rows = sqlx::raw_sql(AssertSqlSafe((*query).to_owned()))
            .fetch_all(&mut connection)
            .await;
        let by_query = asked.elapsed();
        let rows = rows.unwrap_or_else(|error| panic!("{question} {query}: {error}"));
        answered += usize::from(!rows.is_empty());
        let (by_command, by_query) = (by_command.as_millis(), by_query.as_millis());
        writeln!(times, "{by_command}\t{by_query}\t{question}").unwrap();
    }
    // Nobody waits for the lock, nothing is wrong with an active, and nothing was lost here.
    assert_eq!(answered, recipes.len() - 3, "{times}");
    if let Some(path) = std::env::var_os("STANBY_COOKBOOK_TIMES") {
        std::fs::write(path, times).unwrap();
    }
}
