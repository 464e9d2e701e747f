-- Why: an application that keeps its own rows in this database can publish in the same transaction: both happen or neither
-- does. What it publishes is a row of the outbox. The active takes each in the transaction that stores its message.
--
-- A server of a version before this leaves the outbox alone; the next one of this version takes what has gathered.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    guid text NOT NULL,
    channel text NOT NULL,
    data bytea NOT NULL,
    reply text NOT NULL DEFAULT '',
    msg_id text,
    deliver_at timestamptz,
    publisher name NOT NULL DEFAULT session_user,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_cost_delay = 0
);
ALTER TABLE outbox ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX outbox_scheduled ON outbox (deliver_at, id) WHERE deliver_at IS NOT NULL;
CREATE INDEX outbox_ready ON outbox (id) WHERE deliver_at IS NULL;
COMMENT ON TABLE outbox IS
    'What publish() has put here and no server has taken yet. A row leaves in the transaction that stores its message.';
COMMENT ON COLUMN outbox.id IS 'Rows are taken in this order. Numbers may be missing: of transactions that were rolled back.';
COMMENT ON COLUMN outbox.guid IS 'What publish() has returned; the GUID of the message.';
COMMENT ON COLUMN outbox.channel IS 'Where it is to be published.';
COMMENT ON COLUMN outbox.data IS 'The payload, which is never encrypted here.';
COMMENT ON COLUMN outbox.reply IS 'The reply text of the message; often empty.';
COMMENT ON COLUMN outbox.msg_id IS 'What duplicates are known by; NULL: none are looked for.';
COMMENT ON COLUMN outbox.deliver_at IS 'Not before this time, by the active''s clock; NULL: at once.';
COMMENT ON COLUMN outbox.publisher IS 'Who was logged in.';
COMMENT ON COLUMN outbox.created_at IS 'When publish() was called; the commit came later.';

CREATE TABLE outbox_used (
    entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE outbox_used IS
    'Has a row since something was published or acked in SQL for the first time. Until then no server looks into the outbox.';
COMMENT ON COLUMN outbox_used.entry IS 'There may be several, of transactions that began at once.';
COMMENT ON COLUMN outbox_used.at IS 'When it was.';

CREATE TABLE outbox_refused (
    id bigint PRIMARY KEY,
    guid text NOT NULL,
    channel text NOT NULL,
    data bytea NOT NULL,
    reply text NOT NULL,
    msg_id text,
    deliver_at timestamptz,
    publisher name NOT NULL,
    created_at timestamptz NOT NULL,
    reason text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE outbox_refused IS
    'What was published in SQL and could not be stored. retry_refused() puts rows back; they may also be deleted by hand.';
COMMENT ON COLUMN outbox_refused.reason IS 'Why not.';
COMMENT ON COLUMN outbox_refused.refused_at IS 'When.';

CREATE TABLE message_ids (
    channel_name text NOT NULL,
    message_id text NOT NULL,
    guid text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (channel_name, message_id)
);
CREATE INDEX message_ids_expired ON message_ids (expires_at);
COMMENT ON TABLE message_ids IS 'Which msg_id was published on which channel, for as long as duplicates of it are looked for.';
COMMENT ON COLUMN message_ids.guid IS 'Of the first one, which publish() returns for the duplicates.';
COMMENT ON COLUMN message_ids.expires_at IS 'After this it is new again.';

CREATE TABLE message_id_windows (
    channel_name text PRIMARY KEY,
    duplicates_for interval NOT NULL CHECK (duplicates_for >= interval '0')
);
COMMENT ON TABLE message_id_windows IS
    'For how long duplicates of a msg_id are looked for, of channels where that is not 24 hours. Set by operators.';
COMMENT ON COLUMN message_id_windows.duplicates_for IS 'Since publish() was called; 0: msg_id is not looked at.';

CREATE VIEW outbox_status AS
SELECT id, channel, octet_length(data) AS size_bytes, msg_id, deliver_at,
       CASE WHEN deliver_at > now() THEN 'scheduled' ELSE 'waiting' END AS status,
       publisher::text AS publisher, created_at, clock_timestamp() - greatest(created_at, deliver_at) AS waits
FROM outbox;
COMMENT ON VIEW outbox_status IS 'What was published in SQL and is not stored yet, without payloads.';
COMMENT ON COLUMN outbox_status.id IS 'Number of the row.';
COMMENT ON COLUMN outbox_status.channel IS 'Where it is to be published.';
COMMENT ON COLUMN outbox_status.size_bytes IS 'Of the payload.';
COMMENT ON COLUMN outbox_status.msg_id IS 'What duplicates are known by.';
COMMENT ON COLUMN outbox_status.deliver_at IS 'Not before this time.';
COMMENT ON COLUMN outbox_status.publisher IS 'Who was logged in.';
COMMENT ON COLUMN outbox_status.created_at IS 'When publish() was called; the commit came later.';
COMMENT ON COLUMN outbox_status.status IS 'scheduled: its time has not come. waiting: the active has not taken it.';
COMMENT ON COLUMN outbox_status.waits IS 'Since it could have been taken; negative while it is scheduled.';

CREATE VIEW refused_publishes AS
SELECT id, channel, octet_length(data) AS size_bytes, msg_id, publisher::text AS publisher, created_at, reason, refused_at
FROM outbox_refused;
COMMENT ON VIEW refused_publishes IS 'What was published in SQL and could not be stored, and why; without payloads.';

COMMENT ON COLUMN refused_publishes.id IS 'Number of the row, for retry_refused().';
COMMENT ON COLUMN refused_publishes.channel IS 'Where it is to be published.';
COMMENT ON COLUMN refused_publishes.size_bytes IS 'Of the payload.';
COMMENT ON COLUMN refused_publishes.msg_id IS 'What duplicates are known by.';
COMMENT ON COLUMN refused_publishes.publisher IS 'Who was logged in.';
COMMENT ON COLUMN refused_publishes.created_at IS 'When publish() was called; the commit came later.';
COMMENT ON COLUMN refused_publishes.reason IS 'Why it could not be stored.';
COMMENT ON COLUMN refused_publishes.refused_at IS 'When that was found.';

-- Who calls them needs no right to any table: they do with the rights of the tables' owner what they are for and nothing else.
CREATE FUNCTION publish(channel text, payload bytea, msg_id text DEFAULT NULL, deliver_at timestamptz DEFAULT NULL,
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
    IF is_first OR coalesce($6, false) THEN
        PERFORM pg_notify('stanby_outbox', 'outbox');
    END IF;
    RETURN new_guid;
END $$;

CREATE FUNCTION publish(channel text, payload text, msg_id text DEFAULT NULL, deliver_at timestamptz DEFAULT NULL,
                        reply text DEFAULT NULL, wake boolean DEFAULT false) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$ SELECT publish($1, convert_to($2, 'UTF8'), $3, $4, $5, $6) $$;

CREATE FUNCTION publish(channel text, payload jsonb, msg_id text DEFAULT NULL, deliver_at timestamptz DEFAULT NULL,
                        reply text DEFAULT NULL, wake boolean DEFAULT false) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$ SELECT publish($1, convert_to($2::text, 'UTF8'), $3, $4, $5, $6) $$;

CREATE FUNCTION published(guid text)
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
    since := (('x' || left(wanted, 12))::bit(48)::bigint - 60000) * 1000000;
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

CREATE FUNCTION retry_refused(ids bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    found bigint;
BEGIN
    PERFORM pg_current_xact_id();
    WITH again AS (
        DELETE FROM outbox_refused WHERE $1 IS NULL OR id = ANY ($1)
        RETURNING id, guid, channel, data, reply, msg_id, deliver_at, publisher, created_at
    )
    INSERT INTO outbox (guid, channel, data, reply, msg_id, deliver_at, publisher, created_at)
    SELECT guid, channel, data, reply, msg_id, deliver_at, publisher, created_at FROM again ORDER BY id;
    GET DIAGNOSTICS found = ROW_COUNT;
    RETURN found;
END $$;

CREATE FUNCTION take_outbox(taken bigint[], refused bigint[], reasons text[], put_back text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    found bigint;
BEGIN
    -- As of a failover: their messages are stored again from what servers remember.
    IF cardinality(put_back) > 0 THEN
        DELETE FROM outbox WHERE guid = ANY (put_back);
    END IF;
    DELETE FROM outbox WHERE id = ANY (taken);
    GET DIAGNOSTICS found = ROW_COUNT;
    IF found <> cardinality(taken) THEN
        RAISE EXCEPTION 'of % rows of the outbox that are published only % are there', cardinality(taken), found
            USING ERRCODE = '40001', HINT = 'Somebody deleted rows by hand while the active took them.';
    END IF;
    IF cardinality(refused) > 0 THEN
        WITH gone AS (
            DELETE FROM outbox o USING unnest(refused, reasons) AS r (id, reason) WHERE o.id = r.id
            RETURNING o.*, r.reason
        ), new_again AS (
            DELETE FROM message_ids m USING gone g
            WHERE m.channel_name = g.channel AND m.message_id = g.msg_id AND m.guid = g.guid
        )
        INSERT INTO outbox_refused
            (id, guid, channel, data, reply, msg_id, deliver_at, publisher, created_at, reason)
        SELECT id, guid, channel, data, reply, msg_id, deliver_at, publisher, created_at, reason FROM gone;
    END IF;
    -- As many as can have come since, and some more.
    DELETE FROM message_ids WHERE (channel_name, message_id) IN (
        SELECT m.channel_name, m.message_id FROM message_ids m WHERE m.expires_at < clock_timestamp()
        ORDER BY m.expires_at LIMIT 2 * cardinality(taken) + 10 FOR UPDATE SKIP LOCKED
    );
END $$;

COMMENT ON FUNCTION publish(text, bytea, text, timestamptz, text, boolean) IS
    'Publishes in the caller''s transaction: when that commits, and not when it is rolled back. Returns the GUID of the '
    'message; of a duplicate (the same msg_id on the same channel within 24 hours), that of the first one. wake: the active '
    'is notified, which serializes commits of the whole cluster; it looks by itself within 50 ms.';
COMMENT ON FUNCTION publish(text, text, text, timestamptz, text, boolean) IS 'The same with a payload of text, in UTF-8.';
COMMENT ON FUNCTION publish(text, jsonb, text, timestamptz, text, boolean) IS 'The same with a payload of JSON, as Postgres writes it.';
COMMENT ON FUNCTION published(text) IS
    'What became of a message, by what publish() returned: scheduled, waiting, published (with its sequence) or refused; no row '
    'when there is no such one (any more). Looks through what was published since.';
COMMENT ON FUNCTION retry_refused(bigint[]) IS 'Puts refused publishes back into the outbox: those named, or all. Returns how many.';
COMMENT ON FUNCTION take_outbox(bigint[], bigint[], text[], text[]) IS 'What the active does with rows of the outbox. Not for people.';

-- Who looks may not publish, and who publishes may not look.
CREATE FUNCTION publishing_functions() RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT f.oid::regprocedure FROM pg_proc f
    WHERE f.pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'outbox'::regclass)
        AND f.proname IN ('publish', 'published', 'ack', 'nack')
$$;
COMMENT ON FUNCTION publishing_functions IS 'What applications call; only who is given them by grant_to_publisher() may.';

CREATE FUNCTION grant_to_publisher(publisher regrole) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    name regprocedure;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s',
                   (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'outbox'::regclass), publisher);
    FOR name IN SELECT publishing_functions() LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', name, publisher);
    END LOOP;
END $$;
COMMENT ON FUNCTION grant_to_publisher IS
    'Lets a role publish and ack in SQL, and nothing else. Called by the owner of the tables, and by roles.sql.';

DO $$
DECLARE
    name regprocedure;
BEGIN
    FOR name IN SELECT publishing_functions() LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', name);
    END LOOP;
END $$;

-- The same as before, and readers get none of the functions that change something.
CREATE OR REPLACE FUNCTION grant_to_readers() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    here oid := (SELECT relnamespace FROM pg_class WHERE oid = 'channels'::regclass);
    open_tables text[] := ARRAY['channels', 'positions', 'takeovers', 'lost_ranges', 'unreadable_messages',
                                'conditions', 'schema_versions'];
    reader text;
    relation record;
    name regprocedure;
BEGIN
    FOR reader IN
        SELECT DISTINCT quote_ident(r.rolname)
        FROM pg_roles r
        JOIN (
            -- Given to readers by roles.sql.
            SELECT a.grantee FROM pg_proc f, aclexplode(f.proacl) a
            WHERE f.oid = 'wall_time(bigint)'::regprocedure AND a.privilege_type = 'EXECUTE'
            UNION
            -- Given by former versions of it, and by hand.
            SELECT a.grantee FROM pg_class c, aclexplode(c.relacl) a
            WHERE c.oid = 'readable_messages'::regclass AND a.privilege_type = 'SELECT'
        ) g ON g.grantee = r.oid
        JOIN pg_class t ON t.oid = 'channels'::regclass AND t.relowner <> r.oid
        WHERE NOT has_table_privilege(r.oid, 'channels', 'INSERT')
    LOOP
        FOR relation IN
            SELECT c.oid::regclass AS name, c.relkind = 'v' OR c.relname = ANY (open_tables) AS is_open
            FROM pg_class c WHERE c.relnamespace = here AND c.relkind IN ('r', 'v')
                AND pg_has_role(c.relowner, 'USAGE')
        LOOP
            IF relation.is_open THEN
                EXECUTE format('GRANT SELECT ON %s TO %s', relation.name, reader);
            ELSE
                EXECUTE format('REVOKE SELECT ON %s FROM %s', relation.name, reader);
            END IF;
        END LOOP;
        FOR name IN SELECT publishing_functions() LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s', name, reader);
        END LOOP;
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s REVOKE SELECT ON TABLES FROM %s',
                       here::regnamespace, reader);
    END LOOP;
END $$;
