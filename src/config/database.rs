//! Where the database is and how to log in: a `postgres://` URL or a libpq `key=value` string, parsed once and
//! handed to both drivers, so that the leader session and the read pool cannot end up in different places.
//! It opens no connection; `database_error` says what a connection's error means for the caller.

mod database_error;
mod endpoint;
mod error;
mod passfile;
mod remedy;
mod service;
mod settings;
mod text;
mod tls;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::endpoint::Host;
pub use database_error::{DatabaseError, DatabaseErrorKind, NO_TLS, READ_ONLY, is_of_tls};
pub use endpoint::Endpoint;
pub use error::InvalidDatabaseUrl;

/// Never shows the password, neither with `{}` nor with `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// At least one. Of several the one that takes writes is meant.
    endpoints: Vec<Endpoint>,
    user: String,
    password: Option<String>,
    /// Where passwords are looked up that nothing else names, at each connection.
    password_file: Option<PathBuf>,
    database: String,
    ssl: SslMode,
    roots: Roots,
    client_identity: Option<ClientIdentity>,
    /// TLS from the first byte on.
    tls_first: bool,
    channel_binding: ChannelBinding,
    connect_timeout: Duration,
    warnings: Vec<String>,
    found: Found,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Roots {
    /// The built-in list of public ones.
    Public,
    /// Those of the system.
    System,
    File(PathBuf),
}

/// As libpq's `channel_binding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// How a login succeeded last; clones of a URL share it. It is nothing that a URL says.
#[derive(Clone, Debug, Default)]
struct Found(Arc<Mutex<Option<Login>>>);

/// A way in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub endpoint: Endpoint,
    pub password: Option<String>,
    /// Without TLS, where `sslmode=prefer` leaves the choice and TLS did not do.
    pub is_plain: bool,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.endpoint)
    }
}

/// Where and how to open a connection to Postgres for somebody who does not do it himself.
#[derive(Clone, Debug)]
pub struct Dial {
    pub host: String,
    /// The host's address, where its name is not to be looked up.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub tls: ClientConfig,
    /// TLS from the first byte on.
    pub is_tls_first: bool,
    /// A server without TLS will do.
    pub may_be_plain: bool,
}

impl PartialEq for Found {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Found {}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ClientIdentity {
    certificate: PathBuf,
    key: PathBuf,
}

/// As libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl DatabaseUrl {
    /// Whatever the text leaves open comes from a service and from the environment variables of libpq, then from libpq's
    /// defaults; but who is reached over a network has to prove who he is, unless `sslmode` says otherwise. A password file
    /// that is named is read, to tell of mistakes early.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = text::parse(text, environment, &service::Home)?;
        for endpoint in &url.endpoints {
            url.passwords(endpoint)?;
        }
        Ok(url)
    }

    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Those that may let this server in at a place, in the order in which they are tried; read again each time. At least
    /// one, or `None` for a login without.
    pub fn passwords(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Vec<Option<String>>, InvalidDatabaseUrl> {
        let (None, Some(path)) = (&self.password, &self.password_file) else {
            return Ok(vec![self.password.clone()]);
        };
        let found = self.passwords_in(path, endpoint)?;
        Ok(found.into_iter().map(Some).collect())
    }

    fn passwords_in(
        &self,
        path: &Path,
        endpoint: &Endpoint,
    ) -> Result<Vec<String>, InvalidDatabaseUrl> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("passfile {name} cannot be read: {error}"))?;
        let (Host::Tcp(host) | Host::Unix(host)) = &endpoint.host;
        let port = endpoint.port.to_string();
        let wanted = [host, port.as_str(), &self.database, &self.user];
        match passfile::find(&text, wanted) {
            none if none.is_empty() => Err(InvalidDatabaseUrl(format!(
                "passfile {name} has no line for {endpoint}; write {}:PASSWORD or *:*:*:*:PASSWORD",
                wanted.join(":")
            ))),
            found => Ok(found),
        }
    }

    /// A login has succeeded.
    pub fn found(&self, login: Login) {
        *self.found.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(login);
    }

    /// True where `sslmode` leaves it to the server whether there is TLS.
    pub fn may_be_plain(&self, endpoint: &Endpoint) -> bool {
        self.effective_ssl(endpoint) == SslMode::Prefer
    }

    fn last_found(&self) -> Login {
        let found = self.found.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone().unwrap_or_else(|| {
            let endpoint = self.endpoints[0].clone();
            let passwords = self.passwords(&endpoint).unwrap_or_default();
            Login {
                endpoint,
                password: passwords.into_iter().next().flatten(),
                is_plain: false,
            }
        })
    }

    /// What was accepted but has no effect, or is less safe than it looks; for the log at start.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    /// `host:port` or the path of the socket, for error texts; of several places each.
    pub fn address(&self) -> String {
        let endpoints: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        endpoints.join(",")
    }

    /// The same at one of its places.
    #[must_use]
    pub fn at(&self, endpoint: &Endpoint) -> Self {
        Self {
            endpoints: vec![endpoint.clone()],
            ..self.clone()
        }
    }

    /// True when what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        !self.endpoints.iter().any(settings::is_elsewhere)
    }

    /// The same server and login, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self {
            database: name.to_owned(),
            found: Found::default(),
            ..self.clone()
        }
    }

    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// For tokio-postgres, where a login succeeded last, or at the first place. Reads the files.
    pub fn for_session(
        &self,
    ) -> Result<(tokio_postgres::Config, MakeRustlsConnect), InvalidDatabaseUrl> {
        self.for_session_at(&self.last_found())
    }

    /// For tokio-postgres. Reads the certificate files.
    pub fn for_session_at(
        &self,
        login: &Login,
    ) -> Result<(tokio_postgres::Config, MakeRustlsConnect), InvalidDatabaseUrl> {
        use tokio_postgres::config::{ChannelBinding as Binding, SslMode as Mode, SslNegotiation};

        let endpoint = &login.endpoint;
        let ssl = self.ssl_of(login);
        let mut config = tokio_postgres::Config::new();
        match &endpoint.host {
            Host::Tcp(host) => config.host(host),
            Host::Unix(directory) => config.host_path(directory),
        };
        if let Some(address) = endpoint.address {
            config.hostaddr(address);
        }
        config
            .port(endpoint.port)
            .user(&self.user)
            .dbname(&self.database)
            .connect_timeout(self.connect_timeout)
            .channel_binding(match self.channel_binding {
                ChannelBinding::Disable => Binding::Disable,
                ChannelBinding::Prefer => Binding::Prefer,
                ChannelBinding::Require => Binding::Require,
            })
            .ssl_mode(match ssl {
                SslMode::Disable => Mode::Disable,
                SslMode::Prefer => Mode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Mode::Require,
            });
        if self.tls_first && ssl != SslMode::Disable {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        if let Some(password) = &login.password {
            config.password(password);
        }
        Ok((config, MakeRustlsConnect::new(self.tls(ssl)?)))
    }

    fn tls(&self, ssl: SslMode) -> Result<ClientConfig, InvalidDatabaseUrl> {
        let mut tls = tls::client_config(ssl, &self.roots, self.client_identity.as_ref())?;
        if self.tls_first {
            tls.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(tls)
    }

    /// Where a login succeeded last, or at the first place. `None` where no TLS is spoken. Reads the certificate files.
    pub fn dial(&self) -> Option<Result<Dial, InvalidDatabaseUrl>> {
        let login = self.last_found();
        let ssl = self.ssl_of(&login);
        let Host::Tcp(host) = &login.endpoint.host else {
            return None;
        };
        if ssl == SslMode::Disable {
            return None;
        }
        Some(self.tls(ssl).map(|tls| Dial {
            host: host.clone(),
            address: login.endpoint.address,
            port: login.endpoint.port,
            tls,
            is_tls_first: self.tls_first,
            may_be_plain: ssl == SslMode::Prefer,
        }))
    }

    /// True where a connection to where a login succeeded last is with TLS.
    pub fn speaks_tls(&self) -> bool {
        self.ssl_of(&self.last_found()) != SslMode::Disable
    }

    /// For sqlx, where a login succeeded last, or at the first place; `through`: directory and port of a Unix socket that
    /// leads there, where there is one. sqlx speaks no TLS here.
    pub fn for_pool(&self, through: Option<(&str, u16)>) -> PgConnectOptions {
        let Login {
            endpoint, password, ..
        } = self.last_found();
        let options = PgConnectOptions::new_without_pgpass()
            .port(through.map_or(endpoint.port, |(_, port)| port))
            .username(&self.user)
            .password(password.as_deref().unwrap_or_default())
            .database(&self.database)
            .ssl_mode(PgSslMode::Disable)
            // Slow statements fail by their timeout, with a sentence of ours.
            .disable_statement_logging();
        match (through, &endpoint.host, endpoint.address) {
            (Some((directory, _)), ..) => options.socket(directory),
            (None, Host::Unix(directory), _) => options.socket(directory),
            (None, Host::Tcp(_), Some(address)) => options.host(&address.to_string()),
            (None, Host::Tcp(host), None) => options.host(host),
        }
    }

    /// With how the connection is protected, which error texts leave out.
    pub fn with_tls_settings(&self) -> String {
        let mut text = self.to_string();
        if matches!(self.endpoints[0].host, Host::Unix(_)) {
            return text;
        }
        let mode = match self.ssl {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        };
        text.push_str("?sslmode=");
        text.push_str(mode);
        let identity = self.client_identity.as_ref();
        let system = PathBuf::from("system");
        let roots = match &self.roots {
            Roots::Public => None,
            Roots::System => Some(&system),
            Roots::File(file) => Some(file),
        };
        let files = [
            ("sslrootcert", roots),
            ("sslcert", identity.map(|identity| &identity.certificate)),
            ("sslkey", identity.map(|identity| &identity.key)),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                text.push_str(&["&", name, "=", &file.to_string_lossy()].concat());
            }
        }
        text
    }

    fn ssl_of(&self, login: &Login) -> SslMode {
        if login.is_plain {
            SslMode::Disable
        } else {
            self.effective_ssl(&login.endpoint)
        }
    }

    // Postgres does not speak TLS on a Unix socket.
    fn effective_ssl(&self, endpoint: &Endpoint) -> SslMode {
        match endpoint.host {
            Host::Tcp(_) => self.ssl,
            Host::Unix(_) => SslMode::Disable,
        }
    }
}

impl FromStr for DatabaseUrl {
    type Err = InvalidDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.password.is_some() { ":***" } else { "" };
        write!(f, "postgres://{}{secret}@", self.user)?;
        match self.endpoints.as_slice() {
            [
                Endpoint {
                    host: Host::Unix(directory),
                    port,
                    ..
                },
            ] => write!(f, "/{}?host={directory}&port={port}", self.database),
            _ => write!(f, "{}/{}", self.address(), self.database),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests;
