-- A message whose row cannot be read is passed over by subscriptions, so that it does not hold up those behind it. People
-- must be able to find out which ones, long after the log has gone.

CREATE TABLE unreadable_messages (
    channel_id bigint NOT NULL,
    sequence bigint NOT NULL,
    why text NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel_id, sequence)
);
COMMENT ON TABLE unreadable_messages IS
    'Rows of messages that a subscription passed over because they cannot be read. Delete a row here once it is dealt with.';
