-- Roles with no more rights than they need, and the schema they share:
--
--   owner   makes and changes the tables: stanby migrate
--   app     serves: reads, writes and (from Postgres 17 on) vacuums the tables, makes nothing
--   reader  looks: stanby status, dashboards, people. It reads the views, and tables without secrets
--   operator  looks, and asks the active for changes: stanby channel purge, stanby durable seek. It gets that right when
--           the tables are there: run this again after the first migration
--
-- Applications that publish in SQL get one right more, by name, after the first migration:
--   SELECT stanby.grant_to_publisher('billing_app');
--
-- Run once per schema, in the database of the servers, by a role that may make roles and schemas; running it again
-- changes nothing. The roles get no passwords here: set them with \password, or let the platform log them in.
--
--   psql -f roles.sql "$ADMIN_DATABASE_URL"
--   psql -f roles.sql -v schema=orders -v owner=orders_owner -v app=orders_app -v reader=orders_reader …

\set ON_ERROR_STOP on
\if :{?schema} \else \set schema stanby \endif
\if :{?owner} \else \set owner stanby_owner \endif
\if :{?app} \else \set app stanby_app \endif
\if :{?reader} \else \set reader stanby_reader \endif
\if :{?operator} \else \set operator stanby_operator \endif

SELECT format('CREATE ROLE %I LOGIN', role)
FROM unnest(ARRAY[:'owner', :'app', :'reader', :'operator']) AS role
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role)
\gexec

-- An administrator who is no superuser, as on managed platforms, may give away only what is theirs.
SELECT format('GRANT %I TO CURRENT_USER', :'owner')
WHERE current_user <> :'owner' AND NOT pg_has_role(current_user, :'owner', 'MEMBER')
\gexec

-- Whoever may connect can take the lock's key and keep servers from becoming active: the reader, too. While it does,
-- /readyz of the standbys, stanby status and stanby doctor name its session.
REVOKE CONNECT, TEMPORARY ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"owner", :"app", :"reader", :"operator";

SELECT format('CREATE SCHEMA %I AUTHORIZATION %I', :'schema', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = :'schema')
\gexec
GRANT USAGE ON SCHEMA :"schema" TO :"app", :"reader";

-- For tables that this version has made, and for those that later ones will.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA :"schema" TO :"app";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema"
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"app";

-- Of the tables the reader gets those without secrets only. By its right to the functions, which the views need, a
-- migration knows it, and gives it what is there by then.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" REVOKE SELECT ON TABLES FROM :"reader";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA :"schema" GRANT EXECUTE ON FUNCTIONS TO :"reader";
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA :"schema" TO :"reader";
SELECT format('SELECT %I.grant_to_readers()', :'schema')
WHERE EXISTS (
    SELECT FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE n.nspname = :'schema' AND f.proname = 'grant_to_readers'
)
\gexec

GRANT :"reader" TO :"operator";
SELECT format('SELECT %I.grant_to_operator(%L)', :'schema', :'operator')
WHERE EXISTS (
    SELECT FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE n.nspname = :'schema' AND f.proname = 'grant_to_operator'
)
\gexec

-- The active vacuums what limits drop, where it may: from Postgres 17 on that is a right of its own.
SELECT format(command, :'owner', :'schema', :'app')
FROM unnest(ARRAY[
    'GRANT MAINTAIN ON ALL TABLES IN SCHEMA %2$I TO %3$I',
    'ALTER DEFAULT PRIVILEGES FOR ROLE %1$I IN SCHEMA %2$I GRANT MAINTAIN ON TABLES TO %3$I'
]) AS command
WHERE current_setting('server_version_num')::integer >= 170000
\gexec
