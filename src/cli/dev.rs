//! `stanby dev`: everything on one machine, for trying and for developing against.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::failure::Failure;
use super::logging;
use crate::config::flags::LogFormat;
use crate::config::log::{LogConfig, LogLevel, LogTarget};
use crate::dev::{DEFAULT_CLUSTER_ID, DEFAULT_HTTP_PORT, DEFAULT_PORT, DevOptions};

/// Root's services keep their data here; Postgres itself then runs as another user, who could not enter a
/// home directory.
const ROOT_DATA: &str = "/var/lib/stanby-dev";

#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Where the database and the logs are kept [default: /var/lib/stanby-dev as root, else
    /// ~/.local/share/stanby-dev]
    #[arg(long, value_name = "DIR", env = "STANBY_DEV_DATA")]
    data: Option<PathBuf>,

    /// Use a temporary directory, and remove it at the end
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,

    /// Port of nats-server, which clients connect to
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_PORT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Port of the first server's monitoring pages; the second server uses the next
    #[arg(long, value_name = "PORT", default_value_t = DEFAULT_HTTP_PORT)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=65534))]
    http_port: u16,

    /// Name that clients connect to
    #[arg(long, value_name = "NAME", default_value = DEFAULT_CLUSTER_ID)]
    cluster_id: String,

    /// Directory of the Postgres programs initdb and postgres [default: searched for]
    #[arg(long, value_name = "DIR", env = "STANBY_PG_BIN")]
    pg_bin: Option<PathBuf>,

    /// The nats-server program [default: searched for]
    #[arg(long, value_name = "FILE", env = "STANBY_NATS_SERVER_BIN")]
    nats_server_bin: Option<PathBuf>,

    /// Play a small shop, to have something to look at: publishers, a slow durable, a message that no consumer can process, and a
    /// takeover every two minutes
    #[arg(long)]
    demo: bool,

    /// Show the servers' logs
    #[arg(long, short)]
    verbose: bool,
}

/// Runs until it is interrupted.
pub async fn run(args: DevArgs) -> Result<ExitCode, Failure> {
    let _log = logging::start(&LogConfig {
        format: LogFormat::Text,
        level: LogLevel::Info,
        target: LogTarget::StandardError,
    })?;
    crate::dev::run(DevOptions {
        data: args.data.unwrap_or_else(default_data),
        ephemeral: args.ephemeral,
        port: args.port,
        http_port: args.http_port,
        cluster_id: args.cluster_id,
        demo: args.demo,
        verbose: args.verbose,
        pg_bin: args.pg_bin,
        nats_server_bin: args.nats_server_bin,
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

fn default_data() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from(ROOT_DATA);
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("data"), |base| base.join("stanby-dev"))
}
