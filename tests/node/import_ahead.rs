//! `stanby import --ahead`: what a former server has written is copied while it still runs, and the rest when it has gone. The
//! former server is played: files of its form that grow while somebody has one of them open, tables while somebody listens.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stderr};
use crate::former::server_info;
use crate::import::{CHANNEL, ensure_nothing_written};
use crate::import_running::{Following, publish};
use crate::pair::{Group, LIMIT, Server};
use crate::stores::Contents;

fn command(group: &Group, from: &str, schema: &str) -> Command {
    let mut command = Server::command();
    command
        .args(["import", "--ahead", "--from", from])
        .args(["--database-url", &group.database_url, "--schema", schema])
        .args(["--nats-server", &group.nats_url])
        .args(["--cluster-id", &group.cluster_id])
        .env_remove("NATS_STREAMING_ENCRYPTION_KEY");
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    command
}

/// A file store with all that the group's tables hold, whose server has stopped for it.
async fn export(group: &Group, to: &Path) {
    let mut command = Server::command();
    command
        .args(["export", "--to-file-store", to.to_str().unwrap()])
        .args(["--database-url", &group.database_url]);
    let output = Command::from(command).output();
    let output = timeout(LIMIT, output).await.unwrap().unwrap();
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
}

async fn stop(mut server: Server) {
    server.signal(Signal::SIGTERM);
    server.end().await;
}

/// Writes over the files of a store as its server does: records before the indexes that list them.
fn grow(store: &Path, into: &Path) {
    let mut files = Vec::new();
    for entry in fs::read_dir(into).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_owned();
        if path.is_dir() {
            fs::create_dir_all(store.join(&name)).unwrap();
            grow(&store.join(&name), &path);
        } else {
            files.push((path.extension().is_some_and(|it| it == "idx"), path, name));
        }
    }
    files.sort();
    for (_, path, name) in files {
        fs::copy(path, store.join(name)).unwrap();
    }
}

fn in_use(store: &Path) -> File {
    let file = store.join("server.dat");
    OpenOptions::new().append(true).open(file).unwrap()
}

#[tokio::test]
async fn a_file_store_is_copied_while_it_grows_and_the_rest_when_its_server_has_gone() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [store, later] = ["store", "later"].map(|name| folder.path().join(name));
    let server = group.server();
    server.wait_until_active().await;
    let app = group.client("app").await;
    let consumed = app.subscribe(CHANNEL, "", "d").await.unwrap();
    publish(&app, CHANNEL, 100).await;
    publish(&app, "others", 3).await;
    drop(consumed);
    stop(server).await;
    export(&group, &store).await;

    let open = in_use(&store);
    let mut import = command(&group, store.to_str().unwrap(), "moved");
    let import = Following::start(&mut import).await;
    let server = group.server();
    server.wait_until_active().await;
    publish(&app, CHANNEL, 50).await;
    publish(&app, "a.first", 2).await;
    app.hold(CHANNEL, "", "held", 5).await.unwrap();
    stop(server).await;
    export(&group, &later).await;
    grow(&store, &later);
    drop(open);
    let told = import.end().await;
    assert!(
        told.contains("imported channels: 3, messages: 155"),
        "{told}"
    );
    let stored = Contents::stored(&group.database_url, "moved").await;
    let expected = Contents::stored(&group.database_url, "stanby").await;
    stored.assert_is(&expected, "ahead");
}

#[tokio::test]
async fn a_store_that_is_another_one_at_the_end_is_refused_and_nothing_is_left_of_it() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let [store, other] = ["store", "other"].map(|name| folder.path().join(name));
    let server = group.server();
    server.wait_until_active().await;
    let app = group.client("app").await;
    publish(&app, CHANNEL, 10).await;
    stop(server).await;
    export(&group, &store).await;
    let query = "UPDATE stanby.messages SET published_at_ns = published_at_ns + 1";
    group.tables().execute(query).await;
    export(&group, &other).await;

    let open = in_use(&store);
    let mut import = command(&group, store.to_str().unwrap(), "moved");
    let import = Following::start(&mut import).await;
    grow(&store, &other);
    drop(open);
    let told = import.failure().await;
    assert!(told.contains("is not the one that was copied"), "{told}");
    let query = "SELECT count(*) FROM moved.messages";
    assert_eq!(group.tables().number(query).await, 0);
}

#[tokio::test]
async fn the_tables_of_a_sql_store_are_followed_while_somebody_listens_for_their_clients() {
    let Some((group, mut tables)) = crate::import::group().await else {
        return;
    };
    tables.channel(1, CHANNEL, 0).await;
    for sequence in 1..=20 {
        tables.message(1, CHANNEL, sequence, b"before").await;
    }
    let nats = async_nats::connect(&group.nats_url).await.unwrap();
    let discover = server_info(&group.cluster_id).discovery;
    let mut listening = nats.subscribe(discover).await.unwrap();
    nats.flush().await.unwrap();

    let from = group.database_url.clone();
    let import = Following::start(&mut command(&group, &from, "stanby")).await;
    for sequence in 21..=25 {
        tables.message(1, CHANNEL, sequence, b"after").await;
    }
    // Somebody asks whether it still listens.
    timeout(LIMIT, listening.next()).await.unwrap().unwrap();
    ensure_nothing_written(&group).await;
    listening.unsubscribe().await.unwrap();
    nats.flush().await.unwrap();
    let told = import.end().await;
    assert!(
        told.contains("imported channels: 1, messages: 25"),
        "{told}"
    );
    let query = "SELECT count(*) FROM stanby.messages WHERE data = 'after' AND sequence > 20";
    assert_eq!(group.tables().number(query).await, 5);
}
