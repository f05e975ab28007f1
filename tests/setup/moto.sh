#!/usr/bin/env bash
# A virtual environment in target/tools/moto with an object store to test against, as pinned by hash in moto.txt. It is apart from the
# drivers' because the two want different versions of the same packages.
set -euo pipefail
cd "$(dirname "$0")"
venv=../../target/tools/moto
stamp=$venv/.installed

main() {
    if cmp --silent moto.txt "$stamp" && "$venv/bin/python" -c 'import moto.server, boto3, flask' 2>/dev/null; then
        return
    fi
    echo "setup: making target/tools/moto with an object store"
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --requirement moto.txt </dev/null
    cp moto.txt "$stamp"
}

main
