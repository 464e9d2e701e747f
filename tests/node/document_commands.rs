//! The commands of the documents, run as they stand there: a shell runs each of them, and only what belongs to the reader
//! (addresses, directories) is replaced by what is here. A command that needs more than that names the test that runs the same.
//! (docs/cookbook.md is run by `cookbook.rs`; commands of other programs are judged by tests/deploy/commands.rs.)
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::held::publish;
use crate::import_files::nodes;
use crate::pair::{Group, LIMIT, Pair, Says, free_port, says};
use crate::stores::Case;
use crate::support::process::Own;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// What a command contains, the test that runs it, and what stands there.
const ELSEWHERE: [(&str, &str, &str); 8] = [
    ("--from 'postgres://", "tests/node/import.rs", "\"import\""),
    (
        "--from 'mysql://",
        "tests/node/import_mysql.rs",
        "\"import\"",
    ),
    ("--from-stan", "tests/node/import_running.rs", "--from-stan"),
    (
        "mirror jetstream --consumers",
        "tests/node/mirror.rs",
        "\"jetstream\"",
    ),
    (
        "mirror jetstream --reverse",
        "tests/node/mirror_back.rs",
        "--reverse",
    ),
    ("mirror status", "tests/node/mirror.rs", "\"status\""),
    (
        "--database-failover synchronous",
        "tests/node/synchronous.rs",
        "synchronous",
    ),
    // Needs promtool, or an Alertmanager.
    (
        "alerts test",
        "tests/deploy/alerts.rs",
        "\"alerts\", \"test\"",
    ),
];

/// So many dead letters there are where the page about them speaks of number 17.
const LETTERS: usize = 17;

/// The page, and its blocks of shell.
fn pages() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md")];
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        paths.push(entry.unwrap().path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let pages = paths.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("```sh\n").skip(1);
        let blocks = blocks.map(|part| part.split("```").next().unwrap().to_owned());
        (name, blocks.collect())
    });
    pages.collect()
}

/// Commands of stanby, each on one line, without its comment.
fn commands(block: &str) -> Vec<String> {
    let block = block.replace("\\\n", " ");
    let lines = block.lines().map(|line| {
        let line = line.split("  # ").next().unwrap().trim();
        line.strip_prefix("target/release/").unwrap_or(line)
    });
    let lines = lines.filter(|line| line.starts_with("stanby "));
    lines.map(str::to_owned).collect()
}

/// `text` with `value`, quoted, for each word that begins so.
fn with_value(text: &str, begin: &str, value: &str) -> String {
    let (mut rest, mut replaced) = (text, String::new());
    while let Some(at) = rest.find(begin) {
        let (before, word) = rest.split_at(at);
        let is_quoted = before.ends_with('\'');
        let is_end = |c: char| if is_quoted { c == '\'' } else { c == ' ' };
        let end = word.find(is_end).unwrap_or(word.len());
        replaced += before.strip_suffix('\'').unwrap_or(before);
        replaced.extend(["'", value, "'"]);
        rest = word[end..].trim_start_matches('\'');
    }
    replaced + rest
}

/// Where commands are run: a directory of its own, a program in the path, and files that the documents name.
struct Desk {
    directory: TempDir,
    store: Case,
    cluster: Case,
}

impl Desk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("programs");
        fs::create_dir(&programs).unwrap();
        symlink(env!("CARGO_BIN_EXE_stanby"), programs.join("stanby")).unwrap();
        fs::write(directory.path().join("messages.txt"), "one\ntwo\n").unwrap();
        Self {
            directory,
            store: Case::unpack("plain-clean"),
            cluster: Case::unpack("raft-clean"),
        }
    }

    /// The command with what is here in place of what the reader has.
    fn fill(&self, command: &str, group: &Group, http_port: u16) -> String {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let store = self.store.store();
        let (case, from) = if command.contains("raft:") {
            (&self.cluster, nodes(&self.cluster, |_| true))
        } else {
            (&self.store, store.display().to_string())
        };
        let cluster_id = if command.contains(" import ") {
            case.cluster_id()
        } else {
            &group.cluster_id
        };
        let mut text = command
            .replace("--database-url …", "--database-url postgres://…")
            .replace("--nats-server …", "--nats-server nats://…")
            .replace("--cluster-id …", "--cluster-id test-cluster");
        for id in ["test-cluster", "old-cluster", "new-cluster"] {
            let flag = format!("--cluster-id {id}");
            text = text.replace(&flag, &format!("--cluster-id '{cluster_id}'"));
        }
        text = with_value(&text, "postgres://", &group.database_url);
        text = with_value(&text, "nats://", &group.nats_url);
        text = with_value(&text, "raft:", &from);
        text.replace("--from DIR", &format!("--from {from}"))
            .replace("--from /data/stan", &format!("--from {from}"))
            .replace("/data/back", &at("back"))
            .replace("/etc/stanby/console-users", &at("console-users"))
            .replace("/etc/bash_completion.d/stanby", &at("completions"))
            .replace("--http-port 8222", &format!("--http-port {http_port}"))
            .replace("--count 400000", "--count 2000")
            .replace("--count 200000", "--count 2000")
            // Not every machine shows manuals.
            .replace("| man -l -", "| cat")
    }

    fn shell(&self, line: &str, group: &Group, http_port: u16) -> Command {
        let programs = self.directory.path().join("programs");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let mut command = std::process::Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("STANBY_"))
            {
                command.env_remove(name);
            }
        }
        command
            .args(["-c", line])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("STANBY_DATABASE_URL", &group.database_url)
            .env("STANBY_NATS_SERVER", &group.nats_url)
            .env("STANBY_CLUSTER_ID", &group.cluster_id)
            .env("STANBY_HTTP_HOST", "127.0.0.1")
            .env("STANBY_HTTP_PORT", http_port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs it to its end. One that asks for a password gets one.
    async fn run(&self, line: &str, group: &Group) -> Output {
        let mut child = self.shell(line, group, free_port()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"correct horse battery\n").await.ok();
        drop(stdin);
        let done = timeout(LIMIT, child.wait_with_output()).await;
        done.unwrap_or_else(|_| panic!("{line}: it does not end"))
            .unwrap()
    }

    /// A server: it becomes active, and Ctrl-C ends it.
    async fn serve(&self, line: &str, group: &Group, http_port: u16) {
        let line = format!("exec {line}");
        let child = self.shell(&line, group, http_port).spawn().unwrap();
        wait_until(LIMIT, async || match says(http_port).await {
            Says::Active(_) => Ok(()),
            said @ (Says::Standby | Says::NotReady(_) | Says::Nothing(_)) => {
                Err(format!("{line}: {said:?}"))
            }
        })
        .await;
        let ended = interrupt(child).await;
        assert_eq!(code(&ended), Some(0), "{line}: {}", stderr(&ended));
    }
}

async fn interrupt(child: Child) -> Output {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    let ended = timeout(LIMIT, child.wait_with_output()).await;
    ended.unwrap().unwrap()
}

/// A database and a nats-server that nobody serves.
struct Empty {
    group: Group,
    _nats: Own<stanby::dev::nats::NatsServer>,
    _database: postgres::TestDatabase,
}

impl Empty {
    async fn new() -> Option<Self> {
        let database = postgres::database().await?;
        let nats = nats::own_server(&[]).await?;
        Some(Self {
            group: Group::over(database.url.clone(), nats.url(), &[]),
            _nats: nats,
            _database: database,
        })
    }
}

/// A channel that is not empty.
async fn with_messages() -> Option<Pair> {
    let pair = Pair::new(&[]).await?;
    let client = pair.group.client("app").await;
    publish(&client, "orders", 2).await;
    client.close().await.unwrap();
    Some(pair)
}

/// A channel of dead letters, made as they come about: by deliveries that nobody acks.
async fn with_dead_letters() -> Option<Pair> {
    let pair = Pair::new(&[]).await?;
    let tables = pair.group.tables();
    let policy =
        "SELECT stanby.set_policy('orders', max_deliveries => 1, dead_letter => 'orders-dead')";
    tables.execute(policy).await;
    let client = pair.group.client("worker").await;
    let mut taker = client.take_for("orders", ("", "jobs"), 100, 1).await;
    publish(&client, "orders", LETTERS).await;
    // Where the page sends some of them.
    publish(&client, "orders-retry", 1).await;
    taker.wait_for(LETTERS).await;
    wait_until(LIMIT, async || {
        match tables
            .number("SELECT count(*) FROM stanby.dead_letters")
            .await
        {
            found if usize::try_from(found) == Ok(LETTERS) => Ok(()),
            found => Err(format!("{found} dead letters")),
        }
    })
    .await;
    client.close().await.unwrap();
    Some(pair)
}

#[tokio::test]
async fn every_command_of_the_documents_does_what_it_is_shown_for() {
    let mut used = [false; ELSEWHERE.len()];
    let mut ran = 0;
    for (page, blocks) in pages() {
        // Others run these: get-started is run below as the dialogue that it is.
        if ["cookbook.md", "get-started.md"].contains(&page.as_str()) {
            continue;
        }
        let desk = Desk::new();
        let mut pair: Option<Pair> = None;
        for command in blocks.iter().flat_map(|block| commands(block)) {
            let elsewhere = ELSEWHERE
                .iter()
                .position(|(part, ..)| command.contains(part));
            if let Some(at) = elsewhere {
                used[at] = true;
                continue;
            }
            let needs_nobody = [
                "stanby serve",
                "stanby import",
                "stanby migrate",
                "stanby export --to-",
            ];
            let is_alone = needs_nobody.iter().any(|begin| command.starts_with(begin));
            let http_port = free_port();
            let empty;
            let group = if is_alone {
                empty = Empty::new().await;
                let Some(empty) = &empty else { return };
                &empty.group
            } else {
                if pair.is_none() {
                    pair = if page == "policies.md" {
                        with_dead_letters().await
                    } else {
                        with_messages().await
                    };
                }
                let Some(pair) = &pair else { return };
                &pair.group
            };
            if command.starts_with("stanby export --to-") {
                // What is exported is what servers have left.
                let server = group.server();
                server.wait_until_active().await;
                server.kill().await;
            }
            let line = desk.fill(&command, group, http_port);
            if command.starts_with("stanby serve") {
                desk.serve(&line, group, http_port).await;
            } else {
                let output = desk.run(&line, group).await;
                let said = format!("{}{}", stdout(&output), stderr(&output));
                assert_eq!(code(&output), Some(0), "{page}: {line}: {said}");
            }
            ran += 1;
        }
    }
    for (at, (part, file, text)) in ELSEWHERE.iter().enumerate() {
        assert!(
            used[at],
            "no command contains {part}: take it from the list"
        );
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let source = fs::read_to_string(source).unwrap();
        assert!(source.contains(text), "{file} does not run {part}");
    }
    assert!(ran >= 20, "{ran} commands were run");
}

/// Acceptance of the first page that a newcomer reads: each line of it, from the subscriber on.
#[tokio::test]
async fn the_first_five_minutes_go_as_they_are_written() {
    let Some(pair) = Pair::new(&[]).await else {
        return;
    };
    let (_, blocks) = pages()
        .into_iter()
        .find(|(page, _)| page == "get-started.md")
        .unwrap();
    let lines: Vec<String> = blocks.iter().flat_map(|block| commands(block)).collect();
    let [subscribe, first, second] = &lines[..] else {
        panic!("the page has other commands now: {lines:?}");
    };
    assert!(blocks.concat().contains("kill -9 "), "the active is killed");
    let desk = Desk::new();
    let Pair { group, active, .. } = &pair;

    let subscribe = format!("exec {subscribe}");
    let mut subscriber = desk.shell(&subscribe, group, free_port()).spawn().unwrap();
    let mut printed = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(LIMIT, printed.next_line()).await.unwrap();
        line.unwrap().unwrap()
    };
    let output = desk.run(first, group).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(next().await.contains("hello"));
    active.signal(Signal::SIGKILL);
    let output = desk.run(second, group).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    loop {
        let line = next().await;
        if line.contains("still here") {
            break;
        }
        assert!(line.contains("hello"), "{line}");
    }
    let ended = interrupt(subscriber).await;
    assert_eq!(code(&ended), Some(0), "{}", stderr(&ended));
}
