//! What happens to the servers meanwhile, one event after the other. The first server lives as long as the run, so that
//! what grows in a process is seen; the others are killed and stopped.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;
use tokio::time::timeout;

use crate::beginnings::FULL_CHANNEL;
use crate::browser::Browser;
use crate::facts::Facts;
use crate::pair::{Group, LIMIT, Says, Server};
use crate::stan::StanClient;
use crate::stores::{Case, Contents, names};
use crate::support::wait::wait_until;

/// What monitoring asks for.
const PAGES: [&str; 8] = [
    "/streaming/serverz",
    "/streaming/storez",
    "/streaming/clientsz?subs=1",
    "/streaming/channelsz?subs=1",
    "/streaming/isFTActive",
    "/metrics",
    "/healthz",
    "/varz",
];

/// Until there are an active and two standbys again, on a machine that is busy with other things.
const SETTLES: Duration = Duration::from_mins(3);

const FULL: &str = "the channel has used its last sequence";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Kill,
    Import,
    Stop,
    Limits,
    StepDown,
}

impl Event {
    pub(crate) const ALL: [Self; 5] = [
        Self::Kill,
        Self::Import,
        Self::Stop,
        Self::Limits,
        Self::StepDown,
    ];
}

pub(crate) struct Servers {
    group: Arc<Group>,
    /// The first one is never ended.
    servers: Vec<Server>,
    program: String,
    facts: Facts,
    browser: Browser,
    /// Directories of nats-streaming-server that need no flags, in turn.
    stores: Vec<String>,
    imports: usize,
    _keeper: StanClient,
}

impl Servers {
    pub(crate) async fn start(group: Arc<Group>, program: String, facts: &Facts) -> Self {
        let first = group.server_of(&program);
        first.wait_until_active().await;
        let browser = Browser::log_in(first.http_port, facts).await;
        let mut servers = vec![first];
        for _ in 0..2 {
            servers.push(group.server_of(&program));
        }
        group.wait_for_standbys(2).await;
        let plain = |name: &String| {
            let case = Case::unpack(name);
            case.expected["config"].is_null()
                && !case.is_damaged()
                && !["expired", "crc-poly"].contains(&name.as_str())
        };
        // A channel without subscriptions is deleted after a while; this one is to stay full.
        let keeper = group.client("keeper").await;
        let kept = keeper.hold(FULL_CHANNEL, "", "", 1).await;
        kept.unwrap();
        Self {
            group,
            servers,
            program,
            facts: facts.clone(),
            browser,
            stores: names("raft-", false).into_iter().filter(plain).collect(),
            imports: 0,
            _keeper: keeper,
        }
    }

    /// The process that lives as long as the run, and whether it is the active.
    pub(crate) async fn first(&self) -> (u32, bool) {
        (self.servers[0].pid(), self.active().await == 0)
    }

    /// The place of the active.
    async fn active(&self) -> usize {
        wait_until(LIMIT, async || {
            for (at, server) in self.servers.iter().enumerate() {
                if let Says::Active(_) = server.says().await {
                    return Ok(at);
                }
            }
            Err("nobody is active".to_owned())
        })
        .await
    }

    pub(crate) async fn strike(&mut self, event: Event) {
        match event {
            Event::Kill => self.end(Signal::SIGKILL).await,
            Event::Stop => self.end(Signal::SIGTERM).await,
            Event::StepDown => self.step_down().await,
            Event::Import => self.import().await,
            Event::Limits => self.meet_limits().await,
        }
    }

    /// Ends the active, and starts another server.
    async fn end(&mut self, signal: Signal) {
        let active = self.active().await;
        if active == 0 {
            return self.step_down().await;
        }
        let mut server = self.servers.remove(active);
        server.signal(signal);
        server.end().await;
        drop(server);
        self.servers.push(self.group.server_of(&self.program));
        self.settle().await;
    }

    async fn step_down(&mut self) {
        let (group, program) = (&self.group, &self.program);
        run(group, program, &["step-down"], &[], &self.facts).await;
        self.settle().await;
    }

    /// Waits until one serves and two would take over. What else uses the machine may make that slow, but no server ends by itself.
    async fn settle(&mut self) {
        self.replace_ended();
        self.active().await;
        let tables = self.group.tables();
        wait_until(SETTLES, async || match tables.standbys().await {
            Ok(2) => Ok(()),
            other => Err(format!("{other:?} of 2 standbys")),
        })
        .await;
        self.facts.count(|counts| counts.takeovers += 1);
    }

    /// A server that nobody here has ended is a fact of its own; the run goes on with another one.
    fn replace_ended(&mut self) {
        for server in &mut self.servers {
            if !server.is_running() {
                let log = server.log();
                let last = log.lines().last().unwrap_or_default();
                let port = server.http_port;
                self.facts.wrong(format!(
                    "the server on port {port} ended by itself or was killed by others; its last line: {last}"
                ));
                *server = self.group.server_of(&self.program);
            }
        }
    }

    /// A small store of nats-streaming-server comes into a schema of its own, is compared, and is dropped.
    async fn import(&mut self) {
        let case = Case::unpack(&self.stores[self.imports % self.stores.len()]);
        self.imports += 1;
        let schema = format!("import_{}", self.imports);
        let store = case.store();
        let arguments = [
            "import",
            "--from",
            store.to_str().unwrap(),
            "--schema",
            &schema,
            "--nats-server",
            &self.group.nats_url,
            "--cluster-id",
            case.cluster_id(),
        ];
        let environment = case.environment();
        let (group, program) = (&self.group, &self.program);
        let done = run(group, program, &arguments, &environment, &self.facts).await;
        if done {
            let stored = Contents::stored(&self.group.database_url, &schema).await;
            if stored != Contents::told(case.recovered()) {
                let name = &case.name;
                self.facts
                    .wrong(format!("the import of {name} is not what it was"));
            }
        }
        let mut connection = PgConnection::connect(&self.group.database_url)
            .await
            .unwrap();
        let drop = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut connection)
            .await
            .unwrap();
        self.facts.count(|counts| counts.imports += 1);
    }

    /// Asks for more channels than there may be, and publishes to a channel whose sequences have come to their end.
    async fn meet_limits(&self) {
        let client = self.group.client("greedy").await;
        for number in 1..=4 {
            let channel = format!("greedy.{number}");
            match client.subscribe(&channel, "", "").await {
                Ok(_) => {}
                Err(why) if why.contains("too many channels") => {
                    self.facts.count(|counts| counts.refusals += 1);
                }
                Err(why) => self.facts.wrong(format!("a channel too many: {why}")),
            }
        }
        let mut publisher = client.publisher(FULL_CHANNEL).await;
        for _ in 0..2 {
            publisher.send().await;
            if !publisher.take_ack(LIMIT).await {
                let name = FULL_CHANNEL;
                self.facts
                    .wrong(format!("a publish to {name} is not answered"));
            }
        }
        let published = publisher.published();
        for error in &published.errors {
            if error.contains(FULL) {
                self.facts.count(|counts| counts.refusals += 1);
            } else {
                self.facts.wrong(format!("behind the last one: {error}"));
            }
        }
        let acked = published.acked.len() as u64;
        self.facts.count(|counts| counts.last_sequences += acked);
        client.close().await.unwrap();
    }

    /// Every page of every server, and the console's live figures all the time.
    pub(crate) async fn look(&mut self) {
        self.replace_ended();
        let ports: Vec<u16> = self.servers.iter().map(|server| server.http_port).collect();
        self.browser.keep_open(&ports);
        for server in &self.servers {
            for page in PAGES {
                if server.get(page).await.is_ok() {
                    self.facts.count(|counts| counts.pages += 1);
                }
            }
            self.browser.look(server.http_port).await;
        }
    }
}

/// Whether the command did what it was asked for; what it says otherwise is noted.
pub(crate) async fn run(
    group: &Group,
    program: &str,
    arguments: &[&str],
    environment: &[(&'static str, String)],
    facts: &Facts,
) -> bool {
    let output = Command::new(program)
        .args(arguments)
        .env("STANBY_DATABASE_URL", &group.database_url)
        .env_remove("STANBY_TEST_REQUIRE")
        .envs(environment.iter().cloned())
        .kill_on_drop(true)
        .output();
    let Ok(output) = timeout(2 * LIMIT, output).await else {
        facts.wrong(format!("stanby {} does not end", arguments[0]));
        return false;
    };
    let output = output.unwrap();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        facts.wrong(format!("stanby {}: {said}", arguments[0]));
    }
    output.status.success()
}
