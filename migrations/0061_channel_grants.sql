-- Why: who may publish in SQL could publish to every channel, and ack for every consumer. In a database that several
-- applications share each should reach its own channels only. Rows of a table say which, for roles that are to be bounded;
-- roles without a row may what they could before.
--
-- A server of a version before this works on: the tables themselves refuse.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE channel_grants (
    role name NOT NULL,
    channels text NOT NULL CHECK (octet_length(channels) <= 1024
        AND channels ~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$'),
    may_publish boolean NOT NULL DEFAULT true,
    may_ack boolean NOT NULL DEFAULT true,
    granted_by name NOT NULL DEFAULT session_user,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (role, channels)
);
COMMENT ON TABLE channel_grants IS
    'Channels that roles may use with publish(), ack() and nack(). A role that has rows, or is a member of one that has, may use these '
    'only; others may use all. Owners of the tables and superusers are not bounded.';
COMMENT ON COLUMN channel_grants.role IS 'As in pg_roles. It need not exist.';
COMMENT ON COLUMN channel_grants.channels IS 'Name of a channel, or a pattern with * for one part and > for all that follow.';
COMMENT ON COLUMN channel_grants.may_publish IS 'It may publish there.';
COMMENT ON COLUMN channel_grants.may_ack IS 'It may ack and refuse messages there.';
COMMENT ON COLUMN channel_grants.granted_by IS 'Who was logged in.';
COMMENT ON COLUMN channel_grants.granted_at IS 'When.';

CREATE FUNCTION ensure_granted(channel text, acks boolean) RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    allowed text[];
BEGIN
    IF pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = 'channel_grants'::regclass), 'USAGE') THEN
        RETURN;
    END IF;
    SELECT array_agg(g.channels ORDER BY g.channels) FILTER (WHERE CASE WHEN $2 THEN g.may_ack ELSE g.may_publish END)
    INTO allowed
    FROM channel_grants g JOIN pg_roles r ON r.rolname = g.role
    WHERE pg_has_role(session_user, r.oid, 'MEMBER')
    HAVING count(*) > 0;
    IF NOT FOUND OR EXISTS (SELECT FROM unnest(allowed) AS a (pattern) WHERE policy_matches(a.pattern, $1)) THEN
        RETURN;
    END IF;
    RAISE EXCEPTION 'role % may not % channel %', quote_literal(session_user),
            CASE WHEN $2 THEN 'ack messages of' ELSE 'publish to' END, coalesce(quote_literal(left($1, 100)), 'NULL')
        USING ERRCODE = 'insufficient_privilege',
              HINT = CASE WHEN allowed IS NULL THEN 'It may use no channel for that.'
                  ELSE format('It may use %s.', array_to_string(allowed[1:5], ', ')) END
                  || ' The owner of the tables grants more: SELECT grant_channel(…).';
END $$;
COMMENT ON FUNCTION ensure_granted IS 'Raises an error where channel_grants does not let who is logged in use the channel. Not for people.';

CREATE FUNCTION check_publish() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM ensure_granted(NEW.channel, false);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION check_publish IS 'Whether who is logged in may publish there.';

-- A duplicate returns the GUID of the first one and reaches no outbox.
CREATE FUNCTION check_message_id() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM ensure_granted(NEW.channel_name, false);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION check_message_id IS 'Whether who is logged in may publish there.';

CREATE FUNCTION check_ack() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM ensure_granted((SELECT c.name FROM positions p JOIN channels c USING (channel_id)
                            WHERE p.position_id = NEW.position_id), true);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION check_ack IS 'Whether who is logged in may ack there.';

-- They are on while there is a grant: where nobody is bounded, nothing is looked at.
CREATE TRIGGER outbox_granted BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION check_publish();
CREATE TRIGGER pending_acks_granted BEFORE INSERT ON pending_acks FOR EACH ROW EXECUTE FUNCTION check_ack();
CREATE TRIGGER message_ids_granted BEFORE INSERT ON message_ids FOR EACH ROW EXECUTE FUNCTION check_message_id();
ALTER TABLE outbox DISABLE TRIGGER outbox_granted;
ALTER TABLE message_ids DISABLE TRIGGER message_ids_granted;
ALTER TABLE pending_acks DISABLE TRIGGER pending_acks_granted;

CREATE FUNCTION look_at_grants() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    wanted "char" := CASE WHEN EXISTS (SELECT FROM channel_grants) THEN 'O' ELSE 'D' END;
    does text := CASE wanted WHEN 'O' THEN 'ENABLE' ELSE 'DISABLE' END;
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgname IN ('outbox_granted', 'message_ids_granted', 'pending_acks_granted')
               AND tgenabled <> wanted
               AND tgrelid IN ('outbox'::regclass, 'message_ids'::regclass, 'pending_acks'::regclass)) THEN
        EXECUTE format('ALTER TABLE outbox %s TRIGGER outbox_granted', does);
        EXECUTE format('ALTER TABLE message_ids %s TRIGGER message_ids_granted', does);
        EXECUTE format('ALTER TABLE pending_acks %s TRIGGER pending_acks_granted', does);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION look_at_grants IS 'Has grants looked at while there are some.';
CREATE TRIGGER channel_grants_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON channel_grants
    FOR EACH STATEMENT EXECUTE FUNCTION look_at_grants();

DO $pin$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ensure_granted(text, boolean)', 'look_at_grants()'] LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', name, current_schema());
    END LOOP;
END $pin$;

CREATE FUNCTION grant_channel(role regrole, channels text, publish boolean DEFAULT true, ack boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    wanted name := (SELECT rolname FROM pg_roles WHERE oid = $1);
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION 'there is no such role' USING ERRCODE = 'STB03', HINT = 'PUBLIC cannot be bounded; name a role.';
    ELSIF $2 IS NULL OR $2 !~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$' OR octet_length($2) > 1024 THEN
        RAISE EXCEPTION '% are no channels', coalesce(quote_literal(left($2, 100)), 'NULL')
            USING ERRCODE = 'STB03', HINT = 'Say a channel''s name, or a pattern like orders.* or orders.>; > alone is all channels.';
    END IF;
    INSERT INTO channel_grants (role, channels, may_publish, may_ack) VALUES (wanted, $2, coalesce($3, true), coalesce($4, true))
    ON CONFLICT (role, channels) DO UPDATE SET may_publish = excluded.may_publish, may_ack = excluded.may_ack,
        granted_by = session_user, granted_at = clock_timestamp();
END $$;
COMMENT ON FUNCTION grant_channel IS
    'Lets a role use channels with publish(), ack() and nack(), and from then on only those that it was granted. Called by the owner '
    'of the tables; rows of channel_grants are taken back by DELETE.';

REVOKE EXECUTE ON FUNCTION grant_channel, ensure_granted FROM PUBLIC;
