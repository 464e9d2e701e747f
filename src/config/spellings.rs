//! The flags of `nats-streaming-server`: which are ours under another name, which have no effect here, which are
//! refused and why. Those that are ours with `_` for `-` need no entry.

/// Spellings of the reference that are not ours with `_` for `-`.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("cid", "cluster-id"),
    ("ns", "nats-server"),
    ("sql_source", "database-url"),
    ("m", "http-port"),
    ("hbi", "hb-interval"),
    ("hbt", "hb-timeout"),
    ("hbf", "hb-fail-count"),
    ("mc", "max-channels"),
    ("msu", "max-subs"),
    ("mm", "max-msgs"),
    ("mb", "max-bytes"),
    ("ma", "max-age"),
    ("mi", "max-inactivity"),
    ("SD", "debug"),
    ("stan_debug", "debug"),
    ("SV", "trace"),
    ("stan_trace", "trace"),
    ("user", "nats-user"),
    ("pass", "nats-password"),
    ("auth", "nats-token"),
];

/// Flags that tuned what Postgres does here. Those marked `true` take a value.
pub(super) const IGNORED: &[(&str, bool)] = &[
    ("io_batch_size", true),
    ("io_sleep_time", true),
    ("sql_no_caching", false),
    ("sql_max_open_conns", true),
    ("sql_bulk_insert_limit", true),
    ("file_compact_enabled", false),
    ("file_compact_frag", true),
    ("file_compact_interval", true),
    ("file_compact_min_size", true),
    ("file_buffer_size", true),
    ("file_read_buffer_size", true),
    ("file_crc", false),
    ("file_crc_poly", true),
    ("file_sync", false),
    ("file_auto_sync", true),
    ("file_slice_max_msgs", true),
    ("file_slice_max_bytes", true),
    ("file_slice_max_age", true),
    ("file_slice_archive_script", true),
    ("file_fds_limit", true),
    ("file_parallel_recovery", true),
    ("file_truncate_bad_eof", false),
    ("syslog_name", true),
];

/// Flags whose meaning cannot be kept: starting without it would be worse than not starting.
pub(super) const REFUSED: &[(&[&str], &str)] = &[
    (
        &[
            "a",
            "addr",
            "net",
            "p",
            "port",
            "n",
            "name",
            "server_name",
            "P",
            "pid",
            "D",
            "V",
            "DV",
            "VV",
            "DVV",
        ],
        "stanby has no nats-server inside; start one with this flag and name it with -nats_server",
    ),
    (
        &[
            "routes",
            "cluster",
            "cluster_name",
            "cluster_listen",
            "cluster_advertise",
            "no_advertise",
        ],
        "stanby has no nats-server inside; start one with this flag and name it with -nats_server",
    ),
    (
        &[
            "js",
            "jetstream",
            "sd",
            "store_dir",
            "tls",
            "tlscert",
            "tlskey",
            "tlsverify",
            "tlscacert",
        ],
        "stanby has no nats-server inside; start one with this flag and name it with -nats_server",
    ),
    (
        &["c", "config", "sc", "stan_config", "t"],
        "stanby reads no configuration file; give its settings as flags or STANBY_ environment variables",
    ),
    (
        &["dir"],
        "stanby keeps everything in Postgres; remove this flag and give -sql_source",
    ),
    (
        &[
            "clustered",
            "cluster_node_id",
            "cluster_bootstrap",
            "cluster_peers",
            "cluster_log_path",
        ],
        "stanby has no clustering of its own; start several servers with the same -sql_source instead",
    ),
    (
        &["encrypt", "encryption_cipher", "encryption_key"],
        "stanby does not encrypt messages itself; use a Postgres with encrypted storage and remove this flag",
    ),
    (
        &[
            "secure",
            "tls_client_cert",
            "tls_client_key",
            "tls_client_cacert",
        ],
        "use a tls:// URL with -nats_server instead; own certificates are not supported",
    ),
    (
        &["ms", "https_port"],
        "the monitoring pages speak plain HTTP only; use -m behind a proxy that adds TLS",
    ),
    (
        &["sl", "signal"],
        "send the signal with kill: SIGTERM or SIGINT stops the server",
    ),
    (
        &[
            "l",
            "log",
            "log_size_limit",
            "s",
            "syslog",
            "r",
            "remote_syslog",
            "T",
            "logtime",
        ],
        "stanby logs to standard error only; let the service manager keep the log and remove this flag",
    ),
];
