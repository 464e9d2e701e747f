-- Why: a message that a read does not find may be gone, or only hidden: by a policy, a damaged index, rows that a tool has
-- moved away. Subscriptions pass over it only when something proves that it is gone. So whatever takes messages away
-- notes it here: a DELETE or TRUNCATE by hand (triggers), an import, a failover of Postgres, an operator who says so.

-- Behind somebody who reads for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE gone_ranges (
    channel_id bigint NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    byte_count bigint NOT NULL,
    settled_bytes bigint NOT NULL DEFAULT 0,
    reason text NOT NULL,
    noted_by text NOT NULL DEFAULT session_user,
    noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel_id, first_sequence)
);
COMMENT ON TABLE gone_ranges IS
    'Messages that are gone for good though no limit dropped them. Subscriptions pass over them, and counts are without them.';
COMMENT ON COLUMN gone_ranges.byte_count IS 'Size of these messages as channels.byte_count counted them; 0 where it did not.';
COMMENT ON COLUMN gone_ranges.settled_bytes IS 'How much of that the active has taken from channels.byte_count.';
COMMENT ON COLUMN gone_ranges.reason IS
    'deleted, truncated: by hand. told: by messages_are_gone(). imported: the former store had a hole. failover: see '
    'lost_ranges. counted: the channel never counted them. upgrade: missing when notes began.';
COMMENT ON COLUMN gone_ranges.noted_by IS 'Who was logged in.';

CREATE VIEW gone_messages AS
SELECT c.name AS channel, g.first_sequence, g.last_sequence, g.last_sequence - g.first_sequence + 1 AS messages,
       g.byte_count, g.reason, g.noted_by, g.noted_at
FROM gone_ranges g JOIN channels c USING (channel_id) ORDER BY c.name, g.first_sequence;
COMMENT ON VIEW gone_messages IS 'Messages that are gone for good though no limit dropped them, and how that is known.';
COMMENT ON COLUMN gone_messages.channel IS 'Name of the channel.';
COMMENT ON COLUMN gone_messages.first_sequence IS 'The first sequence of the range.';
COMMENT ON COLUMN gone_messages.last_sequence IS 'The last sequence of the range.';
COMMENT ON COLUMN gone_messages.messages IS 'How many messages are gone.';
COMMENT ON COLUMN gone_messages.byte_count IS 'Their size as channels.byte_count counted it; 0 where it did not.';
COMMENT ON COLUMN gone_messages.reason IS 'How that is known: see gone_ranges.reason.';
COMMENT ON COLUMN gone_messages.noted_by IS 'Who was logged in.';
COMMENT ON COLUMN gone_messages.noted_at IS 'When it was noted; of a range that grew, when it grew last.';

CREATE FUNCTION varint_size(value bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN value < 0 THEN 10
    WHEN value < 128 THEN 1
    WHEN value < 16384 THEN 2
    WHEN value < 2097152 THEN 3
    WHEN value < 268435456 THEN 4
    WHEN value < 34359738368 THEN 5
    WHEN value < 4398046511104 THEN 6
    WHEN value < 562949953421312 THEN 7
    WHEN value < 72057594037927936 THEN 8
    ELSE 9
END;
COMMENT ON FUNCTION varint_size IS 'Bytes of a number in an encoded message.';

CREATE FUNCTION message_size(sequence bigint, published_at_ns bigint, channel_bytes integer, reply_bytes integer,
                             data_bytes integer) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN sequence = 0 THEN 0 ELSE 1 + varint_size(sequence) END
    + CASE WHEN published_at_ns = 0 THEN 0 ELSE 1 + varint_size(published_at_ns) END
    + CASE WHEN channel_bytes = 0 THEN 0 ELSE 1 + varint_size(channel_bytes) + channel_bytes END
    + CASE WHEN reply_bytes = 0 THEN 0 ELSE 1 + varint_size(reply_bytes) + reply_bytes END
    + CASE WHEN data_bytes <= 0 THEN 0 ELSE 1 + varint_size(data_bytes) + data_bytes END;
COMMENT ON FUNCTION message_size IS 'Size of a message as channels.byte_count counts it.';

CREATE FUNCTION note_gone(channel bigint, first bigint, last bigint, bytes bigint, why text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- What a job deletes one after the other is one range.
    UPDATE gone_ranges
    SET last_sequence = greatest(last_sequence, last), byte_count = byte_count + bytes, noted_at = clock_timestamp()
    WHERE channel_id = channel AND last_sequence >= first - 1 AND reason = why AND noted_by = session_user
        AND first_sequence = (
            SELECT max(first_sequence) FROM gone_ranges WHERE channel_id = channel AND first_sequence <= first
        );
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO gone_ranges (channel_id, first_sequence, last_sequence, byte_count, reason)
    VALUES (channel, first, last, bytes, why)
    ON CONFLICT (channel_id, first_sequence) DO UPDATE
    SET last_sequence = greatest(gone_ranges.last_sequence, excluded.last_sequence),
        byte_count = gone_ranges.byte_count + excluded.byte_count,
        reason = excluded.reason, noted_by = excluded.noted_by, noted_at = excluded.noted_at;
END $$;
COMMENT ON FUNCTION note_gone IS 'Notes that these messages of the channel are gone for good. People use messages_are_gone().';

CREATE FUNCTION note_missing(why text) RETURNS void
LANGUAGE sql SET search_path FROM CURRENT AS $$
    INSERT INTO gone_ranges (channel_id, first_sequence, last_sequence, byte_count, reason)
    SELECT channel_id, first, last, 0, why
    FROM (
        SELECT c.channel_id, t.sequence + 1 AS first, coalesce(t.next, c.last_sequence + 1) - 1 AS last
        FROM (
            SELECT channel_id, sequence, lead(sequence) OVER (PARTITION BY channel_id ORDER BY sequence) AS next
            FROM messages
        ) t
        JOIN channels c USING (channel_id)
        WHERE t.sequence BETWEEN c.first_sequence AND c.last_sequence
        UNION ALL
        SELECT c.channel_id, c.first_sequence, coalesce((
            SELECT min(m.sequence) FROM messages m
            WHERE m.channel_id = c.channel_id AND m.sequence >= c.first_sequence
        ), c.last_sequence + 1) - 1
        FROM channels c
    ) holes
    WHERE first <= last
    ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION note_missing IS 'Notes everything as gone that is not in messages. Not for people.';

-- What is missing by now, the versions before have passed over, and nobody can tell any more why it is.
SELECT note_missing('upgrade');
-- What of it the channels still count, their bytes count as well.
UPDATE gone_ranges g
SET byte_count = greatest(0, c.byte_count - (
    SELECT coalesce(sum(message_size(m.sequence, m.published_at_ns, octet_length(c.name), octet_length(m.reply),
                                     octet_length(m.data) - CASE WHEN m.encrypted THEN 24 ELSE 0 END)), 0)::bigint
    FROM messages m
    WHERE m.channel_id = c.channel_id AND m.sequence BETWEEN c.first_sequence AND c.last_sequence
))
FROM channels c
JOIN (
    SELECT channel_id, max(first_sequence) AS first_sequence, sum(last_sequence - first_sequence + 1) AS missing
    FROM gone_ranges GROUP BY channel_id
) s USING (channel_id)
WHERE g.channel_id = c.channel_id AND g.first_sequence = s.first_sequence
    AND c.message_count > c.last_sequence + 1 - c.first_sequence - s.missing;

-- With the rights of the tables' owner: who may delete messages need not be allowed anything here.
CREATE FUNCTION note_deleted() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM note_gone(channel_id, min(sequence), max(sequence), sum(size)::bigint, 'deleted')
    FROM (
        SELECT d.channel_id, d.sequence,
               d.sequence - row_number() OVER (PARTITION BY d.channel_id ORDER BY d.sequence) AS island,
               message_size(d.sequence, d.published_at_ns, octet_length(c.name), octet_length(d.reply),
                            octet_length(d.data) - CASE WHEN d.encrypted THEN 24 ELSE 0 END) AS size
        FROM deleted d JOIN channels c USING (channel_id)
        WHERE d.sequence BETWEEN c.first_sequence AND c.last_sequence
    ) s
    GROUP BY channel_id, island ORDER BY channel_id, min(sequence);
    PERFORM pg_notify('stanby_gone', 'gone');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION note_deleted IS 'Notes what somebody deletes from messages by hand.';

CREATE FUNCTION note_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM note_gone(c.channel_id, c.first_sequence, c.last_sequence, greatest(0, c.byte_count - (
        SELECT coalesce(sum(g.byte_count - g.settled_bytes), 0)::bigint FROM gone_ranges g
        WHERE g.channel_id = c.channel_id
    )), 'truncated')
    FROM channels c WHERE c.first_sequence <= c.last_sequence;
    PERFORM pg_notify('stanby_gone', 'gone');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION note_truncated IS 'Notes that somebody has emptied messages by hand.';

-- What servers delete they account for themselves: their sessions tell the version that they know.
CREATE TRIGGER note_deleted AFTER DELETE ON messages REFERENCING OLD TABLE AS deleted
    FOR EACH STATEMENT WHEN (coalesce(current_setting('stanby.schema_version', true), '') = '')
    EXECUTE FUNCTION note_deleted();
CREATE TRIGGER note_truncated AFTER TRUNCATE ON messages
    FOR EACH STATEMENT EXECUTE FUNCTION note_truncated();

-- What runs with the owner's rights finds no table of a session's own in place of these.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION note_gone SET search_path = %1$I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION note_deleted SET search_path = %1$I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION note_truncated SET search_path = %1$I, pg_temp', current_schema());
END $$;

CREATE FUNCTION messages_are_gone(channel text, first_gone bigint, last_gone bigint) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT SET row_security = off AS $$
DECLARE
    c channels%ROWTYPE;
    hole int8range;
    low bigint;
    high bigint;
    total bigint := 0;
BEGIN
    SELECT * INTO c FROM channels WHERE name = channel AND NOT deleting;
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
COMMENT ON FUNCTION messages_are_gone IS
    'Says that messages of a channel are gone for good, from the first to the last: those of them that are not in the table '
    'and not known to be gone. Returns how many they are; subscriptions pass over them from now on.';
