-- Why: during a rolling upgrade a server of the last version may start, or start again after a crash, on tables that
-- a newer one has migrated. It may, as long as every change since its version only added what it does not need.
-- A migration that takes something away raises the number here, and by then no older server may be in use.

CREATE TABLE schema_compatibility (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    oldest_server bigint NOT NULL
);
COMMENT ON TABLE schema_compatibility IS
    'Servers that know this version of the schema or a later one can work on these tables.';
INSERT INTO schema_compatibility (oldest_server) VALUES (1);
