-- Why: a standby remembers the last seconds of publishes, and at a takeover looks up which of them are stored. One
-- that was stored and that a limit has dropped within those seconds would be taken for new and come back as the
-- channel's newest message. So the GUIDs of messages that are dropped so young stay behind for a while.
--
-- Channels that keep their messages for longer never write here. One row per commit and channel, not per message:
-- a channel that turns over in seconds is a busy one.

CREATE TABLE dropped_guids (
    channel_id bigint NOT NULL,
    through bigint NOT NULL,
    channel text NOT NULL,
    guids text[] NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel_id, through)
);
COMMENT ON TABLE dropped_guids IS
    'Publishes that a limit dropped within seconds, so that no takeover stores them again. Forgotten when the '
    'channel drops older ones, at the latest by the first takeover after an hour.';
COMMENT ON COLUMN dropped_guids.through IS 'Sequence of the last of them.';
COMMENT ON COLUMN dropped_guids.channel IS 'Its name: the channel itself may have been deleted since.';
