//! A server as its operator handles it: started from a configuration file, signalled, its log read.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT, Server, free_port};
use crate::support::wait::wait_until;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// In the format of NATS, with what every server of the group needs.
    fn write(&self, group: &Group, port: u16, keys: &str) -> PathBuf {
        let path = self.path("server.conf");
        let text = format!(
            "http: \"127.0.0.1:{port}\"\n{keys}\nstreaming {{\n cluster_id: {:?}\n store: SQL\n ns: {:?}\n user: u\n password: geheim-1\n \
             sql_options {{ driver: postgres, source: \"{}\" }}\n include \"limits.conf\"\n}}\n",
            group.cluster_id, group.nats_url, group.database_url
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    fn limits(&self, limits: &str) {
        std::fs::write(
            self.path("limits.conf"),
            format!("store_limits {{ {limits} }}\n"),
        )
        .unwrap();
    }
}

async fn wait_for_text(path: &Path, text: &str) -> String {
    wait_until(LIMIT, async || {
        let found = std::fs::read_to_string(path).unwrap_or_default();
        if found.contains(text) {
            Ok(found)
        } else {
            Err(format!("{text:?} is not in {found}"))
        }
    })
    .await
}

async fn messages(server: &Server, channel: &str) -> (u64, u64) {
    let path = format!("/streaming/channelsz?channel={channel}");
    let (_, body) = server.get(&path).await.unwrap_or_default();
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    (
        value["first_seq"].as_u64().unwrap_or(0),
        value["msgs"].as_u64().unwrap_or(0),
    )
}

/// Acceptance: 169.
#[tokio::test]
async fn a_server_called_as_its_predecessor_reads_its_file_and_heeds_signals() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = Folder::new();
    let (log, pid_file) = (folder.path("server.log"), folder.path("server.pid"));
    let port = free_port();
    folder.limits("max_msgs: 100");
    let keys = format!("logfile: {log:?}\npid_file: {pid_file:?}\nport: 4222");
    let config = folder.write(&group, port, &keys);
    let program = folder.path("nats-streaming-server");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_stanby"), &program).unwrap();
    let mut command = Command::new(program);
    command.envs(
        Server::command()
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.arg("-sc").arg(&config).args(["-hbi", "20s"]);
    let mut server = Server::start(command, port);
    server.wait_until_active().await;

    let text = wait_for_text(&log, "Streaming Server is ready").await;
    assert!(
        text.contains("no effect (remove them when you can): port ("),
        "{text}"
    );
    assert_eq!(
        std::fs::read_to_string(&pid_file).unwrap().trim(),
        server.pid().to_string()
    );
    let client = group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    for _ in 0..10 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;

    // Lower limits hold for live channels; what needs a start is named; a mistake changes nothing.
    folder.limits("max_msgs: 4, channels { other { max_age: \"1h\" } }");
    let changed = std::fs::read_to_string(&config)
        .unwrap()
        .replace("store: SQL", "store: SQL, hbt: \"3s\"")
        .replace("geheim-1", "geheim-2");
    std::fs::write(&config, changed).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || match messages(&server, "orders").await {
        (7, 4) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let text = wait_for_text(&log, "take effect only when the server is started again").await;
    assert!(
        text.contains("configuration reloaded changed=\"channel-limits, max-msgs\""),
        "{text}"
    );
    assert!(
        text.contains("started again changed=\"hb-timeout, nats-password\"")
            && !text.contains("geheim"),
        "{text}"
    );
    let store = server.get("/streaming/storez").await.unwrap().1;
    assert!(store.contains("\"other\""), "{store}");
    folder.limits("max_msgs: \"many\"");
    let reload = stanby(&["signal", &format!("reload={}", server.pid())]).await;
    assert_eq!(code(&reload), Some(0), "{}", stderr(&reload));
    let text = wait_for_text(
        &log,
        "the configuration is not reloaded, the former one holds: ",
    )
    .await;
    assert!(
        text.contains("limits.conf:1:16: parameter \"max_msgs\" value is expected to be int64"),
        "{text}"
    );
    assert_eq!(messages(&server, "orders").await, (7, 4));

    for round in 1..=3 {
        let moved = folder.path(&format!("moved-{round}.log"));
        std::fs::rename(&log, &moved).unwrap();
        server.signal(Signal::SIGUSR1);
        let text = wait_for_text(&log, "File log re-opened").await;
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let mode = std::fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o7, 0, "{mode:o}");

    // `nats-server --signal ldm` sends it.
    server.signal(Signal::SIGUSR2);
    wait_for_text(&log, "SIGUSR2 is ignored").await;

    server.signal(Signal::SIGTERM);
    assert_eq!(server.end().await.code(), Some(143));
    let text = wait_for_text(&log, "stepped down and released the lock").await;
    assert!(text.contains("Shutting down."), "{text}");
    assert!(!pid_file.exists());
}

#[tokio::test]
async fn log_lines_are_json_on_request_and_reach_a_remote_syslog() {
    let Some(group) = Group::new(&["--log-format=json"]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    server.signal(Signal::SIGUSR1);
    wait_until(LIMIT, async || {
        let log = server.log();
        let ignored = log.contains("File log re-open ignored, not a file logger");
        if ignored { Ok(()) } else { Err(log) }
    })
    .await;
    let steps: Vec<String> = server
        .log()
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert!(
                line["timestamp"].is_string() && line["level"].is_string(),
                "{line}"
            );
            line["message"].as_str().unwrap().to_owned()
        })
        .collect();
    let takeover = [
        "standby: waiting for the lock",
        "took the lock",
        "received the last requests",
        "read the tables",
        "active: Streaming Server is ready",
    ];
    let logged = steps
        .iter()
        .filter(|step| takeover.contains(&step.as_str()));
    assert!(logged.eq(takeover.iter()), "one line per step: {steps:?}");

    let syslog = UdpSocket::bind("127.0.0.1:0").unwrap();
    syslog.set_read_timeout(Some(LIMIT)).unwrap();
    let address = syslog.local_addr().unwrap();
    let mut command = Server::command();
    command
        .args(["-r", &format!("udp://{address}"), "-cid", &group.cluster_id])
        .args(["-ns", &group.nats_url, "-sql_source", &group.database_url]);
    let _server = Server::start(command, 0);
    let mut bytes = [0; 2000];
    let length = syslog.recv(&mut bytes).unwrap();
    let line = String::from_utf8_lossy(&bytes[..length]);
    assert!(
        line.starts_with("<30>") && line.contains(" stanby["),
        "{line}"
    );
    assert!(line.contains("store limits"), "{line}");
}

#[tokio::test]
async fn a_configuration_is_checked_shown_and_converted() {
    let folder = Folder::new();
    let path = folder.path("a.conf");
    let file = path.to_str().unwrap();
    let good = "streaming { cid: shop, password: geheim, user: u, sql { source: \"postgres://u:geheim@h/d?sslmode=require\" } }";
    std::fs::write(&path, good).unwrap();

    let checked = stanby(&["config", "check", file]).await;
    assert_eq!(
        (code(&checked), stdout(&checked).trim()),
        (Some(0), "the configuration is valid")
    );
    assert!(
        stderr(&checked).contains("warning: the database is on another machine"),
        "as the log of a server says: {}",
        stderr(&checked)
    );
    let checked = stanby(&["-c", file, "-t"]).await;
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));
    let shown = stanby(&["config", "show", file, "-m", "8222"]).await;
    let text = stdout(&shown);
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("cluster-id"), format!("cluster-id shop {file}:1:13"));
    assert_eq!(line("http-port"), "http-port 8222 command line");
    assert_eq!(line("lease"), "lease 2s default");
    assert!(line("nats-password").starts_with("nats-password [REDACTED] "));
    assert!(!text.contains("geheim"), "{text}");
    let json = stanby(&["config", "show", file, "--json"]).await;
    let values: Vec<Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert!(
        values
            .iter()
            .any(|value| value["name"] == "cluster-id" && value["value"] == "shop")
    );
    let converted = stanby(&["config", "convert", file]).await;
    let toml = folder.path("a.toml");
    std::fs::write(&toml, stdout(&converted)).unwrap();
    let checked = stanby(&["config", "check", toml.to_str().unwrap()]).await;
    assert_eq!(code(&checked), Some(0), "{}", stderr(&checked));

    for (text, exit, told) in [
        (
            "streaming { cid: a b }",
            2,
            ":1:20: nothing more may stand on this line",
        ),
        (
            &good.replace("cid", "clustr_id"),
            1,
            "did you mean \"cluster_id\"?",
        ),
        (
            "streaming { store: paper }",
            2,
            ":1:13: unknown store type: paper",
        ),
    ] {
        std::fs::write(&path, text).unwrap();
        let checked = stanby(&["config", "check", file]).await;
        assert_eq!(code(&checked), Some(exit), "{}", stderr(&checked));
        assert!(stderr(&checked).contains(told), "{}", stderr(&checked));
        let started = stanby(&["serve", "--config", file, "--lease=1ms"]).await;
        assert_eq!(code(&started), Some(2), "{}", stderr(&started));
    }
    let nobody = stanby(&["-sl", "nonsense"]).await;
    assert_eq!(code(&nobody), Some(2));
    assert!(stderr(&nobody).contains("use stop, quit, term, reopen or reload"));
}
