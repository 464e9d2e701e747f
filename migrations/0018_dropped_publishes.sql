-- Why: GUIDs are the clients' to choose. A standby that heard a publish took it for one that is stored when another client,
-- or the same one with another content, had used its GUID shortly before. What is stored tells who sent it and what it says;
-- of what a limit has dropped only the GUID was left behind. A server of the last version goes on writing that alone.

ALTER TABLE dropped_guids ADD COLUMN client_ids text[], ADD COLUMN contents bytea[];
ALTER TABLE dropped_guids ALTER COLUMN client_ids SET STORAGE EXTERNAL;
ALTER TABLE dropped_guids ALTER COLUMN contents SET STORAGE EXTERNAL;
COMMENT ON COLUMN dropped_guids.client_ids IS 'Per GUID: who published. NULL where an older server dropped the messages.';
COMMENT ON COLUMN dropped_guids.contents IS
    'Per GUID: the first 16 bytes of SHA-256 of reply, a zero byte and data. NULL where it is not known: the message was '
    'encrypted, or an older server dropped it.';

-- Why: sequences that a failover of Postgres lost were told as lost although what they had been given to was heard by the next
-- active and is stored anew.

COMMENT ON COLUMN lost_ranges.fate IS
    'restored: stored again under the same sequences. stored anew: what they were given to is stored under later ones. lost: '
    'were acked and are gone. unknown: may have been given to messages that were acked. Sequences of all but the first are '
    'never used again.';
CREATE OR REPLACE VIEW database_failovers AS
SELECT t.epoch, t.at, t.timeline_before, t.timeline_after,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate IN ('restored', 'stored anew')), 0)::bigint
           AS restored,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate = 'lost'), 0)::bigint AS lost,
       coalesce(sum(r.last_sequence - r.first_sequence + 1) FILTER (WHERE r.fate = 'unknown'), 0)::bigint AS unknown,
       string_agg(format('%s #%s to #%s %s', r.channel, r.first_sequence, r.last_sequence, r.fate), '; '
                  ORDER BY r.channel, r.first_sequence) AS ranges
FROM takeovers t
LEFT JOIN lost_ranges r USING (epoch)
WHERE t.timeline_after IS NOT NULL OR r.epoch IS NOT NULL
GROUP BY t.epoch, t.at, t.timeline_before, t.timeline_after;
