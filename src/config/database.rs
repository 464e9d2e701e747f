//! Where the database is and how to log in: a `postgres://` URL or a libpq `key=value` string, parsed once and
//! handed to both drivers, so that the leader session and the read pool cannot end up in different places.
//! It opens no connection; `trouble` says what a connection's error means for the caller.

mod passfile;
mod text;
mod tls;
mod trouble;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use trouble::{Trouble, TroubleKind};

/// Never shows the password, neither with `{}` nor with `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    host: Host,
    port: u16,
    user: String,
    password: Option<String>,
    /// Where the password is looked up that nothing else names.
    password_file: Option<PathBuf>,
    database: String,
    ssl: SslMode,
    /// `None` is the built-in list of public authorities.
    root_certificates: Option<PathBuf>,
    client_identity: Option<ClientIdentity>,
    connect_timeout: Duration,
    warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Tcp(String),
    /// Directory of the Unix socket.
    Unix(String),
}

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
    /// Whatever the text leaves open comes from `PGUSER`, `PGPASSWORD`, `PGPASSFILE`, `PGDATABASE`, `PGSSLMODE`,
    /// `PGSSLROOTCERT`, `PGSSLCERT` and `PGSSLKEY`, then from libpq's defaults; but who is reached over a network has
    /// to prove who he is, unless `sslmode` says otherwise. Reads the password file where one is named.
    pub fn parse(text: &str) -> Result<Self, InvalidDatabaseUrl> {
        let mut url = Self::parse_with(text, |name| {
            std::env::var(name).ok().filter(|value| !value.is_empty())
        })?;
        if let (None, Some(path)) = (&url.password, &url.password_file) {
            let password = url.password_in(path).map_err(InvalidDatabaseUrl)?;
            url.password = Some(password);
        }
        Ok(url)
    }

    fn password_in(&self, path: &Path) -> Result<String, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("passfile {name} cannot be read: {error}"))?;
        let (host, port) = match &self.host {
            Host::Tcp(host) | Host::Unix(host) => (host, self.port.to_string()),
        };
        let wanted = [host, port.as_str(), &self.database, &self.user];
        passfile::find(&text, wanted).ok_or_else(|| {
            format!(
                "passfile {name} has no line for {}; write {}:PASSWORD or *:*:*:*:PASSWORD",
                self.address(),
                wanted.join(":")
            )
        })
    }

    fn parse_with(
        text: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, InvalidDatabaseUrl> {
        text::parse(text, environment).map_err(InvalidDatabaseUrl)
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

    /// `host:port` or the path of the socket, for error texts.
    pub fn address(&self) -> String {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => format!("[{host}]:{}", self.port),
            Host::Tcp(host) => format!("{host}:{}", self.port),
            Host::Unix(directory) => format!("{directory}/.s.PGSQL.{}", self.port),
        }
    }

    /// True when what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        !text::is_elsewhere(&self.host)
    }

    /// The same server and login, another database.
    #[must_use]
    pub fn with_database(&self, name: &str) -> Self {
        Self {
            database: name.to_owned(),
            ..self.clone()
        }
    }

    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// For tokio-postgres. Reads the certificate files.
    pub fn for_session(
        &self,
    ) -> Result<(tokio_postgres::Config, MakeRustlsConnect), InvalidDatabaseUrl> {
        use tokio_postgres::config::SslMode as Mode;

        let mut config = tokio_postgres::Config::new();
        match &self.host {
            Host::Tcp(host) => config.host(host),
            Host::Unix(directory) => config.host_path(directory),
        };
        config
            .port(self.port)
            .user(&self.user)
            .dbname(&self.database)
            .connect_timeout(self.connect_timeout)
            .ssl_mode(match self.effective_ssl() {
                SslMode::Disable => Mode::Disable,
                SslMode::Prefer => Mode::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Mode::Require,
            });
        if let Some(password) = &self.password {
            config.password(password);
        }
        let tls = tls::client_config(
            self.effective_ssl(),
            self.root_certificates.as_deref(),
            self.client_identity.as_ref(),
        )
        .map_err(InvalidDatabaseUrl)?;
        Ok((config, MakeRustlsConnect::new(tls)))
    }

    /// For sqlx.
    pub fn for_pool(&self) -> PgConnectOptions {
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .password(self.password.as_deref().unwrap_or_default())
            .database(&self.database)
            .ssl_mode(match self.effective_ssl() {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            });
        options = match &self.host {
            Host::Tcp(host) => options.host(host),
            Host::Unix(directory) => options.socket(directory),
        };
        // Slow statements fail by their timeout, with a sentence of ours.
        options = options.disable_statement_logging();
        if let Some(path) = &self.root_certificates {
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
        if matches!(self.host, Host::Unix(_)) {
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
        let files = [
            ("sslrootcert", self.root_certificates.as_ref()),
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
    fn effective_ssl(&self) -> SslMode {
        match self.host {
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
        match &self.host {
            Host::Tcp(_) => write!(f, "{}/{}", self.address(), self.database),
            Host::Unix(directory) => {
                write!(f, "/{}?host={directory}&port={}", self.database, self.port)
            }
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

    fn parse(text: &str) -> Result<DatabaseUrl, InvalidDatabaseUrl> {
        DatabaseUrl::parse_with(text, |name| {
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

        let url = DatabaseUrl::parse_with("host=h user=u sslmode=require", |name| {
            Some(format!("from {name}"))
        });
        let url = url.unwrap();
        assert_eq!((url.user(), url.database()), ("u", "from PGDATABASE"));
        assert_eq!(url.password.as_deref(), Some("from PGPASSWORD"));
    }

    #[test]
    fn what_the_url_says_of_tls_goes_before_the_environment() {
        let environment = |name: &str| match name {
            "PGSSLMODE" => Some("require".to_owned()),
            "PGSSLROOTCERT" => Some("/of/environment.pem".to_owned()),
            _ => None,
        };
        let url = DatabaseUrl::parse_with("host=h user=u", environment).unwrap();
        assert_eq!(url.ssl, SslMode::VerifyCa);
        assert_eq!(
            url.root_certificates.as_deref(),
            Some(Path::new("/of/environment.pem"))
        );

        let named = "host=h user=u sslmode=verify-full sslrootcert=/of/url.pem";
        let url = DatabaseUrl::parse_with(named, environment).unwrap();
        assert_eq!(url.ssl, SslMode::VerifyFull);
        assert_eq!(
            url.root_certificates.as_deref(),
            Some(Path::new("/of/url.pem"))
        );
    }

    #[test]
    fn a_password_file_is_read_where_nothing_else_names_a_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        std::fs::write(&file, "db.example:5432:d:u:geheim\n").unwrap();

        let url =
            DatabaseUrl::parse(&format!("postgres://u@db.example/d?passfile={path}")).unwrap();
        assert_eq!(url.password.as_deref(), Some("geheim"));
        let url =
            DatabaseUrl::parse(&format!("postgres://u:p@db.example/d?passfile={path}")).unwrap();
        assert_eq!(url.password.as_deref(), Some("p"));
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
            ("postgres://a,b/d", "one host"),
            ("host=a,b dbname=d", "one host"),
            ("postgres://h:0/d", "port"),
            ("postgres://h:70000/d", "port"),
            ("host=h sslmode=maybe", "verify-full"),
            ("host=h hots=x", "hots"),
            ("host=h service=x", "service"),
            ("host=h sslcert=/c", "sslkey"),
            ("host=h connect_timeout=soon", "connect_timeout"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
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
