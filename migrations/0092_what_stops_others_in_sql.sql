-- Why: what a few people do in SQL stopped others. A publisher that stays open with a msg_id that is just refused, or an operator that
-- has deleted rows of the outbox and stays open, held up the active, and the first grant of a channel held up every publisher. Texts
-- that are no UTF-8, which databases with SQL_ASCII take, and rows that were written by hand with limits and pauses that are none,
-- stopped reads and takeovers. retry_refused() published what had been published since under the same msg_id, and a msg_id of a
-- deleted channel was known although its message is gone. Who may not grant was told so by a warning.
--
-- A server of a version before this works on.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE FUNCTION is_utf8(value text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        BEGIN
            PERFORM convert_from(convert_to($1, 'SQL_ASCII'), 'UTF8');
        EXCEPTION WHEN data_exception THEN
            RETURN false;
        END;
    END IF;
    RETURN true;
END $$;
COMMENT ON FUNCTION is_utf8 IS
    'Internal: whether servers can read a text. A database with the encoding SQL_ASCII takes any bytes; every other one checks them.';

CREATE FUNCTION refuse_text(what text, code text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION '% is not valid UTF-8', what
        USING ERRCODE = code, HINT = 'This database takes any bytes (its encoding is SQL_ASCII); servers and clients take UTF-8 only.';
END $$;
COMMENT ON FUNCTION refuse_text IS 'Internal: raises the error of who passes text that is not UTF-8.';

-- Rows that no server can read. Those that are there already stay: what they say may have been taken by a server.
CREATE FUNCTION is_backoff(backoff interval[]) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT NOT EXISTS (
        SELECT FROM unnest($1) AS b (pause)
        WHERE pause IS NULL OR pause < interval '10 milliseconds' OR pause > interval '365 days'
    )
$$;
COMMENT ON FUNCTION is_backoff IS 'Internal: whether each interval is one that servers can wait for: 10 milliseconds to 365 days.';
ALTER TABLE policies
    ADD CONSTRAINT policies_backoff_intervals CHECK (is_backoff(backoff)) NOT VALID,
    ADD CONSTRAINT policies_texts CHECK (
        is_utf8(concat_ws(chr(10), channel, durable, queue_group, dead_letter)) AND octet_length(dead_letter) <= 1024
    ) NOT VALID;
ALTER TABLE set_limits
    ADD CONSTRAINT set_limits_channel CHECK (
        octet_length(channel) BETWEEN 1 AND 1024 AND channel !~ '[/*>]' AND channel !~ '(^|[.])([.]|$)' AND is_utf8(channel)
    ) NOT VALID,
    ADD CONSTRAINT set_limits_not_negative CHECK (
        max_subscriptions >= 0 AND max_msgs >= 0 AND max_bytes >= 0 AND max_age_ns >= 0 AND max_inactivity_ns >= 0
    ) NOT VALID;
-- Beyond that, a time overflows when it is added to one of today.
ALTER TABLE message_id_windows
    ADD CONSTRAINT message_id_windows_longest CHECK (duplicates_for <= interval '10 years') NOT VALID;

-- IDs of a channel that is deleted would hold back what is published anew. They may be millions, so they are not deleted with it:
-- who finds one of them looks whether its message can still be there.
CREATE TABLE deleted_channels (
    channel_name text PRIMARY KEY,
    deleted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX deleted_channels_oldest ON deleted_channels (deleted_at);
COMMENT ON TABLE deleted_channels IS
    'Channels that were deleted while messages with a msg_id were known there. Rows go some time after the last msg_id.';
COMMENT ON COLUMN deleted_channels.channel_name IS 'Its name; there may be another channel of this name by now.';
COMMENT ON COLUMN deleted_channels.deleted_at IS 'When one of this name was deleted last. IDs published before it are new again.';
ALTER TABLE message_ids ADD COLUMN published_at timestamptz;
ALTER TABLE message_ids ALTER COLUMN published_at SET DEFAULT clock_timestamp();
COMMENT ON COLUMN message_ids.published_at IS 'When it was published; NULL: before version 92.';

CREATE FUNCTION note_deleted_channel() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF EXISTS (SELECT FROM message_ids m WHERE m.channel_name = OLD.name) THEN
        INSERT INTO deleted_channels AS d (channel_name) VALUES (OLD.name)
        ON CONFLICT (channel_name) DO UPDATE SET deleted_at = excluded.deleted_at;
    END IF;
    DELETE FROM deleted_channels WHERE channel_name IN (
        SELECT oldest.channel_name
        FROM (SELECT d.channel_name FROM deleted_channels d ORDER BY d.deleted_at LIMIT 20 FOR UPDATE SKIP LOCKED) AS oldest
        WHERE NOT EXISTS (SELECT FROM message_ids m WHERE m.channel_name = oldest.channel_name)
    );
    RETURN NULL;
END $$;
COMMENT ON FUNCTION note_deleted_channel IS 'Internal: from now on each msg_id that was published there is new again.';
-- One with many messages is marked first; the row of another one is deleted at once.
CREATE TRIGGER channels_marked AFTER UPDATE OF deleting ON channels
    FOR EACH ROW WHEN (NEW.deleting AND NOT OLD.deleting) EXECUTE FUNCTION note_deleted_channel();
CREATE TRIGGER channels_deleted AFTER DELETE ON channels
    FOR EACH ROW WHEN (NOT OLD.deleting) EXECUTE FUNCTION note_deleted_channel();

CREATE FUNCTION went_with_channel(channel text, guid text, published_at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted text := $2;
    since bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM deleted_channels d WHERE d.channel_name = $1 AND d.deleted_at > $3)
        OR wanted !~ '^[0-9a-f]{32}$' THEN
        RETURN false;
    END IF;
    -- As in published(). It may have been stored after the end of the former channel, or not at all yet.
    since := (least(('x' || left(wanted, 12))::bit(48)::bigint, 9223372036854) - 60000) * 1000000;
    RETURN NOT EXISTS (SELECT FROM outbox o WHERE o.guid = wanted) AND NOT EXISTS (
        SELECT FROM channels c
        JOIN messages m ON m.channel_id = c.channel_id AND m.sequence >= first_sequence_since(c.channel_id, since)
        WHERE c.name = $1 AND NOT c.deleting AND m.guid = wanted
    );
END $$;
COMMENT ON FUNCTION went_with_channel IS 'Internal: whether a message was deleted together with its channel.';

CREATE FUNCTION claim_message_id(channel text, message_id text, guid text) RETURNS text
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    chan text := $1;
    message text := $2;
    new_guid text := $3;
    valid_for interval := least(
        coalesce((SELECT w.duplicates_for FROM message_id_windows w WHERE w.channel_name = chan), '24 hours'), interval '10 years');
    known record;
BEGIN
    IF valid_for <= interval '0' THEN
        RETURN NULL;
    END IF;
    -- Whoever publishes the same at this moment is waited for, and nobody else.
    LOOP
        INSERT INTO message_ids AS m (channel_name, message_id, guid, expires_at)
        VALUES (chan, message, new_guid, clock_timestamp() + valid_for)
        ON CONFLICT ON CONSTRAINT message_ids_pkey DO UPDATE
        SET guid = excluded.guid, expires_at = excluded.expires_at, published_at = excluded.published_at
        WHERE m.expires_at <= clock_timestamp() OR m.guid = excluded.guid;
        IF FOUND THEN
            RETURN NULL;
        END IF;
        SELECT m.guid, m.published_at INTO known FROM message_ids m WHERE m.channel_name = chan AND m.message_id = message;
        IF FOUND THEN
            IF NOT went_with_channel(chan, known.guid, known.published_at) THEN
                RETURN known.guid;
            END IF;
            UPDATE message_ids m
            SET guid = new_guid, expires_at = clock_timestamp() + valid_for, published_at = clock_timestamp()
            WHERE m.channel_name = chan AND m.message_id = message AND m.guid = known.guid;
            IF FOUND THEN
                RETURN NULL;
            END IF;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION claim_message_id IS
    'Internal: notes that the msg_id is published with this GUID. Returns NULL, or the GUID that it was published with before.';

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
    known text;
    is_first boolean := false;
BEGIN
    IF getdatabaseencoding() = 'SQL_ASCII' THEN
        IF NOT is_utf8(chan) THEN
            PERFORM refuse_text('the channel name', 'STB01');
        ELSIF NOT is_utf8(concat_ws(chr(10), message, answer, session_user)) THEN
            PERFORM refuse_text('msg_id, reply or the name of the role', 'STB03');
        END IF;
    END IF;
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
        known := claim_message_id(chan, message, new_guid);
        IF known IS NOT NULL THEN
            RETURN known;
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

CREATE FUNCTION publish(channel text, payload json, msg_id text DEFAULT NULL, deliver_at timestamptz DEFAULT NULL,
                        reply text DEFAULT NULL, wake boolean DEFAULT false) RETURNS text
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$ SELECT publish($1, convert_to($2::text, 'UTF8'), $3, $4, $5, $6) $$;
COMMENT ON FUNCTION publish(text, json, text, timestamptz, text, boolean) IS 'The same with a payload of JSON, as it was written.';
REVOKE EXECUTE ON FUNCTION publish(text, json, text, timestamptz, text, boolean) FROM PUBLIC;
-- Who may publish jsonb may publish json.
DO $$
DECLARE
    publisher regrole;
BEGIN
    FOR publisher IN
        SELECT DISTINCT a.grantee FROM pg_proc f, aclexplode(f.proacl) a
        WHERE f.oid = 'publish(text, jsonb, text, timestamptz, text, boolean)'::regprocedure AND a.grantee NOT IN (0, f.proowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION publish(text, json, text, timestamptz, text, boolean) TO %s', publisher);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION retry_refused(ids bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    refused record;
    known text;
    found_rows bigint := 0;
BEGIN
    PERFORM pg_current_xact_id();
    FOR refused IN
        SELECT * FROM outbox_refused r
        WHERE r.id = ANY ($1) OR $1 IS NULL AND r.reason NOT LIKE 'its msg_id was published since%'
        ORDER BY r.id FOR UPDATE
    LOOP
        IF refused.msg_id IS NOT NULL THEN
            known := claim_message_id(refused.channel, refused.msg_id, refused.guid);
            IF known IS NOT NULL THEN
                UPDATE outbox_refused r SET reason = format('its msg_id was published since, as GUID %s', known)
                WHERE r.id = refused.id;
                CONTINUE;
            END IF;
        END IF;
        DELETE FROM outbox_refused r WHERE r.id = refused.id;
        INSERT INTO outbox (guid, channel, data, reply, msg_id, deliver_at, publisher, created_at)
        VALUES (refused.guid, refused.channel, refused.data, refused.reply, refused.msg_id, refused.deliver_at, refused.publisher,
                refused.created_at);
        found_rows := found_rows + 1;
    END LOOP;
    RETURN found_rows;
END $$;
COMMENT ON FUNCTION retry_refused(bigint[]) IS
    'Puts refused publishes back into the outbox: those listed, or all. Returns how many. One whose msg_id was published since stays '
    'refused, with that reason, and is tried again only where it is listed.';

CREATE OR REPLACE FUNCTION take_outbox(taken bigint[], refused bigint[], reasons text[], put_back text[]) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    found bigint;
BEGIN
    -- As of a failover: their messages are stored again from what servers remember.
    IF cardinality(put_back) > 0 THEN
        DELETE FROM outbox WHERE guid = ANY (put_back);
    END IF;
    -- Their messages are stored by this transaction, so none may stay. A row that somebody else has locked is waited for as long as
    -- the session's lock_timeout says, and then the batch fails with lock_not_available.
    DELETE FROM outbox WHERE id = ANY (taken);
    GET DIAGNOSTICS found = ROW_COUNT;
    IF found <> cardinality(taken) THEN
        RAISE EXCEPTION 'of % rows of the outbox that are published only % are there', cardinality(taken), found
            USING ERRCODE = '40001', HINT = 'Somebody deleted rows by hand while the active took them.';
    END IF;
    IF cardinality(refused) > 0 THEN
        -- Nothing is stored for them, so none is worth a wait. A row that somebody else has locked or deleted stays, and is read
        -- again; an ID that a publisher's open transaction holds is known until it expires, or until the row is tried again.
        WITH found AS (
            SELECT q.id, r.reason FROM unnest(refused, reasons) AS r (id, reason) JOIN outbox q ON q.id = r.id
            FOR UPDATE OF q SKIP LOCKED
        ), gone AS (
            DELETE FROM outbox o USING found f WHERE o.id = f.id
            RETURNING o.*, f.reason
        ), free AS (
            SELECT m.channel_name, m.message_id FROM gone g
            JOIN message_ids m ON m.channel_name = g.channel AND m.message_id = g.msg_id AND m.guid = g.guid
            FOR UPDATE OF m SKIP LOCKED
        ), new_again AS (
            DELETE FROM message_ids m USING free f WHERE m.channel_name = f.channel_name AND m.message_id = f.message_id
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

CREATE OR REPLACE FUNCTION ack(channel text, sequence bigint, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
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
    IF getdatabaseencoding() = 'SQL_ASCII' AND NOT is_utf8($5) THEN
        PERFORM refuse_text('client_id', 'STB03');
    END IF;
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
    -- In one statement: a dead letter is made by a transaction that takes the mark away and moves the position.
    SELECT s.*, EXISTS (
        SELECT FROM delivery_counts d WHERE d.position_id = its_position AND d.sequence = wanted AND d.given_up
    ) AS is_given_up INTO state FROM ack_state(its_position, wanted) AS s;
    IF state.is_acked OR state.is_given_up THEN
        DELETE FROM pending_acks WHERE id = its_id;
        RETURN false;
    ELSIF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    END IF;
    PERFORM note_sql_use();
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION nack(channel text, sequence bigint, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
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
    IF getdatabaseencoding() = 'SQL_ASCII' AND NOT is_utf8(concat_ws(chr(10), $5, why)) THEN
        PERFORM refuse_text('client_id or reason', 'STB03');
    END IF;
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
    -- Before it looks at the mark: a server waits for those that may have looked before, and knows them by their numbers.
    PERFORM pg_current_xact_id();
    -- In one statement: what takes a mark or an ack away moves the position in the same transaction.
    SELECT s.*, EXISTS (
        SELECT FROM pending_acks a
        WHERE a.position_id = its_position AND a.sequence = wanted AND a.redeliver_after IS NULL
    ) AS is_pending, EXISTS (
        SELECT FROM delivery_counts d WHERE d.position_id = its_position AND d.sequence = wanted AND d.given_up
    ) AS is_given_up INTO state FROM ack_state(its_position, wanted) AS s;
    IF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    ELSIF state.is_acked OR state.is_pending OR state.is_given_up THEN
        RETURN false;
    END IF;
    INSERT INTO pending_acks (position_id, sequence, client_id, redeliver_after, reason)
    VALUES (its_position, wanted, $5, pause, why);
    PERFORM note_sql_use();
    RETURN true;
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
    ELSIF NOT has_any_column_privilege('admin_requests', 'INSERT') THEN
        RAISE EXCEPTION 'role % may not ask the servers for anything', quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('The owner of the tables gives it the right: SELECT %I.grant_to_operator(%L);',
                                current_schema(), quote_ident(current_user));
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
    ELSIF $2 = '' OR $3 = '' THEN
        wrong := 'names a subscription without a name';
        hint := 'NULL means any.';
    END IF;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'the policy %', wrong USING ERRCODE = 'STB03', HINT = hint;
    END IF;
    INSERT INTO policies AS p (channel, durable, queue_group, max_deliveries, backoff, poison, dead_letter, dead_letter_header,
                               when_full, keep_until_acked)
    VALUES ($1, $2, $3, $4, coalesce($5, '{}'), fate, $6, coalesce($10, false), $8, coalesce($9, false))
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
    END IF;
    INSERT INTO channel_grants (role, channels, may_publish, may_ack) VALUES (wanted, $2, coalesce($3, true), coalesce($4, true))
    ON CONFLICT (role, channels) DO UPDATE SET may_publish = excluded.may_publish, may_ack = excluded.may_ack,
        granted_by = session_user, granted_at = clock_timestamp();
END $$;

CREATE OR REPLACE FUNCTION look_at_grants() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    wanted "char" := CASE WHEN EXISTS (SELECT FROM channel_grants) THEN 'O' ELSE 'D' END;
    does text := CASE wanted WHEN 'O' THEN 'ENABLE' ELSE 'DISABLE' END;
    tables oid[] := ARRAY['outbox'::regclass, 'message_ids'::regclass, 'pending_acks'::regclass];
    holder record;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgname IN ('outbox_granted', 'message_ids_granted', 'pending_acks_granted')
               AND tgenabled <> wanted AND tgrelid = ANY (tables)) THEN
        -- In the order of who acks and publishes in one transaction.
        EXECUTE format('ALTER TABLE pending_acks %s TRIGGER pending_acks_granted', does);
        EXECUTE format('ALTER TABLE message_ids %s TRIGGER message_ids_granted', does);
        EXECUTE format('ALTER TABLE outbox %s TRIGGER outbox_granted', does);
    END IF;
    RETURN NULL;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    SELECT l.pid, coalesce(a.usename::text, p.owner::text) AS role, a.application_name AS application,
           to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC' AS since, p.gid
    INTO holder
    FROM pg_locks l
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN LATERAL (
        SELECT x.gid, x.owner, x.prepared, x.transaction FROM pg_locks own JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
        WHERE l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
    ) p ON true
    WHERE l.granted AND l.locktype = 'relation' AND l.relation = ANY (tables) AND l.pid IS DISTINCT FROM pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
    -- Not every owner may see since when others are open. Servers hold theirs for moments.
    ORDER BY coalesce(a.application_name LIKE 'stanby/%', false), age(coalesce(a.backend_xid, p.transaction)) DESC NULLS LAST LIMIT 1;
    RAISE EXCEPTION 'the % grant has to wait for %, which has published or acked and is open since %',
            CASE wanted WHEN 'O' THEN 'first' ELSE 'end of the last' END,
            CASE WHEN holder.gid IS NOT NULL THEN format('the prepared transaction %L of role %s', holder.gid, holder.role)
                 WHEN holder.pid IS NOT NULL THEN
                     format('session %s of role %s (application %L)', holder.pid, coalesce(holder.role, '?'), holder.application)
                 ELSE 'another transaction' END,
            coalesce(holder.since, 'an unknown time')
        USING ERRCODE = 'lock_not_available',
              HINT = CASE WHEN holder.gid IS NOT NULL THEN format('COMMIT PREPARED or ROLLBACK PREPARED %L; then try again.', holder.gid)
                          WHEN holder.pid IS NOT NULL THEN
                              format('Wait for its end, or end the session: SELECT pg_terminate_backend(%s); then try again.', holder.pid)
                          ELSE 'Try again.' END;
END $$;

CREATE FUNCTION ensure_may_grant(verb text, grantee regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    owner oid := (SELECT relowner FROM pg_class WHERE oid = 'outbox'::regclass);
BEGIN
    IF NOT pg_has_role(current_user, owner, 'USAGE') THEN
        RAISE EXCEPTION 'role % does not own the tables, and cannot give rights to them', quote_ident(current_user)
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Their owner can: SET ROLE %s; SELECT %I.%s(%L);', owner::regrole, current_schema(), $1, $2);
    END IF;
END $$;
COMMENT ON FUNCTION ensure_may_grant IS 'Internal: raises an error that names who can, where the caller cannot give rights.';

CREATE FUNCTION ensure_usage(grantee regrole) RETURNS void
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT has_schema_privilege($1, current_schema(), 'USAGE') THEN
        RAISE EXCEPTION 'role % does not own schema %, and cannot let others use it', quote_ident(current_user),
                quote_ident(current_schema())
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('First its owner, %s, has to: GRANT USAGE ON SCHEMA %I TO %s;',
                                (SELECT nspowner::regrole FROM pg_namespace WHERE nspname = current_schema()), current_schema(), $1);
    END IF;
END $$;
COMMENT ON FUNCTION ensure_usage IS 'Internal: raises an error where a role was not given the right to use the schema.';

CREATE OR REPLACE FUNCTION grant_to_publisher(publisher regrole) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    name regprocedure;
BEGIN
    PERFORM ensure_may_grant('grant_to_publisher', publisher);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s',
                   (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'outbox'::regclass), publisher);
    FOR name IN SELECT publishing_functions() LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', name, publisher);
    END LOOP;
    PERFORM ensure_usage(publisher);
END $$;

CREATE OR REPLACE FUNCTION grant_to_operator(operator regrole) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM ensure_may_grant('grant_to_operator', operator);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO %s',
                   (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = 'admin_requests'::regclass), operator);
    EXECUTE format('GRANT SELECT, INSERT (verb, arguments, dry_run) ON admin_requests TO %s', operator);
    EXECUTE format('GRANT SELECT ON admin_log, active, standbys TO %s', operator);
    PERFORM ensure_usage(operator);
END $$;

DO $pin$
DECLARE
    name text;
    made regprocedure;
BEGIN
    FOREACH name IN ARRAY ARRAY['note_deleted_channel()', 'look_at_grants()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
    -- Publishers queue behind it. Less than the active waits, and than deadlock_timeout.
    ALTER FUNCTION look_at_grants() SET lock_timeout = '400ms';
    -- As migration 86 does; a function that is replaced loses it.
    FOR made IN
        SELECT f.oid FROM pg_proc f
        WHERE f.pronamespace = quote_ident(current_schema())::regnamespace AND f.prokind = 'f' AND strpos(f.prosrc, '\') > 0
            AND f.proname IN ('publish', 'set_policy', 'grant_channel')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET standard_conforming_strings = on', made);
    END LOOP;
END $pin$;
