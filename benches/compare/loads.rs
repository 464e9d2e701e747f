//! What is asked of every server.

/// As many as the clients of NATS Streaming have under way.
pub(crate) const WINDOW: usize = 16_384;
/// Unacked messages of a subscription.
pub(crate) const MAX_IN_FLIGHT: usize = 1_024;

pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) publishers: usize,
    /// Each of them gets every message and acks it.
    pub(crate) subscribers: usize,
    /// Bytes.
    pub(crate) size: usize,
    /// Messages of a publisher that wait for their acks.
    pub(crate) window: usize,
    /// Messages of all publishers; a tenth of it comes before and is not measured.
    pub(crate) count: u64,
}

pub(crate) const LOADS: &[Load] = &[
    Load {
        name: "10x128",
        what: "10 publishers, 128 B",
        publishers: 10,
        subscribers: 0,
        size: 128,
        window: WINDOW,
        count: 400_000,
    },
    Load {
        name: "1x128",
        what: "1 publisher, 128 B",
        publishers: 1,
        subscribers: 0,
        size: 128,
        window: WINDOW,
        count: 300_000,
    },
    Load {
        name: "1+1x1k",
        what: "1 publisher, 1 subscriber, 1 KiB",
        publishers: 1,
        subscribers: 1,
        size: 1024,
        window: WINDOW,
        count: 100_000,
    },
    Load {
        name: "10+10x1k",
        what: "10 publishers, 10 subscribers, 1 KiB",
        publishers: 10,
        subscribers: 10,
        size: 1024,
        window: WINDOW,
        count: 40_000,
    },
    Load {
        name: "sync",
        what: "1 publisher, one at a time, 128 B",
        publishers: 1,
        subscribers: 0,
        size: 128,
        window: 1,
        count: 3_000,
    },
];
