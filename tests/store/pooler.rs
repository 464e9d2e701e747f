//! A pooler between the server and Postgres: fine while it keeps sessions apart, refused when it does not.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use stanby::config::database::DatabaseUrl;
use stanby::leadership::checks::check;
use stanby::leadership::{Error, Settings};
use stanby::node::doctor::{Finding, Verdict, diagnose};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_postgres::SimpleQueryMessage;

use super::fixture::{Fixture, PATIENCE, migrated};
use super::leadership::settings;
use super::support::process::skip;
use super::support::wait::wait_until;

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("STANBY_PGBOUNCER_BIN").map(PathBuf::from);
    let program = named.unwrap_or_else(|| PathBuf::from("/usr/sbin/pgbouncer"));
    if program.exists() {
        return Some(program);
    }
    skip("pgbouncer is not installed (apt-get install pgbouncer, or set STANBY_PGBOUNCER_BIN)");
    None
}

/// A pgbouncer before the test's database; ends with the value.
struct Pooler {
    url: DatabaseUrl,
    _process: Child,
    _directory: tempfile::TempDir,
}

async fn pooler(program: &Path, fixture: &Fixture, mode: &str) -> Pooler {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let socket = &fixture.database.socket;
    let server_port = socket.extension().unwrap().to_str().unwrap();
    let (sockets, user) = (socket.parent().unwrap().display(), fixture.url.user());
    let users = directory.path().join("users");
    std::fs::write(&users, format!("\"{user}\" \"\"\n")).unwrap();
    let configuration = directory.path().join("pgbouncer.ini");
    std::fs::write(
        &configuration,
        format!(
            "[databases]\n* = host={sockets} port={server_port}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n\
             auth_file = {}\npool_mode = {mode}\n",
            users.display()
        ),
    )
    .unwrap();
    let mut command = Command::new(program);
    command
        .arg("-q")
        .arg(&configuration)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if nix::unistd::geteuid().is_root() {
        // It reads its files before it becomes somebody else.
        command.args(["-u", "postgres"]);
    }
    let process = command.spawn().unwrap();
    wait_until(PATIENCE, || async {
        let reached = TcpStream::connect(("127.0.0.1", port)).await;
        reached.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let name = &fixture.database.name;
    let url = DatabaseUrl::parse(&format!("postgres://{user}@127.0.0.1:{port}/{name}")).unwrap();
    Pooler {
        url,
        _process: process,
        _directory: directory,
    }
}

#[tokio::test]
async fn a_pooler_that_shares_sessions_is_refused_and_one_that_does_not_is_accepted() {
    let Some(program) = program() else { return };
    let Some(fixture) = migrated().await else {
        return;
    };
    let lease = std::time::Duration::from_secs(2);
    for (mode, accepted) in [("transaction", false), ("session", true)] {
        let pooler = pooler(&program, &fixture, mode).await;
        let settings = Settings {
            url: pooler.url.clone(),
            ..settings(&fixture, "one", lease)
        };

        let checked = check(&settings, &fixture.tracker).await;

        match checked {
            Ok(_) => assert!(accepted, "{mode} pooling was accepted"),
            Err(Error::Refused(text)) => {
                assert!(
                    !accepted && text.contains("direct endpoint"),
                    "{mode}: {text}"
                );
            }
            Err(Error::Unavailable(text)) => panic!("{mode}: {text}"),
        }

        let doctor = stanby::Server::builder()
            .database_url(&pooler.url)
            .nats_server("nats://127.0.0.1:1");
        let found = diagnose(&doctor.config().unwrap()).await.unwrap();
        let is_told = |it: &Finding| it.verdict == Verdict::Fail && it.text.contains("a pooler");
        assert_eq!(found.iter().any(is_told), !accepted, "{mode}: {found:?}");
    }
}

/// What a command sets for its session would be set for whoever gets it next, and half of them ended with an error of their
/// prepared statements.
#[tokio::test]
async fn a_command_sets_nothing_behind_a_pooler_that_shares_sessions() {
    let Some(program) = program() else { return };
    let Some(fixture) = migrated().await else {
        return;
    };
    let pooler = pooler(&program, &fixture, "transaction").await;
    let place = |url: &DatabaseUrl| format!("{}/{}", url.address(), url.database());
    let url = format!("postgres://{}@{}", pooler.url.user(), place(&pooler.url));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (lines, files) = (path("lines"), path("files"));
    std::fs::write(&lines, "").unwrap();
    let commands: [&[&str]; 13] = [
        &["status"],
        &["channel", "list"],
        &["channel", "purge", "a", "--all", "--yes"],
        &["durable", "list"],
        &["step-down"],
        &["migrate"],
        &["migrate", "--check"],
        &["export", "--channel", "a"],
        &["export", "--to-file-store", &files],
        &["import", "--ndjson", &lines],
        &["import", "--from", &files],
        &["mirror", "status"],
        &["sub", "a"],
    ];
    for command in commands {
        let mut run = Command::new(env!("CARGO_BIN_EXE_stanby"));
        run.args(command)
            .args(["--database-url", &url])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, run.output());
        let output = output.await.expect("it ends").unwrap();

        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {told}");
        assert!(told.contains("direct endpoint"), "{command:?}: {told}");
    }

    let (config, tls) = pooler.url.for_session().unwrap();
    let (client, connection) = config.connect(tls).await.unwrap();
    fixture.tracker.spawn(async { drop(connection.await) });
    for (setting, value) in [
        ("search_path", "\"$user\", public"),
        ("row_security", "on"),
        ("statement_timeout", "0"),
    ] {
        let shown = client.simple_query(&format!("SHOW {setting}")).await;
        let shown = shown.unwrap();
        let found = shown.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            row.get(0)
        });
        assert_eq!(found, Some(value), "{setting}");
    }
}
