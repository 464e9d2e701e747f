-- Why: some of what applications and operators do in SQL ended in errors of Postgres that name no remedy. The first publish
-- notifies the active, and a transaction that has notified cannot be prepared: where all are prepared, none could ever
-- publish. A call that was canceled while no server was active left a request behind, which was carried out later. Where a
-- queue group has members with a durable name and others without one, the latter's messages could not be acked. published()
-- and deliver_at knew no bound of what a time can be.
--
-- A server of a version before this works on.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE FUNCTION refuse_read_only(what text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION '%() writes, and this transaction is read only', what
        USING ERRCODE = 'read_only_sql_transaction',
              HINT = CASE WHEN pg_is_in_recovery()
                  THEN 'This is a replica. Connect to the primary: target_session_attrs=read-write.'
                  ELSE 'BEGIN READ WRITE, or SET default_transaction_read_only = off.' END;
END $$;
COMMENT ON FUNCTION refuse_read_only IS 'Raises the error of who writes where nothing can be written.';

CREATE FUNCTION may_notify() RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$ SELECT current_setting('max_prepared_transactions') = '0' $$;
COMMENT ON FUNCTION may_notify IS
    'Whether the first use in SQL notifies the active. Where transactions can be prepared it may not, and the active looks anyway.';

-- For servers of a version before this, which do not look.
DO $$
BEGIN
    IF NOT may_notify() AND NOT EXISTS (SELECT FROM outbox_used) THEN
        INSERT INTO outbox_used DEFAULT VALUES;
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION publish(channel text, payload bytea, msg_id text DEFAULT NULL, deliver_at timestamptz DEFAULT NULL,
                        reply text DEFAULT NULL, wake boolean DEFAULT false) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    chan text := $1;
    body bytea := $2;
    message text := $3;
    due timestamptz := $4;
    answer text := coalesce($5, '');
    new_guid text;
    valid_for interval;
    known text;
    is_first boolean := false;
BEGIN
    IF chan IS NULL OR chan = '' OR octet_length(chan) > 1024 OR chan ~ '[/*>]' OR chan ~ '(^|\.)(\.|$)' THEN
        RAISE EXCEPTION 'channel name % cannot be published to', coalesce(quote_literal(left(chan, 100)), 'NULL')
            USING ERRCODE = 'STB01',
                  HINT = 'A channel name has 1 to 1,024 bytes without /, * and >, and no empty part between its dots.';
    ELSIF body IS NULL THEN
        RAISE EXCEPTION 'the payload is NULL'
            USING ERRCODE = 'STB02', HINT = 'A message without payload is ''''::bytea.';
    ELSIF octet_length(body) > 67108864 THEN
        RAISE EXCEPTION 'the payload has % bytes, and 67,108,864 are the most that NATS carries', octet_length(body)
            USING ERRCODE = 'STB02', HINT = 'Publish a reference to it, or parts of it. The server may allow less: max_payload of NATS.';
    ELSIF octet_length(answer) > 65536 THEN
        RAISE EXCEPTION 'the reply has % bytes, and 65,536 are the most', octet_length(answer)
            USING ERRCODE = 'STB03', HINT = 'It is a subject of NATS, or a short text.';
    ELSIF message = '' OR octet_length(message) > 1024 THEN
        RAISE EXCEPTION 'msg_id has % bytes', octet_length(message)
            USING ERRCODE = 'STB03', HINT = 'It has 1 to 1,024 bytes; NULL: no duplicates are looked for.';
    ELSIF due = 'infinity' OR due = '-infinity' THEN
        RAISE EXCEPTION 'deliver_at is no time'
            USING ERRCODE = 'STB03', HINT = 'NULL means at once.';
    ELSIF due >= '2200-01-01' THEN
        RAISE EXCEPTION 'deliver_at is %', due
            USING ERRCODE = 'STB03', HINT = 'It is before the year 2200; NULL means at once.';
    ELSIF current_setting('transaction_read_only') = 'on' THEN
        PERFORM refuse_read_only('publish');
    END IF;
    -- Before the row gets its number: a server knows by that which numbers can still come.
    PERFORM pg_current_xact_id();
    -- Its first digits are when it is to be published: published() begins to look there.
    new_guid := lpad(to_hex((extract(epoch FROM greatest(clock_timestamp(), due)) * 1000)::bigint), 12, '0')
        || substr(replace(gen_random_uuid()::text, '-', ''), 13);
    IF message IS NOT NULL THEN
        valid_for := coalesce((SELECT w.duplicates_for FROM message_id_windows w WHERE w.channel_name = chan), '24 hours');
        IF valid_for > interval '0' THEN
            -- Whoever publishes the same at this moment is waited for, and nobody else.
            LOOP
                INSERT INTO message_ids AS m (channel_name, message_id, guid, expires_at)
                VALUES (chan, message, new_guid, clock_timestamp() + valid_for)
                ON CONFLICT ON CONSTRAINT message_ids_pkey DO UPDATE
                SET guid = excluded.guid, expires_at = excluded.expires_at
                WHERE m.expires_at <= clock_timestamp();
                EXIT WHEN FOUND;
                SELECT m.guid INTO known FROM message_ids m WHERE m.channel_name = chan AND m.message_id = message;
                IF FOUND THEN
                    RETURN known;
                END IF;
            END LOOP;
        END IF;
    END IF;
    IF NOT EXISTS (SELECT FROM outbox_used) THEN
        INSERT INTO outbox_used DEFAULT VALUES;
        is_first := true;
    END IF;
    INSERT INTO outbox (guid, channel, data, reply, msg_id, deliver_at)
    VALUES (new_guid, chan, body, answer, message, due);
    IF is_first AND may_notify() OR coalesce($6, false) THEN
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
    RETURN new_guid;
END $$;

CREATE OR REPLACE FUNCTION published(guid text)
RETURNS TABLE (status text, channel text, sequence bigint, published_at timestamptz, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted text := $1;
    since bigint;
BEGIN
    IF wanted IS NULL OR wanted !~ '^[0-9a-f]{32}$' THEN
        RAISE EXCEPTION '% is nothing that publish() returns', coalesce(quote_literal(left(wanted, 100)), 'NULL')
            USING ERRCODE = 'STB03', HINT = 'It returns 32 digits and letters from a to f.';
    END IF;
    -- Clocks of Postgres and of servers may differ by a minute.
    since := (least(('x' || left(wanted, 12))::bit(48)::bigint, 9223372036854) - 60000) * 1000000;
    RETURN QUERY
    SELECT CASE WHEN o.deliver_at > now() THEN 'scheduled' ELSE 'waiting' END, o.channel, NULL::bigint, NULL::timestamptz, NULL::text
    FROM outbox o WHERE o.guid = wanted
    UNION ALL
    SELECT 'refused', r.channel, NULL, NULL, r.reason FROM outbox_refused r WHERE r.guid = wanted
    UNION ALL
    SELECT 'published', c.name, m.sequence, wall_time(m.published_at_ns), NULL
    FROM channels c
    CROSS JOIN LATERAL (
        SELECT s.sequence, s.published_at_ns FROM messages s
        WHERE s.channel_id = c.channel_id AND s.sequence >= first_sequence_since(c.channel_id, since) AND s.guid = wanted
        LIMIT 1
    ) m;
END $$;

CREATE OR REPLACE FUNCTION note_sql_use() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM outbox_used) THEN
        INSERT INTO outbox_used DEFAULT VALUES;
        IF may_notify() THEN
            PERFORM pg_notify('stanby_outbox', 'outbox');
        END IF;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION refuse_fixed_snapshot(what text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        PERFORM refuse_read_only(what);
    ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION '%() is of no use in a transaction that is %', what, current_setting('transaction_isolation')
            USING ERRCODE = 'STB06',
                  HINT = 'It has to see what others have acked since the transaction began: BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END $$;
COMMENT ON FUNCTION refuse_fixed_snapshot IS
    'Raises an error where a transaction does not see what has committed since it began, or cannot write.';

CREATE OR REPLACE FUNCTION position_of(channel text, durable text, queue_group text, client_id text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    chan text := $1;
    wanted_durable text := nullif($2, '');
    wanted_group text := nullif($3, '');
    wanted_client text := nullif($4, '');
    its_id bigint;
    has_no_durable boolean := coalesce($2 = '', false);
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
                AND (wanted_durable IS NULL OR p.durable_name = wanted_durable)
                AND (NOT has_no_durable OR p.durable_name IS NULL) LIMIT 2
        );
        IF cardinality(found_ids) = 0 THEN
            near := nearest_names(wanted_group, ARRAY(
                SELECT p.queue_group FROM positions p WHERE p.channel_id = its_id AND p.queue_group IS NOT NULL LIMIT 10000));
        ELSIF cardinality(found_ids) > 1 THEN
            RAISE EXCEPTION 'channel % has several of %', quote_literal(left(chan, 100)), what
                USING ERRCODE = 'STB04', HINT = 'Say durable => ''…'', too; of the one without a durable name it is ''''.';
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

CREATE OR REPLACE FUNCTION admin_request(verb text, arguments jsonb DEFAULT '{}', dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    given jsonb := jsonb_strip_nulls(coalesce($2, '{}'));
    name text;
    value text;
    at timestamptz;
    ns numeric;
    is_first boolean;
    new_id bigint;
BEGIN
    IF current_setting('transaction_read_only') = 'on' THEN
        PERFORM refuse_read_only('admin_request');
    ELSIF $1 IS NULL OR octet_length($1) > 100 OR jsonb_typeof(given) <> 'object' OR octet_length(given::text) > 65536 THEN
        RAISE EXCEPTION 'this is no request'
            USING ERRCODE = 'STB04', HINT = 'It is a verb, such as channel purge, and an object with its arguments.';
    END IF;
    FOREACH name IN ARRAY ARRAY['time', 'before_time', 'max_age', 'max_inactivity'] LOOP
        value := given ->> name;
        CONTINUE WHEN value IS NULL;
        BEGIN
            IF name LIKE 'max%' THEN
                ns := extract(epoch FROM value::interval) * 1000000000;
            ELSE
                IF value ~ '^[0-9.]+ *[a-z]+( ago)?$' THEN
                    at := clock_timestamp() - regexp_replace(value, ' *ago$', '')::interval;
                ELSE
                    at := value::timestamptz;
                END IF;
                ns := extract(epoch FROM at) * 1000000000;
            END IF;
            IF ns < 0 OR ns >= 9223372036854775807 THEN
                RAISE EXCEPTION USING ERRCODE = 'datetime_field_overflow';
            END IF;
            given := jsonb_set(given, ARRAY[name], to_jsonb(trunc(ns)::bigint));
        EXCEPTION WHEN data_exception THEN
            RAISE EXCEPTION '% is %, which cannot be', name, quote_literal(left(value, 100))
                USING ERRCODE = 'STB04', HINT = CASE WHEN name LIKE 'max%'
                    THEN 'It is a length of time: 24h, 7 days; 0 is unlimited.'
                    ELSE 'It is a time such as 2026-11-29T14:00:00Z, or how long ago it was: 90 min, 2h.' END;
        END;
    END LOOP;
    is_first := NOT EXISTS (SELECT FROM admin_requests);
    INSERT INTO admin_requests (verb, arguments, dry_run) VALUES ($1, given, coalesce($3, false)) RETURNING id INTO new_id;
    IF is_first THEN
        -- Until then no server looks.
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
    RETURN new_id;
END $$;

-- One that commits can set no search_path: its names are written out.
DO $make$
BEGIN
    EXECUTE format($create$
CREATE OR REPLACE PROCEDURE await_request(id bigint, INOUT result jsonb DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
    since timestamptz;
    is_canceled boolean := false;
BEGIN
    COMMIT;
    since := clock_timestamp();
    LOOP
        SELECT r.state, r.result, r.error, r.hint INTO asked FROM %1$I.admin_requests r WHERE r.id = $1;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no request %%', $1 USING ERRCODE = 'STB04', HINT = 'View admin_log lists them.';
        ELSIF asked.state = 'done' THEN
            result := asked.result;
            RETURN;
        ELSIF asked.state = 'refused' THEN
            RAISE EXCEPTION '%%', asked.error USING ERRCODE = 'STB05', HINT = asked.hint;
        ELSIF asked.state = 'withdrawn' THEN
            RAISE EXCEPTION 'request %% was withdrawn', $1 USING ERRCODE = 'STB06', HINT = 'Ask again.';
        ELSIF asked.state = 'waiting' AND clock_timestamp() - since > interval '15 seconds'
            AND %1$I.withdraw_request($1) THEN
            COMMIT;
            RAISE EXCEPTION 'no server has taken the request within 15 seconds; it is withdrawn, and nothing was done'
                USING ERRCODE = 'STB06',
                      HINT = 'stanby status says whether a server is active. What request_...() asks for waits until one is.';
        ELSIF is_canceled THEN
            IF asked.state = 'waiting' AND %1$I.withdraw_request($1) THEN
                COMMIT;
                RAISE EXCEPTION 'canceled before a server had taken the request; it is withdrawn, and nothing was done'
                    USING ERRCODE = 'query_canceled', HINT = 'Ask again.';
            END IF;
            RAISE EXCEPTION 'canceled while a server carries out request %%, which goes on', $1
                USING ERRCODE = 'query_canceled', HINT = format('CALL await_request(%%s) waits for its answer.', $1);
        END IF;
        BEGIN
            PERFORM pg_sleep(0.01);
        EXCEPTION WHEN query_canceled THEN
            is_canceled := true;
        END;
        COMMIT;
    END LOOP;
END $$ $create$, current_schema());
END $make$;
