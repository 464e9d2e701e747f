//! Series of a pair for which an alert should fire, far beyond any threshold that makes sense, and of a pair that is well.

/// Two hours and more, a value each minute.
pub(super) const INTERVAL: &str = "1m";
pub(super) const AT: &str = "2h";
const CONSTANT: &str = "x130";

#[derive(Debug)]
pub(super) struct Case {
    pub(super) alert: &'static str,
    /// A metric, its labels beside `job`, and what it does: a number stays, `+N` grows by so much each time.
    pub(super) series: &'static [Series],
}

pub(super) type Series = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// As promtool writes a series' values.
pub(super) fn values(what: &str) -> String {
    match what.strip_prefix('+') {
        Some(step) => format!("0+{step}{CONSTANT}"),
        None => format!("{what}{CONSTANT}"),
    }
}

const A: (&str, &str) = ("instance", "a");
const B: (&str, &str) = ("instance", "b");
const DURABLE: &[(&str, &str)] = &[
    A,
    ("channel", "orders"),
    ("durable", "billing"),
    ("queue", ""),
];

pub(super) const HEALTHY: &[Series] = &[
    ("stanby_active", &[A], "1"),
    ("stanby_active", &[B], "0"),
    ("stanby_ready", &[A], "1"),
    ("stanby_ready", &[B], "1"),
    ("stanby_rivals", &[A], "0"),
    ("stanby_rivals", &[B], "0"),
    ("stanby_condition", &[A, ("kind", "messages-unseen")], "0"),
    ("stanby_condition", &[A, ("kind", "reads-fail")], "0"),
    ("stanby_condition", &[B, ("kind", "active-unheard")], "0"),
    ("stanby_takeovers_total", &[A], "1"),
    ("stanby_takeovers_total", &[B], "0"),
    ("stanby_late_renewals_total", &[A], "0"),
    ("stanby_commit_seconds_bucket", &[A, ("le", "0.004")], "+9"),
    ("stanby_commit_seconds_bucket", &[A, ("le", "0.512")], "+9"),
    ("stanby_commit_seconds_bucket", &[A, ("le", "+Inf")], "+9"),
    ("stanby_durable_members", DURABLE, "1"),
    ("stanby_durable_lag", DURABLE, "3"),
    ("stanby_durable_stalled_members", DURABLE, "0"),
    ("stanby_durable_oldest_unacked_seconds", DURABLE, "1"),
    ("stanby_durable_paused", DURABLE, "0"),
    ("stanby_dead_letters_total", &[A], "0"),
    ("stanby_dropped_unacked_messages_total", &[A], "0"),
    ("stanby_nats_overflows_total", &[A], "0"),
    ("stanby_shadow_crowded_out_total", &[B], "0"),
    ("stanby_skipped_messages_total", &[A], "0"),
    ("stanby_failover_lost_messages_total", &[A], "0"),
    ("stanby_failover_unknown_messages_total", &[A], "0"),
    ("stanby_unreadable_messages_total", &[A], "0"),
    ("stanby_open_fds", &[A], "60"),
    ("stanby_max_fds", &[A], "65536"),
];

macro_rules! cases {
    ($($alert:literal: $(($metric:literal, $labels:expr, $what:literal)),+;)*) => {
        pub(super) const CASES: &[Case] = &[$(
            Case { alert: $alert, series: &[$(($metric, $labels, $what)),+] },
        )*];
    };
}

cases! {
    "StanbyNoActive": ("stanby_active", &[A], "0"), ("stanby_active", &[B], "0");
    "StanbyTwoActives": ("stanby_active", &[A], "1"), ("stanby_active", &[B], "1");
    "StanbyTwoDatabases": ("stanby_rivals", &[A], "1");
    "StanbyNotReady": ("stanby_ready", &[A], "1"), ("stanby_ready", &[B], "0");
    "StanbyNoStandby": ("stanby_ready", &[A], "1");
    "StanbyOutOfReach": ("stanby_condition", &[B, ("kind", "active-unheard")], "1");
    "StanbyCondition": ("stanby_condition", &[A, ("kind", "reads-fail")], "1");
    "StanbyTakesOverOften": ("stanby_takeovers_total", &[A], "+1"), ("stanby_takeovers_total", &[B], "+1");
    "StanbyLateRenewals": ("stanby_late_renewals_total", &[A], "+10");
    "StanbyCommitsSlowly":
        ("stanby_commit_seconds_bucket", &[A, ("le", "0.512")], "+1"),
        ("stanby_commit_seconds_bucket", &[A, ("le", "8.192")], "+1"),
        ("stanby_commit_seconds_bucket", &[A, ("le", "16.384")], "+100"),
        ("stanby_commit_seconds_bucket", &[A, ("le", "+Inf")], "+100");
    "StanbyDurableIsStuck":
        ("stanby_durable_stalled_members", DURABLE, "1"),
        ("stanby_durable_oldest_unacked_seconds", DURABLE, "1000000");
    "StanbyDurableLags": ("stanby_durable_lag", DURABLE, "1000000000");
    "StanbyDurableHasNobody": ("stanby_durable_members", DURABLE, "0"), ("stanby_durable_lag", DURABLE, "1000000000");
    "StanbyDurablePaused": ("stanby_durable_paused", DURABLE, "1");
    "StanbyDeadLetters": ("stanby_dead_letters_total", &[A], "+100");
    "StanbyDropsUnacked": ("stanby_dropped_unacked_messages_total", &[A], "+100");
    "StanbyLosesRequests": ("stanby_nats_overflows_total", &[A], "+100");
    "StanbySkipsMessages": ("stanby_skipped_messages_total", &[A], "+100");
    "StanbyLostMessages": ("stanby_failover_lost_messages_total", &[A], "+100");
    "StanbyUnreadableMessages": ("stanby_unreadable_messages_total", &[A], "+100");
    "StanbyUnseenMessages": ("stanby_condition", &[A, ("kind", "messages-unseen")], "1");
    "StanbyFileDescriptors": ("stanby_open_fds", &[A], "1000"), ("stanby_max_fds", &[A], "1000");
}
