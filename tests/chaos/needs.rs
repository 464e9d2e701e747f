//! What a fault needs of the world that it happens to, beside servers and clients.

/// Any of the constants, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs(u16);

impl Needs {
    pub(crate) const NONE: Self = Self(0);
    /// Postgres is on a disk that can be filled.
    pub(crate) const SMALL_DISK: Self = Self(1);
    /// Servers read the time from a file that tests write.
    pub(crate) const FALSE_CLOCKS: Self = Self(1 << 1);
    /// Postgres does, too.
    pub(crate) const FALSE_CLOCK_OF_POSTGRES: Self = Self(1 << 2);
    /// Postgres writes to disk what it commits.
    pub(crate) const DURABLE: Self = Self(1 << 3);
    /// Two nats-servers in a cluster; clients are at the second one.
    pub(crate) const TWO_NATS: Self = Self(1 << 4);
    /// The servers' standard error is a pipe.
    pub(crate) const LOG_PIPES: Self = Self(1 << 5);
    /// The servers' role is no superuser: policies hold for it, and settings of its own.
    pub(crate) const PLAIN_ROLE: Self = Self(1 << 6);

    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    pub(crate) fn has(self, all_of: Self) -> bool {
        self.0 & all_of.0 == all_of.0
    }
}
