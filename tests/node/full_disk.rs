//! A disk without room for a table of ours, while Postgres itself goes on.

use std::os::unix::fs::{MetadataExt as _, chown};

use crate::disk::SmallDisk;
use crate::pair::{Group, LIMIT, Pair};
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};

#[tokio::test]
async fn a_full_disk_is_waited_out_in_one_term_and_named_and_loses_nothing() {
    let (Some(database), Some(nats_url)) = (postgres::own_server().await, nats::url().await) else {
        return;
    };
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let place = disk.root().join("tables");
    std::fs::create_dir(&place).unwrap();
    let owner = std::fs::metadata(format!("/proc/{}", database.pid())).unwrap();
    chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
    let mut group = Group::over(database.url(), nats_url, &["--lease", "1s"]);
    group.cluster_id = "full-disk".to_owned();
    let pair = Pair::of(group).await;
    let tables = pair.group.tables();
    let create = format!("CREATE TABLESPACE small LOCATION '{}'", place.display());
    tables.execute(create).await;
    tables
        .execute("ALTER TABLE messages SET TABLESPACE small; ALTER INDEX messages_pkey SET TABLESPACE small")
        .await;
    let client = pair.group.client("publisher").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
    let terms = "SELECT count(*) FROM takeovers";
    assert_eq!(tables.number(terms).await, 1);

    disk.fill().await;
    // More than the pages that there are have room for.
    for _ in 0..5_000 {
        publisher.send().await;
    }
    publisher.flush().await;
    let told = wait_until(LIMIT, async || {
        let told = pair.active.get("/readyz").await?.1;
        if told.contains("commit-blocked") {
            Ok(told)
        } else {
            Err(told)
        }
    })
    .await;
    assert!(told.contains("free space on the database's disk"), "{told}");
    // For longer than a lease.
    let old = "SELECT count(*) FROM conditions WHERE kind = 'commit-blocked' AND since < now() - interval '3 seconds'";
    wait_until(LIMIT, async || match tables.number(old).await {
        0 => Err("the condition is not there for long".to_owned()),
        _ => Ok(()),
    })
    .await;

    disk.empty();
    publisher.take_all_acks().await;
    assert!(publisher.published().errors.is_empty());
    let sent = publisher.published().sent.len();
    let stored = tables.number("SELECT count(*) FROM messages").await;
    assert_eq!(usize::try_from(stored), Ok(sent));
    assert_eq!(tables.number(terms).await, 1, "a term was lost");
    wait_until(LIMIT, async || match pair.active.get("/readyz").await? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
