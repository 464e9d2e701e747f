//! Where the database is and how to log in: a `postgres://` URL or a libpq `key=value` string, parsed once and
//! handed to both drivers, so that the leader session and the read pool cannot end up in different places.
//! It opens no connection; `trouble` says what a connection's error means for the caller.

mod passfile;
mod service;
mod settings;
mod text;
mod tls;
mod trouble;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use trouble::{Trouble, TroubleKind};

/// Never shows the password, neither with `{}` nor with `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// At least one. Of several the one that takes writes is meant.
    places: Vec<Place>,
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

/// Where a Postgres may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    host: Host,
    /// Of the host, where its name is not to be looked up.
    address: Option<IpAddr>,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Tcp(String),
    /// Directory of the Unix socket.
    Unix(String),
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

/// The place and password by which a login succeeded last; clones of a URL share it. It is nothing that a URL says.
#[derive(Clone, Debug, Default)]
struct Found(Arc<Mutex<Option<Login>>>);

/// A place and the password for it.
type Login = (Place, Option<String>);

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

/// The text never contains the password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("database URL: {0}")]
pub struct InvalidDatabaseUrl(String);

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

impl DatabaseUrl {
    /// Whatever the text leaves open comes from a service and from the environment variables of libpq, then from libpq's
    /// defaults; but who is reached over a network has to prove who he is, unless `sslmode` says otherwise. A password file
    /// that is named is read, to tell of mistakes early.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let url = text::parse(text, environment, &service::Home).map_err(InvalidDatabaseUrl)?;
        for place in &url.places {
            url.passwords(place)?;
        }
        Ok(url)
    }

    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Those that may let this server in at a place, in the order in which they are tried; read anew each time. At least
    /// one, or `None` for a login without.
    pub fn passwords(&self, place: &Place) -> Result<Vec<Option<String>>, InvalidDatabaseUrl> {
        let (None, Some(path)) = (&self.password, &self.password_file) else {
            return Ok(vec![self.password.clone()]);
        };
        let found = self.passwords_in(path, place).map_err(InvalidDatabaseUrl)?;
        Ok(found.into_iter().map(Some).collect())
    }

    fn passwords_in(&self, path: &Path, place: &Place) -> Result<Vec<String>, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("passfile {name} cannot be read: {error}"))?;
        let (Host::Tcp(host) | Host::Unix(host)) = &place.host;
        let port = place.port.to_string();
        let wanted = [host, port.as_str(), &self.database, &self.user];
        match passfile::find(&text, wanted) {
            none if none.is_empty() => Err(format!(
                "passfile {name} has no line for {place}; write {}:PASSWORD or *:*:*:*:PASSWORD",
                wanted.join(":")
            )),
            found => Ok(found),
        }
    }

    /// A login there has succeeded.
    pub fn found(&self, place: &Place, password: Option<&str>) {
        let found = Some((place.clone(), password.map(str::to_owned)));
        *self.found.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    fn last_found(&self) -> Login {
        let found = self.found.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.clone().unwrap_or_else(|| {
            let place = self.places[0].clone();
            let passwords = self.passwords(&place).unwrap_or_default();
            (place, passwords.into_iter().next().flatten())
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
        let places: Vec<String> = self.places.iter().map(ToString::to_string).collect();
        places.join(",")
    }

    /// The same at one of its places.
    #[must_use]
    pub fn at(&self, place: &Place) -> Self {
        Self {
            places: vec![place.clone()],
            ..self.clone()
        }
    }

    /// True when what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        !self.places.iter().any(settings::is_elsewhere)
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
        let (place, password) = self.last_found();
        self.for_session_at(&place, password.as_deref())
    }

    /// For tokio-postgres. Reads the certificate files.
    pub fn for_session_at(
        &self,
        place: &Place,
        password: Option<&str>,
    ) -> Result<(tokio_postgres::Config, MakeRustlsConnect), InvalidDatabaseUrl> {
        use tokio_postgres::config::{ChannelBinding as Binding, SslMode as Mode, SslNegotiation};

        let ssl = self.effective_ssl(place);
        let mut config = tokio_postgres::Config::new();
        match &place.host {
            Host::Tcp(host) => config.host(host),
            Host::Unix(directory) => config.host_path(directory),
        };
        if let Some(address) = place.address {
            config.hostaddr(address);
        }
        config
            .port(place.port)
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
        if let Some(password) = password {
            config.password(password);
        }
        let mut tls = tls::client_config(ssl, &self.roots, self.client_identity.as_ref())
            .map_err(InvalidDatabaseUrl)?;
        if self.tls_first {
            tls.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok((config, MakeRustlsConnect::new(tls)))
    }

    /// For sqlx, where a login succeeded last, or at the first place.
    pub fn for_pool(&self) -> PgConnectOptions {
        let (place, password) = self.last_found();
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(place.port)
            .username(&self.user)
            .password(password.as_deref().unwrap_or_default())
            .database(&self.database)
            .ssl_mode(match self.effective_ssl(&place) {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            });
        options = match (&place.host, place.address) {
            // The name is needed where a certificate has to be for it.
            (Host::Tcp(_), Some(address)) if self.ssl != SslMode::VerifyFull => {
                options.host(&address.to_string())
            }
            (Host::Tcp(host), _) => options.host(host),
            (Host::Unix(directory), _) => options.socket(directory),
        };
        // Slow statements fail by their timeout, with a sentence of ours.
        options = options.disable_statement_logging();
        if let Roots::File(path) = &self.roots {
            options = options.ssl_root_cert(path);
        }
        if let Some(identity) = &self.client_identity {
            options = options
                .ssl_client_cert(&identity.certificate)
                .ssl_client_key(&identity.key);
        }
        options
    }

    /// With how the connection is protected, which error texts leave out.
    pub fn with_tls_settings(&self) -> String {
        let mut text = self.to_string();
        if matches!(self.places[0].host, Host::Unix(_)) {
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

    // Postgres does not speak TLS on a Unix socket.
    fn effective_ssl(&self, place: &Place) -> SslMode {
        match place.host {
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
        match self.places.as_slice() {
            [
                Place {
                    host: Host::Unix(directory),
                    port,
                    ..
                },
            ] => write!(f, "/{}?host={directory}&port={port}", self.database),
            _ => write!(f, "{}/{}", self.address(), self.database),
        }
    }
}

impl Place {
    /// The name to be looked up, where it may have several addresses.
    pub fn name(&self) -> Option<(&str, u16)> {
        match (&self.host, self.address) {
            (Host::Tcp(name), None) if name.parse::<IpAddr>().is_err() => Some((name, self.port)),
            _ => None,
        }
    }

    #[must_use]
    pub fn with_address(&self, address: IpAddr) -> Self {
        Self {
            address: Some(address),
            ..self.clone()
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match (&self.host, self.address) {
            (Host::Tcp(host), Some(address)) if *host != address.to_string() => {
                write!(f, "{host}:{port} ({address})")
            }
            (Host::Tcp(host), _) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (Host::Tcp(host), _) => write!(f, "{host}:{port}"),
            (Host::Unix(directory), _) => write!(f, "{directory}/.s.PGSQL.{port}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoFiles;

    impl service::Files for NoFiles {
        fn service(&self, name: &str) -> Result<Vec<(String, String)>, String> {
            match name {
                "here" => Ok(vec![("host".to_owned(), "served".to_owned())]),
                _ => Err(format!("no section [{name}]")),
            }
        }

        fn default_passwords(&self) -> Option<PathBuf> {
            None
        }

        fn default_root(&self) -> Option<PathBuf> {
            None
        }
    }

    fn parse_with(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
        text::parse(text, environment, &NoFiles).map_err(InvalidDatabaseUrl)
    }

    fn parse(text: &str) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
        parse_with(text, |name| {
            (name == "PGUSER").then(|| "os-user".to_owned())
        })
    }

    #[test]
    fn a_url_and_a_keyword_string_mean_the_same() {
        let url =
            parse("postgres://al%40ice:p%3Aw%20d@db.example:6543/app?sslmode=verify-full").unwrap();
        let keywords = parse(
            r"user=al@ice password='p:w d' host = db.example port=6543 dbname='app' sslmode=verify-full",
        )
        .unwrap();

        assert_eq!(url, keywords);
        assert_eq!(url.password.as_deref(), Some("p:w d"));
        assert_eq!(url.ssl, SslMode::VerifyFull);
        assert_eq!(url.address(), "db.example:6543");
    }

    #[test]
    fn a_unix_socket_directory_can_be_named_in_three_ways() {
        for text in [
            "postgres:///app?host=/run/pg&port=5433",
            "postgresql://%2Frun%2Fpg:5433/app",
            "host=/run/pg port=5433 dbname=app",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.address(), "/run/pg/.s.PGSQL.5433", "{text}");
            assert_eq!(url.database(), "app", "{text}");
        }
    }

    #[test]
    fn what_is_left_open_comes_from_the_environment_and_then_from_defaults() {
        let url = parse("postgres://localhost").unwrap();
        assert_eq!(url.to_string(), "postgres://os-user@localhost:5432/os-user");

        let of_environment = |name: &str| match name {
            "PGHOST" => Some("a,b".to_owned()),
            "PGHOSTADDR" => Some("10.0.0.1,10.0.0.2".to_owned()),
            "PGPORT" => Some("6543".to_owned()),
            "PGCONNECT_TIMEOUT" => Some("7".to_owned()),
            "PGDATABASE" | "PGPASSWORD" => Some(format!("from {name}")),
            _ => None,
        };
        let url = parse_with("user=u sslmode=verify-full", of_environment).unwrap();
        assert_eq!((url.user(), url.database()), ("u", "from PGDATABASE"));
        assert_eq!(url.password.as_deref(), Some("from PGPASSWORD"));
        assert_eq!(url.address(), "a:6543 (10.0.0.1),b:6543 (10.0.0.2)");
        assert_eq!(url.connect_timeout(), Duration::from_secs(7));
        let url = parse_with("service=here user=u", |_| None).unwrap();
        assert_eq!(url.address(), "served:5432");
    }

    #[test]
    fn what_the_url_says_of_tls_goes_before_the_environment() {
        let environment = |name: &str| match name {
            "PGSSLMODE" => Some("require".to_owned()),
            "PGSSLROOTCERT" => Some("/of/environment.pem".to_owned()),
            _ => None,
        };
        let url = parse_with("host=h user=u", environment).unwrap();
        assert_eq!(url.ssl, SslMode::VerifyCa);
        assert_eq!(url.roots, Roots::File("/of/environment.pem".into()));

        let named = "host=h user=u sslmode=verify-full sslrootcert=/of/url.pem";
        let url = parse_with(named, environment).unwrap();
        assert_eq!(url.ssl, SslMode::VerifyFull);
        assert_eq!(url.roots, Roots::File("/of/url.pem".into()));
    }

    #[test]
    fn a_password_file_is_read_where_nothing_else_names_a_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        std::fs::write(&file, "db.example:5432:d:u:geheim\n").unwrap();

        let url =
            DatabaseUrl::parse(&format!("postgres://u@db.example/d?passfile={path}")).unwrap();
        let passwords = |url: &DatabaseUrl| url.passwords(&url.places[0]).unwrap();
        assert_eq!(passwords(&url), [Some("geheim".to_owned())]);
        // As it is at each connection.
        std::fs::write(&file, "*:*:*:*:old\n*:*:*:*:new\n").unwrap();
        assert_eq!(
            passwords(&url),
            ["old", "new"].map(|it| Some(it.to_owned()))
        );
        std::fs::write(&file, "db.example:5432:d:u:geheim\n").unwrap();
        let url =
            DatabaseUrl::parse(&format!("postgres://u:p@db.example/d?passfile={path}")).unwrap();
        assert_eq!(passwords(&url), [Some("p".to_owned())]);
        for (text, part) in [
            (
                format!("postgres://other@db.example/d?passfile={path}"),
                "db.example:5432:d:other:PASSWORD",
            ),
            (
                "postgres://u@h/d?passfile=/no/such/file".to_owned(),
                "/no/such/file",
            ),
        ] {
            let error = DatabaseUrl::parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn the_password_is_never_shown() {
        for text in [
            "postgres://u:geheim@h/d",
            "host=h user=u password=geheim dbname=d",
        ] {
            let url = parse(text).unwrap();
            assert!(!format!("{url} {url:?} {:?}", url.warnings()).contains("geheim"));
            assert_eq!(url.to_string(), "postgres://u:***@h:5432/d");
        }
        for text in [
            "postgres://u:geheim@h:port/d",
            "postgres://u:geheim@h/d?ssl mode=no&x=1",
            "host=h password=geheim sslmode=maybe",
            "host=h password='geheim",
            "host=h password geheim",
            "u:geheim@h/d",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{text}: {error}");
        }
    }

    #[test]
    fn how_a_connection_is_protected_can_be_shown() {
        for (text, shown) in [
            (
                "postgres://u:geheim@h/d",
                "postgres://u:***@h:5432/d?sslmode=verify-full",
            ),
            (
                "host=h user=u dbname=d sslmode=verify-full sslrootcert=/ca sslcert=/c sslkey=/k",
                "postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=/ca&sslcert=/c&sslkey=/k",
            ),
            (
                "postgres://u@/d?host=/run",
                "postgres://u@/d?host=/run&port=5432",
            ),
        ] {
            assert_eq!(parse(text).unwrap().with_tls_settings(), shown);
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_remedy() {
        for (text, part) in [
            ("", "is empty"),
            ("mysql://h/d", "postgres://"),
            ("host=a,b,c hostaddr=10.0.0.1,10.0.0.2", "3 and 2 places"),
            ("host=a,b port=1,2,3", "3 ports for 2 hosts"),
            ("host=a hostaddr=b", "IP address"),
            ("host=h gssencmode=require", "GSS"),
            ("host=h sslcrl=/c", "sslcrl"),
            (
                "host=h sslnegotiation=direct sslmode=prefer",
                "sslmode=require",
            ),
            ("host=h sslmode=require sslrootcert=system", "verify-full"),
            ("host=h channel_binding=maybe", "channel_binding"),
            ("host=h target_session_attrs=master", "target_session_attrs"),
            // All of it at once.
            ("host=h:0 port=x hots=y sslmode=no", "also: setting hots"),
            ("postgres://h:0/d", "port"),
            ("postgres://h:70000/d", "port"),
            ("host=h sslmode=maybe", "verify-full"),
            ("host=h hots=x", "hots"),
            ("host=h service=x", "[x]"),
            ("host=h sslcert=/c", "sslkey"),
            ("host=h connect_timeout=soon", "connect_timeout"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn several_hosts_are_meant_as_libpq_means_them() {
        for (text, address) in [
            ("postgres://u@a,b:6432/d", "a:5432,b:6432"),
            (
                "postgres://u@a:1,[::1]:2,10.0.0.1/d",
                "a:1,[::1]:2,10.0.0.1:5432",
            ),
            ("host=a,b,c port=6432 user=u", "a:6432,b:6432,c:6432"),
            ("host=a,/run/pg port=,6 user=u", "a:5432,/run/pg/.s.PGSQL.6"),
            ("postgres://u@/d?host=a,b&port=1,2", "a:1,b:2"),
            (
                "hostaddr=10.0.0.1,10.0.0.2 user=u",
                "10.0.0.1:5432,10.0.0.2:5432",
            ),
            ("host=db hostaddr=10.0.0.1 user=u", "db:5432 (10.0.0.1)"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.address(), address, "{text}");
        }
    }

    #[test]
    fn what_has_no_effect_here_is_named_and_what_has_is_not() {
        let quiet = "host=localhost target_session_attrs=read-write channel_binding=prefer gssencmode=prefer \
                     sslnegotiation=postgres connect_timeout=3 load_balance_hosts=disable";
        assert_eq!(parse(quiet).unwrap().warnings(), [""; 0]);
        for setting in [
            "target_session_attrs=standby",
            "load_balance_hosts=random",
            "options=-csearch_path=x",
            "binary_parameters=yes",
            "search_path=x",
            "statement_timeout=1000",
            "pool_max_conns=5",
            "keepalives_idle=5",
            "application_name=x",
            "requirepeer=postgres",
            "default_query_exec_mode=simple_protocol",
            "sslsni=0",
        ] {
            let url = parse(&format!("host=localhost user=u {setting}")).unwrap();
            let name = setting.split('=').next().unwrap();
            let [warning] = url.warnings() else {
                panic!("{setting}: {:?}", url.warnings());
            };
            assert!(warning.contains(name), "{warning}");
        }
    }

    #[test]
    fn timeouts_of_the_go_driver_are_ignored_with_a_warning() {
        let url = parse("host=localhost readTimeout=5s writeTimeout=5s sslmode=disable").unwrap();
        assert_eq!(url.warnings().len(), 2, "{:?}", url.warnings());
        assert!(url.warnings()[0].contains("readTimeout"));
    }

    #[test]
    fn an_unverified_connection_to_another_machine_is_warned_about() {
        for (text, warned) in [
            ("postgres://db.example/d?sslmode=disable", true),
            ("postgres://db.example/d?sslmode=prefer", true),
            ("postgres://db.example/d?sslmode=require", true),
            ("postgres://db.example/d?sslmode=verify-full", false),
            ("postgres://127.0.0.1/d", false),
            ("postgres://[::1]/d", false),
            ("postgres://localhost/d", false),
            ("postgres:///d?host=/run", false),
        ] {
            assert_eq!(
                !parse(text).unwrap().warnings().is_empty(),
                warned,
                "{text}"
            );
        }
    }

    #[test]
    fn another_machine_has_to_prove_who_it_is_unless_told_otherwise() {
        for (text, mode) in [
            ("postgres://db.example/d", SslMode::VerifyFull),
            ("postgres://10.0.0.1/d", SslMode::VerifyFull),
            ("postgres://db.example/d?sslmode=prefer", SslMode::Prefer),
            ("postgres://localhost/d", SslMode::Prefer),
            ("postgres:///d?host=/run", SslMode::Prefer),
        ] {
            assert_eq!(parse(text).unwrap().ssl, mode, "{text}");
        }
    }

    #[test]
    fn a_root_certificate_that_cannot_be_read_is_named() {
        let url = parse("host=h sslmode=verify-full sslrootcert=/no/such/file.pem").unwrap();
        let error = url.for_session().err().unwrap().to_string();
        assert!(error.contains("/no/such/file.pem"), "{error}");
    }
}
