//! `stanby import --from DIRECTORY`: what a file store of nats-streaming-server holds comes out as that server itself
//! would have recovered it.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::process::Output;

use futures_util::StreamExt as _;
use stanby::dev::nats::NatsServer;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stores::{Case, Contents, names};
use crate::support::process::Own;
use crate::support::{nats, postgres};

/// A database, and a nats-server where nobody serves.
struct Ground {
    group: Group,
    _database: postgres::TestDatabase,
    _nats: Own<NatsServer>,
}

impl Ground {
    async fn new() -> Option<Self> {
        let database = postgres::database().await?;
        let nats = nats::own_server(&[]).await?;
        Some(Self {
            group: Group::over(database.url.clone(), nats.url(), &[]),
            _database: database,
            _nats: nats,
        })
    }

    async fn import(&self, case: &Case, from: &str, flags: &[&str]) -> Output {
        let mut command = Server::command();
        command
            .args(["import", "--from", from])
            .args(["--database-url", &self.group.database_url])
            .args(["--schema", &case.schema()])
            .args(["--nats-server", &self.group.nats_url])
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
    for part in ["c.main", "msgs.3.dat", "message 29", "--skip-damaged"] {
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
