//! Why a command failed, by its exit code.

use std::process::ExitCode;

use crate::config;
use crate::printable;

/// Scripts tell these apart by the exit code, so each keeps its number.
#[derive(Debug)]
pub enum Failure {
    /// 1: it was tried and did not work.
    Failed(anyhow::Error),
    /// 2: the command line is wrong.
    Usage(anyhow::Error),
    /// 3: nobody answers; the same command may work later.
    Unreachable(anyhow::Error),
    /// The reader of the output has gone; nothing is wrong.
    OutputClosed,
}

impl Failure {
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::OutputClosed => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        })
    }

    /// Says what was being tried when nobody answered.
    #[must_use]
    pub fn context(self, what: impl FnOnce() -> String) -> Self {
        match self {
            Self::Unreachable(error) => Self::Unreachable(error.context(what())),
            Self::Failed(_) | Self::Usage(_) | Self::OutputClosed => self,
        }
    }

    /// With all causes, on one line.
    pub fn message(&self) -> Option<String> {
        match self {
            Self::Failed(error) | Self::Usage(error) | Self::Unreachable(error) => {
                Some(printable::lines(&format!("{error:#}")).into_owned())
            }
            Self::OutputClosed => None,
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<config::Error> for Failure {
    fn from(error: config::Error) -> Self {
        Self::Usage(error.into())
    }
}
