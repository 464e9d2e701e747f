-- Why: a commit that publishes to many channels rewrote the row of each of them, a third of what a message costs with a thousand
-- channels. Now it appends one row here with the values of all of them, and the active writes them to channels about a second later
-- (docs/decisions/speed.md). A server of a version before this finds channels as it knows them: whoever claims a term has what is here
-- written to channels first, by a trigger.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE channel_updates (
    epoch bigint NOT NULL,
    number bigint NOT NULL,
    channel_id bigint[] NOT NULL,
    first_sequence bigint[] NOT NULL,
    last_sequence bigint[] NOT NULL,
    last_published_at_ns bigint[] NOT NULL,
    message_count bigint[] NOT NULL,
    byte_count bigint[] NOT NULL,
    -- A publication of all tables refuses to delete rows that have none.
    PRIMARY KEY (epoch, number)
) WITH (
    -- Rows live for a second.
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0.0, toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_cost_delay = 0
);
-- To compress what is gone in a second costs more than to write it.
ALTER TABLE channel_updates
    ALTER channel_id SET STORAGE EXTERNAL, ALTER first_sequence SET STORAGE EXTERNAL, ALTER last_sequence SET STORAGE EXTERNAL,
    ALTER last_published_at_ns SET STORAGE EXTERNAL, ALTER message_count SET STORAGE EXTERNAL, ALTER byte_count SET STORAGE EXTERNAL;
COMMENT ON TABLE channel_updates IS
    'Newest values of channels, one row per commit that publishes to many of them, until the active writes them to table channels about a second later. Of several rows that name a channel, the newest one is right, and newer than channels.';
COMMENT ON COLUMN channel_updates.epoch IS 'Term of the commit.';
COMMENT ON COLUMN channel_updates.number IS 'Order of the rows of a term.';
COMMENT ON COLUMN channel_updates.channel_id IS 'The channels; the other arrays have their values in the same order.';
COMMENT ON COLUMN channel_updates.first_sequence IS 'Sequences of their oldest messages kept.';
COMMENT ON COLUMN channel_updates.last_sequence IS 'Sequences of their newest messages, kept or not.';
COMMENT ON COLUMN channel_updates.last_published_at_ns IS 'When their newest messages were stored, in nanoseconds since 1970.';
COMMENT ON COLUMN channel_updates.message_count IS 'How many messages each keeps.';
COMMENT ON COLUMN channel_updates.byte_count IS 'Size of these as NATS Streaming counts it for max_bytes.';
COMMENT ON TABLE channels IS
    'Named logs of messages. Each commit that publishes to a channel updates its row, or adds to channel_updates where it publishes to many channels; then the row follows about a second later. View current_channels is exact.';

CREATE VIEW newest_channel_updates AS
SELECT DISTINCT ON (channel_id) channel_id, first_sequence, last_sequence, last_published_at_ns, message_count, byte_count
FROM (
    SELECT epoch, number, unnest(channel_id) AS channel_id, unnest(first_sequence) AS first_sequence,
           unnest(last_sequence) AS last_sequence, unnest(last_published_at_ns) AS last_published_at_ns,
           unnest(message_count) AS message_count, unnest(byte_count) AS byte_count
    FROM channel_updates
) u
ORDER BY channel_id, epoch DESC, number DESC;
COMMENT ON VIEW newest_channel_updates IS 'Internal: what table channel_updates says of each channel that it names.';
COMMENT ON COLUMN newest_channel_updates.channel_id IS 'Number of the channel.';
COMMENT ON COLUMN newest_channel_updates.first_sequence IS 'Sequence of the oldest message kept.';
COMMENT ON COLUMN newest_channel_updates.last_sequence IS 'Sequence of the newest message, kept or not.';
COMMENT ON COLUMN newest_channel_updates.last_published_at_ns IS 'When the newest message was stored, in nanoseconds since 1970.';
COMMENT ON COLUMN newest_channel_updates.message_count IS 'Messages kept.';
COMMENT ON COLUMN newest_channel_updates.byte_count IS 'Their size as NATS Streaming counts it for max_bytes.';

CREATE VIEW current_channels AS
SELECT c.channel_id, c.name, c.created_at_ns, c.deleting,
       coalesce(u.first_sequence, c.first_sequence) AS first_sequence,
       -- Somebody may have raised it by hand, as after a restore.
       greatest(c.last_sequence, u.last_sequence) AS last_sequence,
       coalesce(u.last_published_at_ns, c.last_published_at_ns) AS last_published_at_ns,
       coalesce(u.message_count, c.message_count) AS message_count,
       coalesce(u.byte_count, c.byte_count) AS byte_count
FROM channels c LEFT JOIN newest_channel_updates u USING (channel_id);
COMMENT ON VIEW current_channels IS
    'Table channels as of now. The rows of the table may be about a second older while many channels are published to.';
COMMENT ON COLUMN current_channels.channel_id IS 'Number of the channel; never reused.';
COMMENT ON COLUMN current_channels.name IS 'Name of the channel.';
COMMENT ON COLUMN current_channels.created_at_ns IS 'When it was first used, in nanoseconds since 1970.';
COMMENT ON COLUMN current_channels.deleting IS 'Clients no longer see it, and its messages are being deleted in steps.';
COMMENT ON COLUMN current_channels.first_sequence IS 'Sequence of the oldest message kept; last_sequence + 1 when there is none.';
COMMENT ON COLUMN current_channels.last_sequence IS 'Sequence of the newest message, kept or not.';
COMMENT ON COLUMN current_channels.last_published_at_ns IS
    'When the newest message was stored, in nanoseconds since 1970; 0 when there never was one.';
COMMENT ON COLUMN current_channels.message_count IS 'Messages kept.';
COMMENT ON COLUMN current_channels.byte_count IS 'Their size as NATS Streaming counts it for max_bytes.';

-- For one channel, where the views would sort all of them.
CREATE FUNCTION newest_sequence(channel bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT greatest(c.last_sequence, (
        SELECT max(u.last_sequence[array_position(u.channel_id, $1)]) FROM channel_updates u
    ))
    FROM channels c WHERE c.channel_id = $1
$$;
COMMENT ON FUNCTION newest_sequence(bigint) IS 'Internal: sequence of the newest message of a channel, kept or not.';

-- Only for who holds the lock, so that nobody adds rows meanwhile. The leader session has ways to join switched off that this needs, and a
-- full disk has no room for a sort.
CREATE FUNCTION write_channel_updates() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT
SET enable_seqscan = on SET enable_hashjoin = on SET enable_mergejoin = on SET jit = off SET work_mem = '64MB' SET row_security = off AS $$
DECLARE
    expected bigint;
    written bigint;
BEGIN
    SELECT count(*) INTO expected FROM channels WHERE channel_id IN (SELECT unnest(channel_id) FROM channel_updates);
    UPDATE channels c
    SET first_sequence = u.first_sequence, last_sequence = greatest(c.last_sequence, u.last_sequence),
        last_published_at_ns = u.last_published_at_ns, message_count = u.message_count, byte_count = u.byte_count
    FROM newest_channel_updates u WHERE c.channel_id = u.channel_id;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < expected THEN
        RAISE EXCEPTION '% rows of channels are not written: a trigger, rule or policy on the table prevents that', expected - written;
    END IF;
    DELETE FROM channel_updates;
END $$;
COMMENT ON FUNCTION write_channel_updates() IS 'Internal: writes channel_updates to channels.';

-- The claim of a term, whichever version makes it, and an orderly end. A version that knows of channel_updates goes on where a row of
-- channels is locked or refused: it reads what waits, and tries again in its term. With the rights of the tables' owner: a server of the version before may
-- have been given none here.
CREATE FUNCTION write_channel_updates_of_term() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    known bigint := coalesce(nullif(current_setting('stanby.schema_version', true), ''), '0')::bigint;
    patience text := current_setting('lock_timeout');
BEGIN
    IF NOT EXISTS (SELECT FROM channel_updates) THEN
        RETURN NULL;
    END IF;
    IF known < 94 THEN
        PERFORM write_channel_updates();
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM set_config('lock_timeout', '50ms', true);
        PERFORM write_channel_updates();
        PERFORM set_config('lock_timeout', patience, true);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'channel_updates is not written to channels yet: %', SQLERRM;
    END;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION write_channel_updates_of_term() IS 'Internal: calls write_channel_updates() before a term begins and when one ends.';
CREATE TRIGGER write_channel_updates AFTER UPDATE ON leadership
    FOR EACH ROW WHEN (NEW.epoch > OLD.epoch OR NEW.released_at IS NOT NULL AND OLD.released_at IS NULL)
    EXECUTE FUNCTION write_channel_updates_of_term();

-- What follows is as before, but looks at messages that channels does not tell of yet.
CREATE OR REPLACE FUNCTION first_sequence_since(channel bigint, since_ns bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    low bigint;
    high bigint;
    middle bigint;
    probe record;
    found_at bigint;
BEGIN
    SELECT c.first_sequence, greatest(c.last_sequence, (
        SELECT m.sequence FROM messages m WHERE m.channel_id = channel ORDER BY m.sequence DESC LIMIT 1
    )) INTO low, high FROM channels c WHERE c.channel_id = channel;
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

CREATE OR REPLACE FUNCTION sequence_at(channel_id bigint, since timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    low bigint;
    high bigint;
    middle bigint;
    probe record;
    found_at bigint;
BEGIN
    SELECT c.first_sequence, greatest(c.last_sequence, (
        SELECT r.sequence FROM readable_messages r WHERE r.channel_id = $1 ORDER BY r.sequence DESC LIMIT 1
    )) INTO low, high FROM channels c WHERE c.channel_id = $1;
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

CREATE OR REPLACE FUNCTION ack_state(position_id bigint, sequence bigint, OUT is_acked boolean, OUT was_sent boolean)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT $2 <= p.acked_floor OR p.acked_above @> $2 OR $2 <= p.last_sent AND coalesce((
               SELECT a.page + a.pages > $2 / 1024 AND CASE WHEN a.bits IS NULL THEN true ELSE get_bit(a.bits, ($2 % 1024)::integer) = 1 END
               FROM position_acks a WHERE a.position_id = $1 AND a.page <= $2 / 1024 ORDER BY a.page DESC LIMIT 1
           ), false),
           -- What is sent is noted a moment later: as much may be on its way as an active sends until then.
           $2 > 0 AND ($2 <= p.last_sent OR $2 <= p.last_sent + 65536
               AND CASE
                   WHEN $2 <= c.last_sequence THEN true
                   WHEN EXISTS (SELECT FROM messages m WHERE m.channel_id = c.channel_id AND m.sequence = $2) THEN true
                   ELSE $2 <= newest_sequence(c.channel_id)
               END
               AND EXISTS (SELECT FROM subscriptions s WHERE s.position_id = $1 AND s.online))
    FROM positions p JOIN channels c ON c.channel_id = p.channel_id
    WHERE p.position_id = $1
$$;

CREATE OR REPLACE FUNCTION note_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM note_gone(channel_id, min(sequence), max(sequence), sum(size)::bigint, 'deleted')
    FROM (
        SELECT d.channel_id, d.sequence,
               d.sequence - row_number() OVER (PARTITION BY d.channel_id ORDER BY d.sequence) AS island,
               message_size(d.sequence, d.published_at_ns, octet_length(c.name), octet_length(d.reply),
                            octet_length(d.data) - CASE WHEN d.encrypted THEN 24 ELSE 0 END) AS size
        FROM deleted d JOIN current_channels c USING (channel_id)
        WHERE d.sequence BETWEEN c.first_sequence AND c.last_sequence
    ) s
    GROUP BY channel_id, island ORDER BY channel_id, min(sequence);
    PERFORM pg_notify('stanby_gone', 'gone');
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION note_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM note_gone(c.channel_id, c.first_sequence, c.last_sequence, greatest(0, c.byte_count - (
        SELECT coalesce(sum(g.byte_count - g.settled_bytes), 0)::bigint FROM gone_ranges g
        WHERE g.channel_id = c.channel_id
    )), 'truncated')
    FROM current_channels c WHERE c.first_sequence <= c.last_sequence;
    PERFORM pg_notify('stanby_gone', 'gone');
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION messages_are_gone(channel text, first_gone bigint, last_gone bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET row_security = off AS $$
DECLARE
    c current_channels%ROWTYPE;
    hole int8range;
    low bigint;
    high bigint;
    total bigint := 0;
BEGIN
    SELECT * INTO c FROM current_channels WHERE name = channel AND NOT deleting;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no channel %', channel;
    END IF;
    IF first_gone > last_gone THEN
        RAISE EXCEPTION 'the first message (%) comes after the last one (%)', first_gone, last_gone;
    END IF;
    low := greatest(first_gone, c.first_sequence);
    high := least(last_gone, c.last_sequence);
    IF low > high THEN
        RETURN 0;
    END IF;
    FOR hole IN
        SELECT unnest(int8multirange(int8range(low, high, '[]')) - coalesce((
            SELECT range_agg(int8range(first, last, '[]'))
            FROM (
                SELECT min(sequence) AS first, max(sequence) AS last
                FROM (
                    SELECT sequence, sequence - row_number() OVER (ORDER BY sequence) AS island
                    FROM messages WHERE channel_id = c.channel_id AND sequence BETWEEN low AND high
                ) there
                GROUP BY island
                UNION ALL
                SELECT first_sequence, last_sequence FROM gone_ranges WHERE channel_id = c.channel_id
            ) known
        ), '{}'))
    LOOP
        total := total + upper(hole) - lower(hole);
        PERFORM note_gone(c.channel_id, lower(hole), upper(hole) - 1, greatest(1, coalesce(
            (c.byte_count::numeric * (upper(hole) - lower(hole)) / nullif(c.message_count, 0))::bigint, 0)), 'told');
    END LOOP;
    PERFORM pg_notify('stanby_gone', 'gone');
    RETURN total;
END $$;

-- What runs with the owner's rights finds no table of a session's own in place of these.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'newest_sequence(bigint)', 'write_channel_updates()', 'write_channel_updates_of_term()', 'note_deleted()', 'note_truncated()'
    ] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $$;
