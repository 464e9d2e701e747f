//! What each setting of a database URL means here: as libpq means it, or, where that makes no sense for a server, nothing, with
//! a warning that names it. All mistakes are reported at once. Pure: environment and files are arguments.

mod keywords;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::service::Files;
use super::text::Settings;
use super::{
    ChannelBinding, ClientIdentity, DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT, DatabaseUrl, Endpoint,
    Found, Host, InvalidDatabaseUrl, Roots, SslMode,
};
use keywords::{IGNORED, KNOWN, VARIABLES};

struct Reading {
    settings: Settings,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Reading {
    fn take(&mut self, name: &str) -> Option<String> {
        self.settings.remove(name)
    }

    /// `None` after an error, which is kept.
    fn good<T>(&mut self, read: Result<T, impl Into<InvalidDatabaseUrl>>) -> Option<T> {
        read.map_err(|error| self.errors.push(error.into().0)).ok()
    }

    fn ignore(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("{name} has no effect: {why}"));
    }
}

pub(super) fn build(
    mut settings: Settings,
    environment: impl Fn(&str) -> Option<String>,
    files: &impl Files,
) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
    let mut errors = Vec::new();
    if let Some(service) = settings
        .remove("service")
        .or_else(|| environment("PGSERVICE"))
    {
        match files.service(&service) {
            Ok(found) => {
                for (name, value) in found {
                    settings.entry(name).or_insert(value);
                }
            }
            Err(error) => errors.push(error.0),
        }
    }
    for (name, variable) in VARIABLES {
        if !settings.contains_key(name)
            && let Some(value) = environment(variable)
        {
            settings.insert(name.to_owned(), value);
        }
    }
    let mut reading = Reading {
        settings,
        errors,
        warnings: Vec::new(),
    };
    let url = read(&mut reading, files);
    reading.rest();
    match url {
        Some(url) if reading.errors.is_empty() => Ok(DatabaseUrl {
            warnings: reading.warnings,
            ..url
        }),
        _ => Err(reading.errors.join("; also: ").into()),
    }
}

fn read(reading: &mut Reading, files: &impl Files) -> Option<DatabaseUrl> {
    let (hosts, addresses, ports) = (
        reading.take("host"),
        reading.take("hostaddr"),
        reading.take("port"),
    );
    let endpoints = endpoints(hosts.as_deref(), addresses.as_deref(), ports.as_deref());
    let endpoints = reading.good(endpoints);
    let user = reading.take("user").or_else(operating_system_user);
    let user = user.ok_or("it names no user; write postgres://user@host/database");
    let user = reading.good(user);
    let password = reading.take("password");
    let database = reading.take("dbname");
    let password_file = reading.take("passfile").map(PathBuf::from);
    let is_elsewhere = endpoints
        .as_ref()
        .is_some_and(|endpoints| endpoints.iter().any(is_elsewhere));
    let named_mode = reading.take("sslmode").map(|mode| ssl_mode(&mode));
    let named_mode = named_mode.and_then(|mode| reading.good(mode));
    let roots = match reading.take("sslrootcert") {
        Some(name) if name == "system" => Roots::System,
        Some(file) => Roots::File(file.into()),
        None => files.default_root().map_or(Roots::Public, Roots::File),
    };
    // libpq: a root certificate turns "encrypted" into "encrypted and verified", and the system's verify all.
    let ssl = match (named_mode, &roots) {
        (Some(SslMode::Require), Roots::File(_)) => SslMode::VerifyCa,
        (Some(SslMode::VerifyFull) | None, Roots::System) => SslMode::VerifyFull,
        (Some(weak), Roots::System) => {
            reading.errors.push(format!(
                "sslrootcert=system takes sslmode=verify-full only, and it is {}",
                weak.name()
            ));
            weak
        }
        (Some(mode), _) => mode,
        (None, _) if is_elsewhere => SslMode::VerifyFull,
        (None, _) => SslMode::Prefer,
    };
    if is_elsewhere && ssl != SslMode::VerifyFull && ssl != SslMode::VerifyCa {
        reading.warnings.push(format!(
            "the database is on another machine and sslmode is {}: nothing proves that it is the right one; use \
             sslmode=verify-full",
            ssl.name()
        ));
    }
    let identity = (reading.take("sslcert"), reading.take("sslkey"));
    let identity = match identity {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(ClientIdentity {
            certificate: certificate.into(),
            key: key.into(),
        })),
        (Some(_), None) => Err("sslcert needs sslkey beside it"),
        (None, Some(_)) => Err("sslkey needs sslcert beside it"),
    };
    let client_identity = reading.good(identity).flatten();
    let tls_first = match reading.take("sslnegotiation").as_deref() {
        None | Some("postgres") => false,
        Some("direct") => {
            if matches!(ssl, SslMode::Disable | SslMode::Prefer) {
                let why = "sslnegotiation=direct needs sslmode=require, verify-ca or verify-full";
                reading.errors.push(why.to_owned());
            }
            true
        }
        Some(_) => {
            let why = "sslnegotiation must be postgres or direct";
            reading.errors.push(why.to_owned());
            false
        }
    };
    let channel_binding = match reading.take("channel_binding").as_deref() {
        None | Some("prefer") => Some(ChannelBinding::Prefer),
        Some("disable") => Some(ChannelBinding::Disable),
        Some("require") => {
            reading.warnings.push(
                "channel_binding=require holds for the session that writes; connections that read prove the server by \
                 its certificate"
                    .to_owned(),
            );
            Some(ChannelBinding::Require)
        }
        Some(_) => {
            let why = "channel_binding must be disable, prefer or require";
            reading.errors.push(why.to_owned());
            None
        }
    };
    let timeout = reading.take("connect_timeout");
    let connect_timeout = reading.good(connect_timeout(timeout));
    reading.without_effect();
    let user = user?;
    Some(DatabaseUrl {
        endpoints: endpoints?,
        database: database.unwrap_or(user.clone()),
        user,
        password,
        password_file: password_file.or_else(|| files.default_passwords()),
        ssl,
        roots,
        client_identity,
        tls_first,
        channel_binding: channel_binding?,
        found: Found::default(),
        connect_timeout: connect_timeout?,
        warnings: Vec::new(),
    })
}

impl Reading {
    /// Those whose values decide whether they have none.
    fn without_effect(&mut self) {
        match self.take("target_session_attrs").as_deref() {
            None | Some("any" | "read-write" | "primary") => {}
            Some(replica @ ("read-only" | "standby" | "prefer-standby")) => {
                let name = format!("target_session_attrs={replica}");
                self.ignore(&name, "the server writes, and takes the host that lets it");
            }
            Some(_) => self.errors.push(
                "target_session_attrs must be any, read-write, read-only, primary, standby or prefer-standby"
                    .to_owned(),
            ),
        }
        match self.take("load_balance_hosts").as_deref() {
            None | Some("disable") => {}
            Some(_) => self.ignore(
                "load_balance_hosts",
                "of several hosts the one that takes writes is used",
            ),
        }
        if self.take("requirepeer").is_some() {
            let why = "who may write into the directory of the socket decides who answers there";
            self.ignore("requirepeer", why);
        }
        match self.take("gssencmode").as_deref() {
            None | Some("disable" | "prefer") => {}
            Some(_) => self.errors.push(
                "gssencmode=require cannot be done: GSS encryption is not spoken here; use sslmode=verify-full"
                    .to_owned(),
            ),
        }
        if let Some(methods) = self.take("require_auth") {
            let spoken = ["password", "md5", "scram-sha-256", "none"];
            let only = methods.split(',').all(|method| spoken.contains(&method));
            let why = if only && methods.contains("scram-sha-256") {
                "use channel_binding=require to insist on SCRAM"
            } else {
                "a server logs in by password, SCRAM or certificate"
            };
            self.ignore("require_auth", why);
        }
        for name in ["sslcrl", "sslcrldir"] {
            if self.take(name).is_some() {
                self.errors.push(format!(
                    "{name} cannot be used here: lists of revoked certificates are not looked at; replace the \
                     authority's certificate in sslrootcert instead"
                ));
            }
        }
        if self.take("sslpassword").is_some() {
            self.errors.push(
                "sslpassword cannot be used here: write the key of sslkey without a password, readable by this \
                 server alone"
                    .to_owned(),
            );
        }
    }

    fn rest(&mut self) {
        for name in std::mem::take(&mut self.settings).into_keys() {
            let ignored = IGNORED
                .iter()
                .find(|(_, names)| names.contains(&name.as_str()));
            match ignored {
                Some((why, _)) => self.ignore(&name, why),
                None => self.errors.push(format!(
                    "setting {name} is unknown or cannot be used here; use {KNOWN}"
                )),
            }
        }
    }
}

/// libpq: lists of the same length, or one port for all.
fn endpoints(
    hosts: Option<&str>,
    addresses: Option<&str>,
    ports: Option<&str>,
) -> Result<Vec<Endpoint>, InvalidDatabaseUrl> {
    let list = |text: Option<&str>| -> Vec<String> {
        let text = text.unwrap_or_default();
        text.split(',').map(|part| part.trim().to_owned()).collect()
    };
    let (hosts, addresses, ports) = (list(hosts), list(addresses), list(ports));
    let count = hosts.len().max(addresses.len());
    let fits = |given: &[String]| given.len() == count || given == [""];
    if !fits(&hosts) || !fits(&addresses) {
        return Err(format!(
            "host and hostaddr name {} and {} places; give each host its address",
            hosts.len(),
            addresses.len()
        )
        .into());
    }
    if ports.len() != count && ports.len() != 1 {
        return Err(format!(
            "{} ports for {count} hosts; give each host its port, or one for all",
            ports.len()
        )
        .into());
    }
    (0..count)
        .map(|at| {
            let nth = |list: &[String]| list.get(at).cloned().unwrap_or_default();
            let address = match nth(&addresses) {
                none if none.is_empty() => None,
                text => Some(text.parse::<IpAddr>().map_err(|_| {
                    format!("hostaddr {text:?} is not an IP address; a name belongs into host")
                })?),
            };
            let host = match (nth(&hosts), address) {
                (name, Some(address)) if name.is_empty() => Host::Tcp(address.to_string()),
                (name, None) if name.is_empty() => Host::Tcp("localhost".to_owned()),
                (name, _) if name.starts_with('/') => Host::Unix(name),
                (name, _) => Host::Tcp(name),
            };
            let port = if ports.len() == 1 {
                &ports[0]
            } else {
                &ports[at]
            };
            Ok(Endpoint {
                host,
                address,
                port: port_of(port)?,
            })
        })
        .collect()
}

fn port_of(text: &str) -> Result<u16, InvalidDatabaseUrl> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.parse().ok().filter(|&port| port != 0);
    // Not quoted: an unescaped @ or : in a password ends up here.
    port.ok_or_else(|| {
        "the port is not a number from 1 to 65535 (write @ : / in a password as %40 %3A %2F)".into()
    })
}

fn ssl_mode(text: &str) -> Result<SslMode, InvalidDatabaseUrl> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "prefer" | "allow" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(
            "sslmode (or PGSSLMODE) must be one of disable, allow, prefer, require, verify-ca, verify-full".into(),
        ),
    }
}

fn connect_timeout(text: Option<String>) -> Result<Duration, InvalidDatabaseUrl> {
    let Some(text) = text else {
        return Ok(DEFAULT_CONNECT_TIMEOUT);
    };
    match text.parse::<i32>() {
        // libpq: no limit of its own; here there always is one.
        Ok(..=0) => Ok(DEFAULT_CONNECT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds.unsigned_abs().into())),
        Err(_) => Err("connect_timeout must be a whole number of seconds".into()),
    }
}

fn operating_system_user() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    user.ok().flatten().map(|user| user.name)
}

pub(super) fn is_elsewhere(endpoint: &Endpoint) -> bool {
    match (&endpoint.host, endpoint.address) {
        (Host::Unix(_), _) => false,
        (Host::Tcp(_), Some(address)) => !address.is_loopback(),
        (Host::Tcp(name), None) => match name.parse::<IpAddr>() {
            Ok(address) => !address.is_loopback(),
            Err(_) => name != "localhost",
        },
    }
}
