-- Why: several groups of servers may share a cluster ID, each with channels and tables of its own. They ask each other
-- over NATS whether their channels overlap, and must know their own group from the others even before its first term;
-- and an operator who looks at the tables alone must see which channels they are for.

ALTER TABLE leadership
    ADD COLUMN group_id uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN serves text[];
COMMENT ON COLUMN leadership.group_id IS
    'Tells the servers of these tables from those of other groups with the same cluster ID. A copy of the tables that is '
    'to be a group of its own needs another one.';
COMMENT ON COLUMN leadership.serves IS
    'The channels that the last active served, wildcards included; NULL: all channels of the cluster ID.';
