-- Why: a standby remembers the last seconds of requests, and at a takeover carries out what the active did not get to. A
-- connect whose client was closed within those seconds, say for missed heartbeats, would be taken for one of these: the
-- client would be back with those of its subscriptions that happen to be remembered, and never know of the others.

CREATE TABLE closed_connections (
    heartbeat_inbox text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX closed_connections_by_time ON closed_connections (closed_at);
COMMENT ON TABLE closed_connections IS
    'Connections of clients that were closed or replaced lately, so that no takeover carries out their connects again. '
    'Forgotten after ten minutes, when the next client goes.';
