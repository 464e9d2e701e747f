-- Why: operators change things while servers run: they empty channels, set durables to another place, close clients.
-- Only the active may write, so what they ask for is a row here. The active carries each out in order with the traffic,
-- and answers in the transaction that changes what was asked for: done once or not at all. The rows stay as the audit.
--
-- A server of a version before this leaves requests alone, does not know of paused durables and of limits set here; the
-- next one of this version does.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE admin_requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    verb text NOT NULL,
    arguments jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(arguments) = 'object'),
    dry_run boolean NOT NULL DEFAULT false,
    role name NOT NULL DEFAULT session_user,
    application text NOT NULL DEFAULT current_setting('application_name'),
    client_address inet DEFAULT inet_client_addr(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'refused', 'withdrawn')),
    through bigint,
    messages bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    result jsonb,
    error text,
    hint text,
    started_at timestamptz,
    finished_at timestamptz,
    CHECK ((finished_at IS NULL) = (state IN ('waiting', 'running')))
);
CREATE INDEX admin_requests_open ON admin_requests (id) WHERE finished_at IS NULL;
COMMENT ON TABLE admin_requests IS
    'What operators have asked for, and what became of it. Of those that are answered the last 10,000 stay. View admin_log.';
COMMENT ON COLUMN admin_requests.id IS 'They are carried out in this order. Numbers may be missing: of transactions that were rolled back.';
COMMENT ON COLUMN admin_requests.verb IS 'As the command line has it: channel purge, durable seek.';
COMMENT ON COLUMN admin_requests.arguments IS 'By name. Times are nanoseconds since 1970, and so are lengths of time.';
COMMENT ON COLUMN admin_requests.dry_run IS 'It only says what it would do.';
COMMENT ON COLUMN admin_requests.role IS 'Who was logged in.';
COMMENT ON COLUMN admin_requests.application IS 'application_name of that session.';
COMMENT ON COLUMN admin_requests.client_address IS 'Where it came from; NULL: a Unix socket.';
COMMENT ON COLUMN admin_requests.created_at IS 'When it was asked for; the commit came later.';
COMMENT ON COLUMN admin_requests.state IS
    'waiting: no server has taken it. running: one has. done, refused: answered. withdrawn: nobody had taken it in time.';
COMMENT ON COLUMN admin_requests.through IS 'Of one that takes many transactions: the last sequence that it is about.';
COMMENT ON COLUMN admin_requests.messages IS 'Of such a one: how many are done.';
COMMENT ON COLUMN admin_requests.bytes IS 'And their size.';
COMMENT ON COLUMN admin_requests.result IS 'What was done, or would be.';
COMMENT ON COLUMN admin_requests.error IS 'Why it was refused.';
COMMENT ON COLUMN admin_requests.hint IS 'What to do about that.';
COMMENT ON COLUMN admin_requests.started_at IS 'When a server took it.';
COMMENT ON COLUMN admin_requests.finished_at IS 'When it was answered.';

CREATE VIEW admin_log AS
SELECT id, verb, arguments, dry_run, role::text AS role, application, host(client_address) AS client_address, created_at, state,
       result, error, hint, finished_at, finished_at - created_at AS duration
FROM admin_requests ORDER BY id DESC;
COMMENT ON VIEW admin_log IS 'Who has asked for what, when, and what became of it; the last one first.';
COMMENT ON COLUMN admin_log.id IS 'What request_…() has returned.';
COMMENT ON COLUMN admin_log.verb IS 'As the command line has it: channel purge, durable seek.';
COMMENT ON COLUMN admin_log.arguments IS 'By name. Times are nanoseconds since 1970, and so are lengths of time.';
COMMENT ON COLUMN admin_log.dry_run IS 'It only says what it would do.';
COMMENT ON COLUMN admin_log.role IS 'Who was logged in.';
COMMENT ON COLUMN admin_log.application IS 'application_name of that session.';
COMMENT ON COLUMN admin_log.client_address IS 'Where it came from; NULL: a Unix socket.';
COMMENT ON COLUMN admin_log.created_at IS 'When it was asked for.';
COMMENT ON COLUMN admin_log.state IS 'See admin_requests.state.';
COMMENT ON COLUMN admin_log.result IS 'What was done, or would be.';
COMMENT ON COLUMN admin_log.error IS 'Why it was refused.';
COMMENT ON COLUMN admin_log.hint IS 'What to do about that.';
COMMENT ON COLUMN admin_log.finished_at IS 'When it was answered.';
COMMENT ON COLUMN admin_log.duration IS 'From the request to the answer.';

CREATE TABLE set_limits (
    channel text PRIMARY KEY,
    max_subscriptions bigint,
    max_msgs bigint,
    max_bytes bigint,
    max_age_ns bigint,
    max_inactivity_ns bigint
);
COMMENT ON TABLE set_limits IS
    'Limits that operators have set for a channel; they go before the configuration. NULL: as configured. 0: unlimited.';
COMMENT ON COLUMN set_limits.channel IS 'Its name. It need not exist.';
COMMENT ON COLUMN set_limits.max_subscriptions IS 'Subscriptions, offline durables included.';
COMMENT ON COLUMN set_limits.max_msgs IS 'Messages.';
COMMENT ON COLUMN set_limits.max_bytes IS 'Bytes of messages.';
COMMENT ON COLUMN set_limits.max_age_ns IS 'Age of messages, in nanoseconds.';
COMMENT ON COLUMN set_limits.max_inactivity_ns IS 'Time without subscriptions and publishes after which it is deleted, in nanoseconds.';

CREATE TABLE paused_positions (
    position_id bigint PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE paused_positions IS 'Durables to which nothing is delivered until an operator lets it.';
COMMENT ON COLUMN paused_positions.since IS 'When an operator paused it.';

CREATE VIEW paused_durables AS
SELECT c.name AS channel, p.durable_name, p.queue_group, s.since
FROM paused_positions s JOIN positions p USING (position_id) JOIN channels c USING (channel_id) ORDER BY 1, 2, 3;
COMMENT ON VIEW paused_durables IS 'Durables to which nothing is delivered until an operator lets it: durable resume.';
COMMENT ON COLUMN paused_durables.channel IS 'Name of the channel.';
COMMENT ON COLUMN paused_durables.durable_name IS 'Name of the durable.';
COMMENT ON COLUMN paused_durables.queue_group IS 'Of a durable queue group.';
COMMENT ON COLUMN paused_durables.since IS 'When an operator paused it.';

-- With the caller's rights: who may not insert into the table may ask for nothing.
CREATE FUNCTION admin_request(verb text, arguments jsonb DEFAULT '{}', dry_run boolean DEFAULT false) RETURNS bigint
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
    IF $1 IS NULL OR octet_length($1) > 100 OR jsonb_typeof(given) <> 'object' OR octet_length(given::text) > 65536 THEN
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
COMMENT ON FUNCTION admin_request IS
    'Asks for something in the caller''s transaction: it is carried out once that commits. Returns the number of the request.';

CREATE FUNCTION withdraw_request(id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    UPDATE admin_requests r SET state = 'withdrawn', finished_at = clock_timestamp()
    WHERE r.id = $1 AND r.state = 'waiting' AND r.role = session_user;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION withdraw_request IS 'Takes back a request of one''s own; false when a server has taken it.';

CREATE FUNCTION answer_requests(ids bigint[], states text[], throughs bigint[], counts bigint[], sizes bigint[],
                                results text[], errors text[], hints text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- One that somebody is taking back at this moment is not waited for.
    UPDATE admin_requests SET state = 'running', started_at = clock_timestamp()
    WHERE id IN (
        SELECT r.id FROM admin_requests r
        WHERE r.id = ANY (ids) AND r.state = 'waiting' FOR UPDATE SKIP LOCKED
    );
    IF EXISTS (
        SELECT FROM unnest(ids, states) a (id, state) JOIN admin_requests r USING (id)
        WHERE a.state <> 'taken' AND r.state <> 'running'
    ) THEN
        RAISE EXCEPTION 'a request was answered before'
            USING ERRCODE = '40001', HINT = 'Somebody changed rows of admin_requests by hand.';
    END IF;
    UPDATE admin_requests r
    SET state = a.state, through = a.through, messages = a.messages, bytes = a.bytes, result = a.result::jsonb,
        error = a.error, hint = a.hint,
        finished_at = CASE WHEN a.state <> 'running' THEN clock_timestamp() END
    FROM unnest(ids, states, throughs, counts, sizes, results, errors, hints)
        AS a (id, state, through, messages, bytes, result, error, hint)
    WHERE r.id = a.id AND a.state <> 'taken';
    DELETE FROM admin_requests WHERE id IN (
        SELECT r.id FROM admin_requests r
        WHERE r.id <= (SELECT max(m.id) FROM admin_requests m) - 10000 AND r.finished_at IS NOT NULL
        ORDER BY r.id LIMIT 100 FOR UPDATE SKIP LOCKED
    );
END $$;
COMMENT ON FUNCTION answer_requests IS 'What the active does with requests. Not for people.';

CREATE FUNCTION grant_to_operator(operator regrole) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s',
                   (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'admin_requests'::regclass), operator);
    EXECUTE format('GRANT SELECT, INSERT (verb, arguments, dry_run) ON admin_requests TO %s', operator);
    EXECUTE format('GRANT SELECT ON admin_log, active, standbys TO %s', operator);
END $$;
COMMENT ON FUNCTION grant_to_operator IS
    'Lets a role ask for what operators may, and see what became of it. Called by the owner of the tables, and by roles.sql.';

-- For each verb a function, which asks in the caller's transaction and returns the number of the request, and a procedure,
-- which commits and waits for the answer. One that commits can set no search_path: its names are written out.
DO $make$
DECLARE
    schema text := current_schema();
    made record;
    given text;
    asked text;
BEGIN
    EXECUTE format('ALTER FUNCTION withdraw_request SET search_path = %I, pg_temp', schema);
    EXECUTE format($create$
CREATE PROCEDURE await_request(id bigint, INOUT result jsonb DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    asked record;
    since timestamptz;
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
        END IF;
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
END $$ $create$, schema);
    COMMENT ON PROCEDURE await_request IS
        'Commits, waits for the answer to a request and returns it, or raises why it was refused.';
    FOR made IN SELECT * FROM (VALUES
        ('create_channel', 'channel create', 'channel text, max_subscriptions bigint, max_msgs bigint, max_bytes bigint, '
            'max_age interval, max_inactivity interval', 1, 'Makes a channel, with limits of its own. 0 is unlimited.'),
        ('limit_channel', 'channel limits', 'channel text, max_subscriptions bigint, max_msgs bigint, max_bytes bigint, '
            'max_age interval, max_inactivity interval, reset boolean', 1,
            'Sets limits of a channel, and says which hold and where each comes from. 0 is unlimited; reset: as configured.'),
        ('purge', 'channel purge', 'channel text, before bigint, before_time timestamptz, keep bigint, "all" boolean', 1,
            'Drops the oldest messages of a channel: before a sequence, before a time, all but the last ones, or all.'),
        ('delete_channel', 'channel delete', 'channel text, force boolean', 1,
            'Deletes a channel with its messages. force: although it has subscriptions.'),
        ('republish', 'message republish', 'channel text, sequence bigint, first bigint, last bigint, to_channel text', 1,
            'Publishes messages of a channel again: as its newest ones, or on another channel.'),
        ('delete_message', 'message delete', 'channel text, sequence bigint, first bigint, last bigint', 1,
            'Deletes messages of a channel: one, or all from the first to the last.'),
        ('seek', 'durable seek', 'channel text, durable text, "to" text, sequence bigint, "time" timestamptz, client_id text, '
            'queue_group text', 1, 'Sets a durable or a queue group to another place: to first, last, new, a sequence or a time.'),
        ('pause', 'durable pause', 'channel text, durable text, client_id text, queue_group text', 1,
            'Delivers nothing to a durable until it is resumed.'),
        ('resume', 'durable resume', 'channel text, durable text, client_id text, queue_group text', 1,
            'Delivers to a paused durable again.'),
        ('ack_message', 'durable ack', 'channel text, durable text, sequence bigint, client_id text, queue_group text', 1,
            'Settles a message that was delivered, as if a client had acked it.'),
        ('skip', 'durable skip', 'channel text, durable text, sequence bigint, first bigint, last bigint, client_id text, '
            'queue_group text', 1, 'Settles messages for a durable, delivered or not: one, or all from the first to the last.'),
        ('remove_durable', 'durable remove', 'channel text, durable text, client_id text, queue_group text, force boolean', 1,
            'Forgets a durable. force: although members of it are connected.'),
        ('kick', 'client kick', 'client_id text', 1, 'Closes a client as missed heartbeats would.'),
        ('step_down', 'step-down', 'force boolean', 0,
            'Makes the active hand over to a standby. force: although none waits.')
    ) AS verbs (name, verb, parameters, needed, comment) LOOP
        -- "channel text, before bigint" to: 'channel', $1, 'before', $2
        SELECT string_agg(format('%L, $%s', trim(both '"' from split_part(p, ' ', 1)), n), ', ' ORDER BY n),
               string_agg(p || CASE WHEN n > made.needed THEN ' DEFAULT NULL' ELSE '' END, ', ' ORDER BY n),
               string_agg(format('$%s', n), ', ' ORDER BY n) || format(', $%s', count(*) + 1)
        INTO asked, made.parameters, given
        FROM regexp_split_to_table(made.parameters, ', ') WITH ORDINALITY AS parameter (p, n);
        IF made.verb = 'step-down' THEN
            EXECUTE format($create$
CREATE FUNCTION request_step_down(force boolean DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT coalesce(force, false) AND NOT EXISTS (SELECT FROM standbys) THEN
        RAISE EXCEPTION 'no standby waits, so nobody would take over'
            USING ERRCODE = 'STB05', HINT = 'Start a standby, or force it: the same server becomes active again.';
    END IF;
    RETURN admin_request('step-down', '{}', $2);
END $$ $create$);
        ELSE
            EXECUTE format($create$
CREATE FUNCTION %I(%s, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT admin_request(%L, jsonb_build_object(%s), $%s) $$ $create$,
                'request_' || made.name, made.parameters, made.verb, asked, array_length(string_to_array(given, ','), 1));
        END IF;
        EXECUTE format($create$
CREATE PROCEDURE %2$I(%3$s, dry_run boolean DEFAULT false, INOUT result jsonb DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
    CALL %1$I.await_request(%1$I.%4$I(%5$s), result);
END $$ $create$, schema, made.name, made.parameters, 'request_' || made.name, given);
        EXECUTE format('COMMENT ON FUNCTION %I IS %L', 'request_' || made.name,
                       made.comment || ' In the caller''s transaction; returns the number of the request.');
        EXECUTE format('COMMENT ON PROCEDURE %I IS %L', made.name, made.comment || ' Commits, and waits for the answer.');
    END LOOP;
END $make$;
