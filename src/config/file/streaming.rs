//! The keys of NATS Streaming's files, and those of nats-server's that concern us: which flag each one is, which
//! have no effect here, and which cannot be kept.

use super::cursor::at;
use super::limits::{self, Strictness, duration, wrong_type};
use super::settings::{Found, Setting, Shape};
use super::value::{Entry, Kind, Place, Table};
use crate::config::Error;
use crate::config::spellings::INSTEAD_OF_RAFT;
use crate::core::nearest::nearest;

struct Key {
    /// In lower case.
    names: &'static [&'static str],
    means: Means,
}

#[derive(Clone, Copy)]
enum Means {
    /// One of our flags, by its long name, and the type of the value.
    Flag(&'static str, Type),
    Block(&'static [Key]),
    Channels,
    /// Port, or address and port, of the monitoring pages: the flags of both.
    Pages {
        host: &'static str,
        port: &'static str,
    },
    /// Tuned what is not here.
    Tuning,
    /// The same, but for what says how to read a file store.
    FileOptions,
    /// Something else does that here.
    Replaced(&'static str),
    /// Refused when it is on, or says anything.
    Refused(&'static str),
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Text,
    Switch,
    Amount,
    Time,
}

const fn flag(names: &'static [&'static str], long: &'static str, kind: Type) -> Key {
    Key {
        names,
        means: Means::Flag(long, kind),
    }
}

const fn key(names: &'static [&'static str], means: Means) -> Key {
    Key { names, means }
}

/// Inside `streaming { }`.
const STREAMING: &[Key] = &[
    flag(&["cluster_id", "cid", "id"], "cluster-id", Type::Text),
    flag(&["discover_prefix"], "discover-prefix", Type::Text),
    flag(
        &["store", "store_type", "storetype", "st"],
        "store",
        Type::Text,
    ),
    flag(&["dir", "datastore"], "import-dir", Type::Text),
    flag(&["sd", "stan_debug"], "debug", Type::Switch),
    flag(&["sv", "stan_trace"], "trace", Type::Switch),
    flag(
        &["nats_server_url", "nats_server", "ns"],
        "nats-server",
        Type::Text,
    ),
    flag(&["credentials"], "nats-credentials", Type::Text),
    flag(&["username", "user"], "nats-user", Type::Text),
    flag(&["password", "pass"], "nats-password", Type::Text),
    flag(&["token"], "nats-token", Type::Text),
    flag(&["nkey_seed_file"], "nats-nkey", Type::Text),
    flag(&["secure"], "nats-tls", Type::Switch),
    key(&["tls"], Means::Block(TLS)),
    key(
        &["store_limits", "limits", "storelimits"],
        Means::Block(LIMITS),
    ),
    key(&["file_options", "file"], Means::FileOptions),
    key(&["sql_options", "sql"], Means::Block(SQL)),
    flag(
        &["hb_interval", "hbi", "server_to_client_hb_interval"],
        "hb-interval",
        Type::Time,
    ),
    flag(
        &["hb_timeout", "hbt", "server_to_client_hb_timeout"],
        "hb-timeout",
        Type::Time,
    ),
    flag(
        &["hb_fail_count", "hbf", "server_to_client_hb_fail_count"],
        "hb-fail-count",
        Type::Amount,
    ),
    flag(&["ft_group", "ft_group_name"], "ft-group", Type::Text),
    flag(&["partitioning"], "partitioning", Type::Switch),
    key(&["cluster"], Means::Replaced(INSTEAD_OF_RAFT)),
    key(&["clustered"], Means::Replaced(INSTEAD_OF_RAFT)),
    key(&["syslog_name"], Means::Tuning),
    flag(&["encrypt"], "encrypt", Type::Switch),
    flag(&["encryption_cipher"], "encryption-cipher", Type::Text),
    flag(&["encryption_key"], "encryption-key", Type::Text),
    flag(
        &[
            "replace_durable",
            "replace_durables",
            "replace_duplicate_durable",
            "replace_duplicate_durables",
        ],
        "replace-durable",
        Type::Switch,
    ),
];

const TLS: &[Key] = &[
    flag(&["client_cert"], "nats-tls-cert", Type::Text),
    flag(&["client_key"], "nats-tls-key", Type::Text),
    flag(&["client_ca", "client_cacert"], "nats-tls-ca", Type::Text),
    flag(
        &["server_name", "server_hostname"],
        "nats-tls-server-name",
        Type::Text,
    ),
    key(
        &["insecure", "skip_verify"],
        Means::Refused(
            "the NATS server's certificate is always checked; name its authority with client_ca",
        ),
    ),
];

const LIMITS: &[Key] = &[
    flag(
        &["max_channels", "mc", "maxchannels"],
        "max-channels",
        Type::Amount,
    ),
    flag(limits::NAMES[0].0, "max-subs", Type::Amount),
    flag(limits::NAMES[1].0, "max-msgs", Type::Amount),
    flag(limits::NAMES[2].0, "max-bytes", Type::Amount),
    flag(limits::NAMES[3].0, "max-age", Type::Time),
    flag(limits::NAMES[4].0, "max-inactivity", Type::Time),
    key(
        &[
            "channels",
            "channels_limits",
            "channelslimits",
            "per_channel",
            "per_channel_limits",
        ],
        Means::Channels,
    ),
];

const SQL: &[Key] = &[
    flag(&["driver"], "sql-driver", Type::Text),
    flag(&["source"], "database-url", Type::Text),
    key(&["no_caching"], Means::Tuning),
    key(&["max_open_conns", "max_conns"], Means::Tuning),
    key(&["bulk_insert_limit"], Means::Tuning),
];

const HTTPS: &[&str] = &["https", "https_port"];

/// Of nats-server's `tls` block, what its pages over HTTPS show.
const PAGES_TLS: Key = key(
    &["tls"],
    Means::Block(&[
        flag(&["cert_file"], "https-cert", Type::Text),
        flag(&["key_file"], "https-key", Type::Text),
        key(
            &[
                "ca_file",
                "cipher_suites",
                "curve_preferences",
                "timeout",
                "verify",
                "verify_and_map",
            ],
            Means::Tuning,
        ),
    ]),
);

/// Of nats-server's keys, those that its place in the same process gave a meaning for streaming.
const NATS: &[Key] = &[
    key(
        &["http", "http_port", "monitor_port"],
        Means::Pages {
            host: "http-host",
            port: "http-port",
        },
    ),
    key(
        HTTPS,
        Means::Pages {
            host: "https-host",
            port: "https-port",
        },
    ),
    flag(&["log_file", "logfile"], "log", Type::Text),
    flag(
        &["logfile_size_limit", "log_size_limit"],
        "log-size-limit",
        Type::Amount,
    ),
    flag(&["syslog"], "syslog", Type::Switch),
    flag(&["remote_syslog"], "remote-syslog", Type::Text),
    flag(&["pid_file", "pidfile"], "pid", Type::Text),
];

/// Other keys of nats-server: for the one that this server runs.
pub(super) const OF_NATS_ALONE: &[&str] = &[
    "accounts",
    "allow_non_tls",
    "authorization",
    "client_advertise",
    "cluster",
    "cluster_name",
    "connect_error_reports",
    "debug",
    "default_permissions",
    "disable_sublist_cache",
    "gateway",
    "host",
    "http_base_path",
    "include",
    "jetstream",
    "lame_duck_duration",
    "leaf",
    "leafnodes",
    "listen",
    "logtime",
    "max_conn",
    "max_connections",
    "max_control_line",
    "max_payload",
    "max_pending",
    "max_pending_size",
    "max_subs",
    "max_subscriptions",
    "max_traced_msg_len",
    "mqtt",
    "net",
    "no_auth_user",
    "no_header_support",
    "no_sys_acc",
    "no_system_account",
    "ocsp",
    "operator",
    "ping_interval",
    "ping_max",
    "port",
    "ports_file_dir",
    "prof_port",
    "reconnect_error_reports",
    "resolver",
    "resolver_preload",
    "server_name",
    "server_tags",
    "system",
    "system_account",
    "tls",
    "trace",
    "trace_verbose",
    "trusted_keys",
    "websocket",
    "write_deadline",
];

pub(super) fn is_of_nats(key: &str) -> bool {
    OF_NATS_ALONE.contains(&key.to_ascii_lowercase().as_str())
}

/// What the file says about streaming, about the process, or both.
pub(super) fn interpret(table: &Table, streaming: bool, process: bool) -> Found {
    let mut reading = Reading::default();
    let wrapped = table.find("streaming");
    for entry in table.entries() {
        let name = entry.key.to_ascii_lowercase();
        if wrapped.is_some_and(|wrapped| std::ptr::eq(wrapped, entry)) {
            continue;
        }
        let ours = (wrapped.is_none() && streaming)
            .then(|| find(STREAMING, &name))
            .flatten();
        // The block is nats-server's own, unless its pages need it.
        let is_of_pages =
            name == "tls" && wrapped.is_some() && HTTPS.iter().any(|key| table.find(key).is_some());
        let of_process = if is_of_pages {
            Some(&PAGES_TLS)
        } else {
            find(NATS, &name)
        };
        match (ours, of_process) {
            (Some(key), _) => reading.key(key, entry, ""),
            (None, Some(key)) if process => reading.key(key, entry, ""),
            (None, Some(_)) => {}
            (None, None) if is_of_nats(&name) => {
                if process {
                    reading.found.nats.push(entry.clone());
                }
            }
            (None, None) if wrapped.is_some() || !streaming => reading.outside(entry, &name),
            (None, None) => reading.unknown(entry, &names(STREAMING)),
        }
        if is_of_pages && process {
            reading.found.nats.push(entry.clone());
        }
    }
    if let Some(entry) = wrapped.filter(|_| streaming) {
        match entry.value.kind.as_table() {
            Some(block) => reading.block(STREAMING, block, ""),
            None => reading.mistake(wrong_type(entry, "map[string]interface {}")),
        }
    }
    reading.found
}

#[derive(Default)]
struct Reading {
    found: Found,
}

fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.names.contains(&name))
}

fn names(keys: &[Key]) -> Vec<&'static str> {
    keys.iter().flat_map(|key| key.names).copied().collect()
}

impl Reading {
    fn block(&mut self, keys: &'static [Key], table: &Table, path: &str) {
        for entry in table.entries() {
            match find(keys, &entry.key.to_ascii_lowercase()) {
                Some(key) => self.key(key, entry, path),
                None => self.unknown(entry, &names(keys)),
            }
        }
    }

    /// Reading goes on: all mistakes are to be known at once.
    fn mistake(&mut self, error: Error) {
        self.found.mistakes.push(error);
    }

    fn key(&mut self, key: &Key, entry: &Entry, path: &str) {
        if let Err(error) = self.value(key, entry, path) {
            self.mistake(error);
        }
    }

    fn value(&mut self, key: &Key, entry: &Entry, path: &str) -> Result<(), Error> {
        match key.means {
            Means::Flag(flag, kind) => self.flag(flag, kind, entry),
            Means::Block(keys) => match entry.value.kind.as_table() {
                Some(table) => {
                    self.block(keys, table, &format!("{path}{}.", entry.key));
                    Ok(())
                }
                None => Err(wrong_type(entry, "map[string]interface {}")),
            },
            Means::Channels => self.channels(entry),
            Means::Pages { host, port } => self.pages(entry, host, port),
            Means::FileOptions => {
                let options = entry.value.kind.as_table();
                let polynomial = options.and_then(|options| options.find("crc_poly"));
                let name = format!("{path}{} ({})", entry.key, entry.place);
                self.found.notes.no_effect(name);
                polynomial.map_or(Ok(()), |it| self.flag("import-crc-poly", Type::Amount, it))
            }
            Means::Tuning => {
                let name = format!("{path}{} ({})", entry.key, entry.place);
                self.found.notes.no_effect(name);
                Ok(())
            }
            Means::Replaced(_) | Means::Refused(_) if entry.value.kind.says_nothing() => Ok(()),
            Means::Replaced(by) => {
                let name = format!("{path}{} ({})", entry.key, entry.place);
                self.found.notes.replaced(name, by);
                Ok(())
            }
            Means::Refused(why) => Err(at(
                &entry.place,
                format_args!("{:?} is not supported: {why}", entry.key),
            )),
        }
    }

    fn flag(&mut self, flag: &str, kind: Type, entry: &Entry) -> Result<(), Error> {
        let (text, shape) = match (kind, &entry.value.kind) {
            (Type::Text, Kind::Text(text)) => {
                if text.is_empty() && flag != "cluster-id" {
                    return Ok(()); // As if it were absent.
                }
                (text.clone(), Shape::Text)
            }
            (Type::Text, _) => return Err(wrong_type(entry, "string")),
            (Type::Switch, Kind::Boolean(on)) => (on.to_string(), Shape::Bare),
            (Type::Switch, _) => return Err(wrong_type(entry, "bool")),
            (Type::Amount, Kind::Integer(number, _)) => (number.to_string(), Shape::Bare),
            (Type::Amount, _) => return Err(wrong_type(entry, "int64")),
            (Type::Time, _) => (duration(entry)?.to_string(), Shape::Text),
        };
        self.set(flag, text, shape, &entry.place);
        Ok(())
    }

    fn set(&mut self, flag: &str, text: String, shape: Shape, place: &Place) {
        // Two names of one key: the later one counts, as a key given twice.
        self.found.settings.retain(|setting| setting.flag != flag);
        self.found.settings.push(Setting {
            flag: flag.to_owned(),
            text,
            shape,
            place: place.clone(),
        });
    }

    fn channels(&mut self, entry: &Entry) -> Result<(), Error> {
        let Kind::Table(table) = &entry.value.kind else {
            return Err(wrong_type(entry, "map[string]interface {}"));
        };
        let mut strange = Vec::new();
        let mut note = |entry: &Entry, names: &[&str]| strange.push(not_a_key(entry, names));
        let channels = limits::channels(table, Strictness::OfNats, &mut note)?;
        self.found.channels.extend(channels);
        self.found.unknown.extend(strange);
        Ok(())
    }

    /// `8222`, `"127.0.0.1:8222"`, `"localhost:8222"`.
    fn pages(&mut self, entry: &Entry, host_flag: &str, port_flag: &str) -> Result<(), Error> {
        let wrong = || {
            let what = format_args!(
                "parameter {:?}: write a port, or an IP address and a port like \"127.0.0.1:8222\"",
                entry.key
            );
            at(&entry.place, what)
        };
        let port = match &entry.value.kind {
            Kind::Integer(port, _) => port.to_string(),
            Kind::Text(text) => {
                let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
                let host = match host.trim_start_matches('[').trim_end_matches(']') {
                    "localhost" => "127.0.0.1",
                    "" => "0.0.0.0",
                    host => host,
                };
                host.parse::<std::net::IpAddr>().map_err(|_| wrong())?;
                self.set(host_flag, host.to_owned(), Shape::Text, &entry.place);
                port.to_owned()
            }
            Kind::Float(_) | Kind::Boolean(_) | Kind::Time(_) | Kind::Array(_) | Kind::Table(_) => {
                return Err(wrong());
            }
        };
        port.parse::<u16>().map_err(|_| wrong())?;
        self.set(port_flag, port, Shape::Bare, &entry.place);
        Ok(())
    }

    /// The former server passed over what neither nats-server nor the streaming block knows.
    fn outside(&mut self, entry: &Entry, name: &str) {
        let place = if find(STREAMING, name).is_some() {
            "outside of the streaming block, where nats-streaming-server passed it over, too"
        } else {
            "not a key of nats-server"
        };
        let note = format!("{} ({}, {place})", entry.key, entry.place);
        self.found.notes.no_effect(note);
    }

    fn unknown(&mut self, entry: &Entry, known: &[&str]) {
        self.found.unknown.push(not_a_key(entry, known));
    }
}

/// The sentence about a key that is passed over.
fn not_a_key(entry: &Entry, known: &[&str]) -> String {
    let limits = find(LIMITS, &entry.key.to_ascii_lowercase());
    let question = match nearest(&entry.key, known.iter().copied()) {
        _ if limits.is_some() => Some("; it belongs into store_limits".to_owned()),
        Some(meant) => Some(format!("; did you mean {meant:?}?")),
        None => None,
    };
    format!(
        "{}: {:?} is no key that stanby knows and has no effect{}",
        entry.place,
        entry.key,
        question.unwrap_or_default()
    )
}
