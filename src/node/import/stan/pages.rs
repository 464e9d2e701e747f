//! The monitoring pages of the former server.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::error::{ExchangeError, InvalidMonitor, PagesError};
use crate::core::ids::ChannelName;
use crate::former::monitored::Shown;
use crate::nats::{self, Settings};

/// For a whole answer.
const LIMIT: Duration = Duration::from_secs(10);

const BYTES_MAX: usize = 64 << 20;

/// Channels of one page, with all of their subscriptions.
const PAGE: usize = 256;

/// Where the pages are, without what they are called.
#[derive(Clone, Debug)]
pub struct Monitor {
    url: Url,
}

/// What a look at all pages has shown.
#[derive(Debug)]
pub(super) struct Look {
    /// With their subscriptions.
    pub(super) channels: Vec<Channel>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) name: ChannelName,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) subscriptions: Vec<Shown>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Server {
    pub(super) cluster_id: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    role: String,
}

#[derive(Debug, Deserialize)]
struct Store {
    limits: Limits,
}

/// As the page has them: 0 is unlimited, times are nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    max_channels: i64,
    max_msgs: i64,
    max_bytes: i64,
    max_age: i64,
    max_subscriptions: i64,
    max_inactivity: i64,
    channels: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Channels {
    #[serde(default)]
    count: usize,
    #[serde(default)]
    total: usize,
    #[serde(default)]
    channels: Option<Vec<Channelz>>,
}

#[derive(Debug, Deserialize)]
struct Channelz {
    name: String,
    #[serde(default)]
    msgs: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    first_seq: u64,
    #[serde(default)]
    last_seq: u64,
    #[serde(default)]
    subscriptions: Option<Vec<Shown>>,
}

impl Monitor {
    pub fn parse(text: &str) -> Result<Self, InvalidMonitor> {
        let url = Url::parse(text).map_err(|why| InvalidMonitor::NoUrl {
            text: text.to_owned(),
            why,
        })?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(InvalidMonitor::Unlike(text.to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidMonitor::Login);
        }
        Ok(Self { url })
    }

    /// Fails where this is not the server that serves the clients of its cluster ID.
    pub(super) async fn server(&self, settings: &Settings) -> Result<Server, PagesError> {
        let server: Server = self.get(settings, "serverz").await?;
        let (state, role) = (server.state.as_str(), server.role.as_str());
        if matches!(role, "Follower" | "Candidate") || matches!(state, "FT_STANDBY") {
            let is = if role.is_empty() { state } else { role };
            return Err(PagesError::ServesNobody {
                monitor: self.to_string(),
                is: is.to_owned(),
            });
        }
        Ok(server)
    }

    /// The limits, in the words of the flags that give them to the new servers.
    pub(super) async fn limits(&self, settings: &Settings) -> Result<Vec<String>, PagesError> {
        let store: Store = self.get(settings, "storez").await?;
        Ok(store.limits.notes())
    }

    /// Fails when channels have come or gone on the way.
    pub(super) async fn look(&self, settings: &Settings) -> Result<Look, PagesError> {
        self.server(settings).await?;
        let mut found = Vec::new();
        let mut total = None;
        loop {
            let page = format!("channelsz?subs=1&limit={PAGE}&offset={}", found.len());
            let page: Channels = self.get(settings, &page).await?;
            if *total.get_or_insert(page.total) != page.total {
                return Err(PagesError::Changed);
            }
            let channels = page.channels.unwrap_or_default();
            if channels.is_empty() && found.len() < page.total {
                return Err(PagesError::Short {
                    monitor: self.to_string(),
                    found: found.len(),
                    total: page.total.max(page.count),
                });
            }
            for channel in channels {
                let name = ChannelName::parse(channel.name.as_str().into());
                let name = name.ok_or(PagesError::ChannelName(channel.name))?;
                found.push(Channel {
                    name,
                    messages: channel.msgs,
                    bytes: channel.bytes,
                    first: channel.first_seq,
                    last: channel.last_seq,
                    subscriptions: channel.subscriptions.unwrap_or_default(),
                });
            }
            if found.len() >= page.total {
                return Ok(Look { channels: found });
            }
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        settings: &Settings,
        page: &str,
    ) -> Result<T, PagesError> {
        let asked = timeout(LIMIT, self.ask(settings, page)).await;
        let page = format!("{self}/streaming/{page}");
        let (status, body) = match asked.unwrap_or(Err(ExchangeError::NoAnswer(LIMIT))) {
            Ok(answer) => answer,
            Err(why) => return Err(PagesError::NotThere { page, why }),
        };
        if status != StatusCode::OK {
            return Err(PagesError::Status { page, status });
        }
        serde_json::from_slice(&body).map_err(|why| PagesError::Unlike { page, why })
    }

    async fn ask(
        &self,
        settings: &Settings,
        page: &str,
    ) -> Result<(StatusCode, Vec<u8>), ExchangeError> {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port_or_known_default().unwrap_or(80);
        // Brackets are of the URL alone.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, port)).await?;
        let path = format!("{}/streaming/{page}", self.url.path().trim_end_matches('/'));
        let host = format!("{host}:{port}");
        if self.url.scheme() == "http" {
            return exchange(stream, &host, &path).await;
        }
        // The former server shows the certificate there that NATS clients know.
        let stream = nats::tls_to(settings, bare, stream).await;
        exchange(stream?, &host, &path).await
    }
}

async fn exchange<S>(
    stream: S,
    host: &str,
    path: &str,
) -> Result<(StatusCode, Vec<u8>), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Body::empty())?;
    let answer = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = to_bytes(Body::new(body), BYTES_MAX).await?;
        Ok((parts.status, body.to_vec()))
    };
    let mut answer = std::pin::pin!(answer);
    // The connection moves the bytes of both directions.
    tokio::select! {
        answered = answer.as_mut() => answered,
        ended = connection => {
            ended?;
            answer.await
        }
    }
}

impl Limits {
    fn notes(&self) -> Vec<String> {
        let count = |flag: &str, value: i64| (value > 0).then(|| format!("--{flag}={value}"));
        let time = |flag: &str, nanos: i64| {
            (nanos > 0).then(|| format!("--{flag}={}ms", nanos.div_euclid(1_000_000)))
        };
        let flags: Vec<String> = [
            count("max-channels", self.max_channels),
            count("max-subs", self.max_subscriptions),
            count("max-msgs", self.max_msgs),
            count("max-bytes", self.max_bytes),
            time("max-age", self.max_age),
            time("max-inactivity", self.max_inactivity),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mut notes = Vec::new();
        if !flags.is_empty() {
            notes.push(format!(
                "the former server had limits; to keep them, give the new servers {}",
                flags.join(" ")
            ));
        }
        for (channel, limits) in self.channels.iter().flatten() {
            notes.push(format!(
                "the former server has limits for channel {channel:?} of its own, to be carried over in a configuration file: \
                 {limits}"
            ));
        }
        notes
    }
}

/// Without a trailing slash.
impl fmt::Display for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_of_pages_is_refused_with_an_example() {
        for text in ["host:8222", "nats://host:4222", "", "http://u:p@host:8222"] {
            assert!(Monitor::parse(text).is_err(), "{text}");
        }
        let monitor = Monitor::parse("http://host:8222/").unwrap();
        assert_eq!(monitor.to_string(), "http://host:8222");
    }

    #[test]
    fn limits_are_told_as_the_flags_of_the_new_servers() {
        let limits: Limits = serde_json::from_str(
            r#"{"max_channels":100,"max_msgs":5,"max_age":3600000000000,"channels":{"foo.>":{"max_msgs":2}}}"#,
        )
        .unwrap();
        let notes = limits.notes();
        assert!(
            notes[0].ends_with("--max-channels=100 --max-msgs=5 --max-age=3600000ms"),
            "{notes:?}"
        );
        assert!(notes[1].contains("\"foo.>\""), "{notes:?}");
    }
}
