-- Takes out of a database cluster what setup.sql put into it.
--
--   psql -X -v ON_ERROR_STOP=1 -f remove.sql 'dbname=postgres'
--
-- Run it as a superuser in the same database. Afterwards endpoints with authentication "scram" on
-- this cluster refuse everybody, and queries of closed connections are cancelled but not seen to
-- be gone. Take the gateway's lines out of pg_hba.conf and pg_ident.conf as well.

BEGIN;

DROP FUNCTION IF EXISTS portcullis.role_secret(text);
DROP FUNCTION IF EXISTS portcullis.backend_started(integer);
DROP FUNCTION IF EXISTS portcullis.stop_backend(integer, bigint);
DROP FUNCTION IF EXISTS portcullis.facts();
DROP FUNCTION IF EXISTS portcullis.hba_rules();
-- Without CASCADE: if somebody keeps something else in there, they are told.
DROP SCHEMA IF EXISTS portcullis;

DO $remove$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portcullis_service') THEN
        -- It owns nothing; this takes back the right to connect to this database.
        DROP OWNED BY portcullis_service;
        DROP ROLE portcullis_service;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portcullis_replication') THEN
        DROP ROLE portcullis_replication;
    END IF;
END
$remove$;

COMMIT;
