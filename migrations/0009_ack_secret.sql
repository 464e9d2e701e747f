-- Why: a subscribe request may reach two actives in turn. Both must name the ack inbox that the client was told first, or
-- its acks are nobody's; so ack inboxes follow from the request and a secret that the servers share.

ALTER TABLE leadership ADD COLUMN ack_secret bytea NOT NULL
    DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');
COMMENT ON COLUMN leadership.ack_secret IS
    'What keeps ack inboxes from being guessed by who cannot read these tables. Drawn with the tables.';
