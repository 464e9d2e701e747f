//! Log lines: coloured text for people, JSON for collectors; to standard error, a file or syslog. They go through
//! [`log_queue`], so that nobody waits for them.

use std::io::{self, IsTerminal};
use std::time::Duration;

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use super::log_file::{LogFile, StandardError};
use super::safe_lines::{SafeFields, SafeJson};
use super::syslog::Syslog;
use crate::config::flags::LogFormat;
use crate::config::log::{LogConfig, LogLevel, LogTarget};
use crate::log_queue::{self, Lines, Opened};

/// The last lines of a process that ends.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// To be kept for as long as there is something to log: what waits then is written, within a second.
#[derive(Debug)]
#[must_use]
pub(super) struct Log(());

impl Log {
    /// For SIGUSR1.
    #[expect(clippy::unused_self, reason = "only who started the log may")]
    pub(super) fn reopen(&self) {
        log_queue::reopen();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        log_queue::flush(FLUSH_LIMIT);
    }
}

/// Once per process; a second call changes nothing.
pub(super) fn start(config: &LogConfig) -> anyhow::Result<Log> {
    let level = match config.level {
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries' own detail would bury ours.
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("stanby", level);
    let (layer, opened) = match &config.target {
        LogTarget::StandardError => {
            let layer = lines(config.format, colour());
            // Where it is closed there is nobody to tell.
            let opened = log_queue::start(StandardError::open).unwrap_or(Opened::Yes);
            (layer, opened)
        }
        LogTarget::File { path, limit } => {
            let (file, limit) = (path.clone(), *limit);
            let opened = log_queue::start(move || LogFile::open(file, limit))
                .with_context(|| format!("the log file {} cannot be written", path.display()))?;
            (lines(config.format, false), opened)
        }
        LogTarget::Syslog => {
            let opened = log_queue::start(Syslog::local)
                .context("this machine has no syslog that can be written to")?;
            (timeless(config.format), opened)
        }
        LogTarget::RemoteSyslog(server) => {
            let to = server.clone();
            let opened = log_queue::start(move || Syslog::of(&to))
                .with_context(|| format!("the syslog server {server} cannot be written to"))?;
            (timeless(config.format), opened)
        }
    };
    let registry = tracing_subscriber::registry();
    if registry.with(layer.with_filter(targets)).try_init().is_ok() {
        log_panics();
    }
    if opened == Opened::NotYet {
        tracing::warn!(
            "where the log goes to cannot be opened at the moment (a FIFO without a reader, a disk that hangs); the \
             server goes on, and the first lines wait"
        );
    }
    Ok(Log(()))
}

/// The standard library would write to standard error itself, and wait for it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::capture();
        tracing::error!(%trace, "a mistake in this program: {panic}");
    }));
}

type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(format: LogFormat, ansi: bool) -> AnyLayer {
    let layer = fmt::layer().with_writer(Lines);
    match format {
        LogFormat::Text => layer.with_ansi(ansi).fmt_fields(SafeFields).boxed(),
        LogFormat::Json => layer
            .map_writer(SafeJson)
            .json()
            .flatten_event(true)
            .boxed(),
    }
}

/// Syslog adds the time itself.
fn timeless(format: LogFormat) -> AnyLayer {
    let layer = fmt::layer().with_writer(Lines).without_time();
    match format {
        LogFormat::Text => layer
            .with_ansi(false)
            .with_level(false)
            .fmt_fields(SafeFields)
            .boxed(),
        LogFormat::Json => layer
            .map_writer(SafeJson)
            .json()
            .flatten_event(true)
            .boxed(),
    }
}

/// As <https://no-color.org> has it: set and not empty means none.
fn colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !unwanted
}
