//! Postgres and the simulation's model of it agree about sessions: who has the lock, who waits for it in which order, what ends
//! a session, and what of its work others can read. The same calls, drawn from a seed, go to both.

use std::collections::BTreeMap;
use std::sync::Arc;

use stanby::leadership::key::lock_key;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use super::fixture::{Fixture, PATIENCE, SCHEMA, migrated};
use super::random::Dice;
use super::support::sessions::{SessionId, Sessions};
use super::support::wait::wait_until;

const SEEDS: u64 = 6;
const CALLS: u64 = 40;
const SESSIONS_MAX: usize = 6;

/// What a session of the model has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Lock,
    /// A transaction that has written a row with this number.
    Write(i64),
}

struct Session {
    pid: i32,
    client: Arc<Client>,
    /// Without it the connection is closed, whatever is under way.
    driver: AbortOnDropHandle<()>,
}

/// Both, and what the model says that others can read.
struct Pair {
    fixture: Fixture,
    watcher: Client,
    model: Sessions<Work>,
    real: BTreeMap<SessionId, Session>,
    rows: Vec<i64>,
    next_row: i64,
}

impl Pair {
    async fn new(fixture: Fixture) -> Self {
        let watcher = fixture.client().await;
        let made = "CREATE TABLE written (number bigint PRIMARY KEY)";
        watcher.batch_execute(made).await.unwrap();
        Self {
            fixture,
            watcher,
            model: Sessions::default(),
            real: BTreeMap::new(),
            rows: Vec::new(),
            next_row: 0,
        }
    }

    async fn open(&mut self) {
        let (config, tls) = self.fixture.url.for_session().unwrap();
        let (client, connection) = config.connect(tls).await.unwrap();
        // How it ends is what the test is about.
        let driver = self.fixture.tracker.spawn(async { drop(connection.await) });
        let schema = SCHEMA.replace('"', "\"\"");
        // As a server has it: Postgres notices that its client has gone while a statement is under way.
        let checks =
            &format!("SET client_connection_check_interval = 20; SET search_path = \"{schema}\"");
        client.batch_execute(checks).await.unwrap();
        let pid = client
            .query_one_scalar("SELECT pg_backend_pid()", &[])
            .await
            .unwrap();
        let id = self.model.open();
        let session = Session {
            pid,
            client: client.into(),
            driver: AbortOnDropHandle::new(driver),
        };
        self.real.insert(id, session);
    }

    fn ask_for_lock(&mut self, id: SessionId) {
        self.model.ask_for_lock(id, Work::Lock);
        self.grant();
        let client = Arc::clone(&self.real[&id].client);
        self.fixture.tracker.spawn(async move {
            // It may be ended while it waits.
            let key = lock_key(SCHEMA);
            drop(client.execute("SELECT pg_advisory_lock($1)", &[&key]).await);
        });
    }

    fn grant(&mut self) {
        if let Some(id) = self.model.grant() {
            self.model.finish(id);
        }
    }

    fn client(&self, id: SessionId) -> &Client {
        &self.real[&id].client
    }

    /// A transaction begins and writes; nobody else sees that.
    async fn write(&mut self, id: SessionId) {
        self.next_row += 1;
        self.model.begin(id, Work::Write(self.next_row));
        let insert = format!("BEGIN; INSERT INTO written VALUES ({})", self.next_row);
        self.client(id).batch_execute(&insert).await.unwrap();
    }

    async fn commit(&mut self, id: SessionId) {
        if let Some(&Work::Write(row)) = self.model.executing(id) {
            self.rows.push(row);
        }
        self.model.finish(id);
        self.client(id).batch_execute("COMMIT").await.unwrap();
    }

    /// Ended by an operator or a timeout.
    async fn end(&mut self, id: SessionId, how: u64) {
        let session = self.real.remove(&id).unwrap();
        let is_in_transaction = matches!(self.model.executing(id), Some(Work::Write(_)));
        let waits = self.model.executing(id) == Some(&Work::Lock);
        self.model.end(id);
        self.grant();
        match how {
            // Its client goes without a word.
            0 => drop(session.driver),
            1 if !waits => {
                let timeout = if is_in_transaction {
                    "SET idle_in_transaction_session_timeout = 1"
                } else {
                    "SET idle_session_timeout = 1"
                };
                session.client.batch_execute(timeout).await.unwrap();
                self.is_gone(session.pid).await;
            }
            _ => {
                let end = "SELECT pg_terminate_backend($1)";
                self.watcher.execute(end, &[&session.pid]).await.unwrap();
                self.is_gone(session.pid).await;
            }
        }
    }

    async fn is_gone(&self, pid: i32) {
        let question = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
        wait_until(PATIENCE, || async {
            let left: i64 = self
                .watcher
                .query_one_scalar(question, &[&pid])
                .await
                .unwrap();
            (left == 0)
                .then_some(())
                .ok_or(format!("session {pid} is still there"))
        })
        .await;
    }

    /// What is to be seen, of the model.
    fn expected(&self) -> (Option<i32>, Vec<i32>, Vec<i64>) {
        let pid = |id: SessionId| self.real[&id].pid;
        let waiting = self.model.queue().map(pid).collect();
        (self.model.holder().map(pid), waiting, self.rows.clone())
    }

    /// And of Postgres.
    async fn seen(&self) -> (Option<i32>, Vec<i32>, Vec<i64>) {
        let locks = "SELECT pid, granted FROM pg_locks WHERE locktype = 'advisory'
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            ORDER BY granted DESC, waitstart";
        let locks = self.watcher.query(locks, &[]).await.unwrap();
        let (granted, waiting): (Vec<_>, Vec<_>) = locks
            .iter()
            .map(|row| (row.get::<_, i32>(0), row.get::<_, bool>(1)))
            .partition(|&(_, granted)| granted);
        assert!(granted.len() <= 1, "one has the lock: {granted:?}");
        let rows = "SELECT number FROM written ORDER BY number";
        let rows = self.watcher.query(rows, &[]).await.unwrap();
        (
            granted.first().map(|&(pid, _)| pid),
            waiting.iter().map(|&(pid, _)| pid).collect(),
            rows.iter().map(|row| row.get(0)).collect(),
        )
    }

    async fn agrees(&self, context: &str) {
        let mut expected = self.expected();
        expected.2.sort_unstable();
        wait_until(PATIENCE, || async {
            let seen = self.seen().await;
            let wrong = format!("{context}: Postgres shows {seen:?}, the model {expected:?}");
            (seen == expected).then_some(()).ok_or(wrong)
        })
        .await;
    }

    async fn call(&mut self, dice: &mut Dice) -> String {
        let ids = self.model.ids();
        if ids.is_empty() || ids.len() < SESSIONS_MAX && dice.chance(3) {
            self.open().await;
            return "open".to_owned();
        }
        let index = usize::try_from(dice.below(ids.len() as u64)).unwrap();
        // The holder is what most is about.
        let holder = self.model.holder().filter(|_| dice.chance(4));
        let id = holder.unwrap_or(ids[index]);
        let is_queued = self.model.queue().any(|waiting| waiting == id);
        let holds = self.model.holder() == Some(id);
        match self.model.executing(id) {
            Some(Work::Write(_)) if dice.chance(6) => {
                self.commit(id).await;
                format!("{id} commits")
            }
            None if !holds && !is_queued && dice.chance(5) => {
                self.ask_for_lock(id);
                format!("{id} asks for the lock")
            }
            None if dice.chance(7) => {
                self.write(id).await;
                format!("{id} writes")
            }
            Some(_) | None => {
                let how = dice.below(3);
                self.end(id, how).await;
                format!("{id} ends by {how}")
            }
        }
    }
}

#[tokio::test]
async fn random_calls_show_the_same_as_the_simulated_sessions() {
    let seeds = match std::env::var("STANBY_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    let (mut handed_over, mut committed) = (0, 0);
    for seed in seeds {
        let Some(fixture) = migrated().await else {
            return;
        };
        let mut pair = Pair::new(fixture).await;
        let mut dice = Dice(seed);
        let mut calls = Vec::new();
        for number in 0..CALLS {
            let before = pair.model.holder();
            calls.push(pair.call(&mut dice).await);
            let context = format!("STANBY_SEED={seed}, call {number}: {calls:?}");
            pair.agrees(&context).await;
            let after = pair.model.holder();
            handed_over += usize::from(before.is_some() && after.is_some() && before != after);
        }
        committed += pair.rows.len();
    }
    assert!(
        handed_over > 0 && committed > 0,
        "the random calls had nothing in them: {handed_over}, {committed}"
    );
}

/// A statement that the holder of the lock has sent is done or undone when its client is gone, and never after somebody else
/// has got the lock: what the model calls abandoned.
#[tokio::test]
async fn what_a_holder_that_is_gone_has_under_way_ends_before_the_lock_is_somebody_elses() {
    let Some(fixture) = migrated().await else {
        return;
    };
    let mut pair = Pair::new(fixture).await;
    pair.open().await;
    pair.open().await;
    pair.ask_for_lock(1);
    pair.agrees("the first one asks").await;
    pair.ask_for_lock(2);
    pair.agrees("the second one asks").await;
    let client = Arc::clone(&pair.real[&1].client);
    let pid = pair.real[&1].pid;
    let off = "SET client_connection_check_interval = 0";
    client.batch_execute(off).await.unwrap();
    let slow = "INSERT INTO written SELECT 1 FROM pg_sleep_for('1 s')";
    let write = (pair.fixture.tracker).spawn(async move { client.batch_execute(slow).await });
    let at_work = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'";
    wait_until(PATIENCE, || async {
        let count: i64 = pair
            .watcher
            .query_one_scalar(at_work, &[&pid])
            .await
            .unwrap();
        (count == 1)
            .then_some(())
            .ok_or("it is not at work".to_owned())
    })
    .await;
    pair.model.begin(1, Work::Write(1));
    assert!(pair.model.abandon(1), "it is at work");

    drop(pair.real.remove(&1));
    drop(write.await);

    // As soon as somebody else has the lock.
    let second = pair.real[&2].pid;
    wait_until(PATIENCE, || async {
        let (holder, _, rows) = pair.seen().await;
        if holder == Some(second) {
            assert_eq!(rows, [1], "what was under way is done by then");
            return Ok(());
        }
        Err(format!("{holder:?} has the lock"))
    })
    .await;
    assert!(pair.model.finish(1), "it ends with what was under way");
    pair.model.end(1);
    pair.grant();
    pair.rows.push(1);
    pair.agrees("afterwards").await;
}
