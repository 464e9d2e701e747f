-- Why: several groups of servers may share a cluster ID, each with channels and tables of its own. Who looks at the tables
-- alone must see which channels they are for.

ALTER TABLE leadership ADD COLUMN serves text[];
COMMENT ON COLUMN leadership.serves IS
    'The channels that the last active served, wildcards included; NULL: all channels of the cluster ID.';
