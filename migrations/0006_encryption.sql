-- Why: who gets hold of a disk or a backup of the database shall not read what clients published. Servers that are given
-- a key encrypt payloads before they leave the process; the tables hold what it takes to read them again, except for
-- the key.
--
-- A server of a version before this would deliver encrypted payloads as they stand. So schema_compatibility follows from
-- whether there is anything encrypted, and a trigger refuses such a server also when it has been running all along.

-- Behind a long read of messages (a dump) this must not queue: the active's writes would queue behind it.
SET LOCAL lock_timeout = '1s';
ALTER TABLE messages ADD COLUMN encrypted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN messages.encrypted IS
    'data holds 24 bytes more than was published, and can be read with the key of the term in column epoch only.';

CREATE TABLE encryption_keys (
    key_number integer PRIMARY KEY,
    salt bytea NOT NULL,
    iterations integer NOT NULL,
    known_value bytea NOT NULL,
    first_used_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE encryption_keys IS
    'Operators'' keys in use, without the keys: by the known value a server finds out whether it was given the right one.';
COMMENT ON COLUMN encryption_keys.iterations IS 'Of PBKDF2 with HMAC-SHA256, from the text that an operator gave to a key.';
COMMENT ON COLUMN encryption_keys.known_value IS 'Something that every server knows, encrypted with the key.';

CREATE TABLE term_keys (
    epoch bigint PRIMARY KEY,
    key_number integer NOT NULL,
    cipher text NOT NULL,
    wrapped_key bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE term_keys IS
    'Each term encrypts with a random key of its own, which stands here encrypted with an operator''s key. Deleting a row '
    'makes the term''s messages unreadable for ever.';
COMMENT ON COLUMN term_keys.key_number IS 'The operator''s key that opens it.';

DROP TABLE schema_compatibility;
CREATE VIEW schema_compatibility AS
SELECT CASE WHEN EXISTS (SELECT FROM term_keys) THEN 6 ELSE 1 END::bigint AS oldest_server;
COMMENT ON VIEW schema_compatibility IS
    'Servers that know this version of the schema or a later one can work on these tables.';

CREATE FUNCTION refuse_older_servers() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    oldest bigint := (SELECT oldest_server FROM schema_compatibility);
    -- Versions up to 5 do not tell.
    known bigint := coalesce(nullif(current_setting('stanby.schema_version', true), ''), '5')::bigint;
BEGIN
    IF known < oldest THEN
        RAISE EXCEPTION 'the tables hold encrypted messages, which this server is too old to read: it knows version % of the '
            'schema, and % is needed; start a newer version in its place', known, oldest;
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION refuse_older_servers IS 'Keeps servers that cannot work on these tables from becoming active.';
CREATE TRIGGER refuse_older_servers BEFORE UPDATE OF epoch ON leadership
FOR EACH ROW EXECUTE FUNCTION refuse_older_servers();

CREATE OR REPLACE VIEW readable_messages AS
SELECT c.name AS channel, m.sequence, wall_time(m.published_at_ns) AS published_at, m.client_id,
       CASE WHEN m.encrypted THEN 'encrypted' ELSE text_or_null(m.data) END AS text,
       CASE WHEN m.encrypted THEN greatest(octet_length(m.data) - 24, 0) ELSE octet_length(m.data) END AS size_bytes,
       nullif(m.reply, '') AS reply, m.guid, m.epoch, m.channel_id, m.encrypted
FROM messages m JOIN channels c USING (channel_id);
COMMENT ON VIEW readable_messages IS
    'Messages with their data as text; NULL when it is not valid UTF-8, then see messages.data; "encrypted" when it is.';
