//! What happens to the servers meanwhile, one event after the other. The first server lives as long as the run, so that
//! what grows in a process is seen; the others are killed and stopped.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::sync::Arc;

use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;

use crate::facts::Facts;
use crate::pair::{Group, LIMIT, Says, Server};
use crate::support::wait::wait_until;

const PAGES: [&str; 9] = [
    "/streaming/serverz",
    "/streaming/storez",
    "/streaming/clientsz?subs=1",
    "/streaming/channelsz?subs=1",
    "/streaming/isFTActive",
    "/metrics",
    "/healthz",
    "/varz",
    "/",
];

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
    pub(crate) group: Arc<Group>,
    /// The first one is never ended.
    pub(crate) servers: Vec<Server>,
    program: String,
    facts: Facts,
    imports: u64,
}

impl Servers {
    pub(crate) async fn start(group: Arc<Group>, program: String, facts: &Facts) -> Self {
        let mut servers = Self {
            group,
            servers: Vec::new(),
            program,
            facts: facts.clone(),
            imports: 0,
        };
        for _ in 0..3 {
            servers
                .servers
                .push(servers.group.server_of(&servers.program));
            servers.active().await;
        }
        servers.group.wait_for_standbys(2).await;
        servers
    }

    /// The place of the active.
    pub(crate) async fn active(&self) -> usize {
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

    async fn step_down(&self) {
        self.run(&["step-down"]).await;
        self.settle().await;
    }

    async fn settle(&self) {
        self.active().await;
        self.group.wait_for_standbys(2).await;
        self.facts.count(|counts| counts.takeovers += 1);
    }

    /// What a channel holds goes out as lines, into a group of its own, which is dropped.
    async fn import(&mut self) {
        self.imports += 1;
        let schema = format!("import_{}", self.imports);
        let lines = self.run(&["export", "--channel", "orders"]).await;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &lines).unwrap();
        let path = file.path().to_str().unwrap();
        self.run(&["import", "--ndjson", path, "--schema", &schema])
            .await;
        let mut connection = PgConnection::connect(&self.group.database_url)
            .await
            .unwrap();
        let count = format!("SELECT count(*) FROM {schema}.messages");
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let sent = lines
            .lines()
            .filter(|line| line.contains("\"sequence\""))
            .count();
        if usize::try_from(count) != Ok(sent) {
            self.facts
                .wrong(format!("{count} of {sent} messages were imported"));
        }
        let drop = format!("DROP SCHEMA {schema} CASCADE");
        sqlx::raw_sql(AssertSqlSafe(drop))
            .execute(&mut connection)
            .await
            .unwrap();
        self.facts.count(|counts| counts.imports += 1);
    }

    /// Asks for one channel more than there may be, which is refused, and names what it is over.
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
        client.close().await.unwrap();
    }

    /// Every page of every server.
    pub(crate) async fn look(&self) {
        for server in &self.servers {
            for page in PAGES {
                if server.get(page).await.is_ok() {
                    self.facts.count(|counts| counts.pages += 1);
                }
            }
        }
    }

    /// What the command printed.
    async fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("STANBY_DATABASE_URL", &self.group.database_url)
            .env_remove("STANBY_TEST_REQUIRE")
            .output()
            .await
            .unwrap();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            self.facts.wrong(format!("stanby {}: {said}", arguments[0]));
        }
        String::from_utf8(output.stdout).unwrap()
    }
}
