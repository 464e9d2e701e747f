-- Why: a lag was what is still to be sent in one place, and what is still to be acked in another; how long a durable has
-- been behind was known to the active alone, and began anew with each takeover. From here on there is one meaning, in the
-- tables: unsent, in_flight, lag = unsent + in_flight, and behind, which is the age of the oldest message that is not acked.
-- It is counted from the time of the message, which no takeover changes. And what people ask of messages has views of its own.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE OR REPLACE VIEW position_status AS
SELECT t.position_id, t.channel_id, t.channel, t.durable_name, t.queue_group, t.clients, t.members, t.max_in_flight,
       t.last_sent, t.acked_floor, t.in_flight AS unacked, t.unsent + t.in_flight AS lag,
       CASE
           WHEN t.members = 0 THEN 'offline'
           WHEN t.in_flight >= t.max_in_flight THEN 'stalled'
           WHEN t.unsent > 0 THEN 'behind'
           ELSE 'online'
       END AS status,
       CASE
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
       END AS behind
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
) oldest ON true;
COMMENT ON COLUMN position_status.unacked IS 'As in_flight, by its former name.';
COMMENT ON COLUMN position_status.lag IS 'Messages that are not acked: unsent and in_flight together.';
COMMENT ON COLUMN position_status.unsent IS 'Sequences that are still to be sent, without those that a limit has dropped.';
COMMENT ON COLUMN position_status.in_flight IS 'Messages that were sent and not acked.';
COMMENT ON COLUMN position_status.oldest_unacked IS 'Sequence of the oldest message that is not acked, sent or not; NULL when there is none.';
COMMENT ON COLUMN position_status.oldest_unacked_at IS 'When that message was published.';
COMMENT ON COLUMN position_status.behind IS 'Age of that message. No takeover makes it younger; 0 when everything is acked.';

CREATE OR REPLACE VIEW durables AS
SELECT channel, durable_name, queue_group, clients, members, status, last_sent, acked_floor, unacked, lag, why,
       unsent, in_flight, oldest_unacked, oldest_unacked_at, behind, max_in_flight
FROM position_status WHERE durable_name IS NOT NULL ORDER BY channel, durable_name;
COMMENT ON COLUMN durables.unacked IS 'As in_flight, by its former name.';
COMMENT ON COLUMN durables.lag IS 'Messages that are not acked: unsent and in_flight together.';
COMMENT ON COLUMN durables.unsent IS 'Sequences that are still to be sent, without those that a limit has dropped.';
COMMENT ON COLUMN durables.in_flight IS 'Messages that were sent and not acked.';
COMMENT ON COLUMN durables.oldest_unacked IS 'Sequence of the oldest message that is not acked, sent or not; NULL when there is none.';
COMMENT ON COLUMN durables.oldest_unacked_at IS 'When that message was published.';
COMMENT ON COLUMN durables.behind IS 'Age of that message. No takeover makes it younger; 0 when everything is acked.';
COMMENT ON COLUMN durables.max_in_flight IS 'How many messages all attached members may have unacked together.';

CREATE OR REPLACE VIEW subscription_status AS
SELECT s.subscription_id, p.channel, s.client_id, p.durable_name, p.queue_group,
       CASE WHEN s.online THEN p.status ELSE 'offline' END AS status,
       p.last_sent, p.acked_floor, p.unacked, p.lag, s.max_in_flight,
       (s.ack_wait_ns / 1000) * interval '1 microsecond' AS ack_wait, wall_time(s.since_ns) AS since,
       NULL::text AS inbox, NULL::text AS ack_inbox, p.why, p.position_id, p.unsent, p.in_flight, p.behind
FROM subscriptions s JOIN position_status p USING (position_id);
COMMENT ON COLUMN subscription_status.lag IS 'Messages that are not acked, of the whole group: unsent and in_flight together.';
COMMENT ON COLUMN subscription_status.position_id IS 'Number of the position, which members of a queue group share.';
COMMENT ON COLUMN subscription_status.unsent IS 'Sequences that are still to be sent, to the whole group.';
COMMENT ON COLUMN subscription_status.in_flight IS 'Messages that were sent and not acked, of the whole group.';
COMMENT ON COLUMN subscription_status.behind IS 'Age of the oldest message that the group has not acked.';

CREATE OR REPLACE VIEW channel_status AS
SELECT c.channel_id, c.name, CASE WHEN c.deleting THEN 'deleting' ELSE 'open' END AS status,
       c.first_sequence, c.last_sequence, c.message_count, c.byte_count,
       coalesce(s.subscriptions, 0) AS subscriptions, coalesce(s.furthest_behind, 0) AS furthest_behind,
       wall_time(c.created_at_ns) AS created_at,
       wall_time(nullif(c.last_published_at_ns, 0)) AS last_published_at,
       coalesce(s.behind, interval '0') AS behind
FROM channels c
LEFT JOIN (
    SELECT p.channel_id, sum(coalesce(n.subscriptions, 0))::bigint AS subscriptions,
           max(p.lag) AS furthest_behind, max(p.behind) AS behind
    FROM position_status p
    LEFT JOIN (SELECT position_id, count(*) AS subscriptions FROM subscriptions GROUP BY 1) n
        USING (position_id)
    GROUP BY p.channel_id
) s USING (channel_id);
COMMENT ON COLUMN channel_status.furthest_behind IS 'Largest lag of its subscriptions: messages that are not acked.';
COMMENT ON COLUMN channel_status.behind IS 'Age of the oldest message that one of its subscriptions has not acked.';

-- Holes between the floor and what was sent are no messages.
CREATE VIEW in_flight AS
SELECT p.channel, p.durable_name, p.queue_group, m.sequence, wall_time(m.published_at_ns) AS published_at,
       clock_timestamp() - wall_time(m.published_at_ns) AS age,
       coalesce(h.client_id, CASE WHEN p.queue_group IS NULL THEN o.client_id END) AS client_id,
       coalesce(h.subscription_id, CASE WHEN p.queue_group IS NULL THEN o.subscription_id END) AS subscription_id,
       m.client_id AS publisher, p.position_id
FROM (
    SELECT s.position_id, c.channel_id, c.name AS channel, s.durable_name, s.queue_group, s.acked_floor, s.last_sent,
           s.acked_above
    FROM positions s JOIN channels c USING (channel_id)
) p
JOIN messages m ON m.channel_id = p.channel_id AND m.sequence > p.acked_floor AND m.sequence <= p.last_sent
    AND NOT m.sequence <@ p.acked_above
LEFT JOIN held_messages h ON h.position_id = p.position_id AND h.sequence = m.sequence
LEFT JOIN LATERAL (
    SELECT s.client_id, s.subscription_id FROM subscriptions s
    WHERE s.position_id = p.position_id ORDER BY s.online DESC, s.subscription_id DESC LIMIT 1
) o ON true
WHERE NOT EXISTS (
    SELECT FROM position_acks a
    WHERE a.position_id = p.position_id AND m.sequence / 1024 BETWEEN a.page AND a.page + a.pages - 1
        AND CASE WHEN a.bits IS NULL THEN true ELSE get_bit(a.bits, (m.sequence % 1024)::integer) = 1 END
);
COMMENT ON VIEW in_flight IS 'Messages that were sent and not acked, and who has them. Ask for one channel or durable where there are many.';
COMMENT ON COLUMN in_flight.channel IS 'Name of the channel.';
COMMENT ON COLUMN in_flight.durable_name IS 'NULL for what ends with its client.';
COMMENT ON COLUMN in_flight.queue_group IS 'NULL for what is no queue group.';
COMMENT ON COLUMN in_flight.sequence IS 'Of the message.';
COMMENT ON COLUMN in_flight.published_at IS 'When it was published.';
COMMENT ON COLUMN in_flight.age IS 'How long ago that was.';
COMMENT ON COLUMN in_flight.client_id IS 'Who was sent it last; NULL where that member of a queue group has left.';
COMMENT ON COLUMN in_flight.subscription_id IS 'Number of that subscription.';
COMMENT ON COLUMN in_flight.publisher IS 'Client ID of who published it.';
COMMENT ON COLUMN in_flight.position_id IS 'Number of the position, which members of a queue group share.';

CREATE VIEW publishers AS
SELECT c.name AS channel, m.client_id AS publisher, count(*) AS messages, sum(m.size)::bigint AS bytes,
       min(m.sequence) AS first_sequence, max(m.sequence) AS last_sequence,
       wall_time(min(m.published_at_ns)) AS first_published_at, wall_time(max(m.published_at_ns)) AS last_published_at
FROM channels c
CROSS JOIN LATERAL (
    SELECT n.client_id, n.sequence, n.published_at_ns, octet_length(n.data) AS size FROM messages n
    WHERE n.channel_id = c.channel_id AND n.sequence > c.last_sequence - 10000
    ORDER BY n.sequence DESC LIMIT 10000
) m
WHERE NOT c.deleting
GROUP BY c.name, m.client_id;
COMMENT ON VIEW publishers IS 'Who publishes what: of the newest 10,000 sequences of each channel.';
COMMENT ON COLUMN publishers.channel IS 'Name of the channel.';
COMMENT ON COLUMN publishers.publisher IS 'Client ID of the publisher.';
COMMENT ON COLUMN publishers.messages IS 'How many of these messages are its own.';
COMMENT ON COLUMN publishers.bytes IS 'Size of their data as it is stored.';
COMMENT ON COLUMN publishers.first_sequence IS 'The oldest of them.';
COMMENT ON COLUMN publishers.last_sequence IS 'The newest of them.';
COMMENT ON COLUMN publishers.first_published_at IS 'When the oldest was published.';
COMMENT ON COLUMN publishers.last_published_at IS 'When the newest was published.';

-- As first_sequence_since, but with nothing that readers may not read.
CREATE FUNCTION sequence_at(channel_id bigint, since timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    low bigint;
    high bigint;
    middle bigint;
    probe record;
    found_at bigint;
BEGIN
    SELECT first_sequence, last_sequence INTO low, high FROM channels c WHERE c.channel_id = $1;
    found_at := high + 1;
    WHILE low <= high LOOP
        middle := low + (high - low) / 2;
        SELECT r.sequence, r.published_at INTO probe FROM readable_messages r
        WHERE r.channel_id = $1 AND r.sequence BETWEEN middle AND high
        ORDER BY r.sequence LIMIT 1;
        IF NOT FOUND THEN
            high := middle - 1;
        ELSIF probe.published_at >= since THEN
            found_at := probe.sequence;
            high := middle - 1;
        ELSE
            low := probe.sequence + 1;
        END IF;
    END LOOP;
    RETURN found_at;
END $$;
COMMENT ON FUNCTION sequence_at IS
    'Sequence of the first message of a channel, by its number, at or after a time; the one after the last when there is none.';

CREATE FUNCTION messages_since(channel text, since timestamptz) RETURNS SETOF readable_messages
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    its_id bigint;
    from_sequence bigint;
BEGIN
    SELECT c.channel_id INTO its_id FROM channels c WHERE c.name = $1 AND NOT c.deleting;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no channel %', coalesce(quote_literal(left($1, 100)), 'NULL')
            USING ERRCODE = 'STB04', HINT = 'SELECT name FROM channels lists them.';
    END IF;
    from_sequence := sequence_at(its_id, since);
    RETURN QUERY
        SELECT r.* FROM readable_messages r
        WHERE r.channel_id = its_id AND r.sequence >= from_sequence ORDER BY r.sequence;
END $$;
COMMENT ON FUNCTION messages_since IS
    'Messages of a channel from a time on, found by the primary key: messages_since(''orders'', now() - interval ''1 hour'').';

CREATE FUNCTION json_or_null(data text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog AS $$
BEGIN
    RETURN data::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION json_or_null IS 'The text as JSON when it is JSON that Postgres can hold, else NULL.';

CREATE VIEW message_json AS
SELECT channel, sequence, published_at, client_id,
       CASE WHEN encrypted THEN NULL ELSE json_or_null(text) END AS json,
       text, size_bytes, encrypted, channel_id
FROM readable_messages;
COMMENT ON VIEW message_json IS 'Messages with their data as JSON. No row makes a query fail: json is NULL where the data is no JSON.';
COMMENT ON COLUMN message_json.channel IS 'Name of the channel.';
COMMENT ON COLUMN message_json.sequence IS 'Number within the channel.';
COMMENT ON COLUMN message_json.published_at IS 'When the active took it, by the clock of its machine.';
COMMENT ON COLUMN message_json.client_id IS 'Who published it.';
COMMENT ON COLUMN message_json.json IS 'Its data as JSON; NULL where that is none, or is encrypted.';
COMMENT ON COLUMN message_json.text IS 'Its data as text; NULL when that is not valid UTF-8, "encrypted" when it is.';
COMMENT ON COLUMN message_json.size_bytes IS 'Size of the data.';
COMMENT ON COLUMN message_json.encrypted IS 'Whether its data is encrypted in the table.';
COMMENT ON COLUMN message_json.channel_id IS 'Number of the channel.';

CREATE VIEW channel_usage AS
SELECT c.name AS channel, c.message_count AS messages, c.byte_count AS bytes,
       CASE WHEN c.message_count > 0 THEN c.byte_count / c.message_count END AS bytes_per_message,
       CASE WHEN total.bytes > 0 THEN (d.size * (c.byte_count / total.bytes))::bigint ELSE 0 END AS disk_bytes,
       CASE WHEN total.bytes > 0 THEN round(100 * c.byte_count / total.bytes, 1) ELSE 0 END AS share_percent,
       round((c.last_sequence - lately.minute + 1) / 60.0, 2) AS per_second_1m,
       round((c.last_sequence - lately.hour + 1) / 3600.0, 2) AS per_second_1h,
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
WHERE NOT c.deleting;
COMMENT ON VIEW channel_usage IS 'What each channel takes, and how much comes. Limits are shown by stanby channel limits and on /metrics.';
COMMENT ON COLUMN channel_usage.channel IS 'Name of the channel.';
COMMENT ON COLUMN channel_usage.messages IS 'Messages kept.';
COMMENT ON COLUMN channel_usage.bytes IS 'Their size as NATS Streaming counts it for max_bytes.';
COMMENT ON COLUMN channel_usage.bytes_per_message IS 'Mean of these; NULL when there is none.';
COMMENT ON COLUMN channel_usage.disk_bytes IS 'About what it takes on disk with its index: its share of the table.';
COMMENT ON COLUMN channel_usage.share_percent IS 'Its share of the bytes of all channels.';
COMMENT ON COLUMN channel_usage.per_second_1m IS 'Messages published per second, within the last minute; what limits dropped since is not in it.';
COMMENT ON COLUMN channel_usage.per_second_1h IS 'The same within the last hour.';
COMMENT ON COLUMN channel_usage.last_24h IS 'Messages published within the last 24 hours and kept.';
COMMENT ON COLUMN channel_usage.oldest_at IS 'When the oldest message kept was published; NULL when there is none.';
COMMENT ON COLUMN channel_usage.newest_at IS 'When the newest message was published; NULL when there was none.';
