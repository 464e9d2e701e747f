//! The flags of `serve`, each also an environment variable. Values are only parsed here; `serve.rs` judges them.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::channel_limits::{ChannelEntry, SEPARATOR};
use super::database::DatabaseUrl;
use super::duration::GoDuration;
use super::encryption::EncryptionFlags;
use super::error::Error;
use super::nats::NatsFlags;
use super::pages::PagesFlags;
use super::secret::Secret;
use super::shadow::{DatabaseFailover, ShadowFlags};
use super::size::Size;

/// Longest identifier that Postgres keeps whole.
const SCHEMA_BYTES_MAX: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

const SCHEMA: &str = "stanby";

/// The default polynomial of checksums.
const IEEE: u32 = 0xEDB8_8320;

/// Where the tables are.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Postgres")]
pub struct DatabaseFlags {
    /// Database: postgres://user:password@host:port/database
    #[arg(
        long,
        env = "STANBY_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub database_url: Option<Secret>,

    /// Schema of the tables; one per group of servers [default: stanby]
    #[arg(long, env = "STANBY_SCHEMA", value_name = "NAME")]
    pub schema: Option<String>,
}

impl DatabaseFlags {
    pub(super) fn is_missing(&self) -> bool {
        self.database_url.as_ref().is_none_or(Secret::is_empty)
    }

    pub(super) fn missing() -> Error {
        Error::new(
            "the database is missing; give --database-url postgres://user:password@host:5432/database or set \
             STANBY_DATABASE_URL",
        )
    }

    pub fn url(&self) -> Result<DatabaseUrl, Error> {
        let given = self.database_url.as_ref().filter(|url| !url.is_empty());
        let given = given.ok_or_else(Self::missing)?;
        DatabaseUrl::parse(given.expose()).map_err(|error| Error::new(error.to_string()))
    }

    /// Lower case only: Postgres folds what stands unquoted, and two spellings of one schema would be two groups.
    pub fn schema(&self) -> Result<String, Error> {
        let name = self.schema.as_deref().unwrap_or(SCHEMA);
        let first_fits = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let short = name.len() <= SCHEMA_BYTES_MAX;
        if !(first_fits && name.bytes().all(fits) && short) || name.starts_with("pg_") {
            return Err(Error::new(format!(
                "schema {name:?} is not a plain name; use up to {SCHEMA_BYTES_MAX} of a-z, 0-9 and _, \
                 beginning with a letter, not with pg_"
            )));
        }
        Ok(name.to_owned())
    }
}

/// What was not given keeps the default of `core::limits`, which is why those are options here.
#[derive(Args, Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub struct ServeFlags {
    /// Configuration file: TOML if its name ends in .toml, otherwise in the format of NATS. Flags and the environment
    /// override it
    #[arg(
        long,
        env = "STANBY_CONFIG",
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub config: Option<PathBuf>,

    /// File with the streaming part, if --config is the file of nats-server
    #[arg(
        long,
        env = "STANBY_STAN_CONFIG",
        value_name = "FILE",
        help_heading = "Files"
    )]
    pub stan_config: Option<PathBuf>,

    /// File that holds the process ID while the server runs
    #[arg(long, env = "STANBY_PID", value_name = "FILE", help_heading = "Files")]
    pub pid: Option<PathBuf>,

    /// The store of nats-streaming-server that this server takes the place of: MEMORY, FILE or SQL
    #[arg(long, env = "STANBY_STORE", value_name = "KIND", hide = true)]
    pub store: Option<String>,

    /// Directory of a file store of nats-streaming-server (with --store FILE): the first server that finds empty tables
    /// imports it before it serves
    #[arg(
        long,
        env = "STANBY_IMPORT_DIR",
        value_name = "DIRECTORY",
        help_heading = "Files"
    )]
    pub import_dir: Option<PathBuf>,

    /// Polynomial of the checksums of that file store
    #[arg(long, value_name = "NUMBER", default_value_t = IEEE, hide = true)]
    pub import_crc_poly: u32,

    /// Source of the former server's SQL store; `STANBY_DATABASE_URL` takes precedence
    #[arg(long, value_name = "URL", hide = true)]
    pub sql_source: Option<Secret>,

    /// Only postgres
    #[arg(long, env = "STANBY_SQL_DRIVER", value_name = "NAME", hide = true)]
    pub sql_driver: Option<String>,

    #[command(flatten)]
    pub database: DatabaseFlags,

    #[command(flatten)]
    pub encryption: EncryptionFlags,

    #[command(flatten)]
    pub nats: NatsFlags,

    /// An argument for the nats-server that this server runs where no --nats-server is given, like --port=4222; once for
    /// each
    #[arg(long, value_name = "ARGUMENT", help_heading = "NATS")]
    #[arg(action = ArgAction::Append, allow_hyphen_values = true)]
    pub nats_server_arg: Vec<String>,

    /// Program of nats-server [default: the one in PATH]
    #[arg(
        long,
        env = "STANBY_NATS_SERVER_BIN",
        value_name = "FILE",
        help_heading = "NATS"
    )]
    pub nats_server_bin: Option<PathBuf>,

    /// Prefix of ack inboxes, for sites whose permissions allow only some subjects
    #[arg(
        long,
        env = "STANBY_ACK_PREFIX",
        value_name = "SUBJECT",
        help_heading = "NATS"
    )]
    pub ack_prefix: Option<String>,

    /// Prefix of the subject of connects; clients must use the same [default: that of NATS Streaming]
    #[arg(
        long,
        env = "STANBY_DISCOVER_PREFIX",
        value_name = "SUBJECT",
        help_heading = "NATS"
    )]
    pub discover_prefix: Option<String>,

    /// Name of the group of servers, of which one is active
    #[arg(
        long,
        env = "STANBY_FT_GROUP",
        value_name = "NAME",
        help_heading = "Fault tolerance"
    )]
    pub ft_group: Option<String>,

    /// Serve only the channels that have an entry of limits (--channel-limits), wildcards included: other groups with
    /// this cluster ID serve the others
    #[arg(
        long,
        env = "STANBY_PARTITIONING",
        value_name = "BOOL",
        help_heading = "Fault tolerance"
    )]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub partitioning: bool,

    /// Postgres ends an active that has been silent for this long; 500ms to 1m
    #[arg(
        long,
        env = "STANBY_LEASE",
        value_name = "DURATION",
        default_value = "2s"
    )]
    #[arg(help_heading = "Fault tolerance")]
    pub lease: GoDuration,

    #[command(flatten)]
    pub shadow: ShadowFlags,

    /// Replicas that may be promoted: synchronous (only those that commits waited for, as Patroni does in its
    /// synchronous mode), asynchronous (any), or auto (find out)
    #[arg(
        long,
        env = "STANBY_DATABASE_FAILOVER",
        value_name = "KIND",
        value_enum,
        default_value = "auto"
    )]
    #[arg(help_heading = "Fault tolerance")]
    pub database_failover: DatabaseFailover,

    #[command(flatten)]
    pub pages: PagesFlags,

    /// Format of log lines
    #[arg(
        long,
        env = "STANBY_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    #[arg(help_heading = "Log")]
    pub log_format: LogFormat,

    /// Log to this file instead of standard error; SIGUSR1 reopens it
    #[arg(long, env = "STANBY_LOG", value_name = "FILE", help_heading = "Log")]
    pub log: Option<PathBuf>,

    /// Start a new log file at this size, and keep the last one as FILE.1; 0 is unlimited
    #[arg(long, env = "STANBY_LOG_SIZE_LIMIT", value_name = "SIZE")]
    #[arg(default_value = "0", help_heading = "Log")]
    pub log_size_limit: Size,

    /// Log to the machine's syslog instead
    #[arg(long, env = "STANBY_SYSLOG", value_name = "BOOL", help_heading = "Log")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub syslog: bool,

    /// Log to a syslog server instead, over udp, tcp or a unix socket
    #[arg(
        long,
        env = "STANBY_REMOTE_SYSLOG",
        value_name = "URL",
        help_heading = "Log"
    )]
    pub remote_syslog: Option<String>,

    /// Log more
    #[arg(long, env = "STANBY_DEBUG", value_name = "BOOL", help_heading = "Log")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub debug: bool,

    /// Log every message
    #[arg(long, env = "STANBY_TRACE", value_name = "BOOL", help_heading = "Log")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub trace: bool,

    /// Time between two heartbeats to a client [default: 30s]
    #[arg(
        long,
        env = "STANBY_HB_INTERVAL",
        value_name = "DURATION",
        help_heading = "Clients"
    )]
    pub hb_interval: Option<GoDuration>,

    /// Time for a client to answer a heartbeat [default: 10s]
    #[arg(
        long,
        env = "STANBY_HB_TIMEOUT",
        value_name = "DURATION",
        help_heading = "Clients"
    )]
    pub hb_timeout: Option<GoDuration>,

    /// A client that misses more heartbeats than this in a row is closed [default: 10]
    #[arg(
        long,
        env = "STANBY_HB_FAIL_COUNT",
        value_name = "COUNT",
        help_heading = "Clients"
    )]
    pub hb_fail_count: Option<i64>,

    /// Connects per second, and ten times as many at once; 0 is unlimited [default: 1000]
    #[arg(
        long,
        env = "STANBY_CONNECT_RATE",
        value_name = "COUNT",
        help_heading = "Clients"
    )]
    pub connect_rate: Option<i64>,

    /// Let a second subscription to a durable in use replace the first, instead of refusing it
    #[arg(
        long,
        env = "STANBY_REPLACE_DURABLE",
        value_name = "BOOL",
        help_heading = "Clients"
    )]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = false,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub replace_durable: bool,

    /// Clients [default: 0]
    #[arg(long, env = "STANBY_MAX_CLIENTS", value_name = "COUNT")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_clients: Option<i64>,

    /// Unacked messages per subscription, whatever it asks for [default: 100000]
    #[arg(long, env = "STANBY_MAX_IN_FLIGHT", value_name = "COUNT")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_in_flight: Option<i64>,

    /// Channels [default: 100]
    #[arg(long, env = "STANBY_MAX_CHANNELS", value_name = "COUNT")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_channels: Option<i64>,

    /// Subscriptions per channel [default: 1000]
    #[arg(long, env = "STANBY_MAX_SUBS", value_name = "COUNT")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_subs: Option<i64>,

    /// Messages per channel; the oldest go first [default: 1000000]
    #[arg(long, env = "STANBY_MAX_MSGS", value_name = "COUNT")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_msgs: Option<i64>,

    /// Bytes per channel, like 100MB; the oldest messages go first [default: 1024000000]
    #[arg(long, env = "STANBY_MAX_BYTES", value_name = "SIZE")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_bytes: Option<Size>,

    /// Age of a message [default: 0]
    #[arg(long, env = "STANBY_MAX_AGE", value_name = "DURATION")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_age: Option<GoDuration>,

    /// Time without use after which a channel is deleted [default: 0]
    #[arg(long, env = "STANBY_MAX_INACTIVITY", value_name = "DURATION")]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub max_inactivity: Option<GoDuration>,

    /// Limits of single channels, wildcards allowed, like 'orders.>: max-msgs=10, max-bytes=20MB, max-age=1h,
    /// max-subs=5, max-inactivity=10m'; may be repeated, or separated by ';'
    #[arg(long, env = "STANBY_CHANNEL_LIMITS", value_name = "LIMITS")]
    #[arg(action = ArgAction::Append, value_delimiter = SEPARATOR)]
    #[arg(help_heading = "Limits (0 is unlimited)")]
    pub channel_limits: Vec<String>,

    /// From a configuration file. An entry of `channel_limits` takes precedence over one for the same channel here.
    #[arg(skip)]
    pub channels_of_file: Vec<ChannelEntry>,

    /// Keys of nats-server in configuration files.
    #[arg(skip)]
    pub nats_of_file: Vec<(String, serde_json::Value)>,

    /// The login stands on the command line, where it was that of the nats-server inside.
    #[arg(skip)]
    pub nats_login_on_line: bool,

    /// The login stands in the streaming block of a file.
    #[arg(skip)]
    pub nats_login_in_file: bool,
}
