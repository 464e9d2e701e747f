//! Several servers want to be the active at once.

use std::collections::BTreeSet;

use crate::pair::{Group, LIMIT, Server, wait_for_one_active};
use crate::takeover::Work;
use crate::watch::Watch;

const LEASE: [&str; 2] = ["--lease", "5s"];

/// Acceptance: 126, 139.
#[tokio::test]
async fn two_servers_starting_at_once_on_an_empty_database_give_one_active() {
    for _ in 0..4 {
        let Some(group) = Group::new(&LEASE).await else {
            return;
        };
        let servers = [group.server(), group.server()];
        let watch = Watch::over(&[&servers[0], &servers[1]]);

        let active = wait_for_one_active(&[&servers[0], &servers[1]]).await;
        group.wait_for_standbys(1).await;

        let reason = "first start".to_owned();
        assert_eq!(group.tables().takeovers().await, [(1, reason)]);
        assert_eq!(servers[active].wait_until_active().await, 1);
        assert_eq!(watch.seen().contradictions, "");
        assert_eq!(watch.seen().epochs, BTreeSet::from([1]));
    }
}

#[tokio::test]
async fn of_three_servers_one_is_active_however_often_it_is_killed() {
    let Some(group) = Group::new(&LEASE).await else {
        return;
    };
    let mut servers: Vec<Server> = (0..3).map(|_| group.server()).collect();
    let mut watch = Watch::over(&servers.iter().collect::<Vec<_>>());
    let mut active = wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let work = Work::start(&group).await;

    for term in 2..6 {
        let standbys = servers.iter().enumerate();
        let standbys: Vec<&Server> = standbys
            .filter(|(at, _)| *at != active)
            .map(|(_, server)| server)
            .collect();
        work.progress_with_standbys(&standbys).await;
        servers.remove(active).kill().await;
        active = wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
        assert_eq!(servers[active].wait_until_active().await, term);
        servers.push(group.server());
        watch.add(&servers[2]);
    }

    work.progress(50).await;
    work.finish(&group).await;
    assert_eq!(watch.seen().contradictions, "");
    assert_eq!(watch.seen().epochs, (1..6).collect());
    let mut late = group.client("late").await.publisher("late").await;
    late.send_until_acked(LIMIT).await;
}
