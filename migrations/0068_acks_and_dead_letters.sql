-- Why: a consumer that was told in SQL that its ack counts could commit after the message had become a dead letter: the message was
-- handled, and was there to be handled again. The active marks a message before it gives it up; an ack that comes later is told
-- so, and those that came before are waited for.
--
-- A server of a version before this sets no marks and waits for nobody.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

ALTER TABLE delivery_counts ADD COLUMN given_up boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN delivery_counts.given_up IS
    'It is about to be a dead letter: ack() and nack() are told that they come too late. It becomes one when every transaction '
    'has ended that may have acked it before.';

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
    SELECT * INTO state FROM ack_state(its_position, wanted);
    IF state.is_acked OR EXISTS (
        SELECT FROM delivery_counts d WHERE d.position_id = its_position AND d.sequence = wanted AND d.given_up
    ) THEN
        DELETE FROM pending_acks WHERE id = its_id;
        RETURN false;
    ELSIF state.was_sent IS NOT TRUE THEN
        PERFORM refuse_unsent($1, wanted);
    END IF;
    PERFORM note_sql_use();
    RETURN true;
END $$;
COMMENT ON FUNCTION ack IS
    'Acks a message in the caller''s transaction: when that commits, and not when it is rolled back. True: this call is the one '
    'that acked it. False: it was acked before, dropped by a limit, or given up as a dead letter.';

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
    PERFORM pg_current_xact_id();
    INSERT INTO pending_acks (position_id, sequence, client_id, redeliver_after, reason)
    VALUES (its_position, wanted, $5, pause, why);
    PERFORM note_sql_use();
    RETURN true;
END $$;
COMMENT ON FUNCTION nack IS
    'Has a message delivered again, after the delay, when the caller''s transaction commits. False: it was acked before, or given '
    'up as a dead letter.';
