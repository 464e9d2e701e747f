//! Log lines: coloured text for people, JSON for collectors; to standard error, a file or syslog.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use super::log_file::LogFile;
use super::syslog::Syslog;
use crate::config::flags::LogFormat;
use crate::config::log::{LogConfig, LogLevel, LogTarget};

/// Where the lines go, as far as a signal changes it.
#[derive(Debug)]
pub(super) struct Log(Option<LogFile>);

impl Log {
    /// For SIGUSR1, in the words of NATS Streaming.
    pub(super) fn reopen(&self) {
        match &self.0 {
            None => tracing::warn!("File log re-open ignored, not a file logger"),
            Some(file) => match file.reopen() {
                Ok(()) => tracing::info!("File log re-opened"),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(
                        error,
                        "the log file cannot be opened anew; the old one is written on"
                    );
                }
            },
        }
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
    let (layer, log) = match &config.target {
        LogTarget::StandardError => (lines(config.format, io::stderr, colour()), None),
        LogTarget::File { path, limit } => {
            let file = LogFile::open(path.clone(), *limit)
                .with_context(|| format!("the log file {} cannot be written", path.display()))?;
            let writer = file.clone();
            let layer = lines(config.format, move || writer.clone(), false);
            (layer, Some(file))
        }
        LogTarget::Syslog => {
            let syslog =
                Syslog::local().context("this machine has no syslog that can be written to")?;
            (timeless(config.format, syslog), None)
        }
        LogTarget::RemoteSyslog(address) => {
            let syslog = Syslog::remote(address)
                .with_context(|| format!("the syslog server {address} cannot be written to"))?;
            (timeless(config.format, syslog), None)
        }
    };
    let registry = tracing_subscriber::registry();
    registry.with(layer.with_filter(targets)).try_init().ok();
    Ok(Log(log))
}

type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

fn lines<W>(format: LogFormat, writer: W, ansi: bool) -> AnyLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(ansi).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Syslog adds the time itself.
fn timeless(format: LogFormat, syslog: Syslog) -> AnyLayer {
    let layer = fmt::layer().with_writer(syslog).without_time();
    match format {
        LogFormat::Text => layer.with_ansi(false).with_level(false).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// As <https://no-color.org> has it: set and not empty means none.
fn colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !unwanted
}
