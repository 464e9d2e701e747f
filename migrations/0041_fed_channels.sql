-- Why: a JetStream stream can feed a channel (`stanby mirror jetstream --reverse`). How far it has is noted in the transaction that
-- publishes, so that each message of the stream comes once, whatever is killed between.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE fed_channels (
    channel_name text NOT NULL,
    stream text NOT NULL,
    stream_created text NOT NULL,
    through bigint NOT NULL CHECK (through >= 0),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (channel_name, stream)
);
COMMENT ON TABLE fed_channels IS 'How far each JetStream stream that feeds a channel has been published to it.';
COMMENT ON COLUMN fed_channels.channel_name IS 'The channel that it is published to.';
COMMENT ON COLUMN fed_channels.stream IS 'The stream that it comes from.';
COMMENT ON COLUMN fed_channels.stream_created IS 'When the stream was made: one that was deleted and made anew is another one.';
COMMENT ON COLUMN fed_channels.through IS 'Of the last message of the stream that was published, or left out as a copy of this channel.';
COMMENT ON COLUMN fed_channels.at IS 'When that was.';
