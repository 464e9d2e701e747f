//! The task behind a connection: runs one session after the other and looks for a server in between.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::dial::{DialError, Failure, Line, dial, look_up};
use super::error::Error;
use super::link::Link;
use super::overlap::Overlap;
use super::random::Random;
use super::servers::{Address, Servers};
use super::session::{self, Outcome};
use super::settings::Settings;
use crate::happy_eyeballs::first;
use crate::printable::with_causes;

/// For the addresses of one name. A resolver gives each name server 5 s, and the first of them may be dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(7);

/// For one address of a server: TCP, TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// After all servers were tried. The first round begins at once, the pauses between the others double.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Closes the link when it is dropped.
struct Closes(Arc<Link>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug)]
pub(super) struct Reconnect {
    settings: Settings,
    link: Arc<Link>,
    servers: Servers,
    random: Random,
    /// Attempts fail several times a second, mostly for one reason.
    last_reason: Option<String>,
}

impl Reconnect {
    pub(super) fn new(settings: Settings, link: Arc<Link>) -> Result<Self, Error> {
        let random = Random::new();
        Ok(Self {
            servers: Servers::new(&settings.servers)?,
            settings,
            link,
            random,
            last_reason: None,
        })
    }

    /// Tries each server once. Of several that fail, one that does not let us in says most.
    pub(super) async fn first(&mut self) -> Result<Line, Error> {
        let mut unreachable = None;
        let mut is_unauthorized = false;
        for address in self.servers.round() {
            match self.try_one(&address).await {
                Ok(line) => return Ok(self.welcome(line)),
                Err(Failure::Dial(error)) => unreachable = Some(error),
                // Another one may have a login of its own.
                Err(Failure::Unauthorized) => is_unauthorized = true,
                Err(Failure::Settings(error)) => return Err(error),
            }
        }
        let servers = self.settings.shown();
        if is_unauthorized {
            return Err(Error::Unauthorized { servers });
        }
        Err(Error::Unreachable {
            servers,
            source: unreachable.unwrap_or(DialError::ClosedEarly),
        })
    }

    /// Until `stop`.
    pub(super) async fn run(mut self, mut line: Line, stop: CancellationToken) {
        // Also when this panics: an active that receives nothing any more has to know it, and to give the lock up.
        let _closed = Closes(Arc::clone(&self.link));
        let work = async {
            let mut overlap = Overlap::default();
            loop {
                let address = line.address.clone();
                let look: &session::Look<'_> = &|| Box::pin(self.is_there(&address));
                let (id, urls) = (line.info.server_id.clone(), line.info.connect_urls.clone());
                let moved = self.find_another(&address, &id, &urls);
                let silence = self.settings.silence;
                let (outcome, next) =
                    session::run(line, &self.link, silence, look, moved, overlap).await;
                (line, overlap) = match next {
                    Some(next) if next.is_clean => {
                        self.move_on(&address, &outcome, &next.line);
                        (next.line, next.overlap)
                    }
                    Some(next) => {
                        self.part(&address, &outcome);
                        (self.welcome(next.line), next.overlap)
                    }
                    None => {
                        self.part(&address, &outcome);
                        (self.search().await, Overlap::default())
                    }
                };
            }
        };
        tokio::select! {
            () = stop.cancelled() => tracing::debug!("the connection to NATS is being closed"),
            () = work => {}
        }
    }

    /// To another server, without a break.
    fn move_on(&mut self, address: &Address, outcome: &Outcome, line: &Line) {
        self.servers.learn(&outcome.info.connect_urls, address);
        self.servers.lost(address);
        self.settle(line);
        tracing::info!(
            from = %address,
            server = %line.address,
            version = line.info.version,
            "moved to another NATS server; nothing was lost on the way"
        );
    }

    fn settle(&mut self, line: &Line) {
        self.last_reason = None;
        self.link.set_max_payload(line.info.max_payload);
        self.link.set_server_id(&line.info.server_id);
        let cuts_off = self.settings.cuts_off;
        self.link
            .set_cuts_off(cuts_off.unwrap_or_else(|| cuts_off_without_holding(&line.info.version)));
        self.servers.learn(&line.info.connect_urls, &line.address);
    }

    fn welcome(&mut self, line: Line) -> Line {
        self.settle(&line);
        self.link.begin();
        tracing::info!(
            server = %line.address,
            version = line.info.version,
            "connected to NATS"
        );
        line
    }

    fn part(&mut self, address: &Address, outcome: &Outcome) {
        self.servers.learn(&outcome.info.connect_urls, address);
        self.servers.lost(address);
        self.link.counters.add_disconnect();
        let reported = outcome.reported.as_deref().unwrap_or("nothing");
        if outcome.was_slow {
            self.link.counters.add_overflow();
            tracing::error!(
                server = %address,
                why = %outcome.ended,
                reported,
                "lost the connection to NATS while requests came faster than they could be taken: those that NATS \
                 held are lost and their senders will see timeouts; look at how long commits take, and share the \
                 load among several clusters of stanby if it is always like this"
            );
        } else {
            tracing::warn!(
                server = %address,
                why = %outcome.ended,
                reported,
                "lost the connection to NATS; reconnecting"
            );
        }
    }

    /// Whether the server answers a new connection: a busy one does, one that is frozen or gone does not.
    async fn is_there(&self, address: &Address) -> bool {
        if self.settings.tls.first {
            // It waits for us to speak.
            return false;
        }
        let look = async {
            let places = look_up(address).await.ok()?;
            let attempts = places.into_iter().map(|place| async move {
                let mut tcp = TcpStream::connect(place).await.map_err(drop)?;
                let read = tcp.read(&mut [0; 1]).await.map_err(drop)?;
                (read > 0).then_some(()).ok_or(())
            });
            first(attempts.collect()).await.ok()
        };
        let limit = self.settings.silence / 2;
        timeout(limit, look).await.is_ok_and(|seen| seen.is_some())
    }

    /// When another server is asked for, one of those that there are: not the one that is there, nor one to be avoided.
    async fn find_another(&self, here: &Address, id: &str, urls: &[String]) -> Line {
        let learned = Servers::knowing(&self.servers, urls, here);
        loop {
            self.link.wants_away().await;
            for address in learned.round().into_iter().filter(|other| other != here) {
                if let Ok(line) = self.try_one(&address).await
                    && line.info.server_id != id
                    && !line.info.lame_duck
                    && !self.link.is_avoided(&line.info.server_id)
                {
                    return line;
                }
            }
            tracing::info!("there is no other NATS server to go to");
        }
    }

    /// Round after round, until a server takes us.
    async fn search(&mut self) -> Line {
        let mut pause = FIRST_PAUSE;
        loop {
            for address in self.servers.round() {
                match self.try_one(&address).await {
                    Ok(line) => return self.welcome(line),
                    Err(failure) => self.note(&address, &failure),
                }
            }
            sleep(self.random.pause(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn try_one(&self, address: &Address) -> Result<Line, Failure> {
        let places = timeout(LOOKUP_TIMEOUT, look_up(address));
        let places = places.await.map_err(|_| DialError::NoName)??;
        dial(address, &places, &self.settings, CONNECT_TIMEOUT).await
    }

    fn note(&mut self, address: &Address, failure: &Failure) {
        let reason = match failure {
            Failure::Dial(error) => with_causes(error),
            Failure::Unauthorized => Error::Unauthorized {
                servers: address.to_string(),
            }
            .to_string(),
            Failure::Settings(error) => with_causes(error),
        };
        if self.last_reason.as_ref() != Some(&reason) {
            tracing::warn!(server = %address, error = reason, "cannot reconnect to NATS; trying on");
            self.last_reason = Some(reason);
        }
    }
}

/// Since 2.11 a NATS server holds those who send back for a few milliseconds only, and then cuts off who does not read.
pub(crate) fn cuts_off_without_holding(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next(), numbers.next());
    (major, minor) >= (Some(2), Some(11))
}
