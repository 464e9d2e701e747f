//! Applications that publish and consume in transactions of their own, with a table that tells what came of it: whatever
//! is killed, each message that was published by a transaction that committed has had its effect once.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::{Executor, PgPool};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::pair::{Group, LIMIT};
use crate::stan::{StanClient, Taker};
use crate::support::wait::wait_until;

const CHANNEL: &str = "orders";
const QUEUE: &str = "workers";

/// Every so many messages are handled by two transactions at once, and so many are rolled back.
const TWICE: u64 = 5;
const ROLLED_BACK: u64 = 7;

/// So many are refused before they are handled.
const REFUSED: u64 = 6;

/// Messages that may wait for their effect: publishers are faster than consumers.
const BACKLOG: usize = 1000;

/// Of one transaction.
const PARTS: u32 = 3;

/// What is published here nobody acks.
const POISON: &str = "poison";

/// No message is in here twice, though nothing keeps it from being.
const TABLES: &str = "CREATE TABLE sent (payload text PRIMARY KEY);
    CREATE TABLE hopeless (payload text PRIMARY KEY);
    CREATE TABLE effects (sequence bigint NOT NULL, payload text NOT NULL)";

/// Deliveries are counted, and what nobody acks becomes a dead letter.
const POLICIES: &str =
    "SELECT stanby.set_policy('orders', max_deliveries => 10000, dead_letter => 'dead',
        backoff => ARRAY['500 ms', '1 s']::interval[]);
    SELECT stanby.set_policy('poison', max_deliveries => 2, dead_letter => 'dead',
        backoff => ARRAY['200 ms']::interval[])";

pub(crate) struct Applications {
    pool: PgPool,
    /// Receives what is poison, and listens: a member that nobody hears leaves its group.
    _hopeless: (StanClient, Taker),
    stop_publishing: CancellationToken,
    publishers: JoinSet<()>,
    stop_consuming: CancellationToken,
    consumers: JoinSet<()>,
    false_acks: Arc<AtomicU64>,
}

impl Applications {
    /// A server is active.
    pub(crate) async fn start(group: &Group, publishers: usize, consumers: usize) -> Self {
        let pool = PgPool::connect(&group.database_url).await.unwrap();
        pool.execute(TABLES).await.unwrap();
        pool.execute(POLICIES).await.unwrap();
        let room = Arc::new(Semaphore::new(BACKLOG));
        let hopeless = group.client("hopeless").await;
        let taker = hopeless.take_for(POISON, (QUEUE, "jobs"), 100, 30).await;
        let mut applications = Self {
            pool,
            _hopeless: (hopeless, taker),
            stop_publishing: CancellationToken::new(),
            publishers: JoinSet::new(),
            stop_consuming: CancellationToken::new(),
            consumers: JoinSet::new(),
            false_acks: Arc::default(),
        };
        for number in 0..consumers {
            let client = group.client(&format!("consumer-{number}")).await;
            let mut taker = client.take_for(CHANNEL, (QUEUE, "jobs"), 8, 1).await;
            let (pool, stop) = (
                applications.pool.clone(),
                applications.stop_consuming.clone(),
            );
            let false_acks = Arc::clone(&applications.false_acks);
            let room = Arc::clone(&room);
            applications.consumers.spawn(async move {
                let mut turn = 0;
                while !stop.is_cancelled() {
                    let Some((sequence, payload)) = taker.next(Duration::from_millis(100)).await
                    else {
                        continue;
                    };
                    turn += 1;
                    if turn % REFUSED == 0 {
                        refuse(&pool, sequence).await.ok();
                        continue;
                    }
                    let rolls_back = turn % ROLLED_BACK == 0;
                    let one = consume(&pool, sequence, &payload, rolls_back);
                    let ends = if turn % TWICE == 0 {
                        let other = consume(&pool, sequence, &payload, false);
                        let (one, other) = tokio::join!(one, other);
                        vec![one, other]
                    } else {
                        vec![one.await]
                    };
                    // Nobody knows of one that failed; too much room does no harm.
                    let done = ends.iter().skip(usize::from(rolls_back));
                    let done = done.filter(|end| !matches!(end, Ok(false))).count();
                    room.add_permits(done);
                    let told_false = ends.iter().filter(|end| matches!(end, Ok(false))).count();
                    false_acks.fetch_add(told_false as u64, Ordering::Relaxed);
                }
                drop(client);
            });
        }
        for publisher in 0..publishers {
            let (pool, stop) = (
                applications.pool.clone(),
                applications.stop_publishing.clone(),
            );
            let room = Arc::clone(&room);
            applications.publishers.spawn(async move {
                for number in 0.. {
                    let place = tokio::select! {
                        () = stop.cancelled() => return,
                        place = room.acquire_many(PARTS) => place.unwrap(),
                    };
                    let rolls_back = number % ROLLED_BACK == 0;
                    let published = publish(&pool, publisher, number, rolls_back).await;
                    if published.is_ok() && !rolls_back {
                        place.forget();
                    }
                }
            });
        }
        applications
    }

    pub(crate) async fn effects(&self) -> i64 {
        let query = sqlx::query_scalar("SELECT count(*) FROM effects");
        query.fetch_one(&self.pool).await.unwrap()
    }

    /// Their transactions end in the middle.
    pub(crate) async fn end_sessions(&self) {
        let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%stanby.ack(%'";
        self.pool.execute(query).await.ok();
    }

    /// Waits until all is consumed, and says what is wrong with it.
    pub(crate) async fn finish(mut self) -> Outcome {
        self.stop_publishing.cancel();
        while let Some(publisher) = self.publishers.join_next().await {
            publisher.unwrap();
        }
        let sent: i64 = sqlx::query_scalar("SELECT count(*) FROM sent")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        wait_until(4 * LIMIT, async || match self.effects().await {
            there if there >= sent => Ok(()),
            there => Err(format!("{there} of {sent} messages have had their effect")),
        })
        .await;
        let unacked = "SELECT count(*) FROM stanby.pending_acks";
        wait_until(LIMIT, async || {
            let left: i64 = sqlx::query_scalar(unacked)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} acks are not carried out"))
            }
        })
        .await;
        let alive = "SELECT count(*) FROM hopeless h WHERE NOT EXISTS (
            SELECT FROM stanby.dead_letters d JOIN stanby.messages m USING (channel_id, sequence)
            WHERE convert_from(m.data, 'UTF8') = h.payload)";
        wait_until(4 * LIMIT, async || {
            let alive: i64 = sqlx::query_scalar(alive)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            if alive == 0 {
                Ok(())
            } else {
                Err(format!("{alive} are no dead letters yet"))
            }
        })
        .await;
        self.stop_consuming.cancel();
        while let Some(consumer) = self.consumers.join_next().await {
            consumer.unwrap();
        }
        let wrong = "SELECT format('%s: sent %s times, stored %s times, %s effects', payload, sent, stored, effects)
            FROM (SELECT payload, count(*) FILTER (WHERE kind = 's') AS sent, count(*) FILTER (WHERE kind = 'm') AS stored,
                         count(*) FILTER (WHERE kind = 'e') AS effects
                  FROM (SELECT 's' AS kind, payload FROM sent UNION ALL SELECT 'e', payload FROM effects
                        UNION ALL SELECT 'm', convert_from(m.data, 'UTF8') FROM stanby.messages m
                        JOIN stanby.channels c USING (channel_id) WHERE c.name = 'orders') AS kinds
                  GROUP BY payload) AS counted
            WHERE (sent, stored, effects) <> (1, 1, 1) LIMIT 10";
        let mut wrong: Vec<String> = sqlx::query_scalar(wrong)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        let letters = "SELECT format('%s: hopeless %s times, stored %s times, %s dead letters', payload, sent, stored, dead)
            FROM (SELECT payload, count(*) FILTER (WHERE kind = 's') AS sent, count(*) FILTER (WHERE kind = 'poison') AS stored,
                         count(*) FILTER (WHERE kind = 'dead') AS dead
                  FROM (SELECT 's' AS kind, payload FROM hopeless
                        UNION ALL SELECT c.name, convert_from(m.data, 'UTF8') FROM stanby.messages m
                        JOIN stanby.channels c USING (channel_id) WHERE c.name IN ('poison', 'dead')) AS kinds
                  GROUP BY payload) AS counted
            WHERE (sent, stored, dead) <> (1, 1, 1) LIMIT 10";
        let letters: Vec<String> = sqlx::query_scalar(letters)
            .fetch_all(&self.pool)
            .await
            .unwrap();
        wrong.extend(letters);
        let dead_letters: i64 = sqlx::query_scalar("SELECT count(*) FROM stanby.dead_letters")
            .fetch_one(&self.pool)
            .await
            .unwrap();
        Outcome {
            sent,
            false_acks: self.false_acks.load(Ordering::Relaxed),
            dead_letters,
            wrong,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: i64,
    pub(crate) false_acks: u64,
    pub(crate) dead_letters: i64,
    /// Of the messages that did not have their effect once, or became no dead letter once, some.
    pub(crate) wrong: Vec<String>,
}

async fn publish(
    pool: &PgPool,
    publisher: usize,
    number: u64,
    rolls_back: bool,
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("INSERT INTO hopeless SELECT $1::text FROM stanby.publish($2, $1::text)")
        .bind(format!("{publisher}-{number}"))
        .bind(POISON)
        .execute(&mut *transaction)
        .await?;
    for part in 0..PARTS {
        sqlx::query("INSERT INTO sent SELECT $1::text FROM stanby.publish($2, $1::text)")
            .bind(format!("{publisher}-{number}-{part}"))
            .bind(CHANNEL)
            .execute(&mut *transaction)
            .await?;
    }
    if rolls_back {
        transaction.rollback().await
    } else {
        transaction.commit().await
    }
}

async fn refuse(pool: &PgPool, sequence: u64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "SELECT stanby.nack($1, $2, queue_group => $3, delay => '20 ms', reason => 'later')",
    )
    .bind(CHANNEL)
    .bind(sequence.cast_signed())
    .bind(QUEUE)
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether its ack was the one that counts; nobody knows when the transaction fails.
async fn consume(
    pool: &PgPool,
    sequence: u64,
    payload: &str,
    rolls_back: bool,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let counts: bool = sqlx::query_scalar("SELECT stanby.ack($1, $2, queue_group => $3)")
        .bind(CHANNEL)
        .bind(sequence.cast_signed())
        .bind(QUEUE)
        .fetch_one(&mut *transaction)
        .await?;
    if counts {
        sqlx::query("INSERT INTO effects VALUES ($1, $2)")
            .bind(sequence.cast_signed())
            .bind(payload)
            .execute(&mut *transaction)
            .await?;
    }
    if rolls_back {
        transaction.rollback().await?;
    } else {
        transaction.commit().await?;
    }
    Ok(counts)
}
