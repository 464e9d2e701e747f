//! `stanby import --from DIRECTORY`: what a file store of nats-streaming-server holds comes out as that server itself
//! would have recovered it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::Output;

use futures_util::StreamExt as _;
use stanby::dev::nats::NatsServer;
use stanby::protocol::client;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stores::{Case, Contents, names, text};
use crate::support::process::Own;
use crate::support::{nats, postgres};

/// A database, and a nats-server where nobody serves.
pub(crate) struct Ground {
    group: Group,
    _database: postgres::TestDatabase,
    _nats: Own<NatsServer>,
}

impl Ground {
    pub(crate) async fn new() -> Option<Self> {
        let database = postgres::database().await?;
        let nats = nats::own_server(&[]).await?;
        Some(Self {
            group: Group::over(database.url.clone(), nats.url(), &[]),
            _database: database,
            _nats: nats,
        })
    }

    pub(crate) async fn import(&self, case: &Case, from: &str, flags: &[&str]) -> Output {
        Self::import_into(&self.group, case, &case.schema(), from, flags).await
    }

    async fn import_into(
        group: &Group,
        case: &Case,
        schema: &str,
        from: &str,
        flags: &[&str],
    ) -> Output {
        let mut command = Server::command();
        command
            .args(["import", "--from", from])
            .args(["--database-url", &group.database_url])
            .args(["--schema", schema])
            .args(["--nats-server", &group.nats_url])
            .args(["--cluster-id", case.cluster_id()])
            .args(flags)
            .env_remove("NATS_STREAMING_ENCRYPTION_KEY")
            .envs(case.environment());
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        timeout(LIMIT, command.output()).await.unwrap().unwrap()
    }

    async fn stored(&self, case: &Case) -> Contents {
        Contents::stored(&self.group.database_url, &case.schema()).await
    }
}

/// What the import is told beside the directory, as the former server was told it.
fn flags(case: &Case) -> Vec<String> {
    let mut flags: Vec<String> = Vec::new();
    if let Some(config) = case.expected["config"].as_str() {
        let file = case.root().join("former.conf");
        std::fs::write(&file, config).unwrap();
        flags.extend([
            "--from-config".to_owned(),
            file.to_str().unwrap().to_owned(),
        ]);
    }
    match &case.name[..] {
        "expired" => flags.extend(["--max-age", "2s"].map(str::to_owned)),
        "crc-poly" => flags.extend(["--from-crc-poly", "3421780262"].map(str::to_owned)),
        _ => {}
    }
    if case.is_damaged() {
        flags.push("--skip-damaged".to_owned());
    }
    flags
}

#[tokio::test]
async fn every_directory_comes_out_as_the_former_server_recovers_it() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let cases = names("raft-", false);
    let ground = &ground;
    let imports = cases.iter().map(|name| async move {
        let case = Case::unpack(name);
        let flags = flags(&case);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let output = ground
            .import(&case, case.store().to_str().unwrap(), &flags)
            .await;
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let expected = Contents::told(case.recovered());
        ground.stored(&case).await.assert_is(&expected, name);
    });
    futures_util::stream::iter(imports)
        .buffer_unordered(3)
        .collect::<Vec<()>>()
        .await;
}

/// The directories of all nodes, as the import is told them.
pub(crate) fn nodes(case: &Case, wanted: impl Fn(&str) -> bool) -> String {
    let nodes = case.expected["nodes"].as_object().unwrap();
    let nodes = nodes.iter().filter(|(name, _)| wanted(name));
    let places = nodes.map(|(_, node)| {
        let [store, log] = ["store", "raft"].map(|part| case.root().join(text(&node[part])));
        format!("{}:{}", store.display(), log.display())
    });
    format!("raft:{}", places.collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn every_cluster_comes_out_as_its_nodes_together_recover_it() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let cases = names("raft-", true);
    let ground = &ground;
    let imports = cases.iter().map(|name| async move {
        let case = Case::unpack(name);
        let output = ground.import(&case, &nodes(&case, |_| true), &[]).await;
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let expected = Contents::told(case.recovered());
        ground.stored(&case).await.assert_is(&expected, name);
        let is_one_of = stdout(&output).contains("a majority is");
        assert!(!is_one_of, "{}", stdout(&output));
    });
    futures_util::stream::iter(imports)
        .buffer_unordered(3)
        .collect::<Vec<()>>()
        .await;
}

#[tokio::test]
async fn nodes_are_found_below_one_directory_and_too_few_of_them_are_said_to_be_so() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("raft-lagging");
    let lagging = case.store().join(text(&case.expected["lagging_node"]));
    let from = format!("raft:{}", lagging.display());
    let output = ground.import(&case, &from, &["--dry-run"]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("1 of 3 nodes was given"), "{told}");

    let alone = format!("file:{}", lagging.join("store").display());
    let output = ground.import(&case, &alone, &[]).await;
    let told = stderr(&output);
    assert!(told.contains("a node of a Raft cluster"), "{told}");
    assert_eq!(code(&output), Some(1));

    let above = format!("file:{}", lagging.display());
    let output = ground.import(&case, &above, &[]).await;
    let told = stderr(&output);
    assert!(told.contains("raft:DIR1,DIR2,DIR3"), "{told}");
}

#[tokio::test]
async fn a_damaged_store_names_file_record_and_loss_and_nothing_is_written() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("corrupt-truncated-record");
    let from = format!("file:{}", case.store().display());
    let output = ground.import(&case, &from, &[]).await;
    assert_eq!(code(&output), Some(1));
    let text = stderr(&output);
    for part in ["c.main", "msgs.3.dat", "message 30", "--skip-damaged"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rehearsed = ground.import(&case, &from, &["--dry-run"]).await;
    assert_eq!(code(&rehearsed), Some(1));
    assert!(
        stdout(&rehearsed).contains("problems: 1"),
        "{}",
        stdout(&rehearsed)
    );

    let output = ground.import(&case, &from, &["--skip-damaged"]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.contains("left out: \"c.main\"/msgs.3.dat"), "{text}");
}

#[tokio::test]
async fn everything_that_is_damaged_is_told_at_once_and_a_missing_journal_is_noted() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let from = format!("file:{}", case.store().display());
    let path = |name: &str| case.store().join(name);
    let append = |name: &str, more: &[u8]| {
        let mut bytes = std::fs::read(path(name)).unwrap();
        bytes.extend(more);
        std::fs::write(path(name), bytes).unwrap();
    };
    append("server.dat", b"x");
    std::fs::remove_file(path("clients.dat")).unwrap();
    std::fs::remove_file(path("orders/msgs.1.dat")).unwrap();
    std::fs::remove_file(path("events.eu/subs.dat")).unwrap();

    let told = stdout(&ground.import(&case, &from, &["--dry-run"]).await);
    for part in [
        "server.dat: it has ",
        "clients.dat: it is missing",
        "\"orders\"/msgs.1.idx: there is no file of records",
        "problems: 3",
        "\"events.eu\"/subs.dat: it is missing",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let output = ground.import(&case, &from, &["--skip-damaged"]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("left out: server.dat: it has "), "{told}");
}

/// Acceptance of a switch: nobody connects anew, and everybody is sent what comes next.
#[tokio::test]
async fn clients_of_a_file_store_go_on_at_the_right_message() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("compacted");
    let mut group = Group::over(
        ground.group.database_url.clone(),
        ground.group.nats_url.clone(),
        &[],
    );
    case.cluster_id().clone_into(&mut group.cluster_id);
    let recovered = case.recovered();
    let (channel, told) = recovered["channels"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(_, it)| it["last_seq"].as_u64() > Some(0))
        .unwrap();
    let durable = told["subscriptions"].as_array().unwrap();
    let durable = durable
        .iter()
        .find(|it| it["kind"] == "durable" && it["state"] == "online")
        .unwrap();
    let publisher = recovered["clients"].as_array().unwrap();
    let publisher = publisher
        .iter()
        .find(|it| it["id"] == durable["client"])
        .unwrap();

    // The client is connected all along: it listens to its inbox and answers heartbeats, and knows nothing else.
    let nats = async_nats::connect(&group.nats_url).await.unwrap();
    let mut inbox = nats
        .subscribe(text(&durable["inbox"]).to_owned())
        .await
        .unwrap();
    nats.flush().await.unwrap();
    let from = case.store();
    let output = Ground::import_into(&group, &case, "stanby", from.to_str().unwrap(), &[]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let server = group.server();
    server.wait_until_active().await;

    // Under the connection ID and the subjects that it was told by the former server.
    let connection = text(&publisher["conn_id_hex"]).as_bytes();
    let connection = data_encoding::HEXLOWER.decode(connection).unwrap();
    let request = client::publish_request(client::Publish {
        client_id: text(&publisher["id"]),
        connection_id: &connection,
        guid: "a guid",
        channel,
        data: "new".into(),
    });
    let subject = format!("{}.{channel}", text(&recovered["server_info"]["publish"]));
    let answer = timeout(LIMIT, nats.request(subject, request)).await;
    let ack = client::publish_ack(answer.unwrap().unwrap().payload).unwrap();
    assert_eq!(ack.refusal, None);

    // First what it was sent and has not acked, as redelivered, then what it was not sent yet.
    let last_sent = durable["last_sent"].as_u64().unwrap();
    let pending = durable["pending_existing"].as_array().unwrap();
    let pending = pending.iter().map(|it| (it.as_u64().unwrap(), true));
    let next = told["last_seq"].as_u64().unwrap() + 1;
    let fresh = (last_sent + 1..=next).map(|sequence| (sequence, false));
    let expected: Vec<_> = pending.chain(fresh).collect();
    let mut came = Vec::new();
    while came.len() < expected.len() {
        let message = timeout(LIMIT, inbox.next()).await.unwrap().unwrap();
        let delivery = client::delivery(message.payload).unwrap();
        let ack = client::ack(channel, delivery.sequence);
        let to = text(&durable["ack_inbox"]).to_owned();
        nats.publish(to, ack).await.unwrap();
        came.push((delivery.sequence, delivery.redelivered));
    }
    assert_eq!(came, expected);
}

#[tokio::test]
async fn a_store_that_somebody_has_open_or_of_another_cluster_is_refused() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let case = Case::unpack("ft");
    let from = case.store();
    let from = from.to_str().unwrap();
    let refused = async |case: &Case, part: &str| {
        let output = ground.import(case, from, &[]).await;
        let told = stderr(&output);
        assert_eq!(code(&output), Some(1), "{told}");
        assert!(told.contains(part), "{part}: {told}");
    };
    // This process may write one of its files.
    let journal = std::fs::OpenOptions::new()
        .append(true)
        .open(case.store().join("clients.dat"))
        .unwrap();
    refused(&case, "a server still runs on this store").await;
    drop(journal);

    // As the active of a fault-tolerant group does.
    let lock = std::fs::OpenOptions::new()
        .write(true)
        .open(case.store().join(".rootdir.lck"))
        .unwrap();
    let all = nix::libc::flock {
        l_type: nix::libc::F_WRLCK.try_into().unwrap(),
        l_whence: nix::libc::SEEK_SET.try_into().unwrap(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    nix::fcntl::fcntl(&lock, nix::fcntl::FcntlArg::F_SETLK(&all)).unwrap();
    refused(&case, "holds the lock .rootdir.lck").await;
    drop(lock);

    let output = ground.import(&case, from, &["--cluster-id", "other"]).await;
    assert_eq!(code(&output), Some(2), "given twice");
    let nowhere = case.root().join("nothing");
    std::fs::create_dir(&nowhere).unwrap();
    let output = ground.import(&case, nowhere.to_str().unwrap(), &[]).await;
    assert!(
        stderr(&output).contains("holds no store"),
        "{}",
        stderr(&output)
    );
    std::fs::write(case.store().join("server.dat"), [2, 0, 0, 0]).unwrap();
    refused(&case, "only version 1 is known").await;
    std::fs::remove_file(case.store().join("server.dat")).unwrap();
    refused(&case, "is the copy complete?").await;
}

#[tokio::test]
async fn a_former_configuration_file_says_all_that_an_import_needs() {
    let Some(ground) = Ground::new().await else {
        return;
    };
    let import = async |case: &Case, streaming: &str, flags: &[&str]| {
        let file = case.root().join("former.conf");
        let text = format!(
            "streaming {{ cluster_id: {:?}, ns: {:?}, {streaming} }}\n",
            case.cluster_id(),
            ground.group.nats_url
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Server::command();
        command
            .args(["import", "--from-config", file.to_str().unwrap()])
            .args(["--database-url", &ground.group.database_url])
            .args(["--schema", &case.schema()])
            .args(flags)
            .env_remove("NATS_STREAMING_ENCRYPTION_KEY");
        let output = Command::from(command).output();
        timeout(LIMIT, output).await.unwrap().unwrap()
    };
    let of_store = |case: &Case| format!("store: file, dir: {:?}", case.store());

    let polynomial = Case::unpack("crc-poly");
    let streaming = format!(
        "{}, file_options {{ crc_poly: 3421780262 }}",
        of_store(&polynomial)
    );
    let output = import(&polynomial, &streaming, &[]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let expected = Contents::told(polynomial.recovered());
    ground
        .stored(&polynomial)
        .await
        .assert_is(&expected, "crc-poly");

    let encrypted = Case::unpack("encrypted-aes");
    let key = text(&encrypted.expected["encryption_key"]);
    let streaming = format!(
        "{}, encrypt: true, encryption_key: {key:?}",
        of_store(&encrypted)
    );
    let output = import(&encrypted, &streaming, &[]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("imported channels"), "{told}");

    // A flag goes before the file.
    let plain = Case::unpack("plain-clean");
    let store = plain.store();
    let nowhere = "store: file, dir: '/nowhere'";
    let output = import(&plain, nowhere, &["--from", store.to_str().unwrap()]).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    for (streaming, part) in [
        ("store: memory", "there is nothing to import"),
        ("store: file", "names no directory"),
        (
            "store: sql, sql_options { driver: mysql, source: 'x' }",
            "--from: the URL of MySQL: it names no database",
        ),
    ] {
        let output = import(&plain, streaming, &[]).await;
        assert_eq!(code(&output), Some(2), "{streaming}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}
