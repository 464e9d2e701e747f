-- Why: whoever looked at a durable saw that it stood still, and not that a policy had it wait for one message; whoever
-- looked at a channel saw what it took, and not how near its limits it was, for limits were known to the servers alone.
-- From here on the active notes which limits its configuration says, and views tell the policy that holds and its source,
-- what a subscription waits for, how often a message in flight was delivered, the share of each limit, and the time to full.
--
-- A server of a version before this leaves configured_limits as they are: the next one of this version notes its own.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

ALTER TABLE delivery_counts ADD COLUMN last_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN delivery_counts.last_at IS 'When that was noted last.';

CREATE TABLE configured_limits (
    ordinal integer PRIMARY KEY,
    channels text NOT NULL,
    max_subscriptions bigint,
    max_msgs bigint,
    max_bytes bigint,
    max_age_ns bigint,
    max_inactivity_ns bigint
);
COMMENT ON TABLE configured_limits IS
    'Limits of channels that the configuration of the last active says; NULL is unlimited. Of those that fit a channel the last one '
    'holds, and set_limits goes before it.';
COMMENT ON COLUMN configured_limits.ordinal IS 'From the widest to the narrowest.';
COMMENT ON COLUMN configured_limits.channels IS 'Name of a channel, or a pattern with * for one part and > for all that follow.';
COMMENT ON COLUMN configured_limits.max_subscriptions IS 'Subscriptions, offline durables included.';
COMMENT ON COLUMN configured_limits.max_msgs IS 'Messages.';
COMMENT ON COLUMN configured_limits.max_bytes IS 'Bytes of messages.';
COMMENT ON COLUMN configured_limits.max_age_ns IS 'Age of messages, in nanoseconds.';
COMMENT ON COLUMN configured_limits.max_inactivity_ns IS 'Time without subscriptions and publishes after which a channel is deleted, in nanoseconds.';

CREATE FUNCTION note_limits(channels text[], max_subscriptions bigint[], max_msgs bigint[], max_bytes bigint[],
                            max_age_ns bigint[], max_inactivity_ns bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM configured_limits;
    INSERT INTO configured_limits
    SELECT n - 1, t.channels, t.subscriptions, t.msgs, t.bytes, t.age, t.inactivity
    FROM unnest($1, $2, $3, $4, $5, $6) WITH ORDINALITY AS t (channels, subscriptions, msgs, bytes, age, inactivity, n);
END $$;
COMMENT ON FUNCTION note_limits IS 'What the active does when its configuration has been read. Not for people.';

CREATE VIEW channel_limits AS
SELECT c.name AS channel,
       CASE WHEN s.max_subscriptions IS NULL THEN l.max_subscriptions ELSE nullif(s.max_subscriptions, 0) END AS max_subscriptions,
       CASE WHEN s.max_subscriptions IS NULL THEN 'configuration' ELSE 'table' END AS max_subscriptions_from,
       CASE WHEN s.max_msgs IS NULL THEN l.max_msgs ELSE nullif(s.max_msgs, 0) END AS max_msgs,
       CASE WHEN s.max_msgs IS NULL THEN 'configuration' ELSE 'table' END AS max_msgs_from,
       CASE WHEN s.max_bytes IS NULL THEN l.max_bytes ELSE nullif(s.max_bytes, 0) END AS max_bytes,
       CASE WHEN s.max_bytes IS NULL THEN 'configuration' ELSE 'table' END AS max_bytes_from,
       (CASE WHEN s.max_age_ns IS NULL THEN l.max_age_ns ELSE nullif(s.max_age_ns, 0) END / 1000) * interval '1 microsecond'
           AS max_age,
       CASE WHEN s.max_age_ns IS NULL THEN 'configuration' ELSE 'table' END AS max_age_from,
       (CASE WHEN s.max_inactivity_ns IS NULL THEN l.max_inactivity_ns ELSE nullif(s.max_inactivity_ns, 0) END / 1000)
           * interval '1 microsecond' AS max_inactivity,
       CASE WHEN s.max_inactivity_ns IS NULL THEN 'configuration' ELSE 'table' END AS max_inactivity_from
FROM channels c
LEFT JOIN set_limits s ON s.channel = c.name
LEFT JOIN LATERAL (
    SELECT * FROM configured_limits f WHERE policy_matches(f.channels, c.name) ORDER BY f.ordinal DESC LIMIT 1
) l ON true
WHERE NOT c.deleting;
COMMENT ON VIEW channel_limits IS 'Which limits hold for each channel, and where each comes from; NULL is unlimited.';
COMMENT ON COLUMN channel_limits.channel IS 'Name of the channel.';
COMMENT ON COLUMN channel_limits.max_subscriptions IS 'Subscriptions, offline durables included.';
COMMENT ON COLUMN channel_limits.max_subscriptions_from IS 'table: an operator has set it (set_limits). configuration: the servers'' own.';
COMMENT ON COLUMN channel_limits.max_msgs IS 'Messages.';
COMMENT ON COLUMN channel_limits.max_msgs_from IS 'As above.';
COMMENT ON COLUMN channel_limits.max_bytes IS 'Bytes of messages.';
COMMENT ON COLUMN channel_limits.max_bytes_from IS 'As above.';
COMMENT ON COLUMN channel_limits.max_age IS 'Age of messages.';
COMMENT ON COLUMN channel_limits.max_age_from IS 'As above.';
COMMENT ON COLUMN channel_limits.max_inactivity IS 'Time without subscriptions and publishes after which it is deleted.';
COMMENT ON COLUMN channel_limits.max_inactivity_from IS 'As above.';

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
               least((l.max_msgs - u.messages) * 3600.0 / u.last_hour,
                     (l.max_bytes - u.bytes) * 3600.0 / (u.last_hour * nullif(u.bytes_per_message, 0)),
                     3155760000) * interval '1 second'
       END AS time_to_full
FROM (
    SELECT c.channel_id, c.name AS channel, c.message_count AS messages, c.byte_count AS bytes,
           CASE WHEN c.message_count > 0 THEN c.byte_count / c.message_count END AS bytes_per_message,
           CASE WHEN total.bytes > 0 THEN (d.size * (c.byte_count / total.bytes))::bigint ELSE 0 END AS disk_bytes,
           CASE WHEN total.bytes > 0 THEN round(100 * c.byte_count / total.bytes, 1) ELSE 0 END AS share_percent,
           round((c.last_sequence - lately.minute + 1) / 60.0, 2) AS per_second_1m,
           round((c.last_sequence - lately.hour + 1) / 3600.0, 2) AS per_second_1h,
           c.last_sequence - lately.hour + 1 AS last_hour,
           c.last_sequence - lately.day + 1 AS last_24h,
           wall_time((SELECT m.published_at_ns FROM messages m
                      WHERE m.channel_id = c.channel_id AND m.sequence >= c.first_sequence ORDER BY m.sequence LIMIT 1))
               AS oldest_at,
           wall_time(nullif(c.last_published_at_ns, 0)) AS newest_at
    FROM channels c
    CROSS JOIN LATERAL (
        SELECT sequence_at(c.channel_id, clock_timestamp() - interval '1 minute') AS minute,
               sequence_at(c.channel_id, clock_timestamp() - interval '1 hour') AS hour,
               sequence_at(c.channel_id, clock_timestamp() - interval '24 hours') AS day
    ) lately
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
COMMENT ON VIEW channel_usage IS 'What each channel takes, how much comes, and how near its limits it is.';
COMMENT ON COLUMN channel_usage.max_msgs IS 'Limit of messages; NULL: unlimited. View channel_limits tells where limits come from.';
COMMENT ON COLUMN channel_usage.max_msgs_percent IS 'How much of that is taken.';
COMMENT ON COLUMN channel_usage.max_bytes IS 'Limit of bytes.';
COMMENT ON COLUMN channel_usage.max_bytes_percent IS 'How much of that is taken.';
COMMENT ON COLUMN channel_usage.max_age IS 'Limit of age.';
COMMENT ON COLUMN channel_usage.max_age_percent IS 'How much of that the oldest message has.';
COMMENT ON COLUMN channel_usage.max_subscriptions IS 'Limit of subscriptions.';
COMMENT ON COLUMN channel_usage.max_subscriptions_percent IS 'How much of that is taken, offline durables included.';
COMMENT ON COLUMN channel_usage.time_to_full IS
    'Until the limit of messages or bytes, at the rate of the last hour; 0 at the limit, NULL without one or when nothing came.';

CREATE OR REPLACE VIEW effective_policies AS
SELECT c.name AS channel, p.durable_name, p.queue_group, s.clients, coalesce(y.source, 'default') AS source, y.policy_id,
       y.max_deliveries, y.backoff, y.poison, y.dead_letter, coalesce(f.when_full, 'drop-oldest') AS when_full,
       coalesce(f.keep_until_acked, false) AS keep_until_acked, p.position_id,
       (SELECT d.sequence FROM delivery_counts d
        WHERE d.position_id = p.position_id AND d.deliveries >= y.max_deliveries ORDER BY d.sequence LIMIT 1) AS waits_for
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
COMMENT ON COLUMN effective_policies.position_id IS 'Number of the position.';
COMMENT ON COLUMN effective_policies.waits_for IS
    'Oldest message in flight that was delivered as often as allowed: what a paused subscription waits for, or a dead letter that its '
    'channel does not take yet.';

CREATE VIEW channel_policies AS
SELECT c.name AS channel, coalesce(f.source, 'default') AS source, f.policy_id,
       coalesce(f.when_full, 'drop-oldest') AS when_full, coalesce(f.keep_until_acked, false) AS keep_until_acked
FROM channels c
LEFT JOIN LATERAL (
    SELECT y.policy_id, y.when_full, y.keep_until_acked, format('policy %s for %s', y.policy_id, y.channel) AS source
    FROM policies y
    WHERE policy_matches(y.channel, c.name) AND y.durable IS NULL AND y.queue_group IS NULL
    ORDER BY policy_rank(y.channel) DESC, y.policy_id
    LIMIT 1
) f ON true
WHERE NOT c.deleting;
COMMENT ON VIEW channel_policies IS 'What each channel does when it is full, and which policy says so.';
COMMENT ON COLUMN channel_policies.channel IS 'Name of the channel.';
COMMENT ON COLUMN channel_policies.source IS 'default: no policy holds. Else which one it is.';
COMMENT ON COLUMN channel_policies.policy_id IS 'Its number.';
COMMENT ON COLUMN channel_policies.when_full IS 'drop-oldest, or reject: publishes are refused.';
COMMENT ON COLUMN channel_policies.keep_until_acked IS 'Limits drop only what every durable has acked.';

CREATE OR REPLACE VIEW in_flight AS
SELECT p.channel, p.durable_name, p.queue_group, m.sequence, wall_time(m.published_at_ns) AS published_at,
       clock_timestamp() - wall_time(m.published_at_ns) AS age,
       coalesce(h.client_id, CASE WHEN p.queue_group IS NULL THEN o.client_id END) AS client_id,
       coalesce(h.subscription_id, CASE WHEN p.queue_group IS NULL THEN o.subscription_id END) AS subscription_id,
       m.client_id AS publisher, p.position_id, d.deliveries, d.last_at AS since
FROM (
    SELECT s.position_id, c.channel_id, c.name AS channel, s.durable_name, s.queue_group, s.acked_floor, s.last_sent,
           s.acked_above
    FROM positions s JOIN channels c USING (channel_id)
) p
JOIN messages m ON m.channel_id = p.channel_id AND m.sequence > p.acked_floor AND m.sequence <= p.last_sent
    AND NOT m.sequence <@ p.acked_above
LEFT JOIN held_messages h ON h.position_id = p.position_id AND h.sequence = m.sequence
LEFT JOIN delivery_counts d ON d.position_id = p.position_id AND d.sequence = m.sequence
LEFT JOIN LATERAL (
    SELECT s.client_id, s.subscription_id FROM subscriptions s
    WHERE s.position_id = p.position_id ORDER BY s.online DESC, s.subscription_id DESC LIMIT 1
) o ON true
WHERE NOT EXISTS (
    SELECT FROM position_acks a
    WHERE a.position_id = p.position_id AND m.sequence / 1024 BETWEEN a.page AND a.page + a.pages - 1
        AND CASE WHEN a.bits IS NULL THEN true ELSE get_bit(a.bits, (m.sequence % 1024)::integer) = 1 END
);
COMMENT ON COLUMN in_flight.deliveries IS
    'How often it was delivered. NULL: once, or nobody counts; a policy with max_deliveries has it counted.';
COMMENT ON COLUMN in_flight.since IS 'When the last of these was noted.';
