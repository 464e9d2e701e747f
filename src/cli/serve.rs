//! `stanby serve`

use std::ffi::OsString;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::failure::Failure;
use super::logging::{self, Log};
use super::notify::Notifier;
use super::pid_file::PidFile;
use super::reload::Reload;
use super::signals::{Signals, Stop};
use crate::clock::Clock;
use crate::config::duration::GoDuration;
use crate::config::{Config, Notes, Sources};
use crate::core::limits::Limits;
use crate::core::time::Instant;
use crate::node::NewNode;

/// A service manager, `timeout` and a terminal may each deliver one wish to stop more than once.
const ONE_WISH: Duration = Duration::from_secs(1);

/// `args` are the flags in our spelling, `notes` about those that mean something else here.
pub async fn run(args: &[OsString], notes: &Notes) -> Result<ExitCode, Failure> {
    let sources = Sources::read(args)?;
    let reload = Reload::new(args, &sources)?;
    let warnings = sources.warnings(notes);
    let config = sources.config;
    let log = logging::start(&config.log)?;
    let all = warnings.iter().chain(&sources.unknown);
    for warning in all.chain(&config.warnings()) {
        warn!("{warning}");
    }
    log_limits(&config.limits);
    match serve(config, reload, &log).await {
        Ok(code) => Ok(code),
        Err(error) => {
            // Through the log rather than as a plain line: collectors parse what a server writes.
            error!("Failed to start: {error:#}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What holds for every channel, in the words of the flags.
fn log_limits(limits: &Limits) {
    let count =
        |max: Option<u64>| max.map_or_else(|| "unlimited".to_owned(), |max| max.to_string());
    let time = |max: Option<Duration>| {
        max.map_or_else(
            || "unlimited".to_owned(),
            |max| GoDuration::from(max).to_string(),
        )
    };
    let number = |max: Option<usize>| count(max.map(|max| max as u64));
    let channel = limits.channel;
    info!(
        max_channels = number(limits.channels),
        max_subs = number(channel.subscriptions),
        max_msgs = count(channel.messages),
        max_bytes = count(channel.bytes),
        max_age = time(channel.age),
        max_inactivity = time(channel.inactivity),
        "store limits"
    );
}

async fn serve(config: Config, mut reload: Reload, log: &Log) -> anyhow::Result<ExitCode> {
    let _pid_file = config.pid_file.as_deref().map(PidFile::write);
    let mut signals = Signals::listen()?;
    // Unhandled, these would end the process.
    let listen = |kind| signal(kind).context("signals cannot be listened to");
    let mut asked_to_reload = listen(SignalKind::hangup())?;
    let mut reopen = listen(SignalKind::user_defined1())?;
    let mut lame_duck = listen(SignalKind::user_defined2())?;

    let shutdown = CancellationToken::new();
    let cluster_id = config.cluster_id.clone();
    let node = NewNode::new(config)?.with_nats_reloads(reload.nats());
    let status = node.status();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster_id,
        server_id = status.borrow().server_id,
        pid = std::process::id(),
        "starting"
    );
    let notifier = Notifier::from_environment();
    let mut telling = pin!(notifier.run(node.status()));
    let mut node = Box::pin(node.run(reload.limits(), shutdown.clone()));
    let mut asked: Option<(Stop, Instant)> = None;
    loop {
        tokio::select! {
            result = &mut node => {
                result?;
                return Ok(asked.map_or(ExitCode::SUCCESS, |(stop, _)| stop.code()));
            }
            stop = signals.stop() => {
                let now = Clock.now().monotonic;
                if let Some((_, first)) = asked {
                    if now.since(first) < ONE_WISH {
                        continue;
                    }
                    warn!("asked to stop a second time: not waiting for the end of what is under way");
                    return Ok(ExitCode::FAILURE);
                }
                info!(signal = ?stop, "Shutting down.");
                asked = Some((stop, now));
                notifier.stopping();
                shutdown.cancel();
            }
            never = &mut telling => match never {},
            _ = asked_to_reload.recv() => reload.reload(),
            _ = reopen.recv() => log.reopen(),
            _ = lame_duck.recv() => warn!(
                "SIGUSR2 is ignored: it is for a nats-server (lame duck mode); SIGTERM ends this server in order"
            ),
        }
    }
}
