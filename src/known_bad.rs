//! Mistakes that a server of this kind could have, to show that the tests would notice them.
//!
//! Only in a build with the feature `known-bad`, which is never the default and which no package is built with; the
//! environment variable `KNOWN_BAD` chooses the mistake. In every other build `is` is a constant no.
//! `scripts/known-bad` demands that a test fails for each of them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Answers leave before the batch that justifies them is in the tables.
    AckBeforeCommit,
    /// An active believes in itself for as long as nobody contradicts.
    TrustWindowOff,
    /// Batches go through another connection than the one that holds the lock.
    SecondConnection,
    /// The lock is all that it takes, on a read-only replica, too.
    PlainTryLock,
    /// A new active does everything that it heard while it stood by.
    ShadowWithoutGuidCheck,
}

impl Mistake {
    pub const ALL: [Self; 5] = [
        Self::AckBeforeCommit,
        Self::TrustWindowOff,
        Self::SecondConnection,
        Self::PlainTryLock,
        Self::ShadowWithoutGuidCheck,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::AckBeforeCommit => "ack-before-commit",
            Self::TrustWindowOff => "trust-window-off",
            Self::SecondConnection => "second-connection",
            Self::PlainTryLock => "plain-try-lock",
            Self::ShadowWithoutGuidCheck => "shadow-without-guid-check",
        }
    }
}

/// What `stanby version` adds to the version, and `stanby serve` logs as an error.
pub fn warning() -> Option<String> {
    cfg!(feature = "known-bad").then(|| {
        let name = chosen().map_or("none", Mistake::name);
        format!("KNOWN-BAD BUILD, FOR TESTS ONLY: it loses data on purpose (KNOWN_BAD={name})")
    })
}

/// Whether the process is to make this mistake.
pub fn is(mistake: Mistake) -> bool {
    chosen() == Some(mistake)
}

#[cfg(not(feature = "known-bad"))]
const fn chosen() -> Option<Mistake> {
    None
}

#[cfg(feature = "known-bad")]
fn chosen() -> Option<Mistake> {
    static CHOSEN: std::sync::OnceLock<Option<Mistake>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("KNOWN_BAD").ok()?;
        let mut known = Mistake::ALL.into_iter();
        known.find(|mistake| mistake.name() == name)
    })
}
