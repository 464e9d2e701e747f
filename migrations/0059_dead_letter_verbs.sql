-- Why: dead letters were published again by a function that read payloads in the caller's session: it could not where they
-- are encrypted, it took any number in one transaction, and whoever asked needed rights to the tables. From here on the
-- active does it like everything that operators ask for: in bounded steps, each letter once whatever ends when, audited,
-- with a preview. What a dead letter was published with, and which request redrove it, is kept.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

ALTER TABLE dead_letters ADD COLUMN reply text NOT NULL DEFAULT '', ADD COLUMN redriven_by bigint;
COMMENT ON COLUMN dead_letters.reply IS 'The reply text that it was published with.';
COMMENT ON COLUMN dead_letters.redriven_at IS 'When it was last published again.';
COMMENT ON COLUMN dead_letters.redriven_by IS 'Number of the request that did: view admin_log.';
CREATE INDEX dead_letters_waiting ON dead_letters (channel_id, sequence) WHERE redriven_at IS NULL;

CREATE OR REPLACE VIEW dead_letter_status AS
SELECT c.name AS channel, d.sequence, d.origin_channel, d.origin_sequence, d.durable_name, d.queue_group, d.deliveries, d.reason,
       octet_length(m.data) AS size_bytes, m.client_id AS publisher, d.dead_since, d.redriven_at, d.redriven_by
FROM dead_letters d
JOIN channels c ON c.channel_id = d.channel_id AND NOT c.deleting
JOIN messages m ON m.channel_id = d.channel_id AND m.sequence = d.sequence;
COMMENT ON COLUMN dead_letter_status.redriven_at IS 'When it was last published again.';
COMMENT ON COLUMN dead_letter_status.redriven_by IS 'Number of the request that did: view admin_log.';

DROP FUNCTION redrive(text, bigint[]);

CREATE FUNCTION request_redrive(channel text, sequence bigint DEFAULT NULL, first bigint DEFAULT NULL, last bigint DEFAULT NULL,
                                to_channel text DEFAULT NULL, dry_run boolean DEFAULT false) RETURNS bigint
LANGUAGE sql SET search_path FROM CURRENT AS $$
    SELECT admin_request('dlq redrive', jsonb_build_object('channel', $1, 'sequence', $2, 'first', $3, 'last', $4,
                                                           'to_channel', $5), $6)
$$;
COMMENT ON FUNCTION request_redrive IS
    'Publishes dead letters of a channel again where they come from: all that were not yet, or those named. '
    'In the caller''s transaction; returns the number of the request.';

-- One that commits can set no search_path: its names are written out.
DO $make$
BEGIN
    EXECUTE format($create$
CREATE PROCEDURE redrive(channel text, sequence bigint DEFAULT NULL, first bigint DEFAULT NULL, last bigint DEFAULT NULL,
                         to_channel text DEFAULT NULL, dry_run boolean DEFAULT false, INOUT result jsonb DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
    CALL %1$I.await_request(%1$I.request_redrive($1, $2, $3, $4, $5, $6), result);
END $$ $create$, current_schema());
    COMMENT ON PROCEDURE redrive IS
        'Publishes dead letters of a channel again where they come from: all that were not yet, or those named. '
        'Commits, and waits for the answer.';
END $make$;
