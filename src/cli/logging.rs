//! Log lines on standard error: coloured text for people, JSON for collectors.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

use crate::config::flags::LogFormat;
use crate::config::serve::{LogConfig, LogLevel};

/// Once per process; a second call changes nothing.
pub(super) fn start(config: LogConfig) {
    let level = match config.level {
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The libraries' own detail would bury ours.
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        // What it would say, the adapter is told as well, and says once.
        .with_target("async_nats", LevelFilter::OFF)
        .with_target("stanby", level);
    let registry = tracing_subscriber::registry();
    let started = match config.format {
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(io::stderr).with_ansi(colour());
            registry.with(layer.with_filter(targets)).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(io::stderr);
            registry.with(layer.with_filter(targets)).try_init()
        }
    };
    started.ok();
}

/// As <https://no-color.org> has it: set and not empty means none.
fn colour() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !unwanted
}
