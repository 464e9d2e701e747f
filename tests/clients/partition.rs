//! An unmodified client with channels of two groups of servers.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::pair::{self, Pair};
use crate::script::Script;
use crate::support::tools;

const LIMIT: Duration = Duration::from_mins(1);

/// Acceptance: 160.
#[tokio::test]
async fn one_connection_serves_the_channels_of_two_groups_also_when_an_active_is_killed() {
    let Some(clients) = tools::node() else {
        return;
    };
    let cluster_id = "two-groups";
    let flags = [
        "--partitioning",
        "--ft-group=a",
        "--channel-limits=orders.>:",
    ];
    let Some((database, mut orders)) = pair::for_test(cluster_id, &flags).await else {
        return;
    };
    let flags = [
        "--partitioning",
        "--ft-group=b",
        "--channel-limits=billing:",
    ];
    let billing = Pair::start(pair::Settings {
        database_url: database.url.clone(),
        nats_url: orders.nats_url().to_owned(),
        cluster_id: cluster_id.to_owned(),
        more: flags
            .iter()
            .chain(&["--schema=billing"])
            .map(|flag| String::from(*flag))
            .collect(),
    })
    .await;

    let arguments = [
        "partition.js",
        orders.nats_url(),
        cluster_id,
        "orders.new",
        "billing",
    ];
    let mut script = Script::start(Path::new("node"), &arguments, &clients);
    script.wait_for("? kill", LIMIT).await;
    orders.end_active(Signal::SIGKILL).await;
    script.tell("killed").await;

    let lines = script.finish(LIMIT).await;
    assert_eq!(
        lines,
        [
            "received everything",
            "both groups answered pings",
            "{\"lost\":[]}"
        ]
    );
    drop(billing);
}
