//! `stanby export --to-file-store`: the way back. What is exported and imported again is what it was.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::path::Path;
use std::process::Output;

use tokio::process::Command;
use tokio::time::timeout;

use crate::cli::{code, stderr, stdout};
use crate::pair::{Group, LIMIT, Server};
use crate::stores::{Case, Contents};
use crate::support::{nats, postgres};

async fn run(args: &[&str], environment: &[(&'static str, String)]) -> Output {
    let mut command = Server::command();
    command.args(args);
    command.env_remove("NATS_STREAMING_ENCRYPTION_KEY");
    command.envs(environment.iter().cloned());
    let mut command = Command::from(command);
    timeout(LIMIT, command.kill_on_drop(true).output())
        .await
        .unwrap()
        .unwrap()
}

async fn import(
    url: &str,
    nats: &str,
    schema: &str,
    case: &Case,
    from: &Path,
    environment: &[(&'static str, String)],
) {
    let from = from.to_str().unwrap();
    let output = run(
        &[
            "import",
            "--from",
            from,
            "--database-url",
            url,
            "--schema",
            schema,
            "--nats-server",
            nats,
            "--cluster-id",
            case.cluster_id(),
        ],
        environment,
    )
    .await;
    assert_eq!(code(&output), Some(0), "{schema}: {}", stderr(&output));
}

async fn export(url: &str, schema: &str, to: &Path) -> Output {
    let to = to.to_str().unwrap();
    run(
        &[
            "export",
            "--to-file-store",
            to,
            "--database-url",
            url,
            "--schema",
            schema,
        ],
        &[],
    )
    .await
}

#[tokio::test]
async fn what_is_exported_and_imported_again_is_what_it_was() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let (url, nats) = (database.url.as_str(), nats.url());
    // Connected and gone clients, durables of every kind with what they have not acked, strange names, every size, encrypted.
    for name in [
        "plain-clean",
        "plain-kill9",
        "payloads",
        "names",
        "encrypted-aes",
        "many-channels",
    ] {
        let case = Case::unpack(name);
        let schema = case.schema();
        import(
            url,
            &nats,
            &schema,
            &case,
            &case.store(),
            &case.environment(),
        )
        .await;
        let to = case.root().join("exported");

        let output = export(url, &schema, &to).await;

        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let told = stdout(&output);
        assert!(told.contains("-store file -dir"), "{told}");
        assert!(!to.with_extension("part").exists());
        let again = format!("{schema}_again");
        import(url, &nats, &again, &case, &to, &[]).await;
        let before = Contents::stored(url, &schema).await;
        let after = Contents::stored(url, &again).await;
        after.assert_is(&before, name);
    }
}

async fn export_to_sql(url: &str, schema: &str, to: &str) -> Output {
    let from = ["--database-url", url, "--schema", schema];
    run(
        &[&["export", "--to-sql", url, "--to-schema", to], &from[..]].concat(),
        &[],
    )
    .await
}

#[tokio::test]
async fn what_is_exported_to_tables_and_imported_again_is_what_it_was() {
    let (Some(database), Some(nats)) = (postgres::database().await, nats::own_server(&[]).await)
    else {
        return;
    };
    let (url, nats) = (database.url.as_str(), nats.url());
    for name in [
        "plain-clean",
        "plain-kill9",
        "payloads",
        "expired",
        "encrypted-aes",
        "many-channels",
    ] {
        let case = Case::unpack(name);
        let schema = case.schema();
        let (from, environment) = (case.store(), case.environment());
        import(url, &nats, &schema, &case, &from, &environment).await;
        let to = format!("{schema}_former");
        let admin = crate::tables::Tables::new(url);
        admin.execute(format!("CREATE SCHEMA \"{to}\"")).await;

        let output = export_to_sql(url, &schema, &to).await;

        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let told = stdout(&output);
        assert!(told.contains("-sql_driver postgres"), "{told}");
        let again = format!("{schema}_again");
        let output = run(
            &[
                "import",
                "--from",
                url,
                "--from-schema",
                &to,
                "--database-url",
                url,
                "--schema",
                &again,
                "--nats-server",
                &nats,
                "--cluster-id",
                case.cluster_id(),
            ],
            &[],
        )
        .await;
        assert_eq!(code(&output), Some(0), "{name}: {}", stderr(&output));
        let before = Contents::stored(url, &schema).await;
        let after = Contents::stored(url, &again).await;
        after.assert_is(&before, name);

        // What is there already is left alone.
        let output = export_to_sql(url, &schema, &to).await;
        let told = stderr(&output);
        assert_eq!(code(&output), Some(1), "{told}");
        assert!(told.contains("and they are not empty"), "{told}");
        let output = export_to_sql(url, &schema, &schema).await;
        assert!(stderr(&output).contains("holds the tables of stanby"));
    }
}

#[tokio::test]
async fn an_export_is_refused_while_a_server_serves_and_where_there_is_something_already() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("stan");
    let refused = async |to: &Path, part: &str| {
        let output = export(&group.database_url, "stanby", to).await;
        assert_eq!(code(&output), Some(1), "{part}: {}", stdout(&output));
        let told = stderr(&output);
        assert!(told.contains(part), "{part}: {told}");
    };
    refused(&to, "schema stanby").await;
    let mut server = group.server();
    server.wait_until_active().await;
    refused(&to, "a server is active there").await;
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.end().await;

    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("server.dat"), "").unwrap();
    refused(&to, "is not empty").await;
    std::fs::remove_file(to.join("server.dat")).unwrap();
    let output = export(&group.database_url, "stanby", &to).await;
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(to.join("server.dat").is_file());
}

#[tokio::test]
async fn encrypted_messages_are_exported_as_they_were_published() {
    const KEY: [&str; 2] = ["--encryption-key", "a key that nobody guesses"];
    let Some(group) = Group::new(&["--encrypt"]).await else {
        return;
    };
    let server = group.server_with(&KEY);
    server.wait_until_active().await;
    let client = group.client("app").await;
    let mut publisher = client.publisher("orders").await;
    for _ in 0..3 {
        publisher.send().await;
    }
    publisher.take_all_acks().await;
    client.close().await.unwrap();
    server.kill().await;

    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("store");
    let (url, to) = (group.database_url.as_str(), to.to_str().unwrap());
    let back = ["export", "--to-file-store", to, "--database-url", url];
    let back = [&back[..], &KEY].concat();
    let exported = run(&back, &[]).await;
    assert_eq!(code(&exported), Some(0), "{}", stderr(&exported));
    let told = stdout(&exported);
    assert!(
        told.contains("messages: 3") && !told.contains("left out"),
        "{told}"
    );
}

#[tokio::test]
async fn the_line_to_go_back_with_lifts_limits_that_are_too_low_and_a_note_warns_of_what_encryption_misreads()
 {
    let Some((group, mut tables)) = crate::import::group().await else {
        return;
    };
    // By default the former server takes 100 channels, and a payload that begins with a byte of 1 for an encrypted one.
    for id in 1..=101 {
        tables.channel(id, &format!("channel-{id}"), 3).await;
    }
    tables.message(1, "channel-1", 4, b"\x01\x02").await;
    tables.message(1, "channel-1", 5, b"\x03").await;
    crate::import::ensure_imported(&crate::import::import(&group).await);
    let folder = tempfile::tempdir().unwrap();

    let to = folder.path().join("back");
    let output = export(&group.database_url, "stanby", &to).await;

    let told = stdout(&output);
    assert_eq!(code(&output), Some(0), "{}", stderr(&output));
    assert!(told.trim_end().ends_with(" -max_channels 0"), "{told}");
    assert!(
        told.contains("channel \"channel-1\": 1 of its messages begin with a byte"),
        "{told}"
    );
}

/// In a SQL store, nats-streaming-server looks for ever for a message that a limit is to drop, if its row is not there or has the
/// size 0. Files may have holes, but for the last message.
#[tokio::test]
async fn tables_have_a_message_of_some_size_where_others_are_gone_or_empty_and_files_have_the_last_one()
 {
    let Some((group, mut tables)) = crate::import::group().await else {
        return;
    };
    tables.channel(1, "orders", 12).await;
    for (sequence, data) in [(3, &b"three"[..]), (4, b""), (7, b"seven"), (9, b"")] {
        tables.message(1, "orders", sequence, data).await;
    }
    crate::import::ensure_imported(&crate::import::import(&group).await);
    let url = group.database_url.as_str();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("back");
    group.tables().execute("CREATE SCHEMA back").await;
    let ensure = |output: &Output, empty: u32| {
        assert_eq!(code(output), Some(0), "{}", stderr(output));
        let told = stdout(output);
        assert!(told.contains("messages: 4"), "{told}");
        let note = format!("channel \"orders\": empty messages ({empty}) stand");
        assert!(told.contains(&note), "{told}");
    };

    ensure(&export(url, "stanby", &to).await, 1);
    ensure(&export_to_sql(url, "stanby", "back").await, 6);

    let index = std::fs::read(to.join("orders/msgs.1.idx")).unwrap();
    let sequences: Vec<_> = index[4..].chunks(32).map(|entry| entry[0]).collect();
    assert_eq!(sequences, [3, 4, 7, 9, 12]);
    let rows =
        "SELECT seq || ' ' || (size = length(data) AND size > 0) FROM back.messages ORDER BY seq";
    let expected: Vec<_> = (3..=12)
        .map(|sequence| format!("{sequence} true"))
        .collect();
    assert_eq!(group.tables().texts(rows).await, expected);
}
