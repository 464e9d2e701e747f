-- Why: an active that takes over counts acks of messages that the tables do not show as sent: an earlier active sent them and
-- could not note it any more. After an operator has moved a durable back, a standby still remembers acks of before, and
-- they would count for what is to be delivered again. From here on the tables tell how long ago a position was moved.
--
-- A server of a version before this notes no moves: until the last one is replaced it is as before.

SET LOCAL lock_timeout = '1s';

CREATE TABLE moved_positions (
    position_id bigint PRIMARY KEY,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE moved_positions IS
    'Durables that an operator has moved within the last hour or so: acks that a standby heard before do not count.';
COMMENT ON COLUMN moved_positions.moved_at IS 'When.';
