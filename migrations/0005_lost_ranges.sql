-- Why: when Postgres fails over to a replica that had not got the last commits, acked messages are missing from the
-- tables. The servers put back what they remember and pass over the rest; which sequences that were must stay
-- readable for longer than a log.

ALTER TABLE takeovers ADD COLUMN timeline_before integer, ADD COLUMN timeline_after integer;
COMMENT ON COLUMN takeovers.timeline_after IS
    'Set when Postgres had failed over since the term before; see lost_ranges for what was missing then.';

CREATE TABLE lost_ranges (
    epoch bigint NOT NULL,
    channel_id bigint NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    channel text NOT NULL,
    fate text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (epoch, channel_id, first_sequence)
);
COMMENT ON TABLE lost_ranges IS
    'Messages that a failover of Postgres had lost, and what became of them. Rows may be deleted by hand.';
COMMENT ON COLUMN lost_ranges.epoch IS 'The term that found them missing.';
COMMENT ON COLUMN lost_ranges.fate IS
    'restored: stored again under the same sequences. lost: were acked and are gone. unknown: may have been given to '
    'messages that were acked. Sequences of the last two are never used again.';

CREATE VIEW database_failovers AS
SELECT t.epoch, t.at, t.timeline_before, t.timeline_after,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate = 'restored'), 0)::bigint AS restored,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate = 'lost'), 0)::bigint AS lost,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate = 'unknown'), 0)::bigint AS unknown,
       string_agg(format('%s #%s to #%s %s', r.channel, r.first_sequence, r.last_sequence, r.fate), '; '
                  ORDER BY r.channel, r.first_sequence) AS ranges
FROM takeovers t
LEFT JOIN lost_ranges r USING (epoch)
WHERE t.timeline_after IS NOT NULL OR r.epoch IS NOT NULL
GROUP BY t.epoch, t.at, t.timeline_before, t.timeline_after;
COMMENT ON VIEW database_failovers IS
    'Failovers of Postgres that a takeover noticed: messages restored, lost, and perhaps lost, with their ranges.';
