//! What a connection to NATS needs to know. Files named here are read at every connection, so that credentials
//! and certificates may be renewed under a running server.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Error;
use super::login::Login;
use super::servers::Address;
use super::tls;
use crate::certificates::{Demand, TrustFile};

/// For those who have no lease to keep.
const SILENCE: Duration = Duration::from_secs(6);

/// Messages that may wait to be taken.
const RECEIVE_QUEUE: usize = 512 * 1024;

/// Bytes that messages may take while they wait to be taken. Where NATS has to hold the rest, whoever sends little waits
/// behind all of it: so this is what twenty publishers have under way that send small messages as fast as the client
/// libraries let them (16,384 each).
const RECEIVE_BYTES: usize = 160 << 20;

#[derive(Clone)]
pub struct Settings {
    /// `nats://host:port` or `tls://host:port`, without user info. At least one.
    pub servers: Vec<String>,
    /// How the connection is called in the NATS server's monitoring.
    pub name: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
    /// For the servers with these URLs, in place of the three above.
    pub logins: Vec<(String, UserLogin)>,
    pub credentials_file: Option<PathBuf>,
    pub nkey_seed_file: Option<PathBuf>,
    pub tls: Tls,
    /// A NATS server that gives no sign of life for so long is looked at, and left when it is not there.
    pub silence: Duration,
    /// Messages that may wait to be taken. When there are more, nothing is read from NATS.
    pub receive_queue: usize,
    /// As `receive_queue`, in bytes; what was read in one go may come on top.
    pub receive_bytes: usize,
    /// Whether the NATS server cuts off who does not read without holding back those who send; `None`: as its version does.
    pub cuts_off: Option<bool>,
}

#[derive(Clone, Default)]
pub struct UserLogin {
    pub user: Option<String>,
    pub password: Option<String>,
    pub token: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Refuses servers without TLS; `tls://` in the server's URL does the same.
    pub required: bool,
    /// Speaks TLS from the first byte, for servers that are set to `handshake_first`.
    pub first: bool,
    pub demand: Demand,
    /// Trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    pub ca_is: TrustFile,
    pub client: Option<ClientCertificate>,
    /// Expected in the server's certificate instead of the host of its URL.
    pub server_name: Option<String>,
}

#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

impl fmt::Debug for UserLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserLogin")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Fails where a file that a connection needs is of no use.
pub async fn check_files(settings: &Settings) -> Result<(), Error> {
    if settings.tls.ca_file.is_some() || settings.tls.client.is_some() {
        tls::connector(settings).await?;
    }
    Login::prepare(settings, Some("")).await.map(drop)
}

impl Settings {
    pub fn new(servers: Vec<String>, name: impl Into<String>) -> Self {
        Self {
            servers,
            name: name.into(),
            user: None,
            password: None,
            token: None,
            logins: Vec::new(),
            credentials_file: None,
            nkey_seed_file: None,
            tls: Tls::default(),
            silence: SILENCE,
            receive_queue: RECEIVE_QUEUE,
            receive_bytes: RECEIVE_BYTES,
            cuts_off: None,
        }
    }

    /// What goes for that server alone, if anything does.
    pub(super) fn login_of(&self, server: &Address) -> Option<&UserLogin> {
        let mut logins = self.logins.iter();
        let found = logins.find(|(url, _)| Address::parse(url).is_ok_and(|it| it == *server));
        found.map(|(_, login)| login)
    }

    /// Fit for an error text, because the servers' addresses have been found to be without credentials.
    pub(super) fn shown(&self) -> String {
        self.servers.join(", ")
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "[REDACTED]");
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("user", &self.user)
            .field("password", &hidden(&self.password))
            .field("token", &hidden(&self.token))
            .field("credentials_file", &self.credentials_file)
            .field("nkey_seed_file", &self.nkey_seed_file)
            .field("tls", &self.tls)
            .field("receive_queue", &self.receive_queue)
            .field("receive_bytes", &self.receive_bytes)
            .finish_non_exhaustive()
    }
}
