//! How many of the requests that it receives a standby keeps.

use std::fmt;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use super::duration::GoDuration;
use super::error::Error;
use super::size::Size;
use crate::core::replicas::Promoted;
use crate::core::shadow::ShadowLimits;

/// Beyond the time that it takes to notice the end of an active: for the takeover itself.
const MARGIN: Duration = Duration::from_secs(1);

/// Clients wait so long for the answer to a publish unless they are configured otherwise: whatever keeps the servers from answering,
/// a failover of Postgres for instance, what was asked meanwhile is still waited for.
const CLIENTS_WAIT: Duration = Duration::from_secs(30);

/// Clients give a request up long before.
const AGE_MAX: Duration = Duration::from_mins(5);

const BYTES_MIN: usize = 1 << 20;

/// What an operator says of the replicas of Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DatabaseFailover {
    Auto,
    Synchronous,
    Asynchronous,
}

impl fmt::Display for DatabaseFailover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Synchronous => "synchronous",
            Self::Asynchronous => "asynchronous",
        })
    }
}

impl From<DatabaseFailover> for Promoted {
    fn from(said: DatabaseFailover) -> Self {
        match said {
            DatabaseFailover::Auto => Self::Auto,
            DatabaseFailover::Synchronous => Self::Synchronous,
            DatabaseFailover::Asynchronous => Self::Asynchronous,
        }
    }
}

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Fault tolerance")]
pub struct ShadowFlags {
    /// A standby keeps the last requests; when it takes over, it answers those that have no answer yet
    #[arg(long, env = "STANBY_SHADOW", value_name = "BOOL")]
    #[arg(action = ArgAction::Set, num_args = 0..=1, require_equals = true)]
    #[arg(
        default_value_t = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub shadow: bool,

    /// How long a standby keeps requests: two leases to 5m [default: as long as clients wait, 30s, or two leases and 1s if that is more]
    #[arg(long, env = "STANBY_SHADOW_AGE", value_name = "DURATION")]
    pub shadow_age: Option<GoDuration>,

    /// Memory for these requests; the oldest are forgotten first
    #[arg(
        long,
        env = "STANBY_SHADOW_BYTES",
        value_name = "SIZE",
        default_value = "64MB"
    )]
    pub shadow_bytes: Size,
}

impl ShadowFlags {
    /// `None` when nothing is to be kept.
    pub(super) fn limits(&self, lease: Duration) -> Result<Option<ShadowLimits>, Error> {
        if !self.shadow {
            return Ok(None);
        }
        // A frozen active is noticed after a lease, and may have had a request in its hands for as long.
        let needed = lease * 2;
        let age = match self.shadow_age {
            None => CLIENTS_WAIT.max(needed + MARGIN),
            Some(given) if (needed..=AGE_MAX).contains(&given.to_std()) => given.to_std(),
            Some(given) => {
                return Err(Error::new(format!(
                    "a shadow age of {given} does not work; use two leases ({needed:?}) to 5m, or --shadow=false \
                     to keep none"
                )));
            }
        };
        let bytes = usize::try_from(self.shadow_bytes.0).unwrap_or(0);
        if bytes < BYTES_MIN {
            return Err(Error::new(format!(
                "--shadow-bytes must be 1MB or more, not {}; use --shadow=false to keep none",
                self.shadow_bytes.0
            )));
        }
        Ok(Some(ShadowLimits { age, needed, bytes }))
    }
}

/// What the last active stored in so long before its end may still arrive, or was received by a standby. A node that
/// was frozen takes what it finds waiting for just received: whoever has to be sure counts twice as long.
pub(super) fn window(shadow: Option<ShadowLimits>, lease: Duration) -> Duration {
    let replayable = shadow.map_or(Duration::ZERO, |shadow| shadow.age);
    replayable.max(lease * 2) + MARGIN
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: ShadowFlags,
    }

    fn limits(args: &[&str]) -> Result<Option<ShadowLimits>, Error> {
        let cli = Cli::try_parse_from(["serve"].iter().chain(args));
        let cli = cli.map_err(|error| Error::new(error.to_string()))?;
        cli.flags.limits(Duration::from_secs(3))
    }

    #[test]
    fn a_shadow_lasts_as_long_as_clients_wait_unless_told_otherwise() {
        let expected = |age, bytes| {
            let age = Duration::from_secs(age);
            let needed = Duration::from_secs(6);
            Some(ShadowLimits { age, needed, bytes })
        };
        assert_eq!(limits(&[]).unwrap(), expected(30, 64 << 20));
        let args = ["--shadow-age=9s", "--shadow-bytes=2MB"];
        assert_eq!(limits(&args).unwrap(), expected(9, 2 << 20));
        assert_eq!(limits(&["--shadow=false"]).unwrap(), None);
    }

    #[test]
    fn a_shadow_too_small_to_be_of_use_is_refused() {
        let refusal = |arg: &str| limits(&[arg]).unwrap_err().to_string();
        assert_eq!(
            refusal("--shadow-age=5s"),
            "a shadow age of 5s does not work; use two leases (6s) to 5m, or --shadow=false to \
             keep none"
        );
        assert!(refusal("--shadow-age=6m").contains("to 5m"));
        for bytes in ["1000", "-1", "0"] {
            let text = refusal(&format!("--shadow-bytes={bytes}"));
            assert!(text.contains("must be 1MB or more"), "{text}");
        }
    }
}
