//! TLS to a real Postgres, by both drivers, with certificates made here.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers included")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};
use stanby::config::DatabaseUrl;
use stanby::config::database::{DatabaseError, DatabaseErrorKind};
use stanby::dev::postgres::Postgres;
use stanby::postgres::{bridge::Bridge, find};
use tokio::task::JoinSet;

use crate::certificates::Files;
use crate::pair::{Group, LIMIT, Pair};
use crate::support::process::Own;
use crate::support::wait::wait_until;
use crate::support::{nats, postgres};
use crate::tables::Tables;

/// By password and by certificate, both with TLS only.
const HOST_BASED: &str = "local all postgres trust
hostssl all by_password 127.0.0.0/8 scram-sha-256
hostssl all by_certificate 127.0.0.0/8 cert
";

const ROLES: &str = "CREATE ROLE by_password LOGIN PASSWORD 'geheim';
    CREATE ROLE by_certificate LOGIN;
    GRANT CREATE ON DATABASE postgres TO by_password, by_certificate";

/// A Postgres on a loopback address of its own, so that no port has to be found for it.
pub(crate) struct Encrypted {
    postgres: Own<Postgres>,
    address: String,
    files: Files,
}

impl Encrypted {
    /// Without TLS.
    pub(crate) async fn start() -> Option<Self> {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let [.., middle, low] = std::process::id().to_be_bytes();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let address = format!("127.{number}.{middle}.{low}");
        let listen = format!("listen_addresses={address}");
        let postgres = postgres::own_server_with(&[&listen]).await?;
        let files = Files::new();
        let authority = fs::read(files.path("ca.pem")).unwrap();
        let encrypted = Self {
            postgres,
            address,
            files,
        };
        encrypted.put("pg_hba.conf", HOST_BASED.as_bytes());
        encrypted.put("ca.pem", &authority);
        encrypted.execute(ROLES).await;
        Some(encrypted)
    }

    /// Takes connections with TLS from now on, and shows a certificate of this name or address.
    async fn encrypt(&self, name: &str) {
        let shown = self.files.sign(name);
        let key = fs::read(shown.key).unwrap();
        self.show(&fs::read(shown.certificate).unwrap(), &key).await;
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Takes connections with TLS from now on, and shows this certificate.
    pub(crate) async fn show(&self, certificate: &[u8], key: &[u8]) {
        self.put("server.crt", certificate);
        self.put("server.key", key);
        let tables = Tables::new(&self.postgres.url());
        let loads = "SELECT (extract(epoch FROM pg_conf_load_time()) * 1000000)::int8";
        let before = tables.number(loads).await;
        self.execute("ALTER SYSTEM SET ssl_ca_file = 'ca.pem'")
            .await;
        self.execute("ALTER SYSTEM SET ssl = on").await;
        self.execute("SELECT pg_reload_conf()").await;
        // It reads them some time after it was asked to.
        wait_until(LIMIT, async || match tables.number(loads).await {
            now if now > before => Ok(()),
            _ => Err("it has not read its files again".to_owned()),
        })
        .await;
    }

    async fn execute(&self, statement: &'static str) {
        Tables::new(&self.postgres.url()).execute(statement).await;
    }

    /// Into the data directory, as a file of whom Postgres runs as.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        let data = self.postgres.directory().postgres();
        let file = data.join(name);
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&data).unwrap();
        chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
    }

    fn url(&self, user: &str, more: &str) -> String {
        self.url_of(&self.address, user, more)
    }

    /// By another name, which is not looked up.
    pub(crate) fn url_of(&self, host: &str, user: &str, more: &str) -> String {
        format!(
            "postgres://{user}:geheim@{host}/postgres?hostaddr={}&connect_timeout=10{more}",
            self.address
        )
    }

    fn file(&self, name: &str) -> String {
        self.files.path(name).display().to_string()
    }

    /// By both drivers, or what the first one says that is not let in. Both refuse for the same reason.
    pub(crate) async fn reached_by(&self, url: &str) -> Result<(), String> {
        let url = DatabaseUrl::parse(url).unwrap();
        let session = session(&url).await;
        let bridge = Bridge::open(&url);
        let pool = PgConnection::connect_with(&bridge.options())
            .await
            .map(drop)
            .map_err(|error| DatabaseError::of_pool(&url, &error));
        match (session, pool) {
            (Ok(()), Ok(())) => Ok(()),
            (Err(session), Err(pool)) => {
                assert_eq!(session.kind, pool.kind, "{} | {}", session.text, pool.text);
                if session.kind == DatabaseErrorKind::Refused {
                    assert_eq!(session.text, pool.text);
                }
                Err(session.text)
            }
            differ => panic!("the drivers differ: {differ:?}"),
        }
    }
}

async fn session(url: &DatabaseUrl) -> Result<(), DatabaseError> {
    let (client, connection) = find::connect(url, &|_| ()).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let asked = client.batch_execute("SELECT 1").await;
    asked.map_err(|error| DatabaseError::of_session(url, &error))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_serves_from_a_postgres_that_proves_who_it_is_and_sends_nothing_in_the_clear() {
    let (Some(encrypted), Some(nats)) = (Encrypted::start().await, nats::url().await) else {
        return;
    };
    encrypted.encrypt(&encrypted.address).await;
    let verified = format!(
        "&sslmode=verify-full&sslrootcert={}",
        encrypted.file("ca.pem")
    );
    let url = encrypted.url("by_password", &verified);
    let mut group = Group::over(url, nats, &[]);
    group.cluster_id = "over-tls".to_owned();
    let pair = Pair::of(group).await;
    let client = pair.group.client("me").await;
    let mut publisher = client.publisher("orders").await;
    publisher.send_until_acked(LIMIT).await;
    pair.standby.get("/streaming/channelsz").await.unwrap();

    let tables = Tables::new(&encrypted.postgres.url());
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'by_password' AND ssl";
    let clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'by_password' AND NOT ssl";
    let encrypted = tables.number(encrypted).await;
    assert!(encrypted >= 3, "two sessions and a pool: {encrypted}");
    assert_eq!(tables.number(clear).await, 0);
    let (active, standby) = pair.roles().await;
    active.signal(Signal::SIGKILL);
    standby.wait_until_active().await;
    publisher.send_until_acked(LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_not_trusted_or_has_another_name_is_refused() {
    let Some(encrypted) = Encrypted::start().await else {
        return;
    };
    encrypted.encrypt("db.example").await;
    let (ours, stranger) = (encrypted.file("ca.pem"), Files::new());
    let stranger = stranger.path("ca.pem").display().to_string();
    let tries = [
        (
            format!("&sslmode=verify-full&sslrootcert={ours}"),
            Some("not valid for name"),
        ),
        (
            format!("&sslmode=verify-full&sslrootcert={stranger}"),
            Some("invalid peer certificate"),
        ),
        (
            "&sslmode=verify-full".to_owned(),
            Some("name the certificate of its authority with sslrootcert=FILE"),
        ),
        (
            format!("&sslmode=verify-ca&sslrootcert={stranger}"),
            Some("invalid peer certificate"),
        ),
        (format!("&sslmode=verify-ca&sslrootcert={ours}"), None),
        ("&sslmode=require".to_owned(), None),
        ("&sslmode=prefer".to_owned(), None),
        ("&sslmode=disable".to_owned(), Some("no encryption")),
    ];
    for (settings, refusal) in tries {
        let reached = encrypted
            .reached_by(&encrypted.url("by_password", &settings))
            .await;
        match refusal {
            None => assert_eq!(reached, Ok(()), "{settings}"),
            Some(part) => {
                let text = reached.unwrap_err();
                assert!(text.contains(part), "{settings}: {text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_without_tls_is_refused_where_tls_is_asked_for() {
    let Some(plain) = Encrypted::start().await else {
        return;
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = plain.url("by_password", &format!("&sslmode={mode}"));
        let text = plain.reached_by(&url).await.unwrap_err();
        assert!(text.contains("does not support TLS"), "{mode}: {text}");
        assert!(text.contains("sslmode=disable"), "{mode}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_a_postgres_that_asks_for_it() {
    let Some(encrypted) = Encrypted::start().await else {
        return;
    };
    encrypted.encrypt(&encrypted.address).await;
    let verified = format!(
        "&sslmode=verify-full&sslrootcert={}",
        encrypted.file("ca.pem")
    );
    let without = encrypted.url("by_certificate", &verified);
    let text = encrypted.reached_by(&without).await.unwrap_err();
    assert!(text.contains("client certificate"), "{text}");

    let shown = encrypted.files.sign("by_certificate");
    let (certificate, key) = (shown.certificate.display(), shown.key.display());
    let with = format!("{without}&sslcert={certificate}&sslkey={key}");
    assert_eq!(encrypted.reached_by(&with).await, Ok(()));
}
