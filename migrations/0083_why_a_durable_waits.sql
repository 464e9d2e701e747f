-- Why: a durable that an operator had paused was 'behind', as if it were catching up. It is 'paused' from here on, since when
-- and with what lets it go on.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE OR REPLACE VIEW position_status AS
SELECT t.position_id, t.channel_id, t.channel, t.durable_name, t.queue_group, t.clients, t.members, t.max_in_flight,
       t.last_sent, t.acked_floor, t.in_flight AS unacked, t.unsent + t.in_flight AS lag,
       CASE
           WHEN o.since IS NOT NULL THEN 'paused'
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
       o.since AS paused_since
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
LEFT JOIN paused_positions o ON o.position_id = t.position_id;
COMMENT ON COLUMN position_status.status IS
    'paused: by an operator; offline: no client is attached; stalled: as many unacked as allowed; behind: messages are still to be '
    'sent; online: all are sent.';
COMMENT ON COLUMN position_status.paused_since IS 'When an operator paused it; NULL when nobody has.';

CREATE OR REPLACE VIEW durables AS
SELECT channel, durable_name, queue_group, clients, members, status, last_sent, acked_floor, unacked, lag, why,
       unsent, in_flight, oldest_unacked, oldest_unacked_at, behind, max_in_flight, paused_since
FROM position_status WHERE durable_name IS NOT NULL ORDER BY channel, durable_name;
COMMENT ON COLUMN durables.status IS
    'paused: by an operator; offline: no client is attached; stalled: as many unacked as allowed; behind: messages are still to be '
    'sent; online: all are sent.';
COMMENT ON COLUMN durables.paused_since IS 'When an operator paused it; NULL when nobody has.';

COMMENT ON COLUMN subscription_status.status IS
    'offline: its client is gone; paused: by an operator; stalled: as many unacked as allowed; behind: messages are still to be '
    'sent; online: all are sent.';
