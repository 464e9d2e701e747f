//! `stanby import --ndjson`: what a dry run says, and what is wrong with a file.

use crate::cli::{code, stanby, stderr, stdout};
use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;

fn line(channel: &str, sequence: i64) -> String {
    format!(
        "{{\"channel\":\"{channel}\",\"sequence\":{sequence},\"timestamp\":7,\"client_id\":\"c\",\"guid\":\"g\",\
         \"data\":\"x\"}}\n"
    )
}

const ROWS: &str =
    "SELECT (SELECT count(*) FROM stanby.messages) + (SELECT count(*) FROM stanby.channels)
    + (SELECT last_channel_id FROM stanby.server_info)";

#[tokio::test]
async fn a_dry_run_of_lines_checks_all_of_them_and_writes_and_publishes_nothing() {
    let Some(group) = Group::new(&[]).await else {
        return;
    };
    let server = group.server();
    server.wait_until_active().await;
    let tables = group.tables();
    let before = tables.number(ROWS).await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let all = [line("a", 3), line("a", 5), line("b", 1)].concat();
    let good = write("good", &format!("\u{feff}{all}"));
    let last = write("last", &[line("a", 3), line("a", i64::MAX)].concat());
    let half = write(
        "half",
        &format!("{all}{{\"channel\":\"a\",\"data\":\"x\"}}\n"),
    );
    let database = ["--database-url", group.database_url.as_str()];
    let dry = async |file: &str, more: &[&str]| {
        stanby(&[&["import", "--ndjson", file, "--dry-run"], more].concat()).await
    };
    let nats = [
        "--republish",
        "--nats-server",
        &group.nats_url,
        "--cluster-id",
        &group.cluster_id,
    ];

    let published = dry(&good, &nats).await;
    assert_eq!(code(&published), Some(0), "{}", stderr(&published));
    assert_eq!(
        stdout(&published),
        "a: would publish 2 messages\nb: would publish 1 messages\nnothing was published\n"
    );
    assert_eq!(code(&dry(&half, &nats).await), Some(2));
    let active = dry(&good, &database).await;
    assert_eq!(code(&active), Some(1), "{}", stdout(&active));
    assert!(stderr(&active).contains("a server is active"));
    assert_eq!(tables.number(ROWS).await, before);

    server.kill().await;
    wait_until(LIMIT, async || {
        match tables
            .number("SELECT count(*) FROM stanby.lock_holders")
            .await
        {
            0 => Ok(()),
            holders => Err(format!("{holders} hold the lock")),
        }
    })
    .await;
    let would = dry(&good, &database).await;
    assert_eq!(code(&would), Some(0), "{}", stderr(&would));
    assert_eq!(
        stdout(&would),
        "a: would hold 2 messages, sequences 3 to 5\nb: would hold 1 messages, sequences 1 to 1\nnothing was written\n"
    );
    for (file, sentence) in [
        (
            &last,
            format!("line 2 of {last}: message 9223372036854775807: no sequence is higher"),
        ),
        (&half, format!("line 4 of {half}: missing field")),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let wrong = [&["import", "--ndjson", file], &database[..], more].concat();
            let wrong = stanby(&wrong).await;
            assert_eq!(code(&wrong), Some(2), "{}", stdout(&wrong));
            let told = stderr(&wrong);
            assert!(told.contains(&sentence), "{told}");
            assert_eq!(told.matches("line ").count(), 1, "{told}");
        }
    }
    assert_eq!(tables.number(ROWS).await, before);

    let done = stanby(&[&["import", "--ndjson", &good], &database[..]].concat()).await;
    assert_eq!(code(&done), Some(0), "{}", stderr(&done));
    let again = dry(&good, &database).await;
    assert_eq!(code(&again), Some(1), "{}", stdout(&again));
    assert!(stderr(&again).contains("channel \"a\" is not empty"));

    // No server creates such a channel.
    let clash = write("clash", &line("A", 1));
    for more in [&["--dry-run"][..], &[]] {
        let command = [&["import", "--ndjson", &clash], &database[..], more].concat();
        let refused = stanby(&command).await;
        assert_eq!(code(&refused), Some(1), "{}", stdout(&refused));
        let told = stderr(&refused);
        let named = "channel \"A\" differs from channel \"a\" only in the case of letters";
        assert!(told.contains(named), "{told}");
    }
}
