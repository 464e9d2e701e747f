//! The keys of the streaming section and of those below it, and what each means.

use crate::config::file::limits;
use crate::config::spellings::INSTEAD_OF_RAFT;

pub(super) struct Key {
    /// In lower case.
    pub(super) names: &'static [&'static str],
    pub(super) means: Means,
}

#[derive(Clone, Copy)]
pub(super) enum Means {
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
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Type {
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
pub(super) const STREAMING: &[Key] = &[
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

/// Inside `cluster { }` there: of Raft.
pub(super) const RAFT: &[&str] = &[
    "allow_add_remove_node",
    "bolt_free_list_map",
    "bolt_free_list_sync",
    "bootstrap",
    "log_cache_size",
    "log_path",
    "log_snapshots",
    "node_id",
    "nodes_connections",
    "peers",
    "proceed_on_restore_failure",
    "raft_commit_timeout",
    "raft_election_timeout",
    "raft_heartbeat_timeout",
    "raft_lease_timeout",
    "raft_logging",
    "sync",
    "trailing_logs",
];

pub(super) const TLS: &[Key] = &[
    flag(&["client_cert"], "nats-tls-cert", Type::Text),
    flag(&["client_key"], "nats-tls-key", Type::Text),
    flag(&["client_ca", "client_cacert"], "nats-tls-ca", Type::Text),
    flag(
        &["server_name", "server_hostname"],
        "nats-tls-server-name",
        Type::Text,
    ),
    flag(
        &["insecure", "skip_verify"],
        "nats-tls-insecure",
        Type::Switch,
    ),
];

pub(super) const LIMITS: &[Key] = &[
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

pub(super) const HTTPS: &[&str] = &["https", "https_port"];

/// The keys of nats-server's `tls` block that its pages over HTTPS use.
pub(super) const PAGES_TLS: Key = key(
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

/// Keys of nats-server that mattered to streaming, because both were one process.
pub(super) const NATS: &[Key] = &[
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
pub(in crate::config::file) const OF_NATS_ALONE: &[&str] = &[
    "account_resolver",
    "accounts",
    "accounts_resolver",
    "allow_non_tls",
    "authorization",
    "client_advertise",
    "cluster",
    "connect_error_reports",
    "debug",
    "default_js_domain",
    "disable_sublist_cache",
    "gateway",
    "host",
    "http_base_path",
    "jetstream",
    "lame_duck_duration",
    "lame_duck_grace_period",
    "leaf",
    "leafnodes",
    "listen",
    "logtime",
    "mappings",
    "maps",
    "max_conn",
    "max_connections",
    "max_control_line",
    "max_payload",
    "max_pending",
    "max_sub_tokens",
    "max_subs",
    "max_subscription_tokens",
    "max_subscriptions",
    "max_traced_msg_len",
    "mqtt",
    "net",
    "no_auth_user",
    "no_header_support",
    "no_sublist_cache",
    "no_sys_acc",
    "no_system",
    "no_system_account",
    "ocsp",
    "operator",
    "operators",
    "ping_interval",
    "ping_max",
    "port",
    "ports_file_dir",
    "prof_port",
    "reconnect_error_reports",
    "resolver",
    "resolver_pinned_accounts",
    "resolver_preload",
    "resolver_tls",
    "root",
    "root_operator",
    "root_operators",
    "roots",
    "server_name",
    "server_tags",
    "store_dir",
    "storedir",
    "system",
    "system_account",
    "tls",
    "trace",
    "trace_verbose",
    "trusted",
    "trusted_keys",
    "websocket",
    "write_deadline",
    "ws",
];

pub(in crate::config::file) fn is_of_nats(key: &str) -> bool {
    OF_NATS_ALONE.contains(&key.to_ascii_lowercase().as_str())
}
