//! The keywords of libpq: those that are read, and those that have no effect here, with why.

/// Settings of libpq, and the variable that counts where the URL does not say.
pub(super) const VARIABLES: [(&str, &str); 22] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslcrl", "PGSSLCRL"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("requirepeer", "PGREQUIREPEER"),
    ("require_auth", "PGREQUIREAUTH"),
    ("gssencmode", "PGGSSENCMODE"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("options", "PGOPTIONS"),
];

/// What the server decides itself on each connection.
const OURS: &str = "the server sets it itself";

const LIMITED: &str = "every call has a limit of its own already";

const POOL: &str = "the server keeps a few connections of its own";

const DRIVER: &str = "it is about another driver";

/// Settings that others know and that have no effect here, with why.
pub(super) const IGNORED: &[(&str, &[&str])] = &[
    (
        OURS,
        &[
            "application_name",
            "ApplicationName",
            "client_encoding",
            "fallback_application_name",
            "keepalives",
            "keepalives_count",
            "keepalives_idle",
            "keepalives_interval",
            "tcp_user_timeout",
            "tcpKeepAlive",
            "search_path",
            "currentSchema",
            "schema",
            "timezone",
            "TimeZone",
            "datestyle",
            "DateStyle",
            "synchronous_commit",
            "extra_float_digits",
            "default_transaction_isolation",
            "default_transaction_read_only",
            "row_security",
            "jit",
            "options",
            "replication",
            "role",
        ],
    ),
    (
        LIMITED,
        &[
            "readTimeout",
            "writeTimeout",
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
            "transaction_timeout",
            "socketTimeout",
            "socket_timeout",
            "loginTimeout",
        ],
    ),
    (
        POOL,
        &[
            "pool_max_conns",
            "pool_min_conns",
            "pool_min_idle_conns",
            "pool_max_conn_lifetime",
            "pool_max_conn_lifetime_jitter",
            "pool_max_conn_idle_time",
            "pool_health_check_period",
            "pool_timeout",
            "pool_size",
            "connection_limit",
            "max_connections",
            "min_connections",
        ],
    ),
    (
        DRIVER,
        &[
            "binary_parameters",
            "disable_prepared_binary_result",
            "default_query_exec_mode",
            "statement_cache_capacity",
            "statement_cache_mode",
            "description_cache_capacity",
            "statement-cache-capacity",
            "min_read_buffer_size",
            "min_protocol_version",
            "max_protocol_version",
            "prepareThreshold",
            "preferQueryMode",
            "reWriteBatchedInserts",
            "pgbouncer",
            "sslsni",
            "sslcompression",
            "sslcertmode",
            "ssl_min_protocol_version",
            "ssl_max_protocol_version",
            "krbsrvname",
            "gsslib",
            "gssdelegation",
            "sslkeylogfile",
        ],
    ),
];

/// For an error.
pub(super) const KNOWN: &str = "host, hostaddr, port, user, password, passfile, dbname, sslmode, sslrootcert, sslcert, sslkey, \
                     sslnegotiation, channel_binding, connect_timeout, service";
