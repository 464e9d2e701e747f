-- Why: what is wrong with the active shows on its own pages and in its log. Who looks from psql or with `stanby status`
-- finds it here, in the same words.

CREATE TABLE conditions (
    kind text PRIMARY KEY,
    reason text NOT NULL,
    server_id text NOT NULL,
    since timestamptz NOT NULL
);
COMMENT ON TABLE conditions IS
    'What is wrong with the active right now; empty when nothing is. A new active begins with its own.';
COMMENT ON COLUMN conditions.kind IS 'As in the metric stanby_condition.';
COMMENT ON COLUMN conditions.reason IS 'What is wrong and what to do about it.';
