-- What Portcullis needs inside a database cluster, and nothing more.
--
--   psql -X -v ON_ERROR_STOP=1 -f setup.sql 'dbname=postgres'
--
-- Run it as a superuser, once a cluster, in the database that the policy names under
-- `service: {role: portcullis_service, database: …}`. It may be run again at any time, and must be
-- after an upgrade of Portcullis. PostgreSQL 11 to 18 and YugabyteDB (YSQL). remove.sql undoes it.
--
-- The functions are SECURITY DEFINER and belong to the superuser who runs this: reading verifiers
-- and ending backends takes those rights, and the service role shall not have them. Each does one
-- thing, names every object with its schema, and may be executed by the service role alone.

BEGIN;

DO $setup$
BEGIN
    IF current_setting('is_superuser') <> 'on' THEN
        RAISE EXCEPTION 'setup.sql must be run by a superuser, not by %', current_user
            USING HINT = 'Without one, use authentication "certificate", "token" or "relay": see README.md.';
    END IF;
    -- Whoever owned a schema or role of ours before could keep a way into what is made here.
    IF EXISTS (
        SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
        WHERE n.nspname = 'portcullis' AND NOT o.rolsuper
    ) THEN
        RAISE EXCEPTION 'schema portcullis exists and belongs to a role that is no superuser'
            USING HINT = 'Find out who made it, then drop or rename it.';
    END IF;
    IF EXISTS (
        SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portcullis_service' AND rolsuper
    ) THEN
        RAISE EXCEPTION 'role portcullis_service exists and is a superuser'
            USING HINT = 'Find out who made it so, then drop it.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portcullis_service') THEN
        CREATE ROLE portcullis_service;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portcullis_replication') THEN
        CREATE ROLE portcullis_replication;
    END IF;
END
$setup$;

-- The role that the gateways sign in as, by certificate: it has no password to lose. Every gateway
-- keeps at most two connections to a server, so the limit is enough for 25 gateways.
ALTER ROLE portcullis_service
    LOGIN PASSWORD NULL NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT
    CONNECTION LIMIT 50;
ALTER ROLE portcullis_service SET search_path = pg_catalog;
ALTER ROLE portcullis_service SET default_transaction_read_only = on;
ALTER ROLE portcullis_service SET statement_timeout = '3s';
COMMENT ON ROLE portcullis_service IS 'Portcullis gateways sign in as this role, by certificate.';

-- A mark, not a right: roles with REPLICATION sign in through the gateway only if they bear it.
ALTER ROLE portcullis_replication
    NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
COMMENT ON ROLE portcullis_replication IS
    'Grant this to a role with REPLICATION that shall sign in through Portcullis.';

DO $setup$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO portcullis_service', current_database());
END
$setup$;

CREATE SCHEMA IF NOT EXISTS portcullis;
REVOKE ALL ON SCHEMA portcullis FROM PUBLIC;
GRANT USAGE ON SCHEMA portcullis TO portcullis_service;

-- Dropped and made anew rather than replaced: a replaced function keeps its old owner.
DROP FUNCTION IF EXISTS portcullis.role_secret(text);
DROP FUNCTION IF EXISTS portcullis.backend_started(integer);
DROP FUNCTION IF EXISTS portcullis.stop_backend(integer, bigint);
DROP FUNCTION IF EXISTS portcullis.facts();
DROP FUNCTION IF EXISTS portcullis.hba_rules();

-- What SCRAM-SHA-256 needs to know of one role: no row if there is no such role, and a reason in
-- the place of the verifier where it is not given out.
CREATE FUNCTION portcullis.role_secret(role_name text)
RETURNS TABLE (verifier text, valid_until_ms bigint, can_login boolean, withheld text)
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    WITH asked AS (
        SELECT a.rolpassword, a.rolvaliduntil, a.rolcanlogin,
            CASE
                WHEN a.rolsuper THEN 'superuser'
                WHEN a.rolname::text LIKE 'pg\_%'
                    OR a.rolname IN ('portcullis_service', 'portcullis_replication')
                    THEN 'reserved'
                WHEN a.rolreplication AND NOT EXISTS (
                    SELECT FROM pg_catalog.pg_auth_members m
                    JOIN pg_catalog.pg_authid g ON g.oid = m.roleid
                    WHERE m.member = a.oid AND g.rolname = 'portcullis_replication'
                ) THEN 'replication'
                WHEN NOT a.rolcanlogin THEN 'cannot_log_in'
                WHEN a.rolpassword IS NULL THEN 'no_password'
                WHEN a.rolpassword NOT LIKE 'SCRAM-SHA-256$%' THEN 'not_scram'
            END AS withheld
        FROM pg_catalog.pg_authid a
        -- A longer name would be cut to fit and then be another role's.
        WHERE a.rolname = role_name::name AND octet_length(role_name) <= 63
    )
    SELECT
        CASE WHEN withheld IS NULL THEN rolpassword END,
        CASE
            WHEN rolvaliduntil = 'infinity' THEN NULL
            WHEN rolvaliduntil = '-infinity' THEN 0
            ELSE floor(extract(epoch FROM rolvaliduntil) * 1000)::bigint
        END,
        rolcanlogin,
        withheld
    FROM asked
$body$;

-- When the process of this id was started, in microseconds since 1970, or NULL if there is none.
-- Process ids come round again; together with this they do not.
CREATE FUNCTION portcullis.backend_started(backend_pid integer)
RETURNS bigint
LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT (extract(epoch FROM s.backend_start) * 1000000)::bigint
    FROM pg_catalog.pg_stat_get_activity(backend_pid) s
    WHERE s.pid = backend_pid
$body$;

-- Ends one client's backend: only the very process that was meant, only one that came from where
-- the caller comes from (its own gateway), never a superuser's and never another gateway's own.
CREATE FUNCTION portcullis.stop_backend(backend_pid integer, started bigint)
RETURNS boolean
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT coalesce((
        SELECT pg_catalog.pg_terminate_backend(s.pid)
        FROM pg_catalog.pg_stat_activity s
        JOIN pg_catalog.pg_authid a ON a.oid = s.usesysid
        WHERE s.pid = backend_pid
            AND portcullis.backend_started(s.pid) = started
            AND s.client_addr IS NOT DISTINCT FROM pg_catalog.inet_client_addr()
            AND NOT a.rolsuper
            AND a.rolname <> 'portcullis_service'
    ), false)
$body$;

-- What `portcullis cluster check` reports about stored passwords: counts, no names, no secrets.
CREATE FUNCTION portcullis.facts()
RETURNS TABLE (password_encryption text, scram_roles bigint, md5_roles bigint, unfit_roles bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT
        pg_catalog.current_setting('password_encryption'),
        count(*) FILTER (WHERE a.rolpassword LIKE 'SCRAM-SHA-256$%'),
        count(*) FILTER (WHERE a.rolpassword LIKE 'md5%'),
        -- Outside what the gateway accepts: it will not ask its clients for any amount of work,
        -- nor for none.
        count(*) FILTER (
            WHERE substring(a.rolpassword FROM '^SCRAM-SHA-256\$([0-9]{1,15}):')::bigint
                NOT BETWEEN 4096 AND 100000
        )
    FROM pg_catalog.pg_authid a
    WHERE a.rolcanlogin AND NOT a.rolsuper
$body$;

-- The rules of pg_hba.conf as `cluster check` shows them: as the file is now, not as it was when it
-- was last loaded.
CREATE FUNCTION portcullis.hba_rules()
RETURNS TABLE (
    line integer, type text, databases text[], users text[], address text, netmask text,
    method text, options text[], error text
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $body$
    SELECT line_number, type, database, user_name, address, netmask, auth_method, options, error
    FROM pg_catalog.pg_hba_file_rules
    ORDER BY line_number
$body$;

COMMENT ON SCHEMA portcullis IS 'What Portcullis gateways may ask. Made by setup.sql.';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA portcullis FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    portcullis.role_secret(text),
    portcullis.backend_started(integer),
    portcullis.stop_backend(integer, bigint),
    portcullis.facts(),
    portcullis.hba_rules()
TO portcullis_service;

COMMIT;
