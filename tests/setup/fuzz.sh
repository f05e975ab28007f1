#!/usr/bin/env bash
# Runs every fuzz target of tests/fuzz for FUZZ_SECONDS each. New inputs go to target/fuzz; what is worth
# keeping is copied to tests/fuzz/corpus by hand, and what crashes lies in tests/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/target/tools/bin:$PATH"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: no nightly toolchain here; libFuzzer needs one (rustup toolchain install nightly)" >&2
    exit 1
fi
targets=$(cargo +nightly fuzz list --fuzz-dir tests/fuzz)
for target in $targets; do
    echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
    mkdir -p "target/fuzz/$target"
    cargo +nightly fuzz run --fuzz-dir tests/fuzz "$target" "target/fuzz/$target" "tests/fuzz/corpus/$target" \
        -- -max_total_time="${FUZZ_SECONDS:-60}" -rss_limit_mb=2048
done
