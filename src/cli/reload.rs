//! SIGHUP: reads the configuration again, and reports what of it takes effect at once.

use std::collections::BTreeMap;
use std::ffi::OsString;

use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::config::managed_nats::ManagedNats;
use crate::config::{Error, Notes, Secret, Sources, effective};
use crate::core::limits::Limits;
use crate::core::partition::Partition;
use crate::node::NatsReloads;

/// Hold for live channels as soon as they are read.
const AT_ONCE: &[&str] = &[
    "connect-rate",
    "max-clients",
    "max-in-flight",
    "max-channels",
    "max-subs",
    "max-msgs",
    "max-bytes",
    "max-age",
    "max-inactivity",
    "channel-limits",
];

/// The values of each flag; several where it is given for several channels.
type Values = BTreeMap<&'static str, Vec<String>>;

/// What is hidden in the values may change, too.
type Secrets = [(&'static str, Option<Secret>); 6];

/// Keeps what a server was started with and what was reloaded since.
#[derive(Debug)]
pub(super) struct Reload {
    args: Vec<OsString>,
    started: Values,
    secrets: Secrets,
    current: Values,
    limits: watch::Sender<Limits>,
    nats: watch::Sender<Option<ManagedNats>>,
    /// As the server was started.
    partition: Option<Partition>,
}

impl Reload {
    pub(super) fn new(args: &[OsString], sources: &Sources) -> Result<Self, Error> {
        let started = values(sources)?;
        Ok(Self {
            args: args.to_vec(),
            current: started.clone(),
            started,
            secrets: effective::secrets(sources),
            limits: watch::Sender::new(sources.config.limits.clone()),
            partition: sources.config.partition.clone(),
            nats: watch::Sender::new(None),
        })
    }

    pub(super) fn nats(&self) -> NatsReloads {
        self.nats.subscribe()
    }

    pub(super) fn limits(&self) -> watch::Receiver<Limits> {
        self.limits.subscribe()
    }

    /// A configuration with mistakes changes nothing.
    pub(super) fn reload(&mut self) {
        let now = Sources::read(&self.args).and_then(|now| Ok((values(&now)?, now)));
        let (values, now) = match now {
            Ok(now) => now,
            Err(error) => {
                error!("the configuration is not reloaded, the former one holds: {error}");
                return;
            }
        };
        for warning in now.warnings(&Notes::default()).iter().chain(&now.unknown) {
            warn!("{warning}");
        }
        let at_once = changed(&self.current, &values, |flag| AT_ONCE.contains(&flag));
        self.limits.send_replace(now.config.limits.clone());
        self.nats.send_replace(now.config.managed_nats.clone());
        info!(changed = at_once.join(", "), "configuration reloaded");
        // Other groups have to agree, and NATS has to be configured.
        if self.partition.is_some()
            && now.config.partition.is_some()
            && self.partition != now.config.partition
        {
            warn!(
                "limits hold, but which channels this group serves changes only when the server is started again"
            );
        }
        // Told at each reload, until the server is started with them.
        let mut later = changed(&self.started, &values, |flag| !AT_ONCE.contains(&flag));
        let secrets = effective::secrets(&now);
        let pairs = self.secrets.iter().zip(&secrets);
        later.extend(
            pairs
                .filter(|(then, now)| then != now)
                .map(|(then, _)| then.0),
        );
        later.sort_unstable();
        later.dedup();
        if !later.is_empty() {
            warn!(
                changed = later.join(", "),
                "some changed settings take effect only when the server is started again"
            );
        }
        self.current = values;
    }
}

fn values(sources: &Sources) -> Result<Values, Error> {
    let mut values = Values::new();
    for value in effective::values(sources)? {
        values.entry(value.name).or_default().push(value.value);
    }
    Ok(values)
}

/// The flags whose values differ.
fn changed(
    before: &Values,
    now: &Values,
    wanted: impl Fn(&'static str) -> bool,
) -> Vec<&'static str> {
    let mut flags: Vec<&'static str> = before.keys().chain(now.keys()).copied().collect();
    flags.sort_unstable();
    flags.dedup();
    flags.retain(|&flag| wanted(flag) && before.get(flag) != now.get(flag));
    flags
}
