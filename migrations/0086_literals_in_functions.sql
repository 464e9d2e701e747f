-- Why: in a session with standard_conforming_strings = off, which applications of before Postgres 9.1 need, a backslash in a
-- function was taken for an escape: publish() refused every channel, and set_policy() and grant_channel() raised an error.
-- Functions with a backslash say how it is to be read.
--
-- A server of a version before this works on.

DO $pin$
DECLARE
    made regprocedure;
BEGIN
    FOR made IN
        SELECT f.oid FROM pg_proc f
        WHERE f.pronamespace = quote_ident(current_schema())::regnamespace AND f.prokind = 'f' AND strpos(f.prosrc, '\') > 0
            AND f.proname IN ('publish', 'policy_matches', 'set_policy', 'grant_channel')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET standard_conforming_strings = on', made);
    END LOOP;
END $pin$;
