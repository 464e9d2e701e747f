//! Database URLs of several hosts, and passwords that are replaced under running servers.

use std::net::{Ipv4Addr, TcpListener};

use crate::pair::{Group, LIMIT, Says, Server};
use crate::startup::as_role_of;
use crate::support::wait::wait_until;
use crate::takeover::Work;

/// It would be waited for for ten minutes.
#[tokio::test]
async fn a_host_that_hangs_keeps_nobody_from_the_one_that_answers() {
    let Some(cluster) = Group::new(&[]).await else {
        return;
    };
    let mut group = cluster.beside("stanby", &["--lease", "1s"]);
    // Nobody takes what connects to it.
    let hangs = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = hangs.local_addr().unwrap().port();
    let url = cluster
        .database_url
        .replace("host=", "host=127.0.0.1,127.0.0.1,");
    group.database_url = format!(
        "{url}&port={port},1,5432&connect_timeout=600&sslmode=disable&target_session_attrs=read-write"
    );

    let active = group.server();
    active.wait_until_active().await;
    let standby = group.server();
    cluster.wait_for_standbys(1).await;
    let work = Work::start(&cluster).await;
    work.progress_with_standbys(&[&standby]).await;
    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    work.progress(100).await;
    work.finish(&cluster).await;

    let mut status = Server::command();
    status.args(["status", "--database-url", &group.database_url]);
    let status = tokio::process::Command::from(status).output();
    let status = tokio::time::timeout(LIMIT, status).await.unwrap().unwrap();
    assert!(status.status.success(), "{status:?}");
}

#[tokio::test]
async fn a_password_is_replaced_without_a_restart() {
    let Some(cluster) = Group::new(&[]).await else {
        return;
    };
    let role = format!("rotated_{}", cluster.cluster_id);
    let tables = cluster.tables();
    let hba = tables.texts("SELECT current_setting('hba_file')").await;
    let rules = std::fs::read_to_string(&hba[0]).unwrap();
    std::fs::write(&hba[0], format!("local all {role} scram-sha-256\n{rules}")).unwrap();
    let name = &cluster.cluster_id;
    tables
        .execute(format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'old'; ALTER DATABASE {name} OWNER TO {role}; SELECT pg_reload_conf()"
        ))
        .await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let write = |lines: &str| std::fs::write(&file, lines).unwrap();
    write("*:*:*:*:old\n");
    let mut group = cluster.beside("stanby", &["--lease", "1s"]);
    let passfile = file.path().display();
    group.database_url =
        as_role_of(&cluster.database_url, &role) + &format!("&passfile={passfile}");
    let active = group.server();
    active.wait_until_active().await;
    let standby = group.server();
    cluster.wait_for_standbys(1).await;
    let work = Work::start(&cluster).await;
    work.progress_with_standbys(&[&standby]).await;

    // Replaced in Postgres alone, it shows before it is needed.
    tables
        .execute(format!("ALTER ROLE {role} PASSWORD 'new'"))
        .await;
    standby.wait_for_trouble("check user and password").await;
    work.progress(10).await;
    // Both count while either may be the right one.
    write("*:*:*:*:old\n*:*:*:*:new\n");
    wait_until(LIMIT, async || match standby.says().await {
        Says::Standby => Ok(()),
        said @ (Says::Active(_) | Says::NotReady(_) | Says::Nothing(_)) => Err(format!("{said:?}")),
    })
    .await;

    active.kill().await;
    assert_eq!(standby.wait_until_active().await, 2);
    work.progress(100).await;
    work.finish(&cluster).await;
}
