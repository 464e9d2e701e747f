//! The console in a browser: every page and every verb, as people see them (`tests/console/browser.mjs`).
use std::process::Stdio;

use tokio::process::Command;

use crate::admin::publish;
use crate::console::{PASSWORD, with_users};
use crate::pair::LIMIT;
use crate::support::tools;
use crate::support::wait::wait_until;

/// A name of a channel that would be markup and script, were it not escaped.
const NASTY: &str = "<img src=x onerror=alert(1) \"'&";

#[tokio::test]
async fn every_page_and_every_verb_of_the_console_works_in_a_browser_at_any_size_and_over_a_takeover()
 {
    let Some((chromium, directory)) = tools::browser() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some(pair) = with_users(folder.path()).await else {
        return;
    };
    let group = &pair.group;
    let client = group.client("worker").await;
    let kicked = group.client("kicked").await;
    publish(&client, "orders", 3).await;
    let nasty = NASTY.replace('\'', "''");
    group
        .tables()
        .execute(format!(
            "SELECT stanby.publish('{nasty}', '<script>alert(2)</script>'::text);
             SELECT stanby.publish('orders', jsonb_build_object('id', g, 'text', '<b>')) FROM generate_series(3, 6) g"
        ))
        .await;
    let stored = "SELECT count(*) FROM stanby.messages";
    wait_until(LIMIT, async || match group.tables().number(stored).await {
        8 => Ok(()),
        other => Err(format!("{other} of 8")),
    })
    .await;
    let _billing = client.subscribe("orders", "", "billing").await.unwrap();
    client.hold("orders", "", "slow", 2).await.unwrap();
    let gone = group.client("gone").await;
    let left = gone.subscribe("orders", "", "left").await.unwrap();
    gone.close().await.unwrap();
    drop(left);
    let _nasty = client
        .subscribe("orders", "", "<script>alert(3)</script>")
        .await
        .unwrap();

    let _group = client
        .subscribe("orders", "<script>alert(4)</script>", "<i>d")
        .await
        .unwrap();
    // Who asks calls their program what they like, and what is asked for, too.
    group
        .tables()
        .execute(
            "SET application_name = '<script>alert(5)</script>';
             SELECT stanby.admin_request('<img src=x onerror=alert(6)>', '{\"<b>\": \"<script>alert(7)</script>\"}')"
                .to_owned(),
        )
        .await;

    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let browser = Command::new("node")
        .arg(directory.join("browser.mjs"))
        .env("ACTIVE", at(pair.active.http_port))
        .env("STANDBY", at(pair.standby.http_port))
        .env("ACTIVE_PID", pair.active.pid().to_string())
        .env("PASSWORD", PASSWORD)
        .env("NASTY", NASTY)
        .env("CHROMIUM", chromium)
        .env("DOCS", concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = browser.await.unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    drop(kicked);
}
