-- Why: two servers of a pair that are set up differently behave differently after a takeover, and nobody sees it before. Each
-- server writes here what it was set up with, when it starts: without secrets, and nothing that any server acts on. It also says
-- where its pages are, so that those of the other server can lead there.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE TABLE told_settings (
    server_id text PRIMARY KEY,
    host text NOT NULL,
    version text NOT NULL,
    pages text,
    settings jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    told_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE told_settings IS 'What each server was set up with when it started, the last 16 of them. No server acts on it.';
COMMENT ON COLUMN told_settings.server_id IS 'Unique per process.';
COMMENT ON COLUMN told_settings.host IS 'Name of its machine.';
COMMENT ON COLUMN told_settings.version IS 'Of the program.';
COMMENT ON COLUMN told_settings.pages IS 'Where its pages are; NULL: it has none.';
COMMENT ON COLUMN told_settings.settings IS 'By the names of their flags; nothing secret is among them.';
COMMENT ON COLUMN told_settings.told_at IS 'When it started.';

CREATE VIEW server_settings AS
SELECT t.server_id, t.host, t.version, t.pages, t.settings, t.told_at,
       coalesce(t.server_id = a.holder AND a.holds_lock, false) AS is_active,
       EXISTS (SELECT FROM standbys s WHERE s.application_name LIKE '%/' || t.server_id) AS is_standby
FROM told_settings t LEFT JOIN active a ON true;
COMMENT ON VIEW server_settings IS 'What servers were set up with, and which of them are the active and the standbys.';
COMMENT ON COLUMN server_settings.server_id IS 'Unique per process.';
COMMENT ON COLUMN server_settings.host IS 'Name of its machine.';
COMMENT ON COLUMN server_settings.version IS 'Of the program.';
COMMENT ON COLUMN server_settings.pages IS 'Where its pages are; NULL: it has none.';
COMMENT ON COLUMN server_settings.settings IS 'By the names of their flags.';
COMMENT ON COLUMN server_settings.told_at IS 'When it started.';
COMMENT ON COLUMN server_settings.is_active IS 'It serves at this moment.';
COMMENT ON COLUMN server_settings.is_standby IS 'It waits for the lock at this moment.';
