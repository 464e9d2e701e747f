-- Why: the role for people and dashboards could read what makes ack inboxes, connections and keys, and so act in the name of
-- clients and servers. Readers get the views and the tables that hold no secret; every other table, those of later versions
-- too, is closed to them unless it is named here.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';
CREATE VIEW cluster AS
SELECT s.cluster_id, l.serves,
       (SELECT count(*) FROM clients) AS clients,
       (SELECT count(*) FROM subscriptions) AS subscriptions,
       (SELECT count(*) FROM positions WHERE durable_name IS NOT NULL) AS durables
FROM leadership l LEFT JOIN server_info s ON true;
COMMENT ON VIEW cluster IS 'What the servers of these tables serve, and how much of it there is.';
COMMENT ON COLUMN cluster.cluster_id IS 'As clients name it; NULL before the first server was active.';
COMMENT ON COLUMN cluster.serves IS 'Channels that the last active served, wildcards included; NULL: all.';
COMMENT ON COLUMN cluster.clients IS 'Applications that are connected.';
COMMENT ON COLUMN cluster.subscriptions IS 'Subscriptions, offline durables included.';
COMMENT ON COLUMN cluster.durables IS 'Durable subscriptions and durable queue groups.';

CREATE VIEW encryption_status AS
SELECT t.key_number, t.cipher, k.first_used_at, (SELECT count(*) FROM encryption_keys) AS keys
FROM leadership l
LEFT JOIN term_keys t USING (epoch)
LEFT JOIN encryption_keys k USING (key_number);
COMMENT ON VIEW encryption_status IS 'Whether the last active encrypts, and with which key.';
COMMENT ON COLUMN encryption_status.key_number IS 'The operator''s key in use; NULL: the last active does not encrypt.';
COMMENT ON COLUMN encryption_status.cipher IS 'How messages are encrypted.';
COMMENT ON COLUMN encryption_status.first_used_at IS 'When a server used that key for the first time.';
COMMENT ON COLUMN encryption_status.keys IS 'Operators'' keys that are needed to read what is stored.';

CREATE VIEW lock_holders AS
SELECT k.pid, a.usename::text AS role, a.application_name, a.backend_start AS connected_since,
       coalesce(a.application_name LIKE 'stanby/%' AND has_table_privilege(a.usesysid, l.tableoid, 'UPDATE'), false)
           AS is_server
FROM leadership l
JOIN pg_locks k
    ON k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
    AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND k.classid::bigint = (l.lock_key >> 32) & 4294967295 AND k.objid::bigint = l.lock_key & 4294967295
LEFT JOIN pg_stat_activity a ON a.pid = k.pid;
COMMENT ON VIEW lock_holders IS
    'Which session holds the lock that makes a server the active. Any role that may connect can take it; while it is not a '
    'server''s, nobody is active.';
COMMENT ON COLUMN lock_holders.pid IS 'Of the session; SELECT pg_terminate_backend(pid) ends it.';
COMMENT ON COLUMN lock_holders.role IS 'Who is logged in.';
COMMENT ON COLUMN lock_holders.application_name IS 'As the session calls itself.';
COMMENT ON COLUMN lock_holders.connected_since IS 'When the session was opened.';
COMMENT ON COLUMN lock_holders.is_server IS 'Whether it calls itself a server of ours, as a role that may serve.';

-- Columns of views cannot be taken away from under those who select them: what was a secret is NULL from now on.
CREATE OR REPLACE VIEW subscription_status AS
SELECT s.subscription_id, p.channel, s.client_id, p.durable_name, p.queue_group,
       CASE WHEN s.online THEN p.status ELSE 'offline' END AS status,
       p.last_sent, p.acked_floor, p.unacked, p.lag, s.max_in_flight,
       (s.ack_wait_ns / 1000) * interval '1 microsecond' AS ack_wait, wall_time(s.since_ns) AS since,
       NULL::text AS inbox, NULL::text AS ack_inbox, p.why
FROM subscriptions s JOIN position_status p USING (position_id);
COMMENT ON COLUMN subscription_status.inbox IS 'Always NULL: who knows it can send messages in the server''s name.';
COMMENT ON COLUMN subscription_status.ack_inbox IS 'Always NULL: who knows it can ack.';

CREATE OR REPLACE VIEW client_status AS
SELECT c.client_id, wall_time(c.connected_at_ns) AS connected_at,
       wall_time(c.last_heartbeat_at_ns) AS last_heartbeat_at, c.missed_heartbeats,
       CASE WHEN c.missed_heartbeats > 0 THEN 'unresponsive' ELSE 'responsive' END AS status,
       coalesce(s.subscriptions, 0) AS subscriptions, c.protocol, NULL::text AS heartbeat_inbox
FROM clients c
LEFT JOIN (
    SELECT client_id, count(*) AS subscriptions FROM subscriptions WHERE online GROUP BY client_id
) s USING (client_id);
COMMENT ON COLUMN client_status.heartbeat_inbox IS 'Always NULL: who knows it can ask in the server''s name.';

CREATE OR REPLACE VIEW readable_messages AS
SELECT c.name AS channel, m.sequence, wall_time(m.published_at_ns) AS published_at, m.client_id,
       CASE WHEN m.encrypted THEN 'encrypted' ELSE text_or_null(m.data) END AS text,
       CASE WHEN m.encrypted THEN greatest(octet_length(m.data) - 24, 0) ELSE octet_length(m.data) END AS size_bytes,
       nullif(m.reply, '') AS reply, NULL::text AS guid, m.epoch, m.channel_id, m.encrypted
FROM messages m JOIN channels c USING (channel_id);
COMMENT ON COLUMN readable_messages.guid IS 'Always NULL: see messages.guid. Who knows it can pass for its publisher.';

CREATE FUNCTION grant_to_readers() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    here oid := (SELECT relnamespace FROM pg_class WHERE oid = 'channels'::regclass);
    open_tables text[] := ARRAY['channels', 'positions', 'takeovers', 'lost_ranges', 'unreadable_messages',
                                'conditions', 'schema_versions'];
    reader text;
    relation record;
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
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %s REVOKE SELECT ON TABLES FROM %s',
                       here::regnamespace, reader);
    END LOOP;
END $$;
COMMENT ON FUNCTION grant_to_readers IS
    'Gives roles that look on the views and the tables without secrets, and takes the others from them. Called after each '
    'migration, and by roles.sql.';
