-- Why: nack() looked whether a message was given up before its transaction had a number, and the active knows by the numbers for
-- whom a dead letter waits. One that looked just before the mark was set could return true, and the message was a dead letter then.
-- ack() has its number before it looks.
--
-- A server of a version before this works on.

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
    SELECT * INTO state FROM ack_state(its_position, wanted);
    IF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    ELSIF state.is_acked OR EXISTS (
        SELECT FROM pending_acks a
        WHERE a.position_id = its_position AND a.sequence = wanted AND a.redeliver_after IS NULL
    ) OR EXISTS (
        SELECT FROM delivery_counts d WHERE d.position_id = its_position AND d.sequence = wanted AND d.given_up
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO pending_acks (position_id, sequence, client_id, redeliver_after, reason)
    VALUES (its_position, wanted, $5, pause, why);
    PERFORM note_sql_use();
    RETURN true;
END $$;
