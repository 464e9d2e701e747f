//! The nats-server that a server runs itself where nats-streaming-server had one inside: what its configuration is, and how
//! this server logs in to it.

use std::path::PathBuf;

use serde_json::{Map, Value as Json, json};

use super::error::Error;
use super::file::value::{Entry, Kind};
use super::flags::ServeFlags;
use super::nats::{DEFAULT_PORT, NatsConfig};
use super::secret::Secret;
use crate::certificates::{Demand, TrustFile};

/// Bytes of a password that nobody has to type.
const PASSWORD_BYTES: usize = 24;

/// The user that is added where the configuration has a list of users.
const OWN_USER: &str = "stanby";

#[derive(Clone, PartialEq, Eq)]
pub struct ManagedNats {
    /// In the format of nats-server, which JSON is part of. Holds secrets.
    config: Map<String, Json>,
    /// Its own arguments, as the former server was given them.
    pub arguments: Vec<String>,
    pub program: Option<PathBuf>,
    /// Whose login this server takes: user, password, token.
    login: [Option<Secret>; 3],
}

/// Why a nats-server that runs cannot be told a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeedsStart {
    Port,
    Login,
    Arguments,
}

impl std::fmt::Display for NeedsStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Port => "its port for clients",
            Self::Login => "the login that this server uses itself",
            Self::Arguments => "its arguments",
        })
    }
}

impl std::fmt::Debug for ManagedNats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManagedNats")
            .field("keys", &self.config.keys().collect::<Vec<_>>())
            .field("arguments", &self.arguments)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl ManagedNats {
    /// `None` where the servers of somebody else are named. Sets the login of `nats` to one that the nats-server takes.
    pub(super) fn from_flags(
        flags: &ServeFlags,
        nats: &mut NatsConfig,
    ) -> Result<Option<Self>, Error> {
        let mut config: Map<String, Json> = flags.nats_of_file.iter().cloned().collect();
        if flags.nats.nats_server.is_some() {
            // As there: the one user of the file is this server's login at the NATS of somebody else, too.
            if nats.has_no_login()
                && let Some(authorization) = config.get("authorization").and_then(Json::as_object)
            {
                NamedLogin::of(authorization).give_to(nats);
            }
            return Ok(None);
        }
        if flags.nats_login_on_line {
            // As there: it takes the place of what the file says.
            config.insert("authorization".to_owned(), authorization_of(nats));
        } else if nats.has_no_login() {
            log_in(&mut config, nats)?;
        }
        trust_its_certificate(&config, flags, nats);
        let user = nats.user.clone().map(Secret::from);
        Ok(Some(Self {
            config,
            arguments: flags.nats_server_arg.clone(),
            program: flags.nats_server_bin.clone(),
            login: [user, nats.password.clone(), nats.token.clone()],
        }))
    }

    /// What a nats-server that runs with this one can be told instead, while this server stays logged in.
    pub fn reloaded(&self, mut now: Self) -> Result<Self, NeedsStart> {
        if now.port() != self.port() {
            return Err(NeedsStart::Port);
        }
        if now.arguments != self.arguments {
            return Err(NeedsStart::Arguments);
        }
        let password = self.own_password().cloned();
        if let (Some(before), Some(now_own)) = (password, now.own_password_mut()) {
            *now_own = before;
            now.login.clone_from(&self.login);
        }
        if now.login != self.login {
            return Err(NeedsStart::Login);
        }
        Ok(now)
    }

    /// The password of the user that was added for this server.
    fn own_password(&self) -> Option<&Json> {
        let users = self.config.get("authorization")?.get("users")?;
        let own = users
            .as_array()?
            .iter()
            .find(|user| user["user"] == OWN_USER);
        own?.get("password")
    }

    fn own_password_mut(&mut self) -> Option<&mut Json> {
        let users = self.config.get_mut("authorization")?.get_mut("users")?;
        let mut users = users.as_array_mut()?.iter_mut();
        users
            .find(|user| user["user"] == OWN_USER)?
            .get_mut("password")
    }

    /// Where it is to listen for clients; 0 is any free port.
    pub fn port(&self) -> u16 {
        let of_line = self.arguments.iter().rev().find_map(|argument| {
            let (name, value) = argument.trim_start_matches('-').split_once('=')?;
            ["p", "port"].contains(&name).then(|| value.to_owned())
        });
        let listen = self.config.get("listen").and_then(Json::as_str);
        let of_listen = listen.and_then(|listen| Some(listen.rsplit_once(':')?.1.to_owned()));
        let key = |name: &str| self.config.get(name).map(ToString::to_string);
        let port = of_line
            .or_else(|| key("port"))
            .or(of_listen)
            .or_else(|| key("listen"));
        match port.as_deref() {
            None => DEFAULT_PORT,
            Some(port) => port.trim_matches('"').parse().unwrap_or(0),
        }
    }

    /// The file for nats-server. Its monitoring pages are for this server, which passes them on.
    pub fn file(&self) -> String {
        let mut config = self.config.clone();
        config.insert("http".to_owned(), json!("127.0.0.1:-1"));
        format!("{:#}\n", Json::Object(config))
    }
}

/// The value of one of the nats-server's arguments; the last one counts.
pub(super) fn argument(flags: &ServeFlags, names: &[&str]) -> Option<String> {
    flags.nats_server_arg.iter().rev().find_map(|argument| {
        let (name, value) = argument.trim_start_matches('-').split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    })
}

/// Where no authority is named: it is this server's own child, and what it shows is known.
fn trust_its_certificate(config: &Map<String, Json>, flags: &ServeFlags, nats: &mut NatsConfig) {
    let of_file = || {
        let file = config.get("tls")?.get("cert_file")?.as_str()?;
        Some((file.to_owned(), TrustFile::OfConfiguration))
    };
    let of_line = argument(flags, &["tlscert"]).map(|file| (file, TrustFile::OfArgument));
    if nats.tls.ca.is_none()
        && let Some((shown, is)) = of_line.or_else(of_file)
    {
        nats.tls.ca = Some(PathBuf::from(shown));
        nats.tls.ca_is = is;
        if nats.tls.demand == Demand::HostAndAuthority && nats.tls.server_name.is_none() {
            nats.tls.demand = Demand::Authority;
        }
    }
}

/// The only login of a nats-server.
struct NamedLogin {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

impl NamedLogin {
    fn of(authorization: &Map<String, Json>) -> Self {
        let text = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| authorization.get(*name));
            values.find_map(Json::as_str).map(str::to_owned)
        };
        Self {
            user: text(&["user", "username"]),
            password: text(&["password", "pass"]),
            token: text(&["token"]),
        }
    }

    /// False where there is none.
    fn give_to(self, nats: &mut NatsConfig) -> bool {
        if let Some(token) = self.token {
            nats.token = Some(Secret::from(token));
        } else if self.user.is_some() {
            nats.user = self.user;
            nats.password = self.password.map(Secret::from);
        } else {
            return false;
        }
        true
    }
}

/// Whether it names the login that this server uses.
pub(super) fn names_login(entry: &Entry, nats: &NatsConfig) -> bool {
    let (key, value) = json_of(entry);
    let Some(authorization) = value.as_object().filter(|_| key == "authorization") else {
        return false;
    };
    let login = NamedLogin::of(authorization);
    let is_token = login.token.is_some() && login.token.map(Secret::from) == nats.token;
    is_token || login.user.is_some() && login.user == nats.user
}

fn authorization_of(nats: &NatsConfig) -> Json {
    let text = |secret: Option<&Secret>| secret.map_or("", Secret::expose).to_owned();
    match &nats.user {
        Some(user) => json!({ "user": user, "password": text(nats.password.as_ref()) }),
        None => json!({ "token": text(nats.token.as_ref()) }),
    }
}

/// Takes the login of the configuration, or adds one to its list of users.
fn log_in(config: &mut Map<String, Json>, nats: &mut NatsConfig) -> Result<(), Error> {
    let needs_decision = [
        "accounts",
        "operator",
        "operators",
        "resolver",
        "root",
        "roots",
        "trusted",
        "trusted_keys",
    ]
    .into_iter()
    .find(|key| config.contains_key(*key) && !config.contains_key("no_auth_user"));
    if let Some(key) = needs_decision {
        return Err(Error::new(format!(
            "the nats-server has {key:?}, and this server needs a login of one of its accounts: name it with username \
             and password, or credentials, in the streaming block, or with --nats-user or --nats-credentials"
        )));
    }
    let Some(authorization) = config
        .get_mut("authorization")
        .and_then(Json::as_object_mut)
    else {
        return Ok(());
    };
    let login = NamedLogin::of(authorization);
    let is_hashed =
        |secret: &Option<String>| secret.as_deref().is_some_and(|s| s.starts_with("$2"));
    if is_hashed(&login.password) || is_hashed(&login.token) {
        return Err(Error::new(
            "the password of the nats-server stands in its configuration as a hash: give this server the password \
             itself, with password (or token) in the streaming block, or with STANBY_NATS_PASSWORD or STANBY_NATS_TOKEN",
        ));
    }
    if login.give_to(nats) {
        return Ok(());
    }
    if let Some(users) = authorization.get_mut("users").and_then(Json::as_array_mut) {
        let password = password_of_our_own()?;
        // Without permissions of its own it may do all that a streaming server has to.
        users.push(json!({ "user": OWN_USER, "password": password, "permissions": { "publish": ">", "subscribe": ">" } }));
        nats.user = Some(OWN_USER.to_owned());
        nats.password = Some(Secret::from(password));
    }
    Ok(())
}

fn password_of_our_own() -> Result<String, Error> {
    let mut bytes = [0; PASSWORD_BYTES];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .map_err(|_| Error::new("the system gives no random numbers"))?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&bytes))
}

/// The file for a nats-server that somebody runs by hand.
pub fn file_of(entries: &[Entry]) -> String {
    format!("{:#}", Json::Object(entries.iter().map(json_of).collect()))
}

/// An entry of a configuration file, as nats-server reads it from JSON.
pub(super) fn json_of(entry: &Entry) -> (String, Json) {
    (entry.key.clone(), json_value(&entry.value.kind))
}

fn json_value(kind: &Kind) -> Json {
    match kind {
        Kind::Text(text) | Kind::Time(text) => json!(text),
        Kind::Integer(number, _) => json!(number),
        Kind::Float(number) => json!(number),
        Kind::Boolean(on) => json!(on),
        Kind::Array(values) => values.iter().map(|value| json_value(&value.kind)).collect(),
        Kind::Table(table) => Json::Object(table.entries().map(json_of).collect()),
    }
}
