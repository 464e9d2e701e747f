//! What is asked on the leader session beside its commits.

pub(super) const IS_SAME: &str = "SELECT pg_backend_pid() = $1";

pub(super) const HOLDS_LOCK: &str = "SELECT pg_backend_pid() = $2 AND EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND pid = $2
            AND classid::bigint = ($1::bigint >> 32) & 4294967295
            AND objid::bigint = $1::bigint & 4294967295)";

pub(super) const COMPLETE: &str = "UPDATE takeovers SET
        load_time = coalesce(make_interval(secs => $2::float8), load_time),
        first_ack = coalesce(make_interval(secs => $3::float8), first_ack),
        silence = coalesce(make_interval(secs => $4::float8), silence),
        answered_from_memory = coalesce($5, answered_from_memory),
        cause = coalesce($6, cause), detail = coalesce($7, detail)
    WHERE epoch = $1";

pub(super) const NOTE_REFUSAL: &str = "WITH forgotten AS (
        DELETE FROM refused_writes WHERE last_at < clock_timestamp() - interval '30 days'
    )
    INSERT INTO refused_writes (place, sqlstate, rule, reason, remedy, server_id, requests)
    VALUES ($1, $2, $3, $4, $5, $6, 1)
    ON CONFLICT (place, sqlstate, rule) DO UPDATE SET
        reason = EXCLUDED.reason, remedy = EXCLUDED.remedy, server_id = EXCLUDED.server_id,
        requests = refused_writes.requests + 1, last_at = EXCLUDED.last_at";

pub(super) const SHOW_CONDITIONS: &str = "WITH passed AS (
        DELETE FROM conditions WHERE kind <> ALL ($1)
    )
    INSERT INTO conditions (kind, reason, since, server_id)
    SELECT kind, reason, since, $4 FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS now (kind, reason, since)
    ON CONFLICT (kind) DO UPDATE SET
        reason = EXCLUDED.reason, since = EXCLUDED.since, server_id = EXCLUDED.server_id";

pub(super) const SHOW_LIMITS: &str =
    "SELECT note_limits($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])";

pub(super) const RECORDED: &str = "SELECT epoch, holder FROM leadership";

pub(super) const RELEASE: &str = "UPDATE leadership SET released_at = clock_timestamp(), end_epoch = $1, end_cause = $2, end_detail = $3
    WHERE epoch = $1";
