//! Ready means that a server serves, or could take over: what is wrong besides is told, and takes nobody out of a balancer.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use stanby::core::time::Timestamp;
use stanby::monitoring::condition::Condition;

use crate::http::{Pages, active_for, standby};
use crate::pair::{Group, LIMIT};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

/// What ends a term is told in one of three wordings, by which side notices first: three in a row are alike sooner or later.
const CRASHES_MAX: u32 = 60;

#[tokio::test]
async fn an_active_that_serves_after_three_crashes_of_postgres_is_ready_and_still_tells_of_them() {
    let (Some(mut database), Some(nats_url)) = (postgres::own_server().await, nats::url().await)
    else {
        return;
    };
    let mut group = Group::over(database.url(), nats_url, &["--lease", "1s"]);
    group.cluster_id = "three-crashes".to_owned();
    let server = group.server();
    server.wait_until_active().await;
    let client = group.client("steady").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;

    // Three in a row whose terms end in the same words.
    let mut told = String::new();
    for _ in 0..CRASHES_MAX {
        database.signal(Signal::SIGQUIT);
        database.wait().await.unwrap();
        postgres::restart(&mut database).await;
        publisher.send_until_acked(LIMIT).await;
        told = server.get("/readyz").await.unwrap().1;
        if told.contains("terms-end") {
            break;
        }
    }
    assert!(told.contains("terms-end"), "{told}");

    // It passes after 30 s: ready without it proves nothing.
    wait_until(LIMIT, async || match server.get("/readyz").await? {
        (200, page) if page.contains("terms-end") => Ok(()),
        (code, page) => Err(format!("{code} {page}")),
    })
    .await;
    let (_, metrics) = server.get("/metrics").await.unwrap();
    assert!(metrics.contains("\nstanby_ready 1\n"), "{metrics}");
    let condition = "\nstanby_condition{kind=\"terms-end\"} 1\n";
    assert!(metrics.contains(condition), "{metrics}");
}

/// What the table of docs/monitoring.md says of each condition: an active that serves, and any other server.
fn told() -> BTreeMap<String, (bool, bool)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring.md");
    let page = fs::read_to_string(file).unwrap();
    let section = page.split("\n## Conditions\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let is_ready = |cell: &str| match cell {
            "ready" => true,
            "not ready" => false,
            other => panic!("{other} in {line}"),
        };
        let name = cells[1].trim_matches('`').to_owned();
        (name, (is_ready(cells[2]), is_ready(cells[3])))
    });
    rows.collect()
}

#[tokio::test]
async fn each_condition_makes_those_servers_unready_that_the_table_of_the_manual_says() {
    let mut told = told();
    for &condition in Condition::ALL {
        let name = condition.name();
        let expected = told
            .remove(name)
            .unwrap_or_else(|| panic!("{name} is not told"));
        let serving = active_for(Duration::from_mins(1));
        let mut unproved = active_for(Duration::from_mins(1));
        unproved.has_served = false;
        let mut untrusted = active_for(Duration::ZERO);
        untrusted.unable_reason = None;
        let mut ready = Vec::new();
        for mut status in [serving, unproved, untrusted, standby()] {
            let since = Timestamp(1_600_000_000_000_000_000);
            status
                .conditions
                .raise(condition, "this is why".to_owned(), since);
            let page = Pages::start(status).await.get("/readyz").await;
            assert!(page.body.contains("this is why"), "{name}: {}", page.body);
            assert!(page.body.contains(name), "{name}: {}", page.body);
            ready.push(page.code == 200);
        }
        let (of_serving, of_others) = expected;
        // An active that nobody proves to be one any more is not ready, whatever else is wrong.
        assert_eq!(
            ready,
            [of_serving, of_others, false, of_others],
            "{name}: active that serves, active that has not served yet, former active, standby"
        );
    }
    assert!(told.is_empty(), "there are no such conditions: {told:?}");
}
