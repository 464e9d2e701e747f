//! A server started with the line and file of the nats-streaming-server that it takes the place of, and nothing else than
//! the database in the environment: the NATS server that was inside runs beside it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use async_nats::ConnectOptions;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;

use crate::pair::{LIMIT, Server, free_port};
use crate::stan::StanClient;
use crate::support::postgres::{self, TestDatabase};
use crate::support::wait::wait_until;

pub(crate) struct Line {
    pub(crate) database: Arc<TestDatabase>,
    folder: tempfile::TempDir,
    pub(crate) nats_port: u16,
    pub(crate) http_port: u16,
}

impl Line {
    /// `None` where Postgres or nats-server is missing.
    pub(crate) async fn new() -> Option<Self> {
        crate::support::nats::url().await?;
        Some(Self {
            database: Arc::new(postgres::database().await?),
            folder: tempfile::tempdir().unwrap(),
            nats_port: free_port(),
            http_port: free_port(),
        })
    }

    /// Another server's, over the same tables.
    pub(crate) fn beside(&self) -> Self {
        Self {
            database: Arc::clone(&self.database),
            folder: tempfile::tempdir().unwrap(),
            nats_port: free_port(),
            http_port: free_port(),
        }
    }

    /// Started under the former name; `{nats}`, `{http}` and `{folder}` stand for what is this test's.
    pub(crate) fn start(&self, line: &str) -> Server {
        let mut command = self.command();
        command.args(self.fill(line).split_whitespace());
        Server::start(command, self.http_port)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Server::command();
        command.arg0("nats-streaming-server");
        command.env("STANBY_DATABASE_URL", &self.database.url);
        // Another test's nats-server may be asked for by name.
        if let Some(program) = std::env::var_os("STANBY_NATS_SERVER_BIN") {
            command.env("STANBY_NATS_SERVER_BIN", program);
        }
        command
    }

    pub(crate) fn fill(&self, text: &str) -> String {
        text.replace("{nats}", &self.nats_port.to_string())
            .replace("{http}", &self.http_port.to_string())
            .replace("{folder}", &self.folder.path().display().to_string())
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), self.fill(text)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// On the port where its clients have always found it.
    pub(crate) async fn client(&self, cluster_id: &str, login: Option<(&str, &str)>) -> StanClient {
        self.client_called("app", cluster_id, login).await
    }

    pub(crate) async fn client_called(
        &self,
        name: &str,
        cluster_id: &str,
        login: Option<(&str, &str)>,
    ) -> StanClient {
        let options = match login {
            Some((user, password)) => {
                ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned())
            }
            None => ConnectOptions::new(),
        };
        let address = format!("127.0.0.1:{}", self.nats_port);
        let nats = options
            .retry_on_initial_connect()
            .connect(address)
            .await
            .unwrap();
        StanClient::connect(nats, cluster_id, name).await.unwrap()
    }

    pub(crate) async fn is_free(&self) {
        wait_until(LIMIT, async || {
            let bound = TcpListener::bind(("127.0.0.1", self.nats_port)).await;
            bound.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
}

pub(crate) fn pid_of_nats_server(server: &Server) -> Pid {
    let log = server.log();
    let line = log
        .lines()
        .rev()
        .find(|line| line.contains("nats-server runs"));
    let pid = line.and_then(|line| line.split("pid=").nth(1));
    Pid::from_raw(pid.unwrap().split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_line_with_an_embedded_nats_serves_clients_on_their_port() {
    let Some(line) = Line::new().await else {
        return;
    };
    let text = "-p {nats} -m {http} -hbi 5s -hbt 5s -hbf 2 -SD -cid shop -store memory -clustered=false -file_sync";
    let mut server = line.start(text);
    server.wait_until_active().await;

    let client = line.client("shop", None).await;
    client
        .publisher("orders")
        .await
        .send_until_acked(LIMIT)
        .await;

    let log = server.log();
    let told = log.matches("settings of nats-streaming-server").count();
    assert_eq!(told, 1, "{log}");
    server.signal(Signal::SIGTERM);
    server.end().await;
    line.is_free().await;
}

#[tokio::test]
async fn a_file_gives_the_nats_server_its_part_and_the_server_its_login() {
    let Some(line) = Line::new().await else {
        return;
    };
    line.file(
        "stan.conf",
        "port: {nats}\nhttp: {http}\nmax_payload: 4MB\npid_file: \"/nowhere/stan.pid\"\nauthorization {\n  user: app\n  password: secret\n}\n\
         streaming {\n  cluster_id: shop\n  store: sql\n  sql_options { driver: postgres, source: \"host=/nowhere\" }\n}\n",
    );
    let server = line.start("-sc {folder}/stan.conf");
    server.wait_until_active().await;

    let refused = async_nats::connect(format!("127.0.0.1:{}", line.nats_port)).await;
    assert!(refused.is_err(), "a login is needed");
    let client = line.client("shop", Some(("app", "secret"))).await;
    let limit = client.nats.server_info().max_payload;
    assert_eq!(limit, 4 << 20);
    client
        .publisher("orders")
        .await
        .send_until_acked(LIMIT)
        .await;
    let log = server.log();
    assert!(log.contains("/nowhere/stan.pid cannot be written"), "{log}");
    assert!(log.contains("is not there"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

/// As the former server's documentation has it.
#[tokio::test]
async fn users_of_a_file_may_log_in_beside_the_one_of_the_line() {
    let Some(line) = Line::new().await else {
        return;
    };
    line.file(
        "server.cfg",
        "listen: 127.0.0.1:{nats}\nhttp: \"localhost:{http}\"\n\nauthorization {\n    users = [\n      \
         {user: alice, password: foo}\n      {user: bob,   password: bar}\n    ]\n}\n",
    );
    let server =
        line.start("-config {folder}/server.cfg -user alice -pass foo -ns= -cid prod.shop");
    server.wait_until_active().await;

    let client = line.client("prod.shop", Some(("bob", "bar"))).await;
    let mut publisher = client.publisher("orders.new").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn a_nats_server_that_ends_is_started_again_and_clients_go_on() {
    let Some(line) = Line::new().await else {
        return;
    };
    let server = line.start("-p {nats} -m {http} -cid shop");
    server.wait_until_active().await;
    let client = line.client("shop", None).await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    kill(pid_of_nats_server(&server), Signal::SIGKILL).unwrap();

    publisher.send_until_acked(LIMIT).await;
    let metrics = server.get("/metrics").await.unwrap().1;
    for counted in ["ends_total 1", "starts_total 2"] {
        let counted = format!("\nstanby_nats_server_{counted}\n");
        assert!(metrics.contains(&counted), "{metrics}");
    }
    assert!(server.log().contains("nats-server runs again"));
    wait_until(LIMIT, async || match server.get("/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_leaves_no_nats_server_behind() {
    let Some(line) = Line::new().await else {
        return;
    };
    let server = line.start("-p {nats} -m {http} -cid shop");
    server.wait_until_active().await;

    server.kill().await;

    line.is_free().await;
    let again = line.start("-p {nats} -m {http} -cid shop");
    again.wait_until_active().await;
}

#[tokio::test]
async fn a_port_that_something_else_has_is_named_with_the_remedy() {
    let Some(line) = Line::new().await else {
        return;
    };
    let taken = TcpListener::bind(("127.0.0.1", line.nats_port))
        .await
        .unwrap();
    let mut server = line.start("-p {nats} -m {http}");

    assert!(!server.end().await.success());

    let log = server.log();
    for part in [
        &format!("port {}", line.nats_port),
        "no NATS server",
        "--nats-server",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    drop(taken);
}

#[tokio::test]
async fn a_nats_server_that_listens_there_already_is_used() {
    let Some(line) = Line::new().await else {
        return;
    };
    let first = line.start("-p {nats} -m {http} -cid shop");
    first.wait_until_active().await;
    let other_port = free_port();
    let mut command = Server::command();
    command.env("STANBY_DATABASE_URL", &line.database.url);
    command.args([
        "serve",
        "--cluster-id=shop",
        &line.fill("--nats-server-arg=--port={nats}"),
    ]);
    command.arg(format!("--http-port={other_port}"));
    let second = Server::start(command, other_port);

    wait_until(LIMIT, async || match second.get("/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?} {}", second.log())),
    })
    .await;

    assert!(second.log().contains("it is used, and none is started"));
}

#[tokio::test]
async fn clients_of_a_nats_server_under_a_unit_of_its_own_notice_no_restart_of_the_server() {
    let Some(mut line) = Line::new().await else {
        return;
    };
    line.file("stan.conf", "max_payload: 2MB\nstreaming { id: shop }\n");
    let file = line.path("stan.conf").display().to_string();
    let printed = crate::cli::stanby(&["config", "nats-server", &file]).await;
    assert!(printed.status.success(), "{printed:?}");
    let config = line.path("nats-server.conf");
    std::fs::write(&config, printed.stdout).unwrap();
    let nats = crate::support::nats::own_server(&["--config", config.to_str().unwrap()]).await;
    let nats = nats.unwrap();
    let port = nats.url().rsplit_once(':').unwrap().1.parse().unwrap();
    line.nats_port = port;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let connection = client.server_info().client_id;
    assert_eq!(client.server_info().max_payload, 2 << 20);

    for round in 0..2 {
        let mut server = line.start(&format!("-sc {file} -p {{nats}} -m {{http}}"));
        server.wait_until_active().await;
        assert!(server.log().contains("it is used, and none is started"));
        let stan = StanClient::connect(client.clone(), "shop", &format!("app-{round}")).await;
        let mut publisher = stan.unwrap().publisher("orders").await;
        publisher.send_until_acked(LIMIT).await;
        server.signal(Signal::SIGTERM);
        server.end().await;
    }
    assert_eq!(
        client.server_info().client_id,
        connection,
        "it was connected anew"
    );
    assert_eq!(
        client
            .statistics()
            .connects
            .load(std::sync::atomic::Ordering::Relaxed),
        1
    );
}

#[tokio::test]
async fn a_file_store_with_data_is_not_left_behind() {
    let Some(line) = Line::new().await else {
        return;
    };
    line.file("server.dat", "");
    let mut server = line.start("-p {nats} -m {http} -store file -dir {folder}");

    assert!(!server.end().await.success());

    let log = server.log();
    let remedy = line.fill("stanby import --from {folder}");
    assert!(log.contains(&remedy), "{log}");
    std::fs::remove_file(line.path("server.dat")).unwrap();
    let server = line.start("-p {nats} -m {http} -store file -dir {folder}");
    server.wait_until_active().await;
}

async fn max_payload(server: &Server) -> u64 {
    let (_, varz) = server.get("/varz").await.unwrap_or_default();
    let varz: serde_json::Value = serde_json::from_str(&varz).unwrap_or_default();
    varz["max_payload"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn a_reload_reaches_the_nats_server_and_a_mistake_in_it_changes_nothing() {
    let Some(line) = Line::new().await else {
        return;
    };
    let file = |rest: &str| {
        let text = "port: {nats}\nhttp: {http}\nstreaming { cluster_id: shop }\n";
        line.file("stan.conf", &format!("{text}{rest}\n"));
    };
    let users = |more: &str| {
        format!("authorization {{ users = [ {{ user: app, password: geheim-1 }} {more} ] }}")
    };
    file(&users(""));
    let server = line.start("-sc {folder}/stan.conf");
    server.wait_until_active().await;
    let client = line.client("shop", Some(("app", "geheim-1"))).await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    // This server's own user is not in the file, and stays what it was.
    let second = ", { user: other, password: geheim-2 }";
    file(&format!("max_payload: 2MB\n{}", users(second)));
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || match max_payload(&server).await {
        0x0020_0000 => Ok(()),
        other => Err(format!("{other}: {}", server.log())),
    })
    .await;
    let login = Some(("other", "geheim-2"));
    let _other = line.client_called("other", "shop", login).await;
    publisher.send_until_acked(LIMIT).await;

    file(&format!(
        "max_payload: 3MB\nwrite_deadline: nonsense\n{}",
        users(second)
    ));
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || {
        let log = server.log();
        let told = log.contains("is not reloaded: it refuses the configuration");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    // Nor does it when it has to be started again.
    kill(pid_of_nats_server(&server), Signal::SIGKILL).unwrap();
    publisher.send_until_acked(LIMIT).await;
    assert_eq!(max_payload(&server).await, 2 << 20);

    let moved = std::fs::read_to_string(line.path("stan.conf")).unwrap();
    let moved = moved.replace(
        &format!("port: {}", line.nats_port),
        &format!("port: {}", free_port()),
    );
    std::fs::write(line.path("stan.conf"), moved.replace("nonsense", "\"5s\"")).unwrap();
    server.signal(Signal::SIGHUP);
    wait_until(LIMIT, async || {
        let log = server.log();
        let told = log.contains("is not reloaded: its port for clients changed");
        if told { Ok(()) } else { Err(log) }
    })
    .await;
    let log = server.log();
    assert!(
        !log.contains("geheim-1") && !log.contains("geheim-2"),
        "{log}"
    );
}

#[tokio::test]
async fn a_line_with_a_certificate_serves_clients_over_tls() {
    let Some(line) = Line::new().await else {
        return;
    };
    let files = crate::certificates::Files::new();
    let shown = files.sign("localhost");
    let text = format!(
        "-p {{nats}} -m {{http}} -cid shop --tls --tlscert {} --tlskey {}",
        shown.certificate.display(),
        shown.key.display()
    );
    let server = line.start(&text);
    server.wait_until_active().await;

    let authority = files.path("ca.pem");
    let options = ConnectOptions::new().add_root_certificates(authority);
    let address = format!("tls://localhost:{}", line.nats_port);
    let nats = options.connect(address).await.unwrap();
    let client = StanClient::connect(nats, "shop", "app").await.unwrap();
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test]
async fn a_nats_server_that_is_too_old_is_not_started_and_the_check_says_so_too() {
    let Some(line) = Line::new().await else {
        return;
    };
    let program = line.path("old-nats-server");
    std::fs::write(&program, "#!/bin/sh\necho 'nats-server: v2.1.9'\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let flag = program.to_str().unwrap();
    let told = "is nats-server 2.1, which is too old: install version 2.2";

    let mut server = line.start(&format!("-p {{nats}} -m {{http}} --nats-server-bin {flag}"));
    assert!(!server.end().await.success());
    assert!(server.log().contains(told), "{}", server.log());
    let database = line.database.url.as_str();
    let check = [
        "config",
        "check",
        "--nats-server-bin",
        flag,
        "--database-url",
        database,
    ];
    let checked = crate::cli::stanby(&check).await;
    let found = crate::cli::stderr(&checked);
    assert!(found.contains(told), "{found}");
}

#[tokio::test]
async fn a_line_with_several_mistakes_is_told_all_of_them_at_once() {
    let line = ["-hbi", "5", "-mm", "x", "-nonsense", "-cid", "shop"];
    let told = crate::cli::stanby(&line).await;

    assert_eq!(told.status.code(), Some(2));
    let told = crate::cli::stderr(&told);
    for part in ["--hb-interval", "--max-msgs", "--nonsense"] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
