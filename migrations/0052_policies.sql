-- Why: a message that no consumer can handle was delivered for ever, and a full channel dropped what nobody had read without
-- a trace. Operators can say how often, and when, messages are delivered, what becomes of those that are not acked then, and
-- what a full channel does. What a limit drops that a durable has not acked is noted.
--
-- A server of a version before this does not look at policies and counts nothing; the next one of this version goes on.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE policies (
    policy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL CHECK (channel <> '' AND octet_length(channel) <= 1024
        AND channel ~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$'),
    durable text CHECK (durable <> ''),
    queue_group text CHECK (queue_group <> ''),
    max_deliveries integer CHECK (max_deliveries > 0),
    backoff interval[] NOT NULL DEFAULT '{}' CHECK (cardinality(backoff) <= 64),
    poison text NOT NULL DEFAULT 'pass-over' CHECK (poison IN ('pass-over', 'pause', 'dead-letter')),
    dead_letter text CHECK (dead_letter ~ '^[^./*>]+(\.[^./*>]+)*$'),
    dead_letter_header boolean NOT NULL DEFAULT false,
    when_full text NOT NULL DEFAULT 'drop-oldest' CHECK (when_full IN ('drop-oldest', 'reject')),
    keep_until_acked boolean NOT NULL DEFAULT false,
    set_by name NOT NULL DEFAULT session_user,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((poison = 'dead-letter') = (dead_letter IS NOT NULL)),
    CHECK ((durable IS NULL AND queue_group IS NULL) OR (when_full = 'drop-oldest' AND NOT keep_until_acked))
);
CREATE UNIQUE INDEX policies_once ON policies (channel, coalesce(durable, ''), coalesce(queue_group, ''));
COMMENT ON TABLE policies IS
    'What set_policy() has set. One holds for each subscription: one that names it, else the one with the narrowest channels.';
COMMENT ON COLUMN policies.channel IS 'Name of a channel, or a pattern with * for one part and > for all that follow.';
COMMENT ON COLUMN policies.durable IS 'Of durables of this name; NULL: of any subscription.';
COMMENT ON COLUMN policies.queue_group IS 'Of queue groups of this name; NULL: of any subscription.';
COMMENT ON COLUMN policies.max_deliveries IS 'How often a message is delivered at most; NULL: until it is acked.';
COMMENT ON COLUMN policies.backoff IS
    'Instead of the ack wait: how long the first delivery waits for its ack, the second, …; the last holds for all further ones.';
COMMENT ON COLUMN policies.poison IS
    'What becomes of a message that was delivered so often: pass-over, pause (the subscription gets nothing more until it is '
    'acked), dead-letter.';
COMMENT ON COLUMN policies.dead_letter IS 'The channel that it becomes a message of.';
COMMENT ON COLUMN policies.dead_letter_header IS 'Its reply text tells origin, deliveries and reason to clients.';
COMMENT ON COLUMN policies.when_full IS 'Of the channel: drop-oldest, or reject (publishes are refused).';
COMMENT ON COLUMN policies.keep_until_acked IS 'Of the channel: limits drop only what every durable has acked; without room publishes are refused.';
COMMENT ON COLUMN policies.set_by IS 'Who was logged in.';
COMMENT ON COLUMN policies.set_at IS 'When it was set last.';

CREATE TABLE delivery_counts (
    position_id bigint NOT NULL,
    sequence bigint NOT NULL,
    deliveries bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (position_id, sequence)
) WITH (
    autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE delivery_counts IS
    'How often messages in flight were delivered: of those that were delivered again, where a policy counts.';
COMMENT ON COLUMN delivery_counts.position_id IS 'Number of the position.';
COMMENT ON COLUMN delivery_counts.sequence IS 'Of the message.';
COMMENT ON COLUMN delivery_counts.deliveries IS 'So often; one that left just before a server died may be missing.';
COMMENT ON COLUMN delivery_counts.reason IS 'What the consumer that refused it last with nack() has said.';

CREATE TABLE dead_letters (
    channel_id bigint NOT NULL,
    sequence bigint NOT NULL,
    origin_channel text NOT NULL,
    origin_sequence bigint NOT NULL,
    durable_name text,
    queue_group text,
    deliveries bigint NOT NULL,
    reason text NOT NULL,
    dead_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    redriven_at timestamptz,
    PRIMARY KEY (channel_id, sequence)
);
COMMENT ON TABLE dead_letters IS
    'Where messages of dead-letter channels come from. Rows stay when the messages go; the owner of the tables may delete them.';
COMMENT ON COLUMN dead_letters.channel_id IS 'Number of the dead-letter channel.';
COMMENT ON COLUMN dead_letters.sequence IS 'Of the message there.';
COMMENT ON COLUMN dead_letters.origin_channel IS 'Where it was published.';
COMMENT ON COLUMN dead_letters.origin_sequence IS 'And its sequence there.';
COMMENT ON COLUMN dead_letters.durable_name IS 'Of the subscription that did not ack it.';
COMMENT ON COLUMN dead_letters.queue_group IS 'Of the subscription that did not ack it.';
COMMENT ON COLUMN dead_letters.deliveries IS 'How often it was delivered.';
COMMENT ON COLUMN dead_letters.reason IS 'What the consumer that refused it last has said.';
COMMENT ON COLUMN dead_letters.dead_since IS 'When it was given up.';
COMMENT ON COLUMN dead_letters.redriven_at IS 'When redrive() last published it again.';

CREATE VIEW dead_letter_status AS
SELECT c.name AS channel, d.sequence, d.origin_channel, d.origin_sequence, d.durable_name, d.queue_group, d.deliveries, d.reason,
       octet_length(m.data) AS size_bytes, m.client_id AS publisher, d.dead_since, d.redriven_at
FROM dead_letters d
JOIN channels c ON c.channel_id = d.channel_id AND NOT c.deleting
JOIN messages m ON m.channel_id = d.channel_id AND m.sequence = d.sequence;
COMMENT ON VIEW dead_letter_status IS 'Dead letters that are there, where they come from and why; without payloads.';
COMMENT ON COLUMN dead_letter_status.channel IS 'The dead-letter channel.';
COMMENT ON COLUMN dead_letter_status.sequence IS 'Of the message there.';
COMMENT ON COLUMN dead_letter_status.origin_channel IS 'Where it was published.';
COMMENT ON COLUMN dead_letter_status.origin_sequence IS 'And its sequence there.';
COMMENT ON COLUMN dead_letter_status.durable_name IS 'Of the subscription that did not ack it.';
COMMENT ON COLUMN dead_letter_status.queue_group IS 'Of the subscription that did not ack it.';
COMMENT ON COLUMN dead_letter_status.deliveries IS 'How often it was delivered.';
COMMENT ON COLUMN dead_letter_status.reason IS 'What the consumer that refused it last has said.';
COMMENT ON COLUMN dead_letter_status.size_bytes IS 'Of the payload.';
COMMENT ON COLUMN dead_letter_status.publisher IS 'Client ID of who published it.';
COMMENT ON COLUMN dead_letter_status.dead_since IS 'When it was given up.';
COMMENT ON COLUMN dead_letter_status.redriven_at IS 'When redrive() last published it again.';

CREATE TABLE dropped_messages (
    channel text PRIMARY KEY,
    messages bigint NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE dropped_messages IS
    'Per channel, what limits dropped though a durable had not acked it. Deleting a row by hand begins anew.';
COMMENT ON COLUMN dropped_messages.channel IS 'Name of the channel, also after its end.';
COMMENT ON COLUMN dropped_messages.messages IS 'How many.';
COMMENT ON COLUMN dropped_messages.first_sequence IS 'The first of them.';
COMMENT ON COLUMN dropped_messages.last_sequence IS 'The last of them.';
COMMENT ON COLUMN dropped_messages.since IS 'When the first was dropped.';
COMMENT ON COLUMN dropped_messages.last_at IS 'When the last was dropped.';

CREATE VIEW dropped_unacked AS
SELECT channel, messages, first_sequence, last_sequence, since, last_at FROM dropped_messages;
COMMENT ON VIEW dropped_unacked IS 'Per channel, what limits dropped though a durable had not acked it, over all servers and starts.';
COMMENT ON COLUMN dropped_unacked.channel IS 'Name of the channel, also after its end.';
COMMENT ON COLUMN dropped_unacked.messages IS 'How many.';
COMMENT ON COLUMN dropped_unacked.first_sequence IS 'The first of them.';
COMMENT ON COLUMN dropped_unacked.last_sequence IS 'The last of them.';
COMMENT ON COLUMN dropped_unacked.since IS 'When the first was dropped.';
COMMENT ON COLUMN dropped_unacked.last_at IS 'When the last was dropped.';

-- As servers sort them: at each part > is wider than *, and that than a name.
CREATE FUNCTION policy_rank(channel text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT array_agg(CASE part WHEN '>' THEN '0' WHEN '*' THEN '1' ELSE '2' || part END ORDER BY n)
    FROM unnest(string_to_array($1, '.')) WITH ORDINALITY AS p (part, n)
$$;
COMMENT ON FUNCTION policy_rank IS 'Sorts wide patterns of channels before narrow ones.';

CREATE FUNCTION policy_matches(pattern text, channel text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path FROM CURRENT AS $$
    SELECT bool_and(coalesce(w.part = '>' OR n.part IS NOT NULL AND w.part IN ('*', n.part), false))
        AND (count(n.part) = count(w.part) OR bool_or(w.part = '>') AND count(n.part) >= count(w.part))
    FROM unnest(string_to_array($1, '.')) WITH ORDINALITY AS w (part, n)
    FULL JOIN unnest(string_to_array($2, '.')) WITH ORDINALITY AS n (part, n)
        ON n.n = w.n
    WHERE w.n IS NOT NULL OR $1 !~ '(^|\.)>$'
$$;
COMMENT ON FUNCTION policy_matches IS 'Whether a channel is one of those that the pattern names.';

CREATE VIEW effective_policies AS
SELECT c.name AS channel, p.durable_name, p.queue_group, s.clients, coalesce(y.source, 'default') AS source, y.policy_id,
       y.max_deliveries, y.backoff, y.poison, y.dead_letter, f.when_full, f.keep_until_acked
FROM positions p
JOIN channels c USING (channel_id)
LEFT JOIN (
    SELECT position_id, string_agg(client_id, ', ' ORDER BY client_id) AS clients FROM subscriptions GROUP BY position_id
) s USING (position_id)
LEFT JOIN LATERAL (
    SELECT y.*, format('policy %s for %s', y.policy_id, concat_ws(', ', y.channel, 'durable ' || y.durable,
                       'queue group ' || y.queue_group)) AS source
    FROM policies y
    WHERE policy_matches(y.channel, c.name) AND (y.durable IS NULL OR y.durable = p.durable_name)
        AND (y.queue_group IS NULL OR y.queue_group = p.queue_group)
    ORDER BY (y.durable IS NOT NULL OR y.queue_group IS NOT NULL) DESC, policy_rank(y.channel) DESC, y.policy_id
    LIMIT 1
) y ON true
LEFT JOIN LATERAL (
    SELECT y.when_full, y.keep_until_acked FROM policies y
    WHERE policy_matches(y.channel, c.name) AND y.durable IS NULL AND y.queue_group IS NULL
    ORDER BY policy_rank(y.channel) DESC, y.policy_id
    LIMIT 1
) f ON true;
COMMENT ON VIEW effective_policies IS 'Which policy holds for each subscription, and where it comes from.';
COMMENT ON COLUMN effective_policies.channel IS 'Name of the channel.';
COMMENT ON COLUMN effective_policies.durable_name IS 'Of the subscription.';
COMMENT ON COLUMN effective_policies.queue_group IS 'Of the subscription.';
COMMENT ON COLUMN effective_policies.clients IS 'Client IDs of its members.';
COMMENT ON COLUMN effective_policies.source IS 'default: none holds. Else which one it is.';
COMMENT ON COLUMN effective_policies.policy_id IS 'Its number.';
COMMENT ON COLUMN effective_policies.max_deliveries IS 'How often a message is delivered at most.';
COMMENT ON COLUMN effective_policies.backoff IS 'How long each delivery waits for its ack.';
COMMENT ON COLUMN effective_policies.poison IS 'What becomes of a message that was delivered so often.';
COMMENT ON COLUMN effective_policies.dead_letter IS 'The channel that it becomes a message of.';
COMMENT ON COLUMN effective_policies.when_full IS 'Of the channel.';
COMMENT ON COLUMN effective_policies.keep_until_acked IS 'Of the channel.';

CREATE FUNCTION growing(first interval, factor numeric DEFAULT 2, cap interval DEFAULT '1 hour') RETURNS interval[]
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
DECLARE
    step interval := $1;
    steps interval[] := '{}';
BEGIN
    IF $1 <= interval '0' OR $2 < 1 OR $3 < $1 THEN
        RAISE EXCEPTION 'pauses that grow begin above 0, their factor is 1 or more, and the cap is no less than the first'
            USING ERRCODE = 'STB03', HINT = 'For example growing(''1 second'', 2, ''5 minutes'').';
    END IF;
    WHILE step < $3 AND cardinality(steps) < 63 LOOP
        steps := steps || step;
        step := step * $2::double precision;
        EXIT WHEN $2 = 1;
    END LOOP;
    RETURN CASE WHEN $2 = 1 THEN ARRAY[$1] ELSE steps || least(step, $3) END;
END $$;
COMMENT ON FUNCTION growing IS 'Pauses for backoff, each so many times as long as the one before, up to the cap.';

CREATE FUNCTION tell_of_policies() RETURNS trigger
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM pg_notify('stanby_policies', 'policies');
    RETURN NULL;
END $$;
COMMENT ON FUNCTION tell_of_policies IS 'The active reads policies when they have changed, and when its term begins.';
CREATE TRIGGER policies_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON policies
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_policies();

-- With the rights of who calls them: the owner of the tables, and whom that gives rights to the table.
CREATE FUNCTION set_policy(channel text, durable text DEFAULT NULL, queue_group text DEFAULT NULL,
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
    IF $1 IS NULL OR $1 !~ '^([^./*>]+|\*)(\.([^./*>]+|\*))*(\.>)?$|^>$' OR octet_length($1) > 1024 THEN
        wrong := 'is for no channels: ' || coalesce(quote_literal(left($1, 100)), 'NULL');
        hint := 'Say a channel''s name, or a pattern like orders.* or orders.>; > alone is all channels.';
    ELSIF $4 < 1 THEN
        wrong := 'delivers messages less than once';
        hint := 'max_deliveries is 1 or more; NULL: until it is acked.';
    ELSIF cardinality($5) > 64 OR EXISTS (SELECT FROM unnest($5) AS b (pause)
                                          WHERE pause IS NULL OR pause <= interval '0' OR pause > interval '365 days') THEN
        wrong := 'has pauses that are none';
        hint := 'backoff has up to 64 intervals, above 0 and up to 365 days; see growing(first, factor, cap).';
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
COMMENT ON FUNCTION set_policy IS
    'Sets the policy of a channel, or of channels by pattern, or of a durable or queue group there; instead of the one before. '
    'Holds a moment after the commit.';

CREATE FUNCTION drop_policy(channel text, durable text DEFAULT NULL, queue_group text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM policies p
    WHERE p.channel = $1 AND p.durable IS NOT DISTINCT FROM $2 AND p.queue_group IS NOT DISTINCT FROM $3;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION drop_policy IS 'Removes a policy; false where there is none.';

CREATE FUNCTION redrive(channel text, sequences bigint[] DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    letter record;
    found bigint := 0;
BEGIN
    FOR letter IN
        SELECT d.channel_id, d.sequence, d.origin_channel, m.data, m.reply, m.encrypted
        FROM dead_letters d
        JOIN channels c ON c.channel_id = d.channel_id AND NOT c.deleting AND c.name = $1
        JOIN messages m ON m.channel_id = d.channel_id AND m.sequence = d.sequence
        WHERE d.redriven_at IS NULL AND $2 IS NULL OR d.sequence = ANY ($2)
        ORDER BY d.sequence FOR UPDATE OF d
    LOOP
        IF letter.encrypted THEN
            RAISE EXCEPTION 'dead letter % of channel % is encrypted', letter.sequence, quote_literal($1)
                USING ERRCODE = 'STB07', HINT = 'Only a client can have it in clear: publish what it receives.';
        END IF;
        PERFORM publish(letter.origin_channel, letter.data,
                        reply => CASE WHEN letter.reply LIKE 'dead-letter channel=%' THEN '' ELSE letter.reply END);
        UPDATE dead_letters d SET redriven_at = clock_timestamp()
        WHERE d.channel_id = letter.channel_id AND d.sequence = letter.sequence;
        found := found + 1;
    END LOOP;
    RETURN found;
END $$;
COMMENT ON FUNCTION redrive IS
    'Publishes dead letters of a channel where they come from, in the caller''s transaction: those that were not redriven yet, or '
    'those named. Returns how many. They become new messages there, for every subscription.';

REVOKE EXECUTE ON FUNCTION set_policy, drop_policy, redrive FROM PUBLIC;
