//! The node: its role, its commits, its traffic, its means.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::kinds::{Labels, counter, gauge, gauges, histogram, seconds, set};
use crate::core::counts::Counts;
use crate::http::process;
use crate::http::view::View;
use crate::monitoring::condition::Condition;
use crate::monitoring::reports::PoolUse;

pub(super) fn register(registry: &mut Registry, view: &View, pool: PoolUse) {
    let status = &view.status;
    let node = Info::new([
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("cluster_id", status.cluster_id.clone()),
        ("server_id", status.server_id.clone()),
    ]);
    registry.register("node", "The node that answers", node);
    let active = u64::from(view.is_active());
    gauge(
        registry,
        "active",
        "1 while this node serves clients, 0 on a standby",
        active,
    );
    let ready = u64::from(status.not_ready_reason().is_none());
    gauge(
        registry,
        "ready",
        "1 while this node serves or can take over",
        ready,
    );
    let holds = "1 while something of the kind is wrong with this node: /readyz says what";
    let holds = gauges(registry, "condition", holds);
    for &condition in Condition::ALL {
        let labels: Labels = vec![("kind", condition.name().to_owned())];
        set(
            &holds,
            &labels,
            u64::from(status.conditions.holds(condition)),
        );
    }
    let epoch = view.epoch().map_or(0, |epoch| epoch.0);
    gauge(
        registry,
        "epoch",
        "Number of the term while active, else 0",
        epoch,
    );
    let active_since = status.active_since.filter(|_| view.is_active());
    let active_seconds = active_since.map_or(0, |since| view.now.wall.since(since).as_secs());
    gauge(
        registry,
        "active_seconds",
        "Seconds since this node became active",
        active_seconds,
    );
    let uptime = view.now.wall.since(status.started_at).as_secs();
    gauge(
        registry,
        "uptime_seconds",
        "Seconds since the process started",
        uptime,
    );
    let now = view.now.monotonic;
    let trust = status.trusted_until.filter(|_| view.is_active());
    seconds(
        registry,
        "trust_seconds",
        "Seconds until the active stops acting unless Postgres answers; 0 on a standby",
        trust.map_or(0.0, |until| until.since(now).as_secs_f64()),
    );
    let takeovers = "Times that this process became the active";
    counter(registry, "takeovers", takeovers, status.takeovers);
    seconds(
        registry,
        "takeover_seconds",
        "Seconds from the lock to being ready, of this process' last takeover",
        status.takeover_time.as_secs_f64(),
    );
    let silence = "Seconds from the last sign of the active before to the first answer, of this process' last takeover; \
                   0 where there was no sign of it";
    let waited = status.takeover_silence.unwrap_or_default();
    seconds(
        registry,
        "takeover_silence_seconds",
        silence,
        waited.as_secs_f64(),
    );
    let memory = "Requests that this process received as a standby and answered in its last takeover, because no other server had";
    gauge(
        registry,
        "takeover_answered_from_memory",
        memory,
        status.takeover_from_memory,
    );
    counter(
        registry,
        "commits",
        "Batches committed to Postgres",
        status.commits,
    );
    let commit = "Seconds from a batch's leaving to its being committed";
    histogram(registry, "commit_seconds", commit, status.commit_seconds);
    let batch = "Messages in a committed batch";
    histogram(registry, "batch_messages", batch, status.batch_messages);
    let connections = "Connections to Postgres for reading";
    let pooled = u64::from(pool.connections);
    gauge(registry, "pool_connections", connections, pooled);
    let idle = "Connections to Postgres for reading that have nothing to do";
    gauge(
        registry,
        "pool_idle_connections",
        idle,
        u64::from(pool.idle),
    );
    if let Some(bytes) = process::resident_bytes() {
        let resident = "Bytes of memory that the process occupies";
        gauge(registry, "resident_memory_bytes", resident, bytes);
    }
    let overflows =
        "Connections to NATS lost because this node read too slowly; what NATS held is lost";
    counter(registry, "nats_overflows", overflows, status.nats.overflows);
    let starts = "Times that this node has started its nats-server";
    counter(
        registry,
        "nats_server_starts",
        starts,
        status.nats_server_starts,
    );
    let ends = "Times that the nats-server of this node ended by itself and was started again";
    counter(registry, "nats_server_ends", ends, status.nats_server_ends);
    let pauses = "Times that nothing was read from NATS because too much waited already";
    counter(registry, "nats_pauses", pauses, status.nats.pauses);
    let floods = "Publishes refused because more of their client waited than its share";
    counter(registry, "nats_refused", floods, status.nats.refused);
    let disconnects = "Connections to NATS lost, whatever the reason";
    counter(
        registry,
        "nats_disconnects",
        disconnects,
        status.nats.disconnects,
    );
    let unsent = "Messages not sent because NATS was not connected; answers wait instead";
    counter(registry, "nats_unsent", unsent, status.nats.unsent);
    let answers = "Answers dropped because too many waited for a connection to NATS, or because three connections in a row \
        ended with them on the way; their clients may see timeouts";
    counter(
        registry,
        "nats_dropped_answers",
        answers,
        status.nats.dropped_answers,
    );
    let unreadable = "Messages with a subject or reply subject that is not text";
    counter(
        registry,
        "nats_unreadable",
        unreadable,
        status.nats.unreadable,
    );
    let rejected = "Messages to clients that the NATS server did not take: they or their subjects are too long, or not permitted";
    counter(registry, "nats_rejected", rejected, status.nats.rejected);
    let refused = "Requests and other writes that Postgres refused to store";
    counter(registry, "writes_refused", refused, status.writes_refused);
    let dropped = "Log lines that could not be written";
    counter(registry, "log_dropped", dropped, status.log_dropped);
    let forbidden =
        "Requests refused because their channel or inbox would bypass the permissions of NATS";
    counter(registry, "nats_forbidden", forbidden, status.nats.forbidden);
    let astray =
        "Connections for reading that led elsewhere than to the primary, and were not used";
    counter(registry, "reads_astray", astray, status.reads_astray);
    let failed = "Reads of the tables that failed; an active reads on the leader session instead";
    counter(registry, "reads_failed", failed, status.reads_failed);
    let oldest = "Seconds for which the oldest transaction keeps Postgres from cleaning up, as the active saw it last";
    gauge(
        registry,
        "oldest_snapshot_seconds",
        oldest,
        status.oldest_snapshot_seconds,
    );
    let late = "Times that Postgres proved the lock only after more than half a lease";
    counter(registry, "late_renewals", late, status.late_renewals);
    let restored = "Messages that a failover of Postgres had lost and this node stored again";
    counter(
        registry,
        "failover_restored_messages",
        restored,
        status.failovers.restored,
    );
    let lost = "Acked messages that a failover of Postgres has lost";
    counter(
        registry,
        "failover_lost_messages",
        lost,
        status.failovers.lost,
    );
    let unknown =
        "Sequences passed over because a failover of Postgres may have lost their messages";
    counter(
        registry,
        "failover_unknown_messages",
        unknown,
        status.failovers.unknown,
    );
    let rivals =
        "Other servers that serve the same cluster ID from other tables while this node is active";
    gauge(registry, "rivals", rivals, status.conflicting_actives);
    let shadow_bytes = "Bytes of requests that this node keeps as a standby";
    gauge(
        registry,
        "shadow_bytes",
        shadow_bytes,
        status.shadow_bytes as u64,
    );
    let crowded_out = "Requests that this node forgot as a standby for want of room";
    counter(
        registry,
        "shadow_crowded_out",
        crowded_out,
        status.shadow_crowded_out,
    );
    amounts(registry, &status.counts);
    if let Some(open) = process::open_fds() {
        gauge(registry, "open_fds", "Open file descriptors", open as u64);
    }
    if let Some(max) = process::max_fds() {
        gauge(
            registry,
            "max_fds",
            "File descriptors that may be open",
            max,
        );
    }
}

fn amounts(registry: &mut Registry, counts: &Counts) {
    gauge(
        registry,
        "clients",
        "Registered clients",
        counts.clients as u64,
    );
    gauge(registry, "channels", "Channels", counts.channels as u64);
    let subscriptions = "Subscriptions, offline durables included";
    gauge(
        registry,
        "subscriptions",
        subscriptions,
        counts.subscriptions as u64,
    );
    gauge(registry, "messages", "Messages kept", counts.messages);
    gauge(registry, "bytes", "Bytes of messages kept", counts.bytes);
    counter(
        registry,
        "in_messages",
        "Messages published by clients",
        counts.traffic.in_messages,
    );
    counter(
        registry,
        "in_bytes",
        "Bytes published by clients",
        counts.traffic.in_bytes,
    );
    counter(
        registry,
        "out_messages",
        "Messages delivered, redeliveries included",
        counts.traffic.out_messages,
    );
    counter(
        registry,
        "out_bytes",
        "Bytes delivered, redeliveries included",
        counts.traffic.out_bytes,
    );
    let skipped = "Messages passed over because NATS does not deliver their size";
    counter(
        registry,
        "skipped_messages",
        skipped,
        counts.traffic.skipped_messages,
    );
    let redelivered = "Messages delivered again";
    let acked = "Messages acked, once per subscription or queue group";
    let dropped = "Messages that a limit dropped before every durable had acked them";
    let in_sql = "Messages published in SQL";
    let refused_sql = "Messages published in SQL that could not be stored: see outbox_refused";
    let acked_in_sql = "Acks in SQL that were carried out";
    let nacked_in_sql = "Negative acks in SQL that were carried out";
    let poison = "Messages delivered as often as a policy allows, and passed over";
    let letters = "Messages that became dead letters";
    let unreadable = "Messages passed over because their rows cannot be read";
    let refused = "Connects that were refused because too many clients connected at once";
    for (name, help, value) in [
        ("refused_connects", refused, counts.traffic.refused_connects),
        (
            "unreadable_messages",
            unreadable,
            counts.traffic.unreadable_messages,
        ),
        (
            "redelivered_messages",
            redelivered,
            counts.traffic.redelivered_messages,
        ),
        ("acked_messages", acked, counts.traffic.acked_messages),
        (
            "dropped_unacked_messages",
            dropped,
            counts.traffic.dropped_unacked,
        ),
        (
            "sql_published_messages",
            in_sql,
            counts.traffic.sql_published,
        ),
        (
            "sql_refused_messages",
            refused_sql,
            counts.traffic.sql_refused,
        ),
        ("sql_acked_messages", acked_in_sql, counts.traffic.sql_acked),
        (
            "sql_nacked_messages",
            nacked_in_sql,
            counts.traffic.sql_nacked,
        ),
        ("poison_messages", poison, counts.traffic.poison_messages),
        ("dead_letters", letters, counts.traffic.dead_letters),
    ] {
        counter(registry, name, help, value);
    }
}
