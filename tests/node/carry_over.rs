//! A server started with the line of a nats-streaming-server with a file store: what is in there is in the tables before it
//! serves, once.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs::OpenOptions;
use std::path::Path;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::former::FormerTables;
use crate::pair::{LIMIT, Server, free_port, wait_for_one_active};
use crate::start_lines::Line;
use crate::stores::{Case, Contents};
use crate::support::postgres;
use crate::support::process::temporary_directory;
use crate::support::wait::wait_until;

/// With a file store, as its operator wrote it.
fn text(case: &Case) -> String {
    let store = case.store();
    format!(
        "-p {{nats}} -m {{http}} -cid {} -store file -dir {}",
        case.cluster_id(),
        store.display()
    )
}

async fn ask(line: &Line, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(&line.database.url).await.unwrap();
    let asked = sqlx::query_scalar(query).fetch_one(&mut connection);
    asked.await.unwrap()
}

async fn imports(line: &Line) -> i64 {
    ask(line, "SELECT count(*) FROM stanby.imports").await
}

async fn assert_has_all_of(line: &Line, case: &Case) {
    let stored = Contents::stored(&line.database.url, "stanby").await;
    stored.assert_has_messages_of(&Contents::told(case.recovered()), &case.name);
}

fn says(server: &Server, part: &str) -> bool {
    server.log().contains(part)
}

#[tokio::test]
async fn the_first_server_with_the_line_of_a_file_store_has_its_data_and_the_next_ones_are_quiet() {
    let Some(line) = Line::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let mut first = line.start(&text(&case));
    first.wait_until_active().await;

    assert_has_all_of(&line, &case).await;
    assert!(says(&first, "the former store is imported"));
    first.signal(Signal::SIGTERM);
    first.end().await;

    let client_at_work = async |server: &Server| {
        let epoch = server.wait_until_active().await;
        let name = format!("app-{epoch}");
        let client = line.client_called(&name, case.cluster_id(), None).await;
        let mut publisher = client.publisher("after.the.switch").await;
        publisher.send_until_acked(LIMIT).await;
    };
    let mut second = line.start(&text(&case));
    client_at_work(&second).await;
    second.signal(Signal::SIGTERM);
    second.end().await;

    // A directory that is gone, or mounted elsewhere, is no reason to ask.
    let copy = line.path("copy");
    std::fs::rename(case.store(), &copy).unwrap();
    let elsewhere = text(&case).replace(
        &case.store().display().to_string(),
        &copy.display().to_string(),
    );
    for again in [text(&case), elsewhere] {
        let mut server = line.start(&again);
        client_at_work(&server).await;
        // The processes of one port write to one file.
        let log = server.log();
        assert_eq!(log.matches("importing the store").count(), 1, "{log}");
        assert!(!log.contains("former-store"), "{log}");
        server.signal(Signal::SIGTERM);
        server.end().await;
    }
    assert_eq!(imports(&line).await, 1);
}

#[tokio::test]
async fn two_servers_started_at_once_on_one_directory_import_it_once() {
    let Some(line) = Line::new().await else {
        return;
    };
    let other = line.beside();
    let case = Case::unpack("many-channels");
    // Both need room for all of its channels.
    let text = format!("{} -mc 0", text(&case));
    let servers = [line.start(&text), other.start(&text)];

    wait_for_one_active(&[&servers[0], &servers[1]]).await;

    assert_eq!(imports(&line).await, 1);
    assert_has_all_of(&line, &case).await;
    let imported = servers
        .iter()
        .filter(|it| says(it, "the former store is imported"));
    assert_eq!(imported.count(), 1);
}

#[tokio::test]
async fn an_import_that_was_killed_half_way_is_begun_anew_by_the_next_server() {
    let Some(line) = Line::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let migrated = crate::cli::stanby(&["migrate", "--database-url", &line.database.url]).await;
    assert!(migrated.status.success());
    // All messages are written when it comes to the clients.
    let mut holding = PgConnection::connect(&line.database.url).await.unwrap();
    sqlx::raw_sql(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NEW; END $$;
         CREATE TRIGGER wait BEFORE INSERT ON stanby.clients FOR EACH ROW EXECUTE FUNCTION wait();
         SELECT pg_advisory_lock(42)",
    )
    .execute(&mut holding)
    .await
    .unwrap();
    let first = line.start(&text(&case));
    wait_until(LIMIT, async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' AND objid = 42";
        match ask(&line, waiting).await {
            0 => Err(first.log()),
            _ => Ok(()),
        }
    })
    .await;
    first.wait_for_trouble("it imports").await;
    first.kill().await;
    sqlx::raw_sql("SELECT pg_advisory_unlock(42)")
        .execute(&mut holding)
        .await
        .unwrap();

    line.is_free().await;
    let second = line.start(&text(&case));
    second.wait_until_active().await;

    assert!(says(&second, "the former store is imported"));
    assert_has_all_of(&line, &case).await;
    assert_eq!(imports(&line).await, 1);
}

#[tokio::test]
async fn a_file_store_that_somebody_has_open_is_waited_for() {
    let Some(line) = Line::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let journal = case.store().join("clients.dat");
    let open = OpenOptions::new().append(true).open(journal).unwrap();
    let server = line.start(&text(&case));
    server
        .wait_for_trouble("a server still runs on this store")
        .await;

    drop(open);

    server.wait_until_active().await;
    assert_has_all_of(&line, &case).await;
}

fn append(file: &Path) {
    let mut opened = OpenOptions::new().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut opened, &[0; 8]).unwrap();
}

#[tokio::test]
async fn a_store_that_was_written_to_after_its_import_is_told_and_nothing_is_imported_on_top() {
    let Some(line) = Line::new().await else {
        return;
    };
    let case = Case::unpack("plain-clean");
    let mut first = line.start(&text(&case));
    first.wait_until_active().await;
    first.signal(Signal::SIGTERM);
    first.end().await;
    append(&case.store().join("clients.dat"));

    let second = line.start(&text(&case));
    second.wait_until_active().await;

    let (code, ready) = second.get("/readyz").await.unwrap();
    assert_eq!(code, 200, "it serves all the same: {ready}");
    for part in ["former-store-changed", "is not what was imported", "(UTC)"] {
        assert!(ready.contains(part), "{part}: {ready}");
    }
    assert_eq!(imports(&line).await, 1);
    assert_has_all_of(&line, &case).await;
}

/// A mount that is missing, or a slip in the path.
#[tokio::test]
async fn a_start_that_finds_no_store_in_the_directory_says_so() {
    let Some(line) = Line::new().await else {
        return;
    };
    let empty = temporary_directory();
    let directory = empty.root().display();
    let server = line.start(&format!(
        "-p {{nats}} -m {{http}} -store file -dir {directory}"
    ));
    server.wait_until_active().await;
    let told = format!("{directory} holds no store of a nats-streaming-server");
    assert!(server.log().contains(&told), "{}", server.log());
}

#[tokio::test]
async fn what_a_start_cannot_import_ends_it_with_the_way_to_do_it() {
    let Some(line) = Line::new().await else {
        return;
    };
    let ends = async |text: &str, parts: &[&str]| {
        let mut server = line.start(text);
        assert!(!server.end().await.success(), "{text}");
        let log = server.log();
        for part in parts {
            assert!(log.contains(part), "{part}: {log}");
        }
        line.is_free().await;
    };
    // Which of several nodes has all of it, one of them cannot know.
    let node = Case::unpack("raft-single");
    let nodes = node.expected["nodes"].as_object().unwrap();
    let store = nodes.values().next().unwrap()["store"].as_str().unwrap();
    let text = |case: &Case, store: &Path| {
        format!(
            "-p {{nats}} -m {{http}} -cid {} -store file -dir {}",
            case.cluster_id(),
            store.display()
        )
    };
    let raft = text(&node, &node.root().join(store));
    let way = "cannot be imported at the start: ";
    ends(&raft, &[way, "--from raft:DIR1,DIR2,DIR3"]).await;

    let damaged = Case::unpack("corrupt-truncated-record");
    let line_of_damaged = text(&damaged, &damaged.store());
    ends(
        &line_of_damaged,
        &[
            "Lost: message 30;",
            "--skip-damaged",
            "--dry-run",
            "nothing was imported",
        ],
    )
    .await;

    let plain = Case::unpack("plain-clean");
    let other_cluster = text(&plain, &plain.store()).replace(plain.cluster_id(), "other");
    ends(&other_cluster, &["it is the store of cluster ID"]).await;

    // Of a group that has served without it.
    let text_of_plain = text(&plain, &plain.store());
    let mut used = line.start(&text_of_plain.replace("-store file", "-store memory"));
    used.wait_until_active().await;
    let client = line.client(plain.cluster_id(), None).await;
    client
        .publisher("orders")
        .await
        .send_until_acked(LIMIT)
        .await;
    used.signal(Signal::SIGTERM);
    used.end().await;
    line.is_free().await;
    ends(
        &text_of_plain,
        &["schema stanby is not empty", "leave the data behind"],
    )
    .await;
}

#[tokio::test]
async fn a_line_with_a_sql_store_has_the_data_that_stands_in_its_database() {
    let Some(line) = Line::new().await else {
        return;
    };
    let mut tables = FormerTables::new(&line.database.url, "shop").await;
    tables.channel(1, "orders", 0).await;
    for sequence in 1..=3 {
        tables.message(1, "orders", sequence, b"data").await;
    }
    let mut command = line.command();
    // Nothing is added: the source of the former store is where the tables go.
    command.env_remove("STANBY_DATABASE_URL");
    command.args(["-st", "SQL", "-sql_driver", "postgres", "-cid", "shop"]);
    command.args(["-sql_source", &line.database.url]);
    command.args(line.fill("-p {nats} -m {http}").split_whitespace());
    let mut first = Server::start(command, line.http_port);
    first.wait_until_active().await;

    let count = "SELECT count(*) FROM stanby.messages";
    assert_eq!(ask(&line, count).await, 3);
    let (_, page) = first
        .get("/streaming/channelsz?channel=orders")
        .await
        .unwrap();
    assert!(page.contains("\"last_seq\": 3"), "{page}");
    assert_eq!(imports(&line).await, 1);
    first.signal(Signal::SIGTERM);
    first.end().await;

    // With another name for the same database, and with tables that are used.
    let again = "-p {nats} -m {http} -cid shop -st SQL -sql_driver postgres";
    let second = line.start(again);
    second.wait_until_active().await;
    assert_eq!((imports(&line).await, ask(&line, count).await), (1, 3));
}

#[tokio::test]
async fn a_line_whose_sql_store_is_in_another_database_has_its_data() {
    let (Some(line), Some(former)) = (Line::new().await, postgres::database().await) else {
        return;
    };
    let mut tables = FormerTables::new(&former.url, "shop").await;
    tables.channel(1, "orders", 0).await;
    for sequence in 1..=3 {
        tables.message(1, "orders", sequence, b"data").await;
    }
    let source = former.url.clone();
    let text = format!(
        "-p {{nats}} -m {{http}} -cid shop -st SQL -sql_driver postgres -sql_source {source}"
    );
    line.file(
        "stan.conf",
        &format!(
            "port: {{nats}}, http_port: {{http}}, streaming {{ cluster_id: shop, store: sql, sql_options: {{ driver: postgres, source: {source:?} }} }}"
        ),
    );
    let mut first = line.start("-sc {folder}/stan.conf");
    first.wait_until_active().await;

    let count = "SELECT count(*) FROM stanby.messages";
    assert_eq!((imports(&line).await, ask(&line, count).await), (1, 3));
    first.signal(Signal::SIGTERM);
    first.end().await;

    // Of a line it is the same, and once is enough, whether or not that database is still there.
    drop((tables, former));
    let second = line.start(&text);
    second.wait_until_active().await;
    assert_eq!((imports(&line).await, ask(&line, count).await), (1, 3));
}

/// It is told for as long as the line names it: nothing else remembers that its data may be missing.
#[tokio::test]
async fn a_former_sql_store_that_was_never_there_is_told_at_each_start() {
    let Some(line) = Line::new().await else {
        return;
    };
    let text = format!(
        "-p {{nats}} -m {{http}} -cid shop -st SQL -sql_driver postgres -sql_source postgres://stan@127.0.0.1:{}/stan",
        free_port()
    );
    let condition = "former-store-changed";
    let mut first = line.start(&text);
    first.wait_until_active().await;
    let (_, ready) = first.get("/readyz").await.unwrap();
    assert!(ready.contains(condition), "{ready}");
    let client = line.client("shop", None).await;
    client
        .publisher("orders")
        .await
        .send_until_acked(LIMIT)
        .await;
    first.signal(Signal::SIGTERM);
    first.end().await;
    line.is_free().await;

    let second = line.start(&text);
    second.wait_until_active().await;
    let (_, ready) = second.get("/readyz").await.unwrap();
    for part in [
        condition,
        "cannot be looked at",
        "nothing was ever imported",
    ] {
        assert!(ready.contains(part), "{part}: {ready}");
    }
}

#[tokio::test]
async fn tables_that_lack_what_a_former_sql_store_has_are_not_served_and_the_command_is_named() {
    let (Some(line), Some(former)) = (Line::new().await, postgres::database().await) else {
        return;
    };
    let mut tables = FormerTables::new(&former.url, "shop").await;
    let text = format!(
        "-p {{nats}} -m {{http}} -cid shop -st SQL -sql_driver postgres -sql_source {}",
        former.url
    );
    let publish = async |count: usize| {
        let client = line.client_called("app", "shop", None).await;
        let mut publisher = client.publisher("orders").await;
        for _ in 0..count {
            publisher.send_until_acked(LIMIT).await;
        }
    };
    let mut first = line.start(&text.replace("-st SQL", "-st memory"));
    first.wait_until_active().await;
    publish(2).await;
    first.signal(Signal::SIGTERM);
    first.end().await;
    line.is_free().await;

    // All of it is here, as an import of a version that left no note would have it.
    tables.channel(1, "orders", 0).await;
    for sequence in 1..=2 {
        tables.message(1, "orders", sequence, b"data").await;
    }
    let mut second = line.start(&text);
    second.wait_until_active().await;
    second.signal(Signal::SIGTERM);
    second.end().await;
    line.is_free().await;

    tables.message(1, "orders", 3, b"data").await;
    let mut third = line.start(&text);
    assert!(!third.end().await.success());
    let log = third.log();
    for part in [
        "\"orders\" goes to 3",
        "stanby import --from postgres://",
        "leave the data behind",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}
