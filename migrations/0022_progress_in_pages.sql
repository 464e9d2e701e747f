-- Why: a position of which every second message was acked was written anew with each commit, all of its ranges: the work
-- followed from what was in flight, not from what was acked. Where there are many ranges they are bits in pages now, and
-- only pages in which something changed are written. And which member of a queue group held a message was forgotten at a
-- takeover: full members got more, idle ones got nothing.
--
-- A server of a version before this would take for unacked what stands in pages. So it may work on these tables while no
-- position is kept in pages: those with up to 64 ranges are not. It does not look at position_holders; what it leaves
-- behind there is passed over where it is not in flight any more.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';
CREATE TABLE position_acks (
    position_id bigint NOT NULL,
    page bigint NOT NULL,
    pages bigint NOT NULL,
    bits bytea,
    PRIMARY KEY (position_id, page)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE position_acks IS
    'What is acked above the floor of positions where that is many ranges. View "acked_ranges" shows it as ranges.';
COMMENT ON COLUMN position_acks.position_id IS 'Number of the position, whose acked_above is empty.';
COMMENT ON COLUMN position_acks.page IS 'Page n speaks for the 1,024 sequences from 1,024 n on.';
COMMENT ON COLUMN position_acks.pages IS 'How many pages the row speaks for, this one included; 1 where there are bits.';
COMMENT ON COLUMN position_acks.bits IS
    'A bit per sequence, set where it is acked, the lowest bit of the first byte first (get_bit counts so); NULL: all are.';

CREATE TABLE position_holders (
    position_id bigint NOT NULL,
    page bigint NOT NULL,
    members bigint[] NOT NULL,
    held bytea NOT NULL,
    PRIMARY KEY (position_id, page)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE position_holders IS
    'Which members of a queue group were sent what. Written on delivery, not on ack: it means nothing where a sequence is not '
    'in flight. View "held_messages" shows what is.';
COMMENT ON COLUMN position_holders.position_id IS 'Number of the position of a queue group.';
COMMENT ON COLUMN position_holders.page IS 'Page n speaks for the 128 sequences from 128 n on.';
COMMENT ON COLUMN position_holders.members IS 'Each subscription_id that was sent something of the page.';
COMMENT ON COLUMN position_holders.held IS 'A byte per sequence: which of the members was sent it, from 1 on; 0 for none.';

CREATE VIEW acked_ranges AS
SELECT position_id, lower(r) AS first_sequence, upper(r) - 1 AS last_sequence
FROM (
    SELECT p.position_id,
           (p.acked_above + coalesce(a.acked, '{}')) * int8multirange(int8range(p.acked_floor + 1, NULL)) AS acked
    FROM positions p
    LEFT JOIN (
        SELECT position_id, range_agg(CASE
                   WHEN bits IS NULL THEN int8range(page * 1024, (page + pages) * 1024)
                   ELSE int8range(page * 1024 + n, page * 1024 + n + 1)
               END) AS acked
        FROM position_acks
        JOIN generate_series(0, 1023) AS n ON CASE WHEN bits IS NULL THEN n = 0 ELSE get_bit(bits, n) = 1 END
        GROUP BY position_id
    ) a USING (position_id)
) t, unnest(t.acked) AS r;
COMMENT ON VIEW acked_ranges IS 'What is acked above the floor of each position, as ranges, wherever it is kept.';
COMMENT ON COLUMN acked_ranges.position_id IS 'Number of the position.';
COMMENT ON COLUMN acked_ranges.first_sequence IS 'First sequence of the range.';
COMMENT ON COLUMN acked_ranges.last_sequence IS 'Last sequence of the range.';

CREATE VIEW held_messages AS
SELECT p.position_id, c.name AS channel, p.durable_name, p.queue_group, h.page * 128 + n AS sequence,
       s.subscription_id, s.client_id
FROM position_holders h
JOIN positions p USING (position_id)
JOIN channels c USING (channel_id)
JOIN generate_series(0, 127) AS n ON n < octet_length(h.held) AND get_byte(h.held, n) > 0
JOIN subscriptions s ON s.position_id = h.position_id AND s.subscription_id = h.members[get_byte(h.held, n)]
LEFT JOIN position_acks a
    ON a.position_id = h.position_id AND (h.page * 128 + n) / 1024 BETWEEN a.page AND a.page + a.pages - 1
WHERE h.page * 128 + n > p.acked_floor AND h.page * 128 + n <= p.last_sent AND NOT h.page * 128 + n <@ p.acked_above
    AND CASE
        WHEN a.position_id IS NULL THEN true
        WHEN a.bits IS NULL THEN false
        ELSE get_bit(a.bits, ((h.page * 128 + n) % 1024)::integer) = 0
    END;
COMMENT ON VIEW held_messages IS
    'Which member of a queue group holds each message in flight. What a member held that has left is not in it.';
COMMENT ON COLUMN held_messages.position_id IS 'Number of the position.';
COMMENT ON COLUMN held_messages.channel IS 'Name of the channel.';
COMMENT ON COLUMN held_messages.durable_name IS 'NULL for a queue group that ends with its last member.';
COMMENT ON COLUMN held_messages.queue_group IS 'Name of the queue group.';
COMMENT ON COLUMN held_messages.sequence IS 'Of the message.';
COMMENT ON COLUMN held_messages.subscription_id IS 'Number of the subscription that was sent it last.';
COMMENT ON COLUMN held_messages.client_id IS 'Client ID of the member.';

COMMENT ON COLUMN positions.acked_above IS
    'Acked above the floor; empty where position_acks has it. What is above the floor, up to last_sent, and in neither is in '
    'flight.';

CREATE OR REPLACE VIEW position_status AS
SELECT p.position_id, p.channel_id, c.name AS channel, p.durable_name, p.queue_group,
       s.clients, coalesce(s.members, 0) AS members, coalesce(s.max_in_flight, 0) AS max_in_flight,
       p.last_sent, p.acked_floor, f.unacked, greatest(c.last_sequence - p.last_sent, 0) AS lag,
       CASE
           WHEN coalesce(s.members, 0) = 0 THEN 'offline'
           WHEN f.unacked >= s.max_in_flight THEN 'stalled'
           WHEN c.last_sequence > p.last_sent THEN 'behind'
           ELSE 'online'
       END AS status,
       CASE
           WHEN coalesce(s.members, 0) = 0 THEN 'no client is attached'
           WHEN f.unacked >= s.max_in_flight THEN
               format('waits for acks: %s of %s allowed are unacked', f.unacked, s.max_in_flight)
           WHEN c.last_sequence > p.last_sent THEN
               format('%s messages are still to be sent', c.last_sequence - p.last_sent)
           WHEN f.unacked > 0 THEN format('everything is sent; %s unacked', f.unacked)
           ELSE 'everything is sent and acked'
       END AS why
FROM positions p
JOIN channels c USING (channel_id)
CROSS JOIN LATERAL (
    SELECT p.last_sent - p.acked_floor - (a.in_row + a.in_pages)::bigint AS unacked
    FROM (SELECT
        (SELECT coalesce(sum(upper(r) - lower(r)), 0) FROM unnest(p.acked_above) AS r) AS in_row,
        (SELECT coalesce(sum(CASE
                    WHEN bits IS NULL THEN greatest((page + pages) * 1024 - greatest(page * 1024, p.acked_floor + 1), 0)
                    WHEN page * 1024 > p.acked_floor THEN bit_count(bits)
                    -- The page of the floor.
                    ELSE (SELECT sum(get_bit(bits, n))
                          FROM generate_series(least(p.acked_floor + 1 - page * 1024, 1024)::integer, 1023) AS n)
                END), 0)
         FROM position_acks WHERE position_id = p.position_id) AS in_pages
    ) a
) f
LEFT JOIN (
    SELECT position_id, count(*) FILTER (WHERE online) AS members,
           sum(max_in_flight) FILTER (WHERE online)::bigint AS max_in_flight,
           string_agg(client_id, ', ' ORDER BY client_id) AS clients
    FROM subscriptions GROUP BY position_id
) s USING (position_id);

CREATE OR REPLACE VIEW schema_compatibility AS
SELECT CASE
    WHEN EXISTS (SELECT FROM position_acks) THEN 22
    WHEN EXISTS (SELECT FROM term_keys) THEN 6
    ELSE 1
END::bigint AS oldest_server;

CREATE OR REPLACE FUNCTION refuse_older_servers() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    oldest bigint := (SELECT oldest_server FROM schema_compatibility);
    -- Versions up to 5 do not tell.
    known bigint := coalesce(nullif(current_setting('stanby.schema_version', true), ''), '5')::bigint;
BEGIN
    IF known < oldest THEN
        RAISE EXCEPTION 'the tables hold % which this server is too old to read: it knows version % of the schema, and % is '
            'needed; start a newer version in its place',
            CASE WHEN oldest = 22 THEN 'acks in pages,' ELSE 'encrypted messages,' END, known, oldest;
    END IF;
    RETURN NEW;
END $$;
