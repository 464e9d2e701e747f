-- Why: NULL for dry_run was taken for false, so that what was only to be looked at was carried out, and NULL for a right granted it.
-- ack() and nack() told a role that is limited to channels which others there are. Who may not ask for a step-down, or wait for
-- an answer, was told the name of a table, and not who can give the right.
--
-- A server of a version before this works on.

CREATE FUNCTION ensure_operator(privilege text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT has_any_column_privilege('admin_requests', $1) THEN
        RAISE EXCEPTION 'role % may not ask the servers for anything', quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('The owner of the tables gives it the right: SELECT %I.grant_to_operator(%L);',
                                current_schema(), quote_ident(current_user));
    END IF;
END $$;
COMMENT ON FUNCTION ensure_operator IS 'Internal: raises an error that names who can give the right, where the caller is no operator.';

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
    -- Before anything tells what there is. While nobody is limited, no right is looked at.
    IF EXISTS (SELECT FROM channel_grants) THEN
        PERFORM ensure_granted(chan, true);
    END IF;
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
    END IF;
    PERFORM ensure_operator('INSERT');
    IF $3 IS NULL THEN
        RAISE EXCEPTION 'dry_run is NULL'
            USING ERRCODE = 'STB04', HINT = 'It is true, which changes nothing, or false, which it is where it is left out.';
    ELSIF NOT is_utf8(concat_ws(chr(10), $1, given, session_user)) THEN
        PERFORM refuse_text('a text of the request, or the name of the role,', 'STB04');
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
                IF value ~ '^([0-9.]+ *[a-z]+ *)+( ago)?$' THEN
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
    INSERT INTO admin_requests (verb, arguments, dry_run) VALUES ($1, given, $3) RETURNING id INTO new_id;
    IF is_first THEN
        -- Until then no server looks.
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
    RETURN new_id;
END $$;

CREATE OR REPLACE FUNCTION request_step_down(force boolean DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    -- First, for it says who may not ask, and what is no request. It goes where an error follows.
    new_id bigint := admin_request('step-down', '{}', $2);
BEGIN
    IF NOT coalesce(force, false) AND NOT EXISTS (SELECT FROM standbys) THEN
        RAISE EXCEPTION 'no standby waits, so nobody would take over'
            USING ERRCODE = 'STB05', HINT = 'Start a standby, or force it: the same server becomes active again.';
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
    PERFORM %1$I.ensure_operator('SELECT');
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

CREATE OR REPLACE FUNCTION set_policy(channel text, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
                           max_deliveries integer DEFAULT NULL, backoff interval[] DEFAULT '{}',
                           dead_letter text DEFAULT NULL, poison text DEFAULT NULL, when_full text DEFAULT 'drop-oldest',
                           keep_until_acked boolean DEFAULT false, dead_letter_header boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    fate text := coalesce($7, CASE WHEN $6 IS NULL THEN 'pass-over' ELSE 'dead-letter' END);
    wrong text;
    hint text;
    its_id bigint;
BEGIN
    IF NOT is_utf8(concat_ws(chr(10), $1, $2, $3, $6, $7, $8)) THEN
        PERFORM refuse_text('a text of the policy', 'STB03');
    ELSIF $1 IS NULL OR $1 !~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$' OR octet_length($1) > 1024 THEN
        wrong := 'is for no channels: ' || coalesce(quote_literal(left($1, 100)), 'NULL');
        hint := 'Say a channel''s name, or a pattern like orders.* or orders.>; > alone is all channels.';
    ELSIF $4 < 1 THEN
        wrong := 'delivers messages less than once';
        hint := 'max_deliveries is 1 or more; NULL: until it is acked.';
    ELSIF EXISTS (SELECT FROM unnest($5) AS b (pause) WHERE pause > interval '0' AND pause < interval '10 milliseconds') THEN
        wrong := 'delivers a message again within less than 10 milliseconds';
        hint := 'No consumer acks so soon; backoff has intervals of 10 milliseconds to 365 days.';
    ELSIF cardinality($5) > 64 OR NOT is_backoff($5) THEN
        wrong := 'has pauses that are none';
        hint := 'backoff has up to 64 intervals, of 10 milliseconds to 365 days; see growing(first, factor, cap).';
    ELSIF fate NOT IN ('pass-over', 'pause', 'dead-letter') THEN
        wrong := 'does not say what becomes of poison: ' || quote_literal(left(fate, 100));
        hint := 'poison is pass-over, pause or dead-letter.';
    ELSIF fate <> 'pass-over' AND $4 IS NULL THEN
        wrong := 'says what becomes of poison, and not after how many deliveries';
        hint := 'Say max_deliveries => ….';
    ELSIF (fate = 'dead-letter') <> ($6 IS NOT NULL) THEN
        wrong := 'has a dead-letter channel and does not use it, or the other way round';
        hint := 'Say dead_letter => ''…'' and leave poison out.';
    ELSIF $6 !~ '^[^./*>]+(\.[^./*>]+)*$' OR octet_length($6) > 1024 OR $6 = $1 THEN
        wrong := 'cannot have ' || quote_literal(left($6, 100)) || ' as its dead-letter channel';
        hint := 'It is the name of another channel, without /, * and >.';
    ELSIF coalesce($8, '') NOT IN ('drop-oldest', 'reject') THEN
        wrong := 'does not say what a full channel does: ' || coalesce(quote_literal(left($8, 100)), 'NULL');
        hint := 'when_full is drop-oldest or reject.';
    ELSIF ($2 IS NOT NULL OR $3 IS NOT NULL) AND ($8 = 'reject' OR $9) THEN
        wrong := 'is for a subscription, and says what its channel does when it is full';
        hint := 'when_full and keep_until_acked belong to a policy without durable and queue_group.';
    ELSIF $9 IS NULL OR $10 IS NULL THEN
        wrong := 'does not say whether: ' || CASE WHEN $9 IS NULL THEN 'keep_until_acked' ELSE 'dead_letter_header' END || ' is NULL';
        hint := 'It is true or false, and false where it is left out.';
    ELSIF $2 = '' OR $3 = '' THEN
        wrong := 'names a subscription without a name';
        hint := 'NULL means any.';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the policy %', wrong USING ERRCODE = 'STB03', HINT = hint;
    END IF;
    INSERT INTO policies AS p (channel, durable, queue_group, max_deliveries, backoff, poison, dead_letter, dead_letter_header,
                               when_full, keep_until_acked)
    VALUES ($1, $2, $3, $4, coalesce($5, '{}'), fate, $6, $10, $8, $9)
    ON CONFLICT (channel, coalesce(durable, ''), coalesce(queue_group, '')) DO UPDATE SET
        max_deliveries = excluded.max_deliveries, backoff = excluded.backoff, poison = excluded.poison,
        dead_letter = excluded.dead_letter, dead_letter_header = excluded.dead_letter_header, when_full = excluded.when_full,
        keep_until_acked = excluded.keep_until_acked, set_by = session_user, set_at = clock_timestamp()
    RETURNING policy_id INTO its_id;
    RETURN its_id;
END $$;

CREATE OR REPLACE FUNCTION grant_channel(role regrole, channels text, publish boolean DEFAULT true, ack boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted name := (SELECT rolname FROM pg_roles WHERE oid = $1);
BEGIN
    IF NOT is_utf8($2) THEN
        PERFORM refuse_text('the name or pattern', 'STB03');
    ELSIF wanted IS NULL THEN
        RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'STB03', HINT = 'PUBLIC cannot be bounded; name a role.';
    ELSIF $2 IS NULL OR $2 !~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$' OR octet_length($2) > 1024 THEN
        RAISE EXCEPTION '% are no channels', coalesce(quote_literal(left($2, 100)), 'NULL')
            USING ERRCODE = 'STB03', HINT = 'Say a channel''s name, or a pattern like orders.* or orders.>; > alone is all channels.';
    ELSIF $3 IS NULL OR $4 IS NULL THEN
        RAISE EXCEPTION '% is NULL', CASE WHEN $3 IS NULL THEN 'publish' ELSE 'ack' END
            USING ERRCODE = 'STB03', HINT = 'It is true or false, and true where it is left out.';
    END IF;
    INSERT INTO channel_grants (role, channels, may_publish, may_ack) VALUES (wanted, $2, $3, $4)
    ON CONFLICT (role, channels) DO UPDATE SET may_publish = excluded.may_publish, may_ack = excluded.may_ack,
        granted_by = session_user, granted_at = clock_timestamp();
END $$;

CREATE OR REPLACE FUNCTION ensure_may_grant(verb text, grantee regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    owner oid := (SELECT relowner FROM pg_class WHERE oid = 'outbox'::regclass);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = $2) THEN
        RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'STB03', HINT = 'PUBLIC gets no such right; name a role.';
    ELSIF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION 'role % does not own the tables, and cannot give rights to them', quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Their owner can: SET ROLE %s; SELECT %I.%s(%L);', owner::regrole, current_schema(), $1, $2);
    END IF;
END $$;

-- As migration 86 does; a function that is replaced loses it.
DO $pin$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT f.oid FROM pg_proc f
        WHERE f.pronamespace = quote_ident(current_schema())::regnamespace AND f.prokind = 'f' AND strpos(f.prosrc, '\') > 0
            AND f.proname IN ('set_policy', 'grant_channel')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET standard_conforming_strings = on', made);
    END LOOP;
END $pin$;
