#!/usr/bin/env bash
# A virtual environment in target/tools/venv with the drivers for Python, as pinned by hash in python.txt.
set -euo pipefail
cd "$(dirname "$0")"
venv=../../target/tools/venv
stamp=$venv/.installed

main() {
    if cmp --silent python.txt "$stamp" && "$venv/bin/python" -c 'import psycopg, psycopg2, asyncpg, pg8000, pyodbc, sqlalchemy, cryptography, opentelemetry.proto.logs.v1.logs_pb2' 2>/dev/null; then
        return
    fi
    echo "setup: making target/tools/venv with the drivers for Python"
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement python.txt </dev/null
    cp python.txt "$stamp"
}

main
