-- Why: a consumer that writes what follows from a message into this database can ack the message in the same transaction,
-- and learn whether it is the one that did: so what follows from it is there exactly once, without a table of its own.
-- Each ack is a row of pending_acks. The active carries it out and deletes it in the transaction that writes the position
-- which covers it: at any moment it is the row or the position that tells that the message is acked.
--
-- A server of a version before this leaves pending_acks alone; the next one of this version carries out what has gathered.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE pending_acks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position_id bigint NOT NULL,
    sequence bigint NOT NULL,
    redeliver_after interval,
    reason text,
    client_id text,
    consumer name NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);
CREATE UNIQUE INDEX pending_acks_once ON pending_acks (position_id, sequence) WHERE redeliver_after IS NULL;
COMMENT ON TABLE pending_acks IS
    'What ack() and nack() have put here and no server has carried out. An ack leaves in the transaction that writes the position '
    'which covers it.';
COMMENT ON COLUMN pending_acks.id IS 'Rows are carried out in this order. Numbers may be missing.';
COMMENT ON COLUMN pending_acks.position_id IS 'Number of the position that the message was delivered for.';
COMMENT ON COLUMN pending_acks.sequence IS 'Of the message.';
COMMENT ON COLUMN pending_acks.redeliver_after IS 'NULL: an ack. Else it is to be delivered again after this time.';
COMMENT ON COLUMN pending_acks.reason IS 'Why it is to be delivered again, as the consumer says.';
COMMENT ON COLUMN pending_acks.client_id IS 'As the consumer says; often NULL.';
COMMENT ON COLUMN pending_acks.consumer IS 'Who was logged in.';
COMMENT ON COLUMN pending_acks.created_at IS 'When the function was called; the commit came later.';

CREATE INDEX positions_of_channel ON positions (channel_id);
CREATE INDEX subscriptions_of_position ON subscriptions (position_id);

CREATE VIEW pending_ack_status AS
SELECT a.id, c.name AS channel, p.durable_name, p.queue_group, a.sequence,
       CASE WHEN a.redeliver_after IS NULL THEN 'ack' ELSE 'nack' END AS kind,
       a.redeliver_after, a.reason, a.client_id, a.consumer::text AS consumer, a.created_at,
       clock_timestamp() - a.created_at AS waits
FROM pending_acks a
LEFT JOIN positions p USING (position_id)
LEFT JOIN channels c USING (channel_id);
COMMENT ON VIEW pending_ack_status IS 'What was acked in SQL and is not carried out yet.';
COMMENT ON COLUMN pending_ack_status.id IS 'Number of the row.';
COMMENT ON COLUMN pending_ack_status.channel IS 'NULL: its subscription has ended.';
COMMENT ON COLUMN pending_ack_status.durable_name IS 'Of the position.';
COMMENT ON COLUMN pending_ack_status.queue_group IS 'Of the position.';
COMMENT ON COLUMN pending_ack_status.sequence IS 'Of the message.';
COMMENT ON COLUMN pending_ack_status.kind IS 'ack, or nack: it is to be delivered again.';
COMMENT ON COLUMN pending_ack_status.redeliver_after IS 'Of a nack.';
COMMENT ON COLUMN pending_ack_status.reason IS 'Of a nack, as the consumer says.';
COMMENT ON COLUMN pending_ack_status.client_id IS 'As the consumer says; often NULL.';
COMMENT ON COLUMN pending_ack_status.consumer IS 'Who was logged in.';
COMMENT ON COLUMN pending_ack_status.created_at IS 'When the function was called; the commit came later.';
COMMENT ON COLUMN pending_ack_status.waits IS 'Since it was called. An ack of what no server has sent again after a takeover waits for that.';

-- By pairs of letters that they share.
CREATE FUNCTION nearest_names(wanted text, names text[]) RETURNS text
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT string_agg(quote_literal(left(name, 100)), ', ' ORDER BY alike DESC, name)
    FROM (
        SELECT name, (
            SELECT count(*) FROM (
                SELECT substr(' ' || lower(left(name, 200)) || ' ', n, 2)
                FROM generate_series(1, least(length(name), 200) + 1) AS n
                INTERSECT
                SELECT substr(' ' || lower(left(wanted, 200)) || ' ', n, 2)
                FROM generate_series(1, least(length(wanted), 200) + 1) AS n
            ) AS shared
        )::numeric / greatest(length(name), length(wanted), 1) AS alike
        FROM (SELECT DISTINCT unnest(names) AS name) AS all_names
        ORDER BY alike DESC, name LIMIT 3
    ) AS nearest
    WHERE alike > 0
$$;
COMMENT ON FUNCTION nearest_names IS 'Up to three of the names that are most like the wanted one, quoted; NULL where none is.';

CREATE FUNCTION position_of(channel text, durable text, queue_group text, client_id text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    chan text := $1;
    wanted_durable text := nullif($2, '');
    wanted_group text := nullif($3, '');
    wanted_client text := nullif($4, '');
    its_id bigint;
    found_ids bigint[];
    what text;
    near text;
BEGIN
    SELECT c.channel_id INTO its_id FROM channels c WHERE c.name = chan AND NOT c.deleting;
    IF NOT FOUND THEN
        near := nearest_names(coalesce(chan, ''), ARRAY(SELECT c.name FROM channels c WHERE NOT c.deleting LIMIT 10000));
        RAISE EXCEPTION 'there is no channel %', coalesce(quote_literal(left(chan, 100)), 'NULL')
            USING ERRCODE = 'STB04', HINT = coalesce('Most like it: ' || near || '.', 'There is none that is like it.');
    ELSIF wanted_durable IS NULL AND wanted_group IS NULL THEN
        RAISE EXCEPTION 'neither a durable nor a queue group is named'
            USING ERRCODE = 'STB04', HINT = 'Say durable => ''…'', with client_id => ''…'' where several clients have one of this name, '
                'or queue_group => ''…''.';
    ELSIF wanted_group IS NOT NULL THEN
        what := 'queue group ' || quote_literal(left(wanted_group, 100));
        found_ids := ARRAY(
            SELECT p.position_id FROM positions p
            WHERE p.channel_id = its_id AND p.queue_group = wanted_group
                AND (wanted_durable IS NULL OR p.durable_name = wanted_durable) LIMIT 2
        );
        IF cardinality(found_ids) = 0 THEN
            near := nearest_names(wanted_group, ARRAY(
                SELECT p.queue_group FROM positions p WHERE p.channel_id = its_id AND p.queue_group IS NOT NULL LIMIT 10000));
        ELSIF cardinality(found_ids) > 1 THEN
            RAISE EXCEPTION 'channel % has several of %', quote_literal(left(chan, 100)), what
                USING ERRCODE = 'STB04', HINT = 'Say durable => ''…'', too.';
        END IF;
    ELSE
        what := 'durable ' || quote_literal(left(wanted_durable, 100));
        found_ids := ARRAY(
            SELECT p.position_id FROM positions p
            WHERE p.channel_id = its_id AND p.queue_group IS NULL AND p.durable_name = wanted_durable
                AND (wanted_client IS NULL OR EXISTS (
                    SELECT FROM subscriptions s WHERE s.position_id = p.position_id AND s.client_id = wanted_client))
            LIMIT 2
        );
        IF cardinality(found_ids) = 0 THEN
            what := what || coalesce(' of client ' || quote_literal(left(wanted_client, 100)), '');
            near := nearest_names(wanted_durable || coalesce(' of client ' || wanted_client, ''), ARRAY(
                SELECT p.durable_name || ' of client ' || s.client_id
                FROM positions p JOIN subscriptions s USING (position_id)
                WHERE p.channel_id = its_id AND p.queue_group IS NULL AND p.durable_name IS NOT NULL LIMIT 10000));
        ELSIF cardinality(found_ids) > 1 THEN
            RAISE EXCEPTION 'several clients have a % on channel %', what, quote_literal(left(chan, 100))
                USING ERRCODE = 'STB04', HINT = 'Say client_id => ''…'', too.';
        END IF;
    END IF;
    IF cardinality(found_ids) = 0 THEN
        RAISE EXCEPTION 'channel % has no %', quote_literal(left(chan, 100)), what
            USING ERRCODE = 'STB04', HINT = coalesce('Most like it: ' || near || '.', 'It has none that is like it.');
    END IF;
    RETURN found_ids[1];
END $$;
COMMENT ON FUNCTION position_of IS 'The position of a durable or of a queue group; an error that names those like it where there is none.';

CREATE FUNCTION refuse_fixed_snapshot(what text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION '%() is of no use in a transaction that is %', what, current_setting('transaction_isolation')
            USING ERRCODE = 'STB06',
                  HINT = 'It has to see what others have acked since the transaction began: BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END $$;
COMMENT ON FUNCTION refuse_fixed_snapshot IS 'Raises an error where a transaction does not see what has committed since it began.';

-- As the position and its pages tell. To be called by a statement of its own, which sees the latest.
CREATE FUNCTION ack_state(position_id bigint, sequence bigint, OUT is_acked boolean, OUT was_sent boolean)
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT $2 <= p.acked_floor OR p.acked_above @> $2 OR $2 <= p.last_sent AND coalesce((
               SELECT a.page + a.pages > $2 / 1024 AND CASE WHEN a.bits IS NULL THEN true ELSE get_bit(a.bits, ($2 % 1024)::integer) = 1 END
               FROM position_acks a WHERE a.position_id = $1 AND a.page <= $2 / 1024 ORDER BY a.page DESC LIMIT 1
           ), false),
           -- What is sent is noted a moment later: as much may be on its way as an active sends until then.
           $2 > 0 AND ($2 <= p.last_sent OR $2 <= least(c.last_sequence, p.last_sent + 65536)
               AND EXISTS (SELECT FROM subscriptions s WHERE s.position_id = $1 AND s.online))
    FROM positions p JOIN channels c ON c.channel_id = p.channel_id
    WHERE p.position_id = $1
$$;
COMMENT ON FUNCTION ack_state IS
    'Whether the message is acked, as the position tells, and whether it can have been sent; no row where the position has gone.';

CREATE FUNCTION refuse_unsent(channel text, sequence bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'message % of channel % was not sent to it', coalesce($2::text, 'NULL'), quote_literal(left($1, 100))
        USING ERRCODE = 'STB05',
              HINT = format('The channel holds %s; view position_status shows how far each subscription was sent.', coalesce((
                  SELECT c.first_sequence || ' to ' || c.last_sequence FROM channels c
                  WHERE c.name = $1 AND NOT c.deleting AND c.last_sequence >= c.first_sequence), 'no messages'));
END $$;
COMMENT ON FUNCTION refuse_unsent IS 'Raises the error of who acks what was not sent.';

CREATE FUNCTION note_sql_use() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM outbox_used) THEN
        INSERT INTO outbox_used DEFAULT VALUES;
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
END $$;
COMMENT ON FUNCTION note_sql_use IS 'From the first call on servers look for what is published and acked in SQL.';

-- Who calls them needs no right to any table: they do with the rights of the tables' owner what they are for and nothing else.
CREATE FUNCTION ack(channel text, sequence bigint, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
                    client_id text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted bigint := $2;
    its_position bigint;
    its_id bigint;
    state record;
BEGIN
    PERFORM refuse_fixed_snapshot('ack');
    its_position := position_of($1, $3, $4, $5);
    IF wanted IS NULL OR wanted < 1 THEN
        PERFORM refuse_unsent($1, wanted);
    END IF;
    -- Before the row gets its number: a server knows by that which numbers can still come.
    PERFORM pg_current_xact_id();
    -- Whoever acks the same at this moment is waited for, the active that carries out an ack of it included.
    INSERT INTO pending_acks (position_id, sequence, client_id) VALUES (its_position, wanted, $5)
    ON CONFLICT (position_id, sequence) WHERE redeliver_after IS NULL DO NOTHING
    RETURNING id INTO its_id;
    IF its_id IS NULL THEN
        RETURN false;
    END IF;
    -- Only now: an ack whose row was carried out and deleted before this one was inserted shows in the position.
    SELECT * INTO state FROM ack_state(its_position, wanted);
    IF state.is_acked THEN
        DELETE FROM pending_acks WHERE id = its_id;
        RETURN false;
    ELSIF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    END IF;
    PERFORM note_sql_use();
    RETURN true;
END $$;
COMMENT ON FUNCTION ack IS
    'Acks a message in the caller''s transaction: when that commits, and not when it is rolled back. True: this call is the one '
    'that acked it. False: it was acked before, or dropped by a limit.';

CREATE FUNCTION nack(channel text, sequence bigint, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
                     client_id text DEFAULT NULL, delay interval DEFAULT '0', reason text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted bigint := $2;
    pause interval := coalesce($6, '0');
    why text := $7;
    its_position bigint;
    state record;
BEGIN
    PERFORM refuse_fixed_snapshot('nack');
    its_position := position_of($1, $3, $4, $5);
    IF pause < interval '0' OR pause > interval '365 days' THEN
        RAISE EXCEPTION 'the delay is %', pause
            USING ERRCODE = 'STB03', HINT = 'It is between 0 and 365 days.';
    ELSIF octet_length(why) > 1024 THEN
        RAISE EXCEPTION 'the reason has % bytes', octet_length(why)
            USING ERRCODE = 'STB03', HINT = 'It has 1,024 bytes at most.';
    ELSIF wanted IS NULL OR wanted < 1 THEN
        PERFORM refuse_unsent($1, wanted);
    END IF;
    SELECT * INTO state FROM ack_state(its_position, wanted);
    IF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    ELSIF state.is_acked OR EXISTS (
        SELECT FROM pending_acks a
        WHERE a.position_id = its_position AND a.sequence = wanted AND a.redeliver_after IS NULL
    ) THEN
        RETURN false;
    END IF;
    PERFORM pg_current_xact_id();
    INSERT INTO pending_acks (position_id, sequence, client_id, redeliver_after, reason)
    VALUES (its_position, wanted, $5, pause, why);
    PERFORM note_sql_use();
    RETURN true;
END $$;
COMMENT ON FUNCTION nack IS
    'Has a message delivered again, after the delay, when the caller''s transaction commits. False: it was acked before.';

DO $$
DECLARE
    name regprocedure;
BEGIN
    FOR name IN SELECT publishing_functions() LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
END $$;
