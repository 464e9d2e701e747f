-- Why: everything a term starts from, in tables that a person can read and query.
--
-- Runs with search_path set to the schema chosen by --schema; nothing in here names it.
--
-- Reading guide
--   * Times in columns ending in _at_ns are nanoseconds since 1970 (timestamptz would round what clients are
--     told); the views show them as timestamptz.
--   * There are no foreign keys. On messages one would cost a trigger call per row and a lock on the channel's
--     row in the hottest statement; elsewhere one session is the only writer, and a batch may drop a parent
--     before its children. The server checks the references when it reads the tables.
--   * Names may have 1,024 bytes and a btree entry holds about 2,700: so no index covers two names.
--   * Rows that are rewritten all the time have free room on their page and no index on what changes, so that an
--     update stays on its page and leaves nothing for the index to clean up.

CREATE FUNCTION wall_time(ns bigint) RETURNS timestamptz
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN timestamptz 'epoch' + (ns / 1000) * interval '1 microsecond';
COMMENT ON FUNCTION wall_time IS 'Nanoseconds since 1970 as timestamptz (which keeps microseconds).';

CREATE FUNCTION text_or_null(data bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog AS $$
BEGIN
    RETURN convert_from(data, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION text_or_null IS 'The bytes as text when they are valid UTF-8, else NULL.';

-- A standby that waits in pg_advisory_lock() itself would hold back vacuum for as long as it lives, and a plain
-- lock_timeout writes an error to the server log for each slice.
CREATE FUNCTION wait_for_lock(key bigint, slice_ms integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    PERFORM set_config('lock_timeout', slice_ms::text, true);
    PERFORM pg_advisory_lock(key);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
COMMENT ON FUNCTION wait_for_lock IS
    'Waits up to slice_ms for the advisory lock and says whether the session holds it now.';

CREATE TABLE server_info (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    cluster_id text NOT NULL,
    discover_prefix text NOT NULL,
    publish_prefix text NOT NULL,
    subscribe_subject text NOT NULL,
    unsubscribe_subject text NOT NULL,
    close_subscription_subject text NOT NULL,
    close_subject text NOT NULL,
    ack_prefix text NOT NULL,
    last_channel_id bigint NOT NULL DEFAULT 0,
    last_subscription_id bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE server_info IS
    'One row: what clients were told when they connected. It outlives the process, because they keep using it.';
COMMENT ON COLUMN server_info.last_channel_id IS 'Highest channel id given out; never reused.';
COMMENT ON COLUMN server_info.last_subscription_id IS
    'Highest id given out to a subscription or a position; never reused.';

CREATE TABLE leadership (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    epoch bigint NOT NULL DEFAULT 0,
    holder text,
    host text,
    pid integer,
    since timestamptz,
    lease_ms integer,
    lock_key bigint,
    backend_pid integer,
    system_identifier bigint,
    timeline integer,
    released_at timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE leadership IS
    'One row: the last server that became active. View "active" says whether it still is.';
COMMENT ON COLUMN leadership.epoch IS 'Number of the term; grows by one with each takeover.';
COMMENT ON COLUMN leadership.holder IS 'Server ID of the active.';
COMMENT ON COLUMN leadership.lease_ms IS 'Postgres ends the active''s session when it was silent for so long.';
COMMENT ON COLUMN leadership.lock_key IS 'Key of the advisory lock that makes a server the active.';
COMMENT ON COLUMN leadership.system_identifier IS
    'Identity of the Postgres cluster that the tables were last written on; NULL lets the next active accept any.';
COMMENT ON COLUMN leadership.timeline IS 'Timeline of that Postgres; a lower one later means an old primary.';
COMMENT ON COLUMN leadership.released_at IS 'When the active gave the lock up by itself; NULL otherwise.';
INSERT INTO leadership DEFAULT VALUES;

CREATE TABLE takeovers (
    epoch bigint PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    from_holder text,
    to_holder text NOT NULL,
    reason text NOT NULL,
    lock_wait interval NOT NULL,
    load_time interval,
    first_ack interval
);
COMMENT ON TABLE takeovers IS 'History of the last 1,000 terms.';
COMMENT ON COLUMN takeovers.lock_wait IS 'How long the new active had waited as a standby.';
COMMENT ON COLUMN takeovers.load_time IS 'From the lock to the restored state.';
COMMENT ON COLUMN takeovers.first_ack IS 'From the lock to the first commit of the term.';

CREATE TABLE clients (
    client_id text PRIMARY KEY,
    connection_id bytea NOT NULL,
    heartbeat_inbox text NOT NULL,
    protocol integer NOT NULL,
    ping_interval integer NOT NULL,
    ping_max_out integer NOT NULL,
    connected_at_ns bigint NOT NULL,
    last_heartbeat_at_ns bigint NOT NULL,
    missed_heartbeats bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE clients IS 'Applications that are connected.';
COMMENT ON COLUMN clients.connection_id IS
    'Unique per connection; empty for clients of protocol 0. Who knows it can publish as this client.';
COMMENT ON COLUMN clients.last_heartbeat_at_ns IS 'Written with the next commit, not one by one.';

CREATE TABLE channels (
    channel_id bigint PRIMARY KEY,
    name text NOT NULL,
    created_at_ns bigint NOT NULL,
    deleting boolean NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    last_published_at_ns bigint NOT NULL,
    message_count bigint NOT NULL,
    byte_count bigint NOT NULL
) WITH (
    fillfactor = 20,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE channels IS 'Named logs of messages. Rewritten by each commit that publishes to them.';
COMMENT ON COLUMN channels.deleting IS 'Gone for clients; its messages are being dropped in steps.';
COMMENT ON COLUMN channels.first_sequence IS 'Of the oldest message kept; last_sequence + 1 when there is none.';
COMMENT ON COLUMN channels.byte_count IS 'Size of its messages as NATS Streaming counts it for max_bytes.';
CREATE UNIQUE INDEX channels_name ON channels (name) WHERE NOT deleting;

CREATE TABLE messages (
    channel_id bigint NOT NULL,
    sequence bigint NOT NULL,
    published_at_ns bigint NOT NULL,
    epoch bigint NOT NULL,
    client_id text NOT NULL,
    guid text NOT NULL,
    reply text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (channel_id, sequence)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
COMMENT ON TABLE messages IS
    'Published messages. A row that is deleted by hand leaves a hole that subscriptions pass over.';
COMMENT ON COLUMN messages.sequence IS 'Number in the channel, from 1, never reused.';
COMMENT ON COLUMN messages.published_at_ns IS 'Never before that of the channel''s previous message.';
COMMENT ON COLUMN messages.epoch IS 'Term that stored it: the proof that no two terms interleaved.';
COMMENT ON COLUMN messages.guid IS 'The publisher''s ID of this publish; a retried publish has a new one.';

CREATE TABLE positions (
    position_id bigint PRIMARY KEY,
    channel_id bigint NOT NULL,
    durable_name text,
    queue_group text,
    last_sent bigint NOT NULL,
    acked_floor bigint NOT NULL,
    acked_above int8multirange NOT NULL
) WITH (
    fillfactor = 30,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE positions IS
    'What a subscription, or the members of a queue group together, have received and acked.';
COMMENT ON COLUMN positions.durable_name IS 'Set when the position outlives its subscriptions.';
COMMENT ON COLUMN positions.acked_floor IS 'Everything up to here is acked.';
COMMENT ON COLUMN positions.acked_above IS
    'Acked above the floor. What is between the floor and last_sent and not in here is in flight.';

CREATE TABLE subscriptions (
    subscription_id bigint PRIMARY KEY,
    position_id bigint NOT NULL,
    client_id text NOT NULL,
    inbox text NOT NULL,
    ack_inbox text NOT NULL,
    max_in_flight bigint NOT NULL,
    ack_wait_ns bigint NOT NULL,
    online boolean NOT NULL,
    since_ns bigint NOT NULL
) WITH (fillfactor = 80);
COMMENT ON TABLE subscriptions IS 'Clients'' interest in channels, and durables that wait for their client.';
COMMENT ON COLUMN subscriptions.client_id IS 'The owner; of an offline durable the last one.';
COMMENT ON COLUMN subscriptions.since_ns IS 'When it was created or last resumed or closed.';

-- Times never decrease along the sequence, so a bisection over the primary key answers without a second index
-- on the hottest table.
CREATE FUNCTION first_sequence_since(channel bigint, since_ns bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    low bigint;
    high bigint;
    middle bigint;
    probe record;
    found_at bigint;
BEGIN
    SELECT first_sequence, last_sequence INTO low, high FROM channels WHERE channel_id = channel;
    WHILE low <= high LOOP
        middle := low + (high - low) / 2;
        SELECT sequence, published_at_ns INTO probe FROM messages
        WHERE channel_id = channel AND sequence BETWEEN middle AND high
        ORDER BY sequence LIMIT 1;
        IF NOT FOUND THEN
            high := middle - 1;
        ELSIF probe.published_at_ns >= since_ns THEN
            found_at := probe.sequence;
            high := middle - 1;
        ELSE
            low := probe.sequence + 1;
        END IF;
    END LOOP;
    RETURN found_at;
END $$;
COMMENT ON FUNCTION first_sequence_since IS
    'Sequence of the first message of the channel at or after a time; NULL when there is none.';

CREATE VIEW active AS
SELECT l.epoch, l.holder, l.host, l.pid, l.since, l.released_at,
       k.pid IS NOT NULL AS holds_lock, l.timeline
FROM leadership l
LEFT JOIN pg_locks k
    ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1 AND k.pid = l.backend_pid
    AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND k.classid::bigint = (l.lock_key >> 32) & 4294967295 AND k.objid::bigint = l.lock_key & 4294967295
WHERE l.holder IS NOT NULL;
COMMENT ON VIEW active IS 'Who is active since when. holds_lock = false: nobody is, or a takeover is under way.';

CREATE VIEW standbys AS
SELECT a.application_name, a.client_addr, a.backend_start AS connected_since
FROM leadership l
JOIN pg_locks k
    ON k.locktype = 'advisory' AND NOT k.granted AND k.objsubid = 1
    AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND k.classid::bigint = (l.lock_key >> 32) & 4294967295 AND k.objid::bigint = l.lock_key & 4294967295
JOIN pg_stat_activity a ON a.pid = k.pid;
COMMENT ON VIEW standbys IS 'Servers that wait for the lock at this moment.';

CREATE VIEW position_status AS
SELECT p.position_id, p.channel_id, c.name AS channel, p.durable_name, p.queue_group,
       s.clients, coalesce(s.members, 0) AS members, coalesce(s.max_in_flight, 0) AS max_in_flight,
       p.last_sent, p.acked_floor, f.unacked, greatest(c.last_sequence - p.last_sent, 0) AS lag,
       CASE
           WHEN coalesce(s.members, 0) = 0 THEN 'offline'
           WHEN f.unacked >= s.max_in_flight THEN 'stalled'
           WHEN c.last_sequence > p.last_sent THEN 'behind'
           ELSE 'online'
       END AS status,
       CASE
           WHEN coalesce(s.members, 0) = 0 THEN 'no client is attached'
           WHEN f.unacked >= s.max_in_flight THEN
               format('waits for acks: %s of %s allowed are unacked', f.unacked, s.max_in_flight)
           WHEN c.last_sequence > p.last_sent THEN
               format('%s messages are still to be sent', c.last_sequence - p.last_sent)
           WHEN f.unacked > 0 THEN format('everything is sent; %s unacked', f.unacked)
           ELSE 'everything is sent and acked'
       END AS why
FROM positions p
JOIN channels c USING (channel_id)
CROSS JOIN LATERAL (
    SELECT p.last_sent - p.acked_floor - coalesce(sum(upper(r) - lower(r)), 0)::bigint AS unacked
    FROM unnest(p.acked_above) AS r
) f
LEFT JOIN (
    SELECT position_id, count(*) FILTER (WHERE online) AS members,
           sum(max_in_flight) FILTER (WHERE online)::bigint AS max_in_flight,
           string_agg(client_id, ', ' ORDER BY client_id) AS clients
    FROM subscriptions GROUP BY position_id
) s USING (position_id);
COMMENT ON VIEW position_status IS 'How far each subscription or queue group is, and why it is not further.';

CREATE VIEW durables AS
SELECT channel, durable_name, queue_group, clients, members, status, last_sent, acked_floor, unacked, lag, why
FROM position_status WHERE durable_name IS NOT NULL ORDER BY channel, durable_name;
COMMENT ON VIEW durables IS 'Durable subscriptions and durable queue groups, with what they have yet to receive.';

CREATE VIEW subscription_status AS
SELECT s.subscription_id, p.channel, s.client_id, p.durable_name, p.queue_group,
       CASE WHEN s.online THEN p.status ELSE 'offline' END AS status,
       p.last_sent, p.acked_floor, p.unacked, p.lag, s.max_in_flight,
       (s.ack_wait_ns / 1000) * interval '1 microsecond' AS ack_wait, wall_time(s.since_ns) AS since,
       s.inbox, s.ack_inbox, p.why
FROM subscriptions s JOIN position_status p USING (position_id);
COMMENT ON VIEW subscription_status IS
    'Subscriptions; progress and unacked are those of the whole group for members of a queue group.';

CREATE VIEW channel_status AS
SELECT c.channel_id, c.name, CASE WHEN c.deleting THEN 'deleting' ELSE 'open' END AS status,
       c.first_sequence, c.last_sequence, c.message_count, c.byte_count,
       coalesce(s.subscriptions, 0) AS subscriptions, coalesce(s.furthest_behind, 0) AS furthest_behind,
       wall_time(c.created_at_ns) AS created_at,
       wall_time(nullif(c.last_published_at_ns, 0)) AS last_published_at
FROM channels c
LEFT JOIN (
    SELECT p.channel_id, sum(coalesce(n.subscriptions, 0))::bigint AS subscriptions,
           max(c.last_sequence - p.last_sent) AS furthest_behind
    FROM positions p
    JOIN channels c USING (channel_id)
    LEFT JOIN (SELECT position_id, count(*) AS subscriptions FROM subscriptions GROUP BY 1) n
        USING (position_id)
    GROUP BY p.channel_id
) s USING (channel_id);
COMMENT ON VIEW channel_status IS 'Channels, what they hold, and how far the slowest subscription is behind.';

CREATE VIEW client_status AS
SELECT c.client_id, wall_time(c.connected_at_ns) AS connected_at,
       wall_time(c.last_heartbeat_at_ns) AS last_heartbeat_at, c.missed_heartbeats,
       CASE WHEN c.missed_heartbeats > 0 THEN 'unresponsive' ELSE 'responsive' END AS status,
       coalesce(s.subscriptions, 0) AS subscriptions, c.protocol, c.heartbeat_inbox
FROM clients c
LEFT JOIN (
    SELECT client_id, count(*) AS subscriptions FROM subscriptions WHERE online GROUP BY client_id
) s USING (client_id);
COMMENT ON VIEW client_status IS 'Connected clients and whether they answer heartbeats.';

CREATE VIEW readable_messages AS
SELECT c.name AS channel, m.sequence, wall_time(m.published_at_ns) AS published_at, m.client_id,
       text_or_null(m.data) AS text, octet_length(m.data) AS size_bytes, nullif(m.reply, '') AS reply,
       m.guid, m.epoch, m.channel_id
FROM messages m JOIN channels c USING (channel_id);
COMMENT ON VIEW readable_messages IS
    'Messages with their data as text; NULL when it is not valid UTF-8, then see messages.data.';
