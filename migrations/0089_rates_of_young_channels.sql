-- Why: the rate of the last hour was that of a whole hour also where all messages are of the last minutes, of a new channel or of one whose
-- limits drop what is older. So a channel that would be full in two days was said to have three months.
--
-- A server of a version before this works on.

CREATE OR REPLACE VIEW channel_usage AS
SELECT u.channel, u.messages, u.bytes, u.bytes_per_message, u.disk_bytes, u.share_percent, u.per_second_1m, u.per_second_1h,
       u.last_24h, u.oldest_at, u.newest_at,
       l.max_msgs, round(100.0 * u.messages / l.max_msgs, 1) AS max_msgs_percent,
       l.max_bytes, round(100.0 * u.bytes / l.max_bytes, 1) AS max_bytes_percent,
       l.max_age,
       round((100 * extract(epoch FROM clock_timestamp() - u.oldest_at) / nullif(extract(epoch FROM l.max_age), 0))::numeric, 1)
           AS max_age_percent,
       l.max_subscriptions, round(100.0 * s.subscriptions / l.max_subscriptions, 1) AS max_subscriptions_percent,
       CASE
           WHEN u.messages >= l.max_msgs OR u.bytes >= l.max_bytes THEN interval '0'
           -- A hundred years at most: an interval has an end.
           WHEN u.last_hour > 0 AND (l.max_msgs IS NOT NULL OR l.max_bytes IS NOT NULL) THEN
               least((l.max_msgs - u.messages) * u.hour / u.last_hour,
                     (l.max_bytes - u.bytes) * u.hour / (u.last_hour * nullif(u.bytes_per_message, 0)),
                     3155760000) * interval '1 second'
       END AS time_to_full
FROM (
    SELECT c.channel_id, c.name AS channel, c.message_count AS messages, c.byte_count AS bytes,
           CASE WHEN c.message_count > 0 THEN c.byte_count / c.message_count END AS bytes_per_message,
           CASE WHEN total.bytes > 0 THEN (d.size * (c.byte_count / total.bytes))::bigint ELSE 0 END AS disk_bytes,
           CASE WHEN total.bytes > 0 THEN round(100 * c.byte_count / total.bytes, 1) ELSE 0 END AS share_percent,
           -- Of a channel whose messages are all younger: over the time that they are of, but not over moments.
           round((c.last_sequence - lately.minute + 1) / least(60, greatest(10, kept.seconds)), 2) AS per_second_1m,
           round((c.last_sequence - lately.hour + 1) / least(3600, greatest(60, kept.seconds)), 2) AS per_second_1h,
           c.last_sequence - lately.hour + 1 AS last_hour, least(3600, greatest(60, kept.seconds)) AS hour,
           c.last_sequence - lately.day + 1 AS last_24h, oldest.at AS oldest_at,
           wall_time(nullif(c.last_published_at_ns, 0)) AS newest_at
    FROM channels c
    CROSS JOIN LATERAL (
        SELECT sequence_at(c.channel_id, clock_timestamp() - interval '1 minute') AS minute,
               sequence_at(c.channel_id, clock_timestamp() - interval '1 hour') AS hour,
               sequence_at(c.channel_id, clock_timestamp() - interval '24 hours') AS day
    ) lately
    LEFT JOIN LATERAL (
        SELECT wall_time(m.published_at_ns) AS at FROM messages m
        WHERE m.channel_id = c.channel_id AND m.sequence >= c.first_sequence ORDER BY m.sequence LIMIT 1
    ) oldest ON true
    CROSS JOIN LATERAL (SELECT extract(epoch FROM clock_timestamp() - oldest.at)::numeric AS seconds) kept
    CROSS JOIN (SELECT sum(byte_count) AS bytes FROM channels) total
    CROSS JOIN (SELECT pg_total_relation_size('messages'::regclass)::numeric AS size) d
    WHERE NOT c.deleting
) u
JOIN channel_limits l ON l.channel = u.channel
CROSS JOIN LATERAL (
    SELECT coalesce(sum(greatest(n.members, 1)), 0) AS subscriptions
    FROM positions p
    CROSS JOIN LATERAL (SELECT count(*) AS members FROM subscriptions s WHERE s.position_id = p.position_id) n
    WHERE p.channel_id = u.channel_id
) s;
COMMENT ON COLUMN channel_usage.per_second_1m IS
    'Messages published per second, within the last minute, or since the oldest message kept if that is younger.';
COMMENT ON COLUMN channel_usage.per_second_1h IS 'The same within the last hour.';
