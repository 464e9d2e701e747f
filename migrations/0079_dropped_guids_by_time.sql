-- Why: a takeover read the whole hour of publishes that limits had dropped, and looked through all of it for what to forget. What it
-- needs are those of the last minute, and those of the channels in which a publish was heard that may be one of them, which the
-- primary key finds.

SET LOCAL lock_timeout = '1s';

CREATE INDEX dropped_guids_dropped_at ON dropped_guids (dropped_at);
