//! Postgres that refuses rows, for reasons that pass only when somebody mends them.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::faults::of_lease;
use crate::ground::execute;
use crate::rng::Rng;
use crate::world::World;

/// Somebody changes the tables by hand: what is refused, how, and how it is undone.
struct Change {
    /// Whose publishes are refused.
    refused: Refused,
    make: &'static str,
    undo: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refused {
    /// None: what servers write for themselves is.
    Nobody,
    Client(&'static str),
    Everybody,
}

const CHANGES: [Change; 7] = [
    Change {
        refused: Refused::Client("publisher-2"),
        make: "ALTER TABLE stanby.messages ADD CONSTRAINT refused CHECK (client_id <> 'publisher-2') NOT VALID",
        undo: "ALTER TABLE stanby.messages DROP CONSTRAINT refused",
    },
    Change {
        refused: Refused::Client("publisher-1"),
        make: "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'not this one'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON stanby.messages FOR EACH ROW
                WHEN (NEW.client_id = 'publisher-1') EXECUTE FUNCTION public.refuse()",
        undo: "DROP FUNCTION public.refuse CASCADE",
    },
    Change {
        refused: Refused::Client("publisher-3"),
        make: "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RETURN NULL; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON stanby.messages FOR EACH ROW
                WHEN (NEW.client_id = 'publisher-3') EXECUTE FUNCTION public.refuse()",
        undo: "DROP FUNCTION public.refuse CASCADE",
    },
    Change {
        refused: Refused::Nobody,
        make: "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION 'not this one'; END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON stanby.positions FOR EACH ROW
                WHEN (NEW.durable_name = 'durable-1') EXECUTE FUNCTION public.refuse()",
        undo: "DROP FUNCTION public.refuse CASCADE",
    },
    // Rows without an identity that the publication could send are neither changed nor deleted.
    Change {
        refused: Refused::Nobody,
        make: "CREATE PUBLICATION everything FOR ALL TABLES;
            ALTER TABLE stanby.positions REPLICA IDENTITY NOTHING",
        undo: "DROP PUBLICATION everything; ALTER TABLE stanby.positions REPLICA IDENTITY DEFAULT",
    },
    Change {
        refused: Refused::Nobody,
        make: "CREATE PUBLICATION everything FOR ALL TABLES;
            ALTER TABLE stanby.clients REPLICA IDENTITY NOTHING",
        undo: "DROP PUBLICATION everything; ALTER TABLE stanby.clients REPLICA IDENTITY DEFAULT",
    },
    Change {
        refused: Refused::Everybody,
        make: "CREATE PUBLICATION everything FOR ALL TABLES;
            ALTER TABLE stanby.channels REPLICA IDENTITY NOTHING",
        undo: "DROP PUBLICATION everything; ALTER TABLE stanby.channels REPLICA IDENTITY DEFAULT",
    },
];

/// It costs what is refused, and one term at most.
pub(crate) async fn refuse_rows(world: &mut World, rng: &mut Rng) {
    let which: Vec<usize> = (0..CHANGES.len()).collect();
    refuse(world, &CHANGES[rng.pick(&which)], rng).await;
}

/// Each way once.
pub(crate) async fn refuse_rows_in_every_way(world: &mut World, rng: &mut Rng) {
    for change in &CHANGES {
        refuse(world, change, rng).await;
        let since = world.now();
        world.recover(since).await;
        world.end_excuse();
    }
}

async fn refuse(world: &mut World, change: &Change, rng: &mut Rng) {
    let url = world.ground.database_url();
    let before = terms_lost(&url).await;
    let others = match change.refused {
        Refused::Nobody => Some(vec![]),
        Refused::Client(client) => {
            world.expect_refusals(Some(client));
            Some(vec![client])
        }
        Refused::Everybody => {
            world.expect_refusals(None);
            None
        }
    };
    execute(&url, change.make).await;
    let since = world.now();
    if let Some(others) = others {
        world.recover_beside(&others, since).await;
    }
    let pause = of_lease(rng, 500, 2500);
    world.hold(pause).await;
    execute(&url, change.undo).await;
    let since = world.now();
    world.recover(since).await;
    let lost = terms_lost(&url).await - before;
    assert!(lost <= 1, "{lost} terms ended by {}", change.make);
}

/// Terms that ended by what Postgres refused.
async fn terms_lost(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM stanby.takeovers WHERE cause = 'refused-write'")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

/// A policy hides the rows of a table from the servers' role. What may not be seen is an error, and never taken for gone.
pub(crate) async fn hide_rows(world: &mut World, rng: &mut Rng) {
    let table = rng.pick(&["messages", "channels", "positions", "clients"]);
    let url = world.ground.database_url();
    world.expect_refusals(None);
    let hide = format!(
        "ALTER TABLE stanby.{table} ENABLE ROW LEVEL SECURITY; ALTER TABLE stanby.{table} FORCE ROW LEVEL SECURITY"
    );
    execute(&url, &hide).await;
    let active = world.active_now().await.map(|(active, _)| active);
    let killed = active.filter(|_| rng.chance(500));
    if let Some(active) = killed {
        world.end(active, Signal::SIGKILL).await;
    }
    let pause = of_lease(rng, 500, 2500);
    world.hold(pause).await;
    let show = format!(
        "ALTER TABLE stanby.{table} NO FORCE ROW LEVEL SECURITY; ALTER TABLE stanby.{table} DISABLE ROW LEVEL SECURITY"
    );
    execute(&url, &show).await;
    let since = world.now();
    world.recover(since).await;
    if let Some(active) = killed {
        // Not before: who takes over is to be one that heard what was asked meanwhile.
        world.start_again(active);
    }
    // Among what it wants are the rows that were hidden.
    world.clients.late_durable().await;
}
