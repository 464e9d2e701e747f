//! The program as a user meets it: what it prints and how it exits.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::{Output, Stdio};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use stanby::config::DatabaseUrl;
use stanby::store::Store;
use tokio::process::Command;

use crate::support::{nats, postgres};

/// Runs the program to its end, without any setting from the environment of the tests.
pub(crate) async fn stanby(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanby"));
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("STANBY_"))
        {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let run = tokio::time::timeout(Duration::from_secs(30), command.output());
    run.await.expect("it ends").unwrap()
}

pub(crate) fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Acceptance: 170.
#[tokio::test]
async fn help_and_version_are_answers() {
    let help = stanby(&["--help"]).await;
    assert_eq!(code(&help), Some(0));
    for command in ["serve", "pub", "sub", "status", "version"] {
        assert!(
            stdout(&help).contains(command),
            "{command}: {}",
            stdout(&help)
        );
    }

    let version = stanby(&["version", "--json"]).await;
    let value: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));

    let of_the_reference = stanby(&["-v"]).await;
    assert_eq!(
        stdout(&of_the_reference),
        format!("stanby {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn a_wrong_command_line_exits_with_2_and_says_what_to_write() {
    let cases: [(&[&str], &str); 8] = [
        (&[], "Usage: stanby"),
        (&["serve"], "the database is missing; give --database-url"),
        (
            &["-max_mgs", "5"],
            "a similar argument exists: '--max-msgs'",
        ),
        (
            &["serve", "--clustr-id", "x"],
            "a similar argument exists: '--cluster-id'",
        ),
        (&["-store", "PAPER"], "unknown store type: PAPER"),
        (
            &["-sql_source", "postgres://h/d", "-mm", "-1"],
            "max messages limit cannot be negative (-1)",
        ),
        (
            &["-sql_source", "postgres://h/d", "-ns", "127.0.0.1"],
            "malformed url: ",
        ),
        (&["sub", "orders", "--all", "--last"], "cannot be used with"),
    ];
    for (args, text) in cases {
        let output = stanby(args).await;
        assert_eq!(code(&output), Some(2), "{args:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(text),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

/// Acceptance: 170.
#[tokio::test]
async fn a_password_is_not_repeated_in_an_error() {
    let cases: [&[&str]; 3] = [
        &["serve", "--database-url", "mysql://u:geheim@h/d"],
        &[
            "-sql_source",
            "postgres://u:geheim@h/d",
            "-ns",
            "ws://u:geheim@h:1",
        ],
        &[
            "status",
            "--database-url",
            "postgres://u:geheim@127.0.0.1:1/d",
        ],
    ];
    for args in cases {
        let output = stanby(args).await;
        assert_ne!(code(&output), Some(0), "{args:?}");
        assert!(!stderr(&output).contains("geheim"), "{}", stderr(&output));
    }
}

#[tokio::test]
async fn status_of_a_database_that_is_away_exits_with_3() {
    let output = stanby(&["status", "--database-url", "postgres://u@127.0.0.1:1/d"]).await;

    assert_eq!(code(&output), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("127.0.0.1:1"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn status_reads_the_tables_without_a_server() {
    let Some(database) = postgres::database().await else {
        return;
    };

    let nothing = stanby(&["status", "--database-url", &database.url]).await;
    assert_eq!(code(&nothing), Some(1));
    assert!(
        stderr(&nothing).contains("--schema"),
        "{}",
        stderr(&nothing)
    );

    let url = DatabaseUrl::parse(&database.url).unwrap();
    let store = Store::open(&url, "stanby", "test", Duration::from_secs(10));
    store.migrate().await.unwrap();

    let text = stanby(&["status", "--database-url", &database.url]).await;
    assert_eq!(code(&text), Some(0), "{}", stderr(&text));
    assert!(
        stdout(&text).contains("active    none"),
        "{}",
        stdout(&text)
    );
    assert!(
        stdout(&text).contains("messages 0 (bytes 0)"),
        "{}",
        stdout(&text)
    );
    assert!(stdout(&text).contains("encrypted no"), "{}", stdout(&text));

    let json = stanby(&["status", "--json", "--database-url", &database.url]).await;
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["schema"], "stanby");
    assert_eq!(value["counts"]["messages"], 0);
    store.close().await;
}

#[tokio::test]
async fn status_shows_channels_durables_and_clients() {
    let Some(database) = postgres::database().await else {
        return;
    };
    let url = DatabaseUrl::parse(&database.url).unwrap();
    let store = Store::open(&url, "stanby", "test", Duration::from_secs(10));
    store.migrate().await.unwrap();
    store.close().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    sqlx::raw_sql(
        "SET search_path = stanby;
         INSERT INTO clients VALUES ('alice', '', '_INBOX.a', 1, 5, 88, 0, 1000000000, 2);
         INSERT INTO channels VALUES (1, 'orders', 0, false, 1, 12, 1000000000, 12, 3456);
         INSERT INTO positions VALUES (1, 1, 'books', NULL, 9, 7, '{}');
         INSERT INTO subscriptions VALUES (1, 1, 'alice', '_INBOX.b', '_INBOX.c', 10, 30000000000, true, 0);",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();

    let text = stdout(&stanby(&["status", "--database-url", &database.url]).await);

    let words = |start: &str| -> Vec<String> {
        let line = text
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        words("CHANNEL")[..3],
        ["CHANNEL", "STATUS", "FIRST"],
        "{text}"
    );
    assert_eq!(
        words("orders")[2..8],
        ["1", "12", "12", "3456", "1", "5"],
        "{text}"
    );
    assert_eq!(
        words("books")[..4],
        ["books", "orders", "-", "alice"],
        "{text}"
    );
    assert!(words("alice").contains(&"2".to_owned()), "{text}");
    assert!(
        text.contains("messages 12 (bytes 3456), channels 1"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text:?}");
}

#[tokio::test]
async fn publishing_and_reading_exit_with_3_where_nobody_answers() {
    let Some(url) = nats::url().await else { return };
    let server = ["--nats-server", &url, "--cluster-id", "nobody-here"];

    for command in [["pub", "orders", "hello"], ["sub", "orders", "--all"]] {
        let output = stanby(&[&command[..], &server[..]].concat()).await;
        assert_eq!(code(&output), Some(3), "{command:?}: {}", stderr(&output));
        let text = "no streaming server answers for cluster ID \"nobody-here\"";
        assert!(
            stderr(&output).contains(text),
            "{command:?}: {}",
            stderr(&output)
        );

        let away = ["--nats-server", "nats://127.0.0.1:1"];
        let output = stanby(&[&command[..], &away[..]].concat()).await;
        assert_eq!(code(&output), Some(3), "{command:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("nats://127.0.0.1:1"),
            "{}",
            stderr(&output)
        );
    }
}

#[tokio::test]
async fn shells_and_man_get_what_a_package_installs() {
    for (shell, sign) in [
        ("bash", "complete -F _stanby"),
        ("zsh", "#compdef stanby"),
        ("fish", "complete -c stanby"),
    ] {
        let output = stanby(&["completions", shell]).await;
        assert_eq!(code(&output), Some(0), "{}", stderr(&output));
        let script = stdout(&output);
        assert!(script.contains(sign), "{shell}");
        for part in ["step-down", "max-inactivity"] {
            assert!(script.contains(part), "{shell}: {part}");
        }
    }

    let page = stdout(&stanby(&["man"]).await);
    assert!(page.contains(".TH stanby 1") && page.contains("stanby\\-serve"));
    let serve = stdout(&stanby(&["man", "serve"]).await);
    assert!(serve.contains("stanby\\-serve") && serve.contains("STANBY_MAX_AGE"));
    assert_eq!(code(&stanby(&["man", "no-such"]).await), Some(2));
}
