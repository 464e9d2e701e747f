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

/// Why a nats-server that runs cannot be given a new configuration.
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
        // As there: the one user of a file is this server's login, whatever the streaming block says.
        let is_of_urls = flags.nats.is_login_in_every_url();
        let gives_way = !is_of_urls && (nats.has_no_login() || flags.nats_login_in_file);
        if flags.nats.servers().is_some() {
            // At the NATS of somebody else, too.
            let login = NamedLogin::alone(&config);
            if let Some(login) = login.filter(|it| gives_way && !it.is_hashed()) {
                login.give_to(nats);
            }
            return Ok(None);
        }
        if flags.nats_login_on_line {
            // As there: it takes the place of the one user of the file, and is one of several.
            if !has_users(&config) {
                let authorization = config.entry("authorization").or_insert(json!({}));
                put_login(authorization, nats);
            }
        } else if gives_way {
            log_in(&mut config, nats)?;
        }
        ensure_routes_have_a_cluster(&config, flags)?;
        trust_its_certificate(&config, flags, nats);
        let user = nats.user.clone().map(Secret::from);
        Ok(Some(Self {
            config,
            arguments: flags.nats_server_arg.clone(),
            program: flags.nats_server_bin.clone(),
            login: [user, nats.password.clone(), nats.token.clone()],
        }))
    }

    /// What a nats-server that runs with this one can be given instead, while this server stays logged in.
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

    /// The files of TLS that its blocks name, each with what it is.
    pub fn tls_files(&self) -> Vec<(String, PathBuf)> {
        let mut files = Vec::new();
        for (block, value) in &self.config {
            collect_tls_files(block, value, &mut files);
        }
        files
    }

    /// The file for nats-server. Its monitoring pages are for this server, which passes them on.
    pub fn file(&self) -> String {
        let mut config = self.config.clone();
        config.insert("http".to_owned(), json!("127.0.0.1:-1"));
        format!("{:#}\n", Json::Object(config))
    }
}

/// The value of one of the nats-server's arguments; the last one counts. An empty one is none.
pub(super) fn argument(flags: &ServeFlags, names: &[&str]) -> Option<String> {
    let value = flags.nats_server_arg.iter().rev().find_map(|argument| {
        let (name, value) = argument.trim_start_matches('-').split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    });
    value.filter(|value| !value.is_empty())
}

/// It says so itself only when it is started.
fn ensure_routes_have_a_cluster(
    config: &Map<String, Json>,
    flags: &ServeFlags,
) -> Result<(), Error> {
    let is_cluster = argument(flags, &["cluster", "cluster_listen"]).is_some();
    if argument(flags, &["routes"]).is_none() || is_cluster || config.contains_key("cluster") {
        return Ok(());
    }
    Err(Error::new(
        "solicited routes require cluster capabilities: give -cluster nats://0.0.0.0:6222 beside -routes, or leave the routes out",
    ))
}

fn collect_tls_files(block: &str, value: &Json, files: &mut Vec<(String, PathBuf)>) {
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                let key = key.to_ascii_lowercase();
                let what = match key.as_str() {
                    "cert_file" => "the certificate",
                    "key_file" => "the key of the certificate",
                    "ca_file" => "the CA file",
                    _ => {
                        collect_tls_files(block, value, files);
                        continue;
                    }
                };
                if let Some(file) = value.as_str().filter(|file| !file.is_empty()) {
                    let what = format!("{what} of the nats-server ({key} in its block {block})");
                    files.push((what, file.into()));
                }
            }
        }
        Json::Array(values) => {
            let values = values.iter();
            values.for_each(|value| collect_tls_files(block, value, files));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
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
    /// Beside a list of users there is no single one.
    fn alone(config: &Map<String, Json>) -> Option<Self> {
        let authorization = config.get("authorization")?.as_object()?;
        let is_alone = !authorization.contains_key("users");
        is_alone.then(|| Self::of(authorization))
    }

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

    /// Whether only nats-server can check it.
    fn is_hashed(&self) -> bool {
        let secrets = [&self.password, &self.token];
        let mut given = secrets.into_iter().flatten();
        given.any(|secret| secret.starts_with("$2"))
    }

    /// False where there is none.
    fn give_to(self, nats: &mut NatsConfig) -> bool {
        let is_none = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        if is_none(&self.token) && is_none(&self.user) {
            return false;
        }
        // One of the two is asked for.
        let has_token = !is_none(&self.token);
        nats.token = self.token.map(Secret::from).filter(|_| has_token);
        nats.user = self.user.filter(|_| !has_token);
        nats.password = self.password.map(Secret::from).filter(|_| !has_token);
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

/// In place of the one that is there.
fn put_login(authorization: &mut Json, nats: &NatsConfig) {
    let Some(authorization) = authorization.as_object_mut() else {
        return; // nats-server says what is wrong with it.
    };
    for key in ["user", "username", "pass", "password", "token"] {
        authorization.remove(key);
    }
    // nats-server takes no single login beside a list, not even beside an empty one.
    authorization
        .retain(|key, list| !(["users", "nkeys"].contains(&key.as_str()) && *list == json!([])));
    let mut put = |key: &str, secret: Option<&Secret>| {
        let text = secret.map_or("", Secret::expose);
        authorization.insert(key.to_owned(), json!(text));
    };
    // Given both, it asked for the token.
    if let (Some(user), None) = (&nats.user, &nats.token) {
        put("user", Some(&Secret::from(user.clone())));
        put("password", nats.password.as_ref());
    } else {
        put("token", nats.token.as_ref());
    }
}

/// Who logs in is a matter of these. A resolver alone changes nothing.
const OF_OPERATORS: &[&str] = &[
    "operator",
    "operators",
    "root",
    "root_operator",
    "root_operators",
    "roots",
    "trusted",
    "trusted_keys",
];

/// Beside a list of users, nats-server takes no single one.
fn has_users(config: &Map<String, Json>) -> bool {
    accounts_have_users(config)
        || config.get("authorization").is_some_and(lists_users)
        || OF_OPERATORS.iter().any(|key| config.contains_key(*key))
}

fn accounts_have_users(config: &Map<String, Json>) -> bool {
    let accounts = config.get("accounts").and_then(Json::as_object);
    accounts.is_some_and(|accounts| accounts.values().any(lists_users))
}

/// An empty list is none: nobody has to log in.
fn lists_users(block: &Json) -> bool {
    let lists = |key| block.get(key).is_some_and(|users| users != &json!([]));
    lists("users") || lists("nkeys")
}

/// Takes the login of the configuration, or adds one to its list of users where there is none yet.
fn log_in(config: &mut Map<String, Json>, nats: &mut NatsConfig) -> Result<(), Error> {
    let is_missing = nats.has_no_login();
    if let Some(login) = NamedLogin::alone(config) {
        if !login.is_hashed() {
            if login.give_to(nats) {
                return Ok(());
            }
        } else if is_missing {
            return Err(Error::new(
                "the password of the nats-server stands in its configuration as a hash: give this server the password \
                 itself, with password (or token) in the streaming block, or with STANBY_NATS_PASSWORD or STANBY_NATS_TOKEN",
            ));
        }
    }
    if !is_missing {
        return Ok(());
    }
    let accounts = accounts_have_users(config).then_some(&"accounts");
    let mut deciding = accounts.into_iter().chain(OF_OPERATORS);
    let needs_decision = deciding.find(|key| config.contains_key(**key));
    if let Some(key) = needs_decision.filter(|_| !config.contains_key("no_auth_user")) {
        return Err(Error::new(format!(
            "the nats-server has {key:?}, and this server needs a login of one of its accounts: name it with username \
             and password, or credentials, in the streaming block, or with --nats-user or --nats-credentials"
        )));
    }
    let users = config.get_mut("authorization");
    let users = users.and_then(|authorization| authorization.get_mut("users"));
    if let Some(users) = users
        .and_then(Json::as_array_mut)
        .filter(|users| !users.is_empty())
    {
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

/// An entry of a configuration file, as nats-server reads it from JSON. Its own keys may be written in any case; below
/// most of them stand names of somebody else.
pub(super) fn json_of(entry: &Entry) -> (String, Json) {
    let key = entry.key.to_ascii_lowercase();
    let mut value = json_value(&entry.value.kind);
    if let Some(block) = value.as_object_mut()
        && ["authorization", "tls"].contains(&key.as_str())
    {
        let keys = std::mem::take(block).into_iter();
        block.extend(keys.map(|(key, value)| (key.to_ascii_lowercase(), value)));
    }
    (key, value)
}

fn json_value(kind: &Kind) -> Json {
    match kind {
        Kind::Text(text) | Kind::Time(text) => json!(text),
        Kind::Integer(number, _) => json!(number),
        Kind::Float(number) => json!(number),
        Kind::Boolean(on) => json!(on),
        Kind::Array(values) => values.iter().map(|value| json_value(&value.kind)).collect(),
        Kind::Table(table) => {
            let entries = table.0.iter();
            entries
                .map(|entry| (entry.key.clone(), json_value(&entry.value.kind)))
                .collect()
        }
    }
}
