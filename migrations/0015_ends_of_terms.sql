-- Why: who looks at the tables alone must see why a term ended, how long clients noticed, and what Postgres refuses to
-- store. The next active must know it, too: it takes care with what the one before could not store.
--
-- And every table has a key: with CREATE PUBLICATION ... FOR ALL TABLES Postgres refuses to update or delete rows of a
-- table without one.

SET LOCAL lock_timeout = '1s';

ALTER TABLE closed_connections ADD COLUMN entry bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;

ALTER TABLE leadership
    ADD COLUMN end_epoch bigint, ADD COLUMN end_cause text, ADD COLUMN end_detail text;
COMMENT ON COLUMN leadership.end_epoch IS 'The last term whose active could tell why it ended it.';
COMMENT ON COLUMN leadership.end_cause IS 'Why it did, as in takeovers.cause.';
COMMENT ON COLUMN leadership.end_detail IS 'The same in a sentence.';

ALTER TABLE takeovers
    ADD COLUMN cause text, ADD COLUMN detail text, ADD COLUMN silence interval,
    ADD COLUMN answered_from_memory bigint;
COMMENT ON COLUMN takeovers.cause IS
    'Why the term before ended: told by its active, or what the new one makes of what it saw. See docs/operations.md.';
COMMENT ON COLUMN takeovers.detail IS 'The cause in a sentence.';
COMMENT ON COLUMN takeovers.silence IS
    'From the last sign of the active before to the first commit of the new one: how long clients waited. NULL when the new '
    'one had not heard it.';
COMMENT ON COLUMN takeovers.answered_from_memory IS
    'Requests that the new active had heard as a standby, and answered because nobody had.';

CREATE TABLE refused_writes (
    place text NOT NULL,
    sqlstate text NOT NULL,
    rule text NOT NULL,
    reason text NOT NULL,
    remedy text NOT NULL,
    server_id text NOT NULL,
    requests bigint NOT NULL,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (place, sqlstate, rule)
);
COMMENT ON TABLE refused_writes IS
    'What Postgres refused to store, for a reason that does not pass. For an hour after the last time the active takes each '
    'step so that it can take it back. Rows may be deleted by hand once the reason is gone.';
COMMENT ON COLUMN refused_writes.place IS 'Table, or part of a commit.';
COMMENT ON COLUMN refused_writes.rule IS 'Constraint or column, where Postgres names one.';
COMMENT ON COLUMN refused_writes.reason IS 'In Postgres'' words, of the last time.';
COMMENT ON COLUMN refused_writes.requests IS 'How often.';

-- Not logged: what is in here is part of a transaction that is not over yet.
CREATE UNLOGGED TABLE uploads (
    message integer NOT NULL,
    piece integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (message, piece)
);
ALTER TABLE uploads ALTER COLUMN data SET STORAGE EXTERNAL;
COMMENT ON TABLE uploads IS
    'Pieces of messages that are too large for the link to Postgres to carry in one go. Empty between two commits.';
