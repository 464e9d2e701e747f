//! Physical copies of a world's Postgres: replicas, and servers that were the same until the copy was made.

use std::path::PathBuf;
use std::time::Duration;

use crate::ground::SETTINGS;
use crate::support::copy::{Copy, Kind, Original};

/// Ends with the value.
pub(crate) struct Replica {
    copy: Copy,
    pub(crate) is_promoted: bool,
}

impl Replica {
    pub(crate) async fn start(kind: Kind, original: Original<'_>) -> Self {
        let mut settings = SETTINGS.to_vec();
        if kind == Kind::Separate {
            // Whoever lost the lock meanwhile would find a free one there.
            settings.push("default_transaction_read_only=on");
        }
        Self {
            copy: Copy::start(kind, original, &settings).await,
            is_promoted: false,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.copy.socket()
    }

    pub(crate) async fn stop(self, patience: Duration) {
        self.copy.stop(patience).await;
    }
}
