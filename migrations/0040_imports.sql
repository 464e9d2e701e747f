-- Why: a server that is started with the line of its predecessor imports what that one kept, once. Only a note in the tables can
-- tell the starts after that, on every machine, that it is done, and that nothing was written to the former store since.

CREATE TABLE imports (
    import_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    fingerprints text[] NOT NULL,
    channels bigint NOT NULL,
    messages bigint NOT NULL,
    clients bigint NOT NULL,
    durables bigint NOT NULL,
    server_id text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE imports IS 'What was imported from stores of nats-streaming-server, in the same transaction as its data.';
COMMENT ON COLUMN imports.source IS 'Where it was: a directory, the directories of Raft nodes, or a database, without passwords.';
COMMENT ON COLUMN imports.fingerprints IS
    'Per directory: SHA-256 of the names and sizes of its files and of the server''s own record. Another one means that a former '
    'server has written to it since.';
COMMENT ON COLUMN imports.channels IS 'How many there were.';
COMMENT ON COLUMN imports.messages IS 'How many there were, of all channels.';
COMMENT ON COLUMN imports.clients IS 'How many were connected.';
COMMENT ON COLUMN imports.durables IS 'Durable subscriptions and durable queue groups.';
COMMENT ON COLUMN imports.server_id IS 'Of the process that imported.';
COMMENT ON COLUMN imports.at IS 'When it was written; the commit is a little later.';

CREATE VIEW import_status AS
SELECT import_id, at, source, channels, messages, clients, durables FROM imports;
COMMENT ON VIEW import_status IS 'What was imported from stores of nats-streaming-server, and when.';
COMMENT ON COLUMN import_status.import_id IS 'In their order.';
COMMENT ON COLUMN import_status.at IS 'When it was written.';
COMMENT ON COLUMN import_status.source IS 'Where it was, without passwords.';
COMMENT ON COLUMN import_status.channels IS 'How many there were.';
COMMENT ON COLUMN import_status.messages IS 'How many there were, of all channels.';
COMMENT ON COLUMN import_status.clients IS 'How many were connected.';
COMMENT ON COLUMN import_status.durables IS 'Durable subscriptions and durable queue groups.';
