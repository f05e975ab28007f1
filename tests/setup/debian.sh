#!/usr/bin/env bash
# Installs the Debian packages that are missing, and nothing else; silent and quick when nothing is.
#   debian.sh demo    what `make demo` needs: a C compiler (for the crypto library) and PostgreSQL
#   debian.sh tests   what `make test` needs as well
#   debian.sh bench   what `make bench` needs: the same as the demo, and the peers that it measures
set -euo pipefail

main() {
    local missing=()
    case "${1:-}" in
        demo) compiler; postgresql ;;
        tests) compiler; postgresql; network; faults; modules; receivers; scripting; drivers ;;
        bench) compiler; postgresql; peers ;;
        *) echo "usage: $0 demo|tests|bench" >&2; exit 64 ;;
    esac
    [ "${#missing[@]}" -eq 0 ] || install "${missing[@]}"
}

compiler() {
    has cc || missing+=(gcc libc6-dev)
}

# 15 is what Debian 12 has; the tests bring a second, newer server of their own (javascript.sh).
postgresql() {
    [ -x /usr/lib/postgresql/15/bin/postgres ] || missing+=(postgresql-15)
    has psql || missing+=(postgresql-client-15)
}

network() {
    has ip || missing+=(iproute2)
    has openssl || missing+=(openssl)
}

# What cuts links between nodes, and what sets one node's clock apart.
faults() {
    has nft || missing+=(nftables)
    [ -e /usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1 ] || missing+=(libfaketime)
}

# A PKCS #11 module and a tool that makes keys on it.
modules() {
    [ -e /usr/lib/softhsm/libsofthsm2.so ] || missing+=(softhsm2)
    has pkcs11-tool || missing+=(opensc)
}

# Who takes what is shipped from the audit logs. The tests run it with a configuration of their own.
receivers() {
    [ -e /usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_ossl.so ] || missing+=(rsyslog rsyslog-openssl)
}

scripting() {
    has python3 || missing+=(python3)
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    has node || missing+=(nodejs)
    has npm || missing+=(npm)
}

# One driver of each further language. (Where one is missing, its test is skipped, but not in CI.)
drivers() {
    php -r 'exit(extension_loaded("pgsql") && extension_loaded("pdo_pgsql") ? 0 : 1);' 2>/dev/null || missing+=(php-cli php-pgsql)
    ruby -rpg -e 1 2>/dev/null || missing+=(ruby ruby-pg)
    perl -MDBD::Pg -e 1 2>/dev/null || missing+=(libdbd-pg-perl)
    [ -e /usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so ] || missing+=(odbc-postgresql unixodbc)
    has go || missing+=(golang-go)
    [ -d /usr/share/gocode/src/github.com/lib/pq ] || missing+=(golang-github-lib-pq-dev)
    [ -e /usr/share/java/postgresql.jar ] || missing+=(libpostgresql-jdbc-java)
    has javac || missing+=(default-jdk-headless)
}

# The bench runs them itself, each with a configuration of its own; what the packages start is not used.
peers() {
    has pgbouncer || missing+=(pgbouncer)
    has stunnel4 || missing+=(stunnel4)
    has haproxy || missing+=(haproxy)
}

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

install() {
    if ! has apt-get; then
        echo "setup: these are missing and this is not Debian: $*" >&2
        echo "setup: install their equivalents by hand (PostgreSQL 15 is looked for in /usr/lib/postgresql/15/bin)" >&2
        exit 1
    fi
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! has sudo; then
            echo "setup: missing Debian packages: $*" >&2
            echo "setup: we are neither root nor is there sudo; as root, run: apt-get install --no-install-recommends $*" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "setup: installing from Debian: $*"
    # An update is slow and only sometimes needed: first try with the lists as they are.
    # --no-upgrade, because a server already here must not change under somebody's data.
    local options=(--yes --quiet --no-upgrade --no-install-recommends)
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" </dev/null; then
        echo "setup: that failed with the package lists at hand; updating them and trying once more"
        "${as_root[@]}" apt-get update --quiet </dev/null
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" </dev/null
    fi
}

main "$@"
