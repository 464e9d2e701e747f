//! Where NATS is and how to log in there.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use url::Url;

use super::error::Error;
use super::secret::{Secret, redact_url};
use crate::certificates::{Demand, TrustFile};
use crate::protocol::Subjects;
use crate::protocol::subjects::Prefixes;

pub(super) const DEFAULT_PORT: u16 = 4222;

/// What is asked where nothing else is said.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";

/// The flags of every command that speaks to NATS.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "NATS")]
pub struct NatsFlags {
    /// NATS servers, comma separated: nats://host:port, nats://user:password@host:port, tls://host:port. Without, serve
    /// runs a nats-server of its own; other commands ask the one on this machine
    #[arg(
        long,
        env = "STANBY_NATS_SERVER",
        hide_env_values = true,
        value_name = "URLS"
    )]
    pub nats_server: Option<Secret>,

    /// User for NATS, at servers whose URL names none
    #[arg(long, env = "STANBY_NATS_USER", value_name = "NAME")]
    pub nats_user: Option<String>,

    /// Password for NATS; give it in the environment
    #[arg(
        long,
        env = "STANBY_NATS_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub nats_password: Option<Secret>,

    /// Token for NATS; give it in the environment
    #[arg(
        long,
        env = "STANBY_NATS_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub nats_token: Option<Secret>,

    /// Credentials file (.creds) for NATS
    #[arg(long, env = "STANBY_NATS_CREDENTIALS", value_name = "FILE")]
    pub nats_credentials: Option<PathBuf>,

    /// Nkey seed file for NATS
    #[arg(long, env = "STANBY_NATS_NKEY", value_name = "FILE")]
    pub nats_nkey: Option<PathBuf>,

    /// Refuse NATS servers without TLS
    #[arg(long, env = "STANBY_NATS_TLS", value_name = "BOOL")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub nats_tls: bool,

    /// Certificates of the authorities that NATS servers are trusted by, instead of the system's; implies TLS
    #[arg(long, env = "STANBY_NATS_TLS_CA", value_name = "FILE")]
    pub nats_tls_ca: Option<PathBuf>,

    /// Client certificate for NATS; implies TLS
    #[arg(long, env = "STANBY_NATS_TLS_CERT", value_name = "FILE")]
    pub nats_tls_cert: Option<PathBuf>,

    /// Key of the certificate
    #[arg(long, env = "STANBY_NATS_TLS_KEY", value_name = "FILE")]
    pub nats_tls_key: Option<PathBuf>,

    /// Do not check the certificates of NATS servers: whoever is between can read and change everything
    #[arg(long, env = "STANBY_NATS_TLS_INSECURE", value_name = "BOOL")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub nats_tls_insecure: bool,

    /// Name that the certificates of NATS servers must be for, instead of the host in the URL; implies TLS
    #[arg(long, env = "STANBY_NATS_TLS_SERVER_NAME", value_name = "NAME")]
    pub nats_tls_server_name: Option<String>,

    /// Start with the TLS handshake, for NATS servers that require it; implies TLS
    #[arg(long, env = "STANBY_NATS_TLS_FIRST", value_name = "BOOL")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub nats_tls_first: bool,

    /// Cluster ID that clients connect to
    #[arg(
        long,
        env = "STANBY_CLUSTER_ID",
        value_name = "ID",
        default_value = "test-cluster"
    )]
    pub cluster_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// `scheme://host:port`, without user info: fit for a log. Never empty.
    pub servers: Vec<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
    /// The logins of servers whose URLs name another one than the one above.
    pub logins: Vec<(String, NatsLogin)>,
    /// Path of a credentials file.
    pub credentials: Option<PathBuf>,
    /// Path of an nkey seed file.
    pub nkey: Option<PathBuf>,
    pub tls: NatsTls,
}

impl NatsConfig {
    pub(super) fn has_no_login(&self) -> bool {
        self.user.is_none()
            && self.token.is_none()
            && self.credentials.is_none()
            && self.nkey.is_none()
    }
}

/// What a URL says of who logs in there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsLogin {
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsTls {
    /// Servers without TLS are refused.
    pub required: bool,
    /// From the first byte on.
    pub first: bool,
    pub demand: Demand,
    /// Expected in the certificate instead of the host of the URL.
    pub server_name: Option<String>,
    pub ca: Option<PathBuf>,
    pub ca_is: TrustFile,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl NatsFlags {
    /// The servers of somebody else, if any are named.
    pub(super) fn servers(&self) -> Option<&str> {
        let given = self.nats_server.as_ref().map(Secret::expose);
        given.filter(|given| !given.is_empty())
    }

    /// For a command, where a login that is named beside the URLs goes before theirs.
    pub fn nats(&self) -> Result<NatsConfig, Error> {
        self.nats_where(|_| false)
    }

    /// For a server, where the login in a URL goes before any other, as for the former one.
    pub fn server_nats(&self) -> Result<NatsConfig, Error> {
        let has_one = |server: &Server| server.login != NatsLogin::default();
        self.nats_where(has_one)
    }

    /// With the login in the URLs of these servers, whatever is named beside.
    fn nats_where(&self, has_its_own: impl Fn(&Server) -> bool) -> Result<NatsConfig, Error> {
        let servers = parse_servers(self.servers().unwrap_or(DEFAULT_SERVER))?;
        let (login, logins) = match self.login() {
            Some(login) if !servers.iter().all(&has_its_own) => {
                if login == NatsLogin::default() {
                    return Err(Error::new("--nats-password needs --nats-user beside it"));
                }
                let logins = others(servers.iter().filter(|it| has_its_own(it)), &login);
                (login, logins)
            }
            Some(_) | None => {
                let login = first_login(&servers);
                let logins = others(servers.iter(), &login);
                (login, logins)
            }
        };
        Ok(NatsConfig {
            servers: servers.into_iter().map(|server| server.address).collect(),
            user: login.user,
            password: login.password,
            token: login.token,
            logins,
            credentials: self.nats_credentials.clone(),
            nkey: self.nats_nkey.clone(),
            tls: self.tls()?,
        })
    }

    /// What is said beside the URLs; a password without a user is nobody's.
    pub(super) fn login(&self) -> Option<NatsLogin> {
        let filled = |secret: &&Secret| !secret.is_empty();
        let user = self.nats_user.as_ref().filter(|user| !user.is_empty());
        let password = self.nats_password.as_ref().filter(filled);
        let token = self.nats_token.as_ref().filter(filled);
        let is_given = user.is_some() || password.is_some() || token.is_some();
        // Given a user and a token, the NATS server looks at what it asks for.
        is_given.then(|| NatsLogin {
            user: user.cloned(),
            password: password.filter(|_| user.is_some()).cloned(),
            token: token.cloned(),
        })
    }

    /// Nothing that is said beside them is used.
    pub(super) fn is_login_in_every_url(&self) -> bool {
        let servers = self.servers().map(parse_servers);
        servers.is_some_and(|servers| servers.is_ok_and(|servers| is_in_all(&servers)))
    }

    fn tls(&self) -> Result<NatsTls, Error> {
        let client = match (&self.nats_tls_cert, &self.nats_tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
            (Some(_), None) | (None, Some(_)) => {
                return Err(Error::new(
                    "--nats-tls-cert and --nats-tls-key need each other; give both",
                ));
            }
        };
        Ok(NatsTls {
            required: self.nats_tls
                || client.is_some()
                || self.nats_tls_ca.is_some()
                || self.nats_tls_server_name.is_some()
                || self.nats_tls_first,
            ca: self.nats_tls_ca.clone(),
            ca_is: TrustFile::Authorities,
            client,
            demand: if self.nats_tls_insecure {
                Demand::Nothing
            } else {
                Demand::default()
            },
            server_name: self.nats_tls_server_name.clone(),
            first: self.nats_tls_first,
        })
    }

    /// The subjects of the cluster ID, which is judged by that.
    pub fn subjects(&self, prefixes: &Prefixes) -> Result<Subjects, Error> {
        Subjects::new(&self.cluster_id, prefixes).map_err(|error| Error::new(error.to_string()))
    }
}

struct Server {
    address: String,
    login: NatsLogin,
}

fn is_in_all(servers: &[Server]) -> bool {
    let has_one = |server: &Server| server.login != NatsLogin::default();
    servers.iter().all(has_one)
}

/// The login of the first server whose URL has one. It serves also for those whose URLs have none, and for servers that only their
/// cluster names: servers of a cluster share their users.
fn first_login(servers: &[Server]) -> NatsLogin {
    let mut logins = servers.iter().map(|server| &server.login);
    let first = logins.find(|login| **login != NatsLogin::default());
    first.cloned().unwrap_or_default()
}

fn others<'a>(
    servers: impl Iterator<Item = &'a Server>,
    first: &NatsLogin,
) -> Vec<(String, NatsLogin)> {
    let differs = |server: &&Server| server.login != *first && server.login != NatsLogin::default();
    let others = servers.filter(differs);
    others
        .map(|server| (server.address.clone(), server.login.clone()))
        .collect()
}

fn parse_servers(text: &str) -> Result<Vec<Server>, Error> {
    let parts: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    match parts.as_slice() {
        [] => Err(malformed(
            text,
            "it is empty; write it like nats://host:4222",
        )),
        [only] => {
            let server = parse_server(only)?;
            let bare = server.login == NatsLogin::default();
            if bare && !(only.contains("://") && has_port(only)) {
                return Err(malformed(
                    only,
                    "scheme and port are needed, as in nats://host:4222",
                ));
            }
            Ok(vec![server])
        }
        several => several.iter().map(|part| parse_server(part)).collect(),
    }
}

fn has_port(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| url.port().is_some())
}

/// In a list, or with user info, scheme and port may be left out as NATS clients allow.
fn parse_server(text: &str) -> Result<Server, Error> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "tls" => "tls",
        "ws" | "wss" => {
            return Err(malformed(
                text,
                "NATS over WebSocket is not spoken here; name the port for clients of the same server, as in \
                 nats://host:4222 or tls://host:4222",
            ));
        }
        // As for the former server and for clients of NATS, which read host and port alone: http, and tcp, as containers
        // find it in their environment.
        _ => "nats",
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A library would take an empty password for none at all.
    let (login, place) = match rest[..end].rsplit_once('@') {
        Some((info, _)) => (login_of(info, text)?, &rest[info.len() + 1..]),
        None if rest.contains('@') => {
            let why = "write / ? # in a user or password as %2F %3F %23";
            return Err(malformed(text, why));
        }
        None => (NatsLogin::default(), rest),
    };
    let url = Url::parse(&format!("{scheme}://{place}"))
        .map_err(|why| malformed(text, &why.to_string()))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| malformed(text, "the host is missing"))?;
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(malformed(text, "nothing may follow the port"));
    }
    let port = url.port().unwrap_or(DEFAULT_PORT);
    Ok(Server {
        address: format!("{scheme}://{host}:{port}"),
        login,
    })
}

/// As NATS clients do: a user with a colon behind it has a password, if only an empty one; without it, it is a token.
fn login_of(info: &str, text: &str) -> Result<NatsLogin, Error> {
    let decode = |part: &str| {
        let digits = |after: &str| {
            after
                .get(..2)
                .is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
        };
        if !part.split('%').skip(1).all(digits) {
            let why = "write % itself in a user or password as %25";
            return Err(malformed(text, why));
        }
        percent_encoding::percent_decode_str(part)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| malformed(text, "the user info is not UTF-8"))
    };
    let (user, password) = match info.split_once(':') {
        Some((user, password)) => (decode(user)?, Some(decode(password)?)),
        None => (decode(info)?, None),
    };
    Ok(match (user.is_empty(), password) {
        (true, None) => NatsLogin::default(),
        (true, Some(password)) if password.is_empty() => NatsLogin::default(),
        (false, None) => NatsLogin {
            token: Some(user.into()),
            ..NatsLogin::default()
        },
        (_, Some(password)) => NatsLogin {
            user: Some(user),
            password: Some(password.into()),
            token: None,
        },
    })
}

fn malformed(url: &str, why: &str) -> Error {
    Error::new(format!("malformed url: {:?}: {why}", redact_url(url)))
}

#[cfg(test)]
mod tests;
