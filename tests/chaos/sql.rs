//! Applications that publish and ack in transactions of their own, while servers and sessions of theirs are killed at any
//! moment, with delivery policies. Their own tables are the judge. `scripts/chaos sql` runs as many kills as one likes.

use crate::applications::Applications;
use crate::pair::{Group, LIMIT, wait_for_one_active};
use crate::rng::Rng;
use crate::runs::{ONE_AT_A_TIME, fresh_seed};
use crate::support::wait::wait_until;

async fn run(seed: u64, kills: u64) {
    let _turn = ONE_AT_A_TIME.lock().await;
    eprintln!("chaos: CHAOS_SEED={seed} scripts/chaos sql {kills}");
    let Some(group) = Group::new(&["--lease", "1s"]).await else {
        return;
    };
    let mut rng = Rng::new(seed);
    let mut servers = vec![group.server(), group.server()];
    wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
    let applications = Applications::start(&group, 3, 4).await;
    for kill in 0..kills {
        let active = wait_for_one_active(&servers.iter().collect::<Vec<_>>()).await;
        let before = applications.effects().await;
        // Where in its work the server is by then is left to chance.
        let wanted = before + rng.range(1, 60).cast_signed();
        wait_until(LIMIT, async || match applications.effects().await {
            now if now >= wanted => Ok(()),
            now => Err(format!("kill {kill}: {now} effects, {wanted} are to come")),
        })
        .await;
        match rng.range(0, 9) {
            0 => applications.end_sessions().await,
            1 => {
                for server in servers.drain(..) {
                    server.kill().await;
                }
                servers.push(group.server());
                servers.push(group.server());
            }
            _ => {
                servers.swap_remove(active).kill().await;
                servers.push(group.server());
            }
        }
        if kill % 100 == 99 {
            eprintln!(
                "    {} kills, {} effects",
                kill + 1,
                applications.effects().await
            );
        }
    }
    let outcome = applications.finish().await;
    eprintln!(
        "    {kills} kills: {} messages, {} acks that did not count, {} dead letters, {} wrong",
        outcome.sent,
        outcome.false_acks,
        outcome.dead_letters,
        outcome.wrong.len()
    );
    assert!(outcome.wrong.is_empty(), "{outcome:?}");
    assert!(outcome.sent > 0 && outcome.false_acks > 0, "{outcome:?}");
    assert!(outcome.dead_letters > 0, "{outcome:?}");
}

#[tokio::test]
async fn transactions_that_publish_and_ack_have_their_effect_once_whatever_is_killed() {
    run(1, 15).await;
}

#[tokio::test]
#[ignore = "scripts/chaos sql runs it"]
async fn what_is_asked_for() {
    let number = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
    let kills = number("CHAOS_KILLS").map_or(1000, |text| text.parse().unwrap());
    let seed = number("CHAOS_SEED").map_or_else(fresh_seed, |text| text.parse().unwrap());
    run(seed, kills).await;
}
