-- Why: a standby waits for the lock in slices, and between two of them it looked like none: for moments view standbys was empty,
-- and a step-down was refused because nobody would take over. Standbys hold a shared lock beside the one that they wait for
-- from here on: the same number among those of two parts.
--
-- A server of a version before this holds no such lock, and is seen while it waits, as before.

-- Behind somebody who reads a view for long this must not queue: others would queue behind it.
SET LOCAL lock_timeout = '1s';

CREATE OR REPLACE VIEW standbys AS
SELECT a.application_name, a.client_addr, a.backend_start AS connected_since
FROM leadership l
CROSS JOIN LATERAL (
    SELECT k.pid FROM pg_locks k
    WHERE k.locktype = 'advisory' AND k.objsubid IN (1, 2)
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND k.classid::bigint = (l.lock_key >> 32) & 4294967295 AND k.objid::bigint = l.lock_key & 4294967295
    GROUP BY k.pid
    HAVING NOT bool_or(k.objsubid = 1 AND k.granted)
) w
JOIN pg_stat_activity a ON a.pid = w.pid;
