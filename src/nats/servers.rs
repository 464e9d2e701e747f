//! Where NATS is: the servers of the settings and those that they name themselves.

use std::fmt;

use super::error::Error;

const DEFAULT_PORT: u16 = 4222;

/// Servers that a NATS cluster may name beside those of the settings.
const LEARNED_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// A name, or an IP address; IPv6 without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// The URL asks for TLS.
    pub(super) tls: bool,
    /// What the server's certificate has to be for. A cluster names its servers by IP address, which certificates
    /// seldom hold: those are asked for the name of the server that announced them.
    pub(super) tls_name: String,
}

impl Address {
    /// From a URL of the settings.
    pub(super) fn parse(server: &str) -> Result<Self, Error> {
        // The text may hold a password that is not recognised as one.
        let invalid = |why: &str| {
            let shown = server.rsplit_once('@').map_or(server, |(_, host)| host);
            Error::InvalidSettings(format!("{shown:?} is not the URL of a NATS server: {why}"))
        };
        let (scheme, rest) = server.split_once("://").unwrap_or(("nats", server));
        if rest.contains('@') {
            return Err(invalid(
                "credentials do not belong into it, but into their own settings",
            ));
        }
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(invalid("it should begin with nats:// or tls://")),
        };
        let (host, port) = host_and_port(rest.strip_suffix('/').unwrap_or(rest))
            .ok_or_else(|| invalid("it should look like nats://host:4222"))?;
        Ok(Self {
            tls_name: host.clone(),
            host,
            port,
            tls,
        })
    }

    /// As a cluster names a server that `by` belongs to.
    fn learned(text: &str, by: &Self) -> Option<Self> {
        let (host, port) = host_and_port(text)?;
        let is_ip = host.parse::<std::net::IpAddr>().is_ok();
        let tls_name = if is_ip {
            by.tls_name.clone()
        } else {
            host.clone()
        };
        Some(Self {
            tls_name,
            host,
            port,
            tls: by.tls,
        })
    }

    fn is_same_server(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some(""))?,
            )
        }
        None => text.split_once(':').unwrap_or((text, "")),
    };
    let port = match port {
        "" => DEFAULT_PORT,
        digits => digits.parse().ok()?,
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    (!host.is_empty() && host.bytes().all(allowed)).then(|| (host.to_owned(), port))
}

/// In the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct Servers {
    configured: Vec<Address>,
    learned: Vec<Address>,
    /// Tried after all others: the one that was lost last.
    last: Option<Address>,
}

impl Servers {
    /// In the order of the list, which is the operator's. That a pair does not sit on one NATS server is seen to when its
    /// servers know of each other.
    pub(super) fn new(urls: &[String]) -> Result<Self, Error> {
        if urls.is_empty() {
            return Err(Error::InvalidSettings(
                "no NATS server is named; give at least one URL".into(),
            ));
        }
        let configured: Result<Vec<_>, _> = urls.iter().map(|url| Address::parse(url)).collect();
        Ok(Self {
            configured: configured?,
            learned: Vec::new(),
            last: None,
        })
    }

    /// The same, and what `by` says of its cluster.
    pub(super) fn knowing(known: &Self, urls: &[String], by: &Address) -> Self {
        let mut servers = known.clone();
        servers.learn(urls, by);
        servers
    }

    /// Each server once.
    pub(super) fn round(&self) -> Vec<Address> {
        let is_last = |address: &&Address| Some(*address) == self.last.as_ref();
        let known = || self.configured.iter().chain(&self.learned);
        let others = known().filter(|address| !is_last(address));
        others.chain(known().filter(is_last)).cloned().collect()
    }

    /// What `by` says of its cluster replaces what was said before: servers leave, too.
    pub(super) fn learn(&mut self, urls: &[String], by: &Address) {
        self.learned.clear();
        for address in urls.iter().filter_map(|url| Address::learned(url, by)) {
            let mut known = self.configured.iter().chain(&self.learned);
            if !known.any(|known| known.is_same_server(&address))
                && self.learned.len() < LEARNED_MAX
            {
                self.learned.push(address);
            }
        }
    }

    pub(super) fn lost(&mut self, address: &Address) {
        self.last = Some(address.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    #[test]
    fn urls_are_read_and_credentials_in_them_refused_without_being_shown() {
        let v6 = address("tls://[::1]:4443/");
        assert_eq!((&*v6.host, v6.port, v6.tls), ("::1", 4443, true));
        assert_eq!(v6.to_string(), "[::1]:4443");
        assert_eq!(address("nats://h").to_string(), "h:4222");

        for bad in [
            "nats://me:hunter2@h:1",
            "http://h:1",
            "nats://",
            "nats://h:99999",
            "nats://h:1/x",
            "nats://[::1",
            "nats://[h]:1",
            "nats://h h:1",
            "nats://a\r\nb",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(matches!(error, Error::InvalidSettings(_)), "{bad}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_server_that_was_lost_is_tried_last_and_learned_ones_come_after_the_configured() {
        let urls = ["nats://a:1".to_owned()];
        let mut servers = Servers::new(&urls).unwrap();
        let a = address("nats://a:1");
        let learned = ["10.0.0.1:4222", "a:1", "b:2", "not an address", "b:2"].map(str::to_owned);
        servers.learn(&learned, &a);

        let shown = |servers: &Servers| -> Vec<String> {
            servers.round().iter().map(ToString::to_string).collect()
        };
        assert_eq!(shown(&servers), ["a:1", "10.0.0.1:4222", "b:2"]);
        assert_eq!(servers.round()[1].tls_name, "a");
        assert_eq!(servers.round()[2].tls_name, "b");

        servers.lost(&a);
        assert_eq!(shown(&servers), ["10.0.0.1:4222", "b:2", "a:1"]);
        servers.learn(&[], &a);
        assert_eq!(shown(&servers), ["a:1"]);
    }

    #[test]
    fn a_cluster_cannot_name_servers_without_end() {
        let urls = ["tls://a:1".to_owned()];
        let mut servers = Servers::new(&urls).unwrap();
        let many: Vec<String> = (1..=1000).map(|port| format!("10.0.0.1:{port}")).collect();
        servers.learn(&many, &address("tls://a:1"));

        assert_eq!(servers.round().len(), 1 + LEARNED_MAX);
        assert!(servers.round().iter().all(|address| address.tls));
    }
}
