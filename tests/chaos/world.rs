//! A group of servers, each behind a network of its own, with clients at work. It starts them, knows who is active,
//! writes down what happens, and in the end collects what the checks judge.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::checks::violations;
use crate::clients::{CHANNELS, Clients};
use crate::ground::Ground;
use crate::history::{Beginning, Excuse, History, LostRange, RangeOutcome, Refusals, Row, Stored};
use crate::member::{Clock, Member};
use crate::needs::Needs;
use crate::pair::{LIMIT, Says};
use crate::patroni::{Door, Mode, Patroni};
use crate::proxy::Link;
use crate::support::wait::wait_until;
use crate::tables::Tables;
use crate::watch::Watch;

pub(crate) const LEASE: Duration = Duration::from_secs(1);

/// Heartbeats so close together that a server which believed its overdue timers would close clients.
/// Requests are remembered for longer than any outage lasts.
const FLAGS: [&str; 10] = [
    "--lease",
    "1s",
    "--hb-interval",
    "300ms",
    "--hb-timeout",
    "1s",
    "--hb-fail-count",
    "8",
    "--shadow-age",
    "20s",
];

/// A server whose last three terms have ended for one reason serves, and says for half a minute that somebody has to mend it.
const ACTIVE_LIMIT: Duration = Duration::from_secs(75);

/// Of a busy machine, with every wait of a server that tries again included.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);

/// Patroni waits 20 s for a leader that is silent.
const FAILOVER_LIMIT: Duration = Duration::from_secs(90);

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) needs: Needs,
    /// How it is set up, with so many members, and how servers find the primary.
    pub(crate) patroni: Option<(Mode, usize, Door)>,
    /// Clients beside those that do something.
    pub(crate) idle_clients: usize,
    pub(crate) flags: &'static [&'static str],
    /// What its servers run; `None` for the program under test.
    pub(crate) program: Option<&'static str>,
}

impl Shape {
    pub(crate) const PAIR: Self = Self {
        servers: 2,
        needs: Needs::NONE,
        patroni: None,
        idle_clients: 1,
        flags: &FLAGS,
        program: None,
    };
}

pub(crate) struct World {
    // Servers end before what they stand on.
    pub(crate) members: Vec<Member>,
    pub(crate) clients: Clients,
    watch: Watch,
    pub(crate) history: History,
    known_epoch: i64,
    open_excuse: Option<(String, Duration)>,
    open_refusals: Option<(Option<String>, Duration)>,
    logs_of_ended: Vec<String>,
    pub(crate) ground: Ground,
}

impl World {
    /// Returns when one server is active, the others wait, and every publisher has had an ack. `None` where
    /// something is not installed.
    pub(crate) async fn start(shape: Shape) -> Option<Self> {
        let ground = Ground::start(shape).await?;
        let mut members = Vec::new();
        for _ in 0..shape.servers {
            let mut member = Member::new(&ground, shape).await?;
            member.start();
            if members.is_empty() {
                // So that the tables are there before the second one looks for them.
                member.server().wait_until_active().await;
            }
            members.push(member);
        }
        let watch = Watch::over(&members.iter().map(Member::server).collect::<Vec<_>>());
        let clients = Clients::start(&ground.nats_url(), "own-cluster", shape.idle_clients).await;
        let mut world = Self {
            members,
            clients,
            watch,
            history: History::default(),
            known_epoch: 0,
            open_excuse: None,
            open_refusals: None,
            logs_of_ended: Vec::new(),
            ground,
        };
        world.settle().await;
        Some(world)
    }

    /// Time of the run.
    pub(crate) fn now(&self) -> Duration {
        self.clients.recorder.now()
    }

    /// Which member is active.
    pub(crate) async fn active(&mut self) -> usize {
        let (member, epoch) = wait_until(ACTIVE_LIMIT, async || {
            self.active_now()
                .await
                .ok_or_else(|| "nobody is active".to_owned())
        })
        .await;
        self.note_term(epoch).await;
        member
    }

    /// Which member is active, of those that are not `other`.
    pub(crate) async fn active_beside(&mut self, other: usize) -> usize {
        let (member, epoch) = wait_until(ACTIVE_LIMIT, async || match self.active_now().await {
            Some((member, epoch)) if member != other => Ok((member, epoch)),
            found => Err(format!("active is {found:?}")),
        })
        .await;
        self.note_term(epoch).await;
        member
    }

    pub(crate) async fn active_now(&self) -> Option<(usize, u64)> {
        let mut newest = None;
        for (at, member) in self.members.iter().enumerate() {
            let Some(server) = &member.server else {
                continue;
            };
            if let Says::Active(epoch) = server.says().await
                && newest.is_none_or(|(_, known)| known < epoch)
            {
                newest = Some((at, epoch));
            }
        }
        newest
    }

    /// Waits for a term on the Postgres that is the primary now, later than this one.
    pub(crate) async fn term_after(&mut self, epoch: i64) {
        let url = self.ground.database_url();
        let next = wait_until(ACTIVE_LIMIT, async || {
            let stored = last_epoch(&url).await;
            match self.active_now().await {
                Some((_, next)) if next.cast_signed() == stored && stored > epoch => Ok(next),
                found => Err(format!(
                    "active is {found:?}, and the tables have term {stored}"
                )),
            }
        })
        .await;
        self.note_term(next).await;
    }

    /// Counts what the older terms have left, the first time that a term is seen.
    async fn note_term(&mut self, epoch: u64) {
        let epoch = epoch.cast_signed();
        if epoch <= self.known_epoch {
            return;
        }
        let mut connection = PgConnection::connect(&self.ground.database_url())
            .await
            .unwrap();
        let counts: Vec<(String, i64)> = sqlx::query_as(
            "SELECT c.name, count(*) FROM stanby.messages m JOIN stanby.channels c USING (channel_id)
             WHERE m.epoch < $1 GROUP BY c.name",
        )
        .bind(epoch)
        .fetch_all(&mut connection)
        .await
        .unwrap();
        self.known_epoch = epoch;
        self.history.beginnings.push(Beginning {
            epoch,
            older_rows: counts.into_iter().collect(),
        });
    }

    /// Waits until one is active, all others wait for the lock, and every publisher has had an ack for something
    /// that it sent since then: a standby answers for what it hears, not for what was under way before it listened.
    pub(crate) async fn settle(&mut self) {
        let since = self.now();
        self.recover(since).await;
        self.active().await;
        wait_until(ACTIVE_LIMIT, async || {
            let mut said = Vec::new();
            for member in &self.members {
                said.push(member.server().says().await);
            }
            let active = said
                .iter()
                .filter(|says| matches!(says, Says::Active(_)))
                .count();
            let standby = said.iter().filter(|says| **says == Says::Standby).count();
            if (active, standby) == (1, self.members.len() - 1) {
                return Ok(());
            }
            Err(format!("{said:?}"))
        })
        .await;
        let standbys = i64::try_from(self.members.len()).unwrap() - 1;
        let tables = Tables::new(&self.ground.database_url());
        wait_until(ACTIVE_LIMIT, async || match tables.standbys().await {
            Ok(found) if found == standbys => Ok(()),
            other => Err(format!("{other:?} of {standbys} standbys")),
        })
        .await;
        self.recover(self.now()).await;
    }

    /// Waits until every publisher has an ack for something sent after `since`; says how long it took from now.
    pub(crate) async fn recover(&mut self, since: Duration) -> Duration {
        self.recover_within(RECOVERY_LIMIT, since).await
    }

    /// The same of all publishers but those of the names.
    pub(crate) async fn recover_beside(&mut self, others: &[&str], since: Duration) {
        self.wait_for_acks(RECOVERY_LIMIT, others, since).await;
    }

    pub(crate) async fn recover_within(&mut self, limit: Duration, since: Duration) -> Duration {
        self.wait_for_acks(limit, &[], since).await
    }

    async fn wait_for_acks(
        &mut self,
        limit: Duration,
        without: &[&str],
        since: Duration,
    ) -> Duration {
        let began = self.now();
        wait_until(limit, async || {
            self.clients.all_acked_since(without, since).map_err(|why| {
                let logs = self.members.iter().map(Member::log);
                let last = logs.map(|log| last_lines(&log));
                format!("{why}\n{}", last.collect::<Vec<_>>().join("\n---\n"))
            })
        })
        .await;
        self.now().saturating_sub(began)
    }

    pub(crate) fn patroni(&self) -> &Patroni {
        self.ground.patroni.as_ref().expect("Patroni runs here")
    }

    /// Since when another member than this one takes writes.
    pub(crate) async fn new_primary(&self, before: usize) -> Duration {
        wait_until(FAILOVER_LIMIT, async || {
            let found = self.patroni().primary_beside(Some(before)).await;
            found
                .map(|_| self.now())
                .ok_or_else(|| "there is no other primary".to_owned())
        })
        .await
    }

    /// Lets traffic run for so long.
    pub(crate) async fn hold(&self, duration: Duration) {
        timeout(duration, std::future::pending::<()>()).await.ok();
    }

    /// From a moment ago until the world has recovered, requests and answers may be lost.
    pub(crate) fn excuse(&mut self, what: &str) {
        let from = self.now().saturating_sub(Duration::from_secs(1));
        self.open_excuse = Some((what.to_owned(), from));
    }

    /// From a moment ago until the world has recovered, Postgres refuses what this client publishes; without one, what all do.
    pub(crate) fn expect_refusals(&mut self, client_id: Option<&str>) {
        let from = self.now().saturating_sub(Duration::from_secs(1));
        self.open_refusals = Some((client_id.map(String::from), from));
    }

    /// To be called when the world has recovered.
    pub(crate) fn end_excuse(&mut self) {
        let to = self.now();
        if let Some((what, from)) = self.open_excuse.take() {
            self.history.excuses.push(Excuse { what, from, to });
        }
        if let Some((client_id, from)) = self.open_refusals.take() {
            self.history.refusals.push(Refusals {
                client_id,
                from,
                to,
            });
        }
    }

    /// Ends a server in this way, and waits until it has ended.
    pub(crate) async fn end(&mut self, member: usize, signal: Signal) {
        let mut server = self.members[member].server.take().expect("it runs");
        server.signal(signal);
        server.end().await;
        self.logs_of_ended.push(server.log());
    }

    /// Starts a server that has ended.
    pub(crate) fn start_again(&mut self, member: usize) {
        self.members[member].start();
        self.watch.add(self.members[member].server());
    }

    /// All servers find Postgres where it is now.
    pub(crate) fn lead_to_primary(&self) {
        for member in &self.members {
            member.to_postgres.lead_to(self.ground.primary());
        }
    }

    /// How many messages the channel has.
    pub(crate) async fn messages(&self, channel: &str) -> usize {
        let mut connection = PgConnection::connect(&self.ground.database_url())
            .await
            .unwrap();
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM stanby.messages JOIN stanby.channels USING (channel_id) WHERE name = $1",
        )
        .bind(channel)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        usize::try_from(count).unwrap()
    }

    /// When the newest message was published, by the clock of the server that stored it, in nanoseconds since 1970.
    pub(crate) async fn newest_message(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.ground.database_url())
            .await
            .unwrap();
        sqlx::query_scalar("SELECT max(published_at_ns) FROM stanby.messages")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// Of a member of a world with false clocks.
    pub(crate) fn clock(&self, member: usize) -> &Clock {
        let clock = self.members[member].clock.as_ref();
        clock.expect("the world has false clocks")
    }

    /// Of each server's way to Postgres or NATS.
    pub(crate) fn heal(&self) {
        for member in &self.members {
            member.to_postgres.set(Link::Up);
            member.set_to_nats(Link::Up);
        }
    }

    /// Everything that the servers logged, those that have ended included.
    pub(crate) fn logs(&self) -> String {
        let servers = self.members.iter().map(Member::log);
        let logs = self.logs_of_ended.iter().cloned().chain(servers);
        logs.collect::<Vec<_>>().join("\n---\n")
    }

    /// Ends the traffic, collects, and gives what is wrong with the run.
    pub(crate) async fn finish(self) -> (History, Vec<String>) {
        let (history, _, wrong) = self.finish_with_stored().await;
        (history, wrong)
    }

    /// The same, with what the tables hold in the end.
    pub(crate) async fn finish_with_stored(mut self) -> (History, Stored, Vec<String>) {
        self.settle().await;
        self.clients.stop_publishing().await;
        let tables = Tables::new(&self.ground.database_url());
        let mut stored = Stored::default();
        for channel in CHANNELS {
            let rows = tables.messages(channel).await.into_iter().map(|row| Row {
                sequence: row.sequence,
                epoch: row.epoch,
                published_at_ns: row.published_at_ns,
                guid: row.guid,
                data: row.data,
            });
            stored.messages.insert(channel, rows.collect());
        }
        let sequence = |row: &Row| row.sequence.unsigned_abs();
        let sequences: BTreeMap<_, Vec<u64>> = stored
            .messages
            .iter()
            .map(|(&channel, rows)| (channel, rows.iter().map(sequence).collect()))
            .collect();
        let drained = async {
            while !self.clients.missing(&sequences).is_empty() {
                self.hold(Duration::from_millis(50)).await;
            }
        };
        // What is missing then is told by the checks.
        timeout(LIMIT, drained).await.ok();

        self.history.publishes = self.clients.recorder.publishes();
        self.history.subscriptions = self.clients.receivers();
        self.history.clients = self.clients.live().await;
        stored.clients = tables.clients().await.into_iter().collect();
        stored.takeovers = tables
            .takeovers()
            .await
            .into_iter()
            .map(|(epoch, _)| epoch)
            .collect();
        stored.told = told(&self.ground.database_url()).await;
        let doubt = "the replica that Postgres failed over to may lack messages";
        let is_doubted = self.logs().contains(doubt);
        if let Some(failover) = &mut self.history.failover {
            failover.is_doubted = is_doubted;
        }
        self.history.contradictions = self.watch.seen().contradictions;
        if self.logs().contains("two servers are active") {
            let accusation = "a server says that another one serves from other tables\n";
            self.history.contradictions.push_str(accusation);
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            if member
                .server
                .as_mut()
                .is_some_and(|server| !server.is_running())
            {
                self.history
                    .deaths
                    .push(format!("server {at} has ended by itself"));
            }
            if member.log().contains("panicked at") {
                let sentence = format!("a server in place {at} panicked");
                self.history.deaths.push(sentence);
            }
        }
        let mut found = violations(&self.history, &stored);
        if !found.is_empty() {
            found.push(format!("logs of the servers:\n{}", self.logs()));
        }
        drop(self.members);
        self.ground.stop().await;
        (self.history, stored, found)
    }
}

pub(crate) async fn last_epoch(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT epoch FROM stanby.leadership")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

/// What servers told of failovers of the database.
async fn told(url: &str) -> Vec<LostRange> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows: Vec<(String, i64, i64, String)> = sqlx::query_as(
        "SELECT channel, first_sequence, last_sequence, fate FROM stanby.lost_ranges
         ORDER BY epoch, channel_id, first_sequence",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let range = |(channel, first, last, fate): (String, i64, i64, String)| LostRange {
        channel,
        first,
        last,
        fate: match fate.as_str() {
            "restored" => RangeOutcome::Restored,
            "lost" | "stored anew" => RangeOutcome::Lost,
            "unknown" => RangeOutcome::Unknown,
            other => panic!("there is no fate {other:?}"),
        },
    };
    rows.into_iter().map(range).collect()
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
