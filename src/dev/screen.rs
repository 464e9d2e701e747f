//! What the terminal shows: every text of the supervisor, and nothing that decides.

use std::fmt::Write as _;
use std::io::{Stdout, Write as _};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use super::postgres::shell_word;

/// A server as the screen shows it.
#[derive(Debug)]
pub(super) struct ServerLine {
    pub(super) number: usize,
    pub(super) pid: u32,
    pub(super) http_port: u16,
    pub(super) active: bool,
}

#[derive(Debug)]
pub(super) struct Welcome<'a> {
    pub(super) program: &'a Path,
    pub(super) nats_url: &'a str,
    /// Left out of the lines to paste, where it is what `pub` and `sub` use anyway.
    pub(super) nats_url_is_default: bool,
    pub(super) cluster_id: &'a str,
    pub(super) cluster_id_is_default: bool,
    pub(super) servers: &'a [ServerLine],
    /// To log in to the consoles with.
    pub(super) token: &'a str,
    pub(super) psql: &'a str,
    pub(super) database_url: &'a str,
    pub(super) data: &'a Path,
    pub(super) logs: &'a Path,
    pub(super) ephemeral: bool,
}

/// Writes to standard output. A closed one is no reason to stop: the servers go on.
#[derive(Debug)]
pub(super) struct Screen {
    out: Stdout,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            out: std::io::stdout(),
        }
    }

    pub(super) fn line(&self, text: &str) {
        let mut out = self.out.lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            tracing::debug!(%error, "standard output is closed");
        }
    }

    pub(super) fn welcome(&self, welcome: &Welcome<'_>) {
        self.line(&welcome.text());
    }

    pub(super) fn ended(&self, name: &str, pid: u32, status: ExitStatus) {
        self.line(&format!("{name} (pid {pid}) ended: {status}"));
    }

    pub(super) fn started_again(&self, name: &str, pid: u32) {
        self.line(&format!("{name} is started again (pid {pid})"));
    }

    pub(super) fn active(&self, name: &str, pid: u32, epoch: Option<u64>, gap: Option<Duration>) {
        let epoch = epoch
            .map(|epoch| format!(", epoch {epoch}"))
            .unwrap_or_default();
        let gap = gap
            .map(|gap| format!(" within {:.1} s", gap.as_secs_f64()))
            .unwrap_or_default();
        self.line(&format!("{name} (pid {pid}) is active{gap}{epoch}"));
    }

    pub(super) fn standby(&self, name: &str, pid: u32, active: Option<u32>) {
        let again = active.map(|pid| format!("; kill -9 {pid} for the next takeover"));
        self.line(&format!(
            "{name} (pid {pid}) is standby{}",
            again.unwrap_or_default()
        ));
    }

    pub(super) fn silent(&self, name: &str, pid: u32) {
        self.line(&format!("{name} (pid {pid}) does not answer"));
    }

    pub(super) fn not_ready(&self, name: &str, pid: u32, reason: &str) {
        self.line(&format!(
            "{name} (pid {pid}) cannot serve or take over: {reason}"
        ));
    }
}

impl Welcome<'_> {
    fn text(&self) -> String {
        let mut text = String::from("\nstanby is ready\n\n");
        let mut row = |name: &str, value: &str| {
            writeln!(text, "  {name:<9} {value}").expect("a string takes what is written");
        };
        row(
            "clients",
            &format!("{}, cluster ID {}", self.nats_url, self.cluster_id),
        );
        for server in self.servers {
            let role = if server.active { "active" } else { "standby" };
            let ServerLine {
                number,
                pid,
                http_port,
                ..
            } = server;
            row(
                role,
                &format!("server-{number}, pid {pid}, http://127.0.0.1:{http_port}/"),
            );
        }
        if let Some(server) = self.servers.iter().find(|server| server.active) {
            row(
                "console",
                &format!(
                    "http://127.0.0.1:{}/console, token {}",
                    server.http_port, self.token
                ),
            );
        }
        row("database", self.psql);
        let kept = if self.ephemeral {
            "removed at the end"
        } else {
            "stays"
        };
        row(
            "data",
            &format!("{} ({kept})", shell_word(&self.data.to_string_lossy())),
        );
        row("logs", &shell_word(&self.logs.to_string_lossy()));

        text.push_str("\nIn another terminal: subscribe, publish, kill the active\n\n");
        let program = shell_word(&self.program.to_string_lossy());
        let at = self.flags();
        let active = self.servers.iter().find(|server| server.active);
        let mut paste = |line: &str| {
            writeln!(text, "  {line}").expect("a string takes what is written");
        };
        paste(&format!("{program} sub orders --all{at}"));
        paste(&format!("{program} pub orders hello{at}"));
        paste(&format!(
            "{program} status --database-url {}",
            shell_word(self.database_url)
        ));
        if let Some(active) = active {
            paste(&format!("kill -9 {}", active.pid));
        }
        text.push_str("\nCtrl-C stops everything\n");
        text
    }

    /// The flags that `pub` and `sub` need.
    fn flags(&self) -> String {
        let server =
            (!self.nats_url_is_default).then(|| format!(" --nats-server {}", self.nats_url));
        let cluster = (!self.cluster_id_is_default)
            .then(|| format!(" --cluster-id {}", shell_word(self.cluster_id)));
        server.into_iter().chain(cluster).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(default: bool) -> String {
        let servers = [
            ServerLine {
                number: 1,
                pid: 41,
                http_port: 8222,
                active: false,
            },
            ServerLine {
                number: 2,
                pid: 42,
                http_port: 8223,
                active: true,
            },
        ];
        Welcome {
            program: Path::new("/a b/stanby"),
            nats_url: "nats://127.0.0.1:4333",
            nats_url_is_default: default,
            cluster_id: "mine",
            cluster_id_is_default: default,
            servers: &servers,
            token: "abc",
            psql: "psql -h /d/socket -U postgres postgres",
            database_url: "postgres:///postgres?host=/d/socket&user=postgres",
            data: Path::new("/d"),
            logs: Path::new("/d/logs"),
            ephemeral: false,
        }
        .text()
    }

    #[test]
    fn the_lines_to_paste_name_what_is_not_default_and_kill_the_active() {
        let text = welcome(false);
        for line in [
            "  '/a b/stanby' sub orders --all --nats-server nats://127.0.0.1:4333 --cluster-id mine\n",
            "  '/a b/stanby' pub orders hello --nats-server nats://127.0.0.1:4333 --cluster-id mine\n",
            "  '/a b/stanby' status --database-url 'postgres:///postgres?host=/d/socket&user=postgres'\n",
            "  kill -9 42\n",
            "  active    server-2, pid 42, http://127.0.0.1:8223/\n",
            "  console   http://127.0.0.1:8223/console, token abc\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert!(welcome(true).contains("  '/a b/stanby' pub orders hello\n"));
    }
}
