-- Why: a subscription that a policy has wait for one message was 'behind' or 'stalled', as if it needed nobody, and effective_policies
-- named the message while its last delivery still waited for its ack. The active notes what it waits for when it decides so; the
-- views read that and decide nothing.
--
-- A server of a version before this works on: it notes nothing, and leaves what is noted where it changes a row. That is void then, as
-- the row was written later than it says. The next server of this version decides anew.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

ALTER TABLE delivery_counts ADD COLUMN awaited_since timestamptz;
COMMENT ON COLUMN delivery_counts.awaited_since IS
    'Since when its subscription gets nothing more until it is settled. It does so where this is as late as last_at: else a server of '
    'before version 87 has written the row since. NULL: it does not wait for it.';

-- Of few rows among many.
CREATE INDEX delivery_counts_awaited ON delivery_counts (position_id, sequence) WHERE awaited_since IS NOT NULL;

CREATE OR REPLACE VIEW position_status AS
SELECT t.position_id, t.channel_id, t.channel, t.durable_name, t.queue_group, t.clients, t.members, t.max_in_flight,
       t.last_sent, t.acked_floor, t.in_flight AS unacked, t.unsent + t.in_flight AS lag,
       CASE
           WHEN o.since IS NOT NULL OR h.sequence IS NOT NULL THEN 'paused'
           WHEN t.members = 0 THEN 'offline'
           WHEN t.in_flight >= t.max_in_flight THEN 'stalled'
           WHEN t.unsent > 0 THEN 'behind'
           ELSE 'online'
       END AS status,
       CASE
           WHEN o.since IS NOT NULL THEN
               format('an operator paused it at %s UTC; stanby durable resume lets it go on%s',
                      to_char(o.since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'),
                      CASE WHEN t.members = 0 THEN '; no client is attached' END)
           WHEN h.sequence IS NOT NULL THEN
               format('a policy paused it at %s UTC for message %s, delivered %s times; %s lets it go on%s',
                      to_char(h.awaited_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), h.sequence, h.deliveries,
                      -- No command finds a subscription that has no name.
                      CASE WHEN coalesce(t.durable_name, t.queue_group) IS NULL THEN 'an ack of its client'
                           ELSE 'stanby durable ack or skip' END,
                      CASE WHEN t.members = 0 THEN '; no client is attached' END)
           WHEN t.members = 0 THEN 'no client is attached'
           WHEN t.in_flight >= t.max_in_flight THEN
               format('waits for acks: %s of %s allowed are unacked', t.in_flight, t.max_in_flight)
           WHEN t.unsent > 0 THEN format('%s messages are still to be sent', t.unsent)
           WHEN t.in_flight > 0 THEN format('everything is sent; %s unacked', t.in_flight)
           ELSE 'everything is sent and acked'
       END AS why,
       t.unsent, t.in_flight, oldest.sequence AS oldest_unacked,
       wall_time(oldest.published_at_ns) AS oldest_unacked_at,
       CASE
           WHEN t.unsent + t.in_flight = 0 OR oldest.sequence IS NULL THEN interval '0'
           -- Clocks of two machines may differ.
           ELSE greatest(clock_timestamp() - wall_time(oldest.published_at_ns), interval '0')
       END AS behind,
       o.since AS paused_since, h.sequence AS paused_for
FROM (
    SELECT p.position_id, p.channel_id, c.name AS channel, p.durable_name, p.queue_group, s.clients,
           coalesce(s.members, 0) AS members, coalesce(s.max_in_flight, 0) AS max_in_flight,
           p.last_sent, p.acked_floor, p.acked_above, c.first_sequence,
           -- What a limit has dropped will never be sent.
           greatest(c.last_sequence - greatest(p.last_sent, c.first_sequence - 1), 0) AS unsent,
           p.last_sent - p.acked_floor - (a.in_row + a.in_pages)::bigint AS in_flight
    FROM positions p
    JOIN channels c USING (channel_id)
    CROSS JOIN LATERAL (SELECT
        (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(p.acked_above) AS r) AS in_row,
        (SELECT coalesce(sum(CASE
                    WHEN bits IS NULL THEN greatest((page + pages) * 1024 - greatest(page * 1024, p.acked_floor + 1), 0)
                    WHEN page * 1024 > p.acked_floor THEN bit_count(bits)
                    -- The page of the floor.
                    ELSE (SELECT sum(get_bit(bits, n))
                          FROM generate_series(least(p.acked_floor + 1 - page * 1024, 1024)::integer, 1023) AS n)
                END), 0)
         FROM position_acks WHERE position_id = p.position_id) AS in_pages
    ) a
    LEFT JOIN (
        SELECT position_id, count(*) FILTER (WHERE online) AS members,
               sum(max_in_flight) FILTER (WHERE online)::bigint AS max_in_flight,
               string_agg(client_id, ', ' ORDER BY client_id) AS clients
        FROM subscriptions GROUP BY position_id
    ) s USING (position_id)
) t
LEFT JOIN LATERAL (
    -- What follows the floor is not acked; only where it is gone this looks further.
    SELECT m.sequence, m.published_at_ns FROM messages m
    WHERE m.channel_id = t.channel_id AND m.sequence > t.acked_floor AND m.sequence >= t.first_sequence
        AND NOT m.sequence <@ t.acked_above
        AND NOT EXISTS (
            SELECT FROM position_acks a
            WHERE a.position_id = t.position_id AND m.sequence / 1024 BETWEEN a.page AND a.page + a.pages - 1
                AND CASE WHEN a.bits IS NULL THEN true ELSE get_bit(a.bits, (m.sequence % 1024)::integer) = 1 END
        )
    ORDER BY m.sequence LIMIT 1
) oldest ON true
LEFT JOIN paused_positions o ON o.position_id = t.position_id
LEFT JOIN LATERAL (
    -- What a limit has dropped is not waited for, though no client was there for the active to notice. With the limit each position is
    -- looked up, whatever Postgres believes of how many wait: joined as a whole, 10,000 that had just been paused took a minute.
    SELECT d.sequence, d.deliveries, d.awaited_since FROM delivery_counts d
    WHERE d.position_id = t.position_id AND d.awaited_since = d.last_at AND d.sequence >= t.first_sequence
    LIMIT 1
) h ON true;
COMMENT ON COLUMN position_status.status IS
    'paused: by an operator, or by a policy until one message is settled; offline: no client is attached; stalled: as many unacked as '
    'allowed; behind: messages are still to be sent; online: all are sent.';
COMMENT ON COLUMN position_status.paused_since IS 'When an operator paused it; NULL when nobody has.';
COMMENT ON COLUMN position_status.paused_for IS
    'The message for which a policy paused it: nothing more is delivered until it is settled. NULL when there is none.';

CREATE OR REPLACE VIEW durables AS
SELECT channel, durable_name, queue_group, clients, members, status, last_sent, acked_floor, unacked, lag, why,
       unsent, in_flight, oldest_unacked, oldest_unacked_at, behind, max_in_flight, paused_since, paused_for
FROM position_status WHERE durable_name IS NOT NULL ORDER BY channel, durable_name;
COMMENT ON COLUMN durables.status IS
    'paused: by an operator, or by a policy until one message is settled; offline: no client is attached; stalled: as many unacked as '
    'allowed; behind: messages are still to be sent; online: all are sent.';
COMMENT ON COLUMN durables.paused_since IS 'When an operator paused it; NULL when nobody has.';
COMMENT ON COLUMN durables.paused_for IS
    'The message for which a policy paused it: nothing more is delivered until it is settled. NULL when there is none.';

COMMENT ON COLUMN subscription_status.status IS
    'offline: its client is gone; paused: by an operator, or by a policy until one message is settled; stalled: as many unacked as '
    'allowed; behind: messages are still to be sent; online: all are sent.';

CREATE OR REPLACE VIEW effective_policies AS
SELECT c.name AS channel, p.durable_name, p.queue_group, s.clients, coalesce(y.source, 'default') AS source, y.policy_id,
       y.max_deliveries, y.backoff, y.poison, y.dead_letter, coalesce(f.when_full, 'drop-oldest') AS when_full,
       coalesce(f.keep_until_acked, false) AS keep_until_acked, p.position_id,
       (SELECT d.sequence FROM delivery_counts d
        WHERE d.position_id = p.position_id AND (d.awaited_since = d.last_at OR d.given_up) AND d.sequence >= c.first_sequence
        ORDER BY d.sequence LIMIT 1) AS waits_for
FROM positions p
JOIN channels c USING (channel_id)
LEFT JOIN (
    SELECT position_id, string_agg(client_id, ', ' ORDER BY client_id) AS clients FROM subscriptions GROUP BY position_id
) s USING (position_id)
LEFT JOIN LATERAL (
    SELECT y.*, format('policy %s for %s', y.policy_id, concat_ws(', ', y.channel, 'durable ' || y.durable,
                       'queue group ' || y.queue_group)) AS source
    FROM policies y
    WHERE policy_matches(y.channel, c.name) AND (y.durable IS NULL OR y.durable = p.durable_name)
        AND (y.queue_group IS NULL OR y.queue_group = p.queue_group)
    ORDER BY (y.durable IS NOT NULL OR y.queue_group IS NOT NULL) DESC, policy_rank(y.channel) DESC, y.policy_id
    LIMIT 1
) y ON true
LEFT JOIN LATERAL (
    SELECT y.when_full, y.keep_until_acked FROM policies y
    WHERE policy_matches(y.channel, c.name) AND y.durable IS NULL AND y.queue_group IS NULL
    ORDER BY policy_rank(y.channel) DESC, y.policy_id
    LIMIT 1
) f ON true;
COMMENT ON COLUMN effective_policies.waits_for IS
    'Oldest message that it waits for: a policy paused it for that one, or that one is about to be a dead letter, which waits for acks in '
    'SQL or for room in its channel.';
