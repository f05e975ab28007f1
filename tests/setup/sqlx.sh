#!/usr/bin/env bash
# The program for SQLx in target/tools/sqlx: it is outside the workspace, so that what SQLx stands on is not built into
# anything else. Built anew by its test when it has changed.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ ! -x target/tools/sqlx/debug/portcullis-sqlx-program ]; then
    echo "setup: building SQLx into target/tools/sqlx (once; half a minute)"
fi
cargo build --quiet --locked --target-dir target/tools/sqlx --manifest-path tests/programs/sqlx/Cargo.toml </dev/null
