#!/usr/bin/env bash
# Runs fuzz targets of tests/fuzz for FUZZ_SECONDS each: all of them, or those named in FUZZ_TARGETS.
#
# New inputs go to target/fuzz/TARGET. What crashes, hangs (25 s) or takes 2 GiB ends the run, and lies in target/fuzz/found:
#   1. make it small:  cargo +nightly fuzz tmin --fuzz-dir tests/fuzz TARGET target/fuzz/found/TARGET-crash-…
#   2. give it a name that says what it is, as a seed of the test that replays the target (gateway/wire/tests/corpus,
#      gateway/tests/fuzzing, policy/tests/corpus.rs), and write it to tests/fuzz/corpus with UPDATE_CORPUS=1:
#      that test now fails with the ordinary toolchain
#   3. mend the code, and say in a test of its own what was wrong
# Inputs that merely reach more code are not committed: a corpus is as long as a person can read.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/target/tools/bin:$PATH"

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz: no nightly toolchain here; libFuzzer needs one (rustup toolchain install nightly)" >&2
    exit 1
fi
targets=${FUZZ_TARGETS:-$(cargo +nightly fuzz list --fuzz-dir tests/fuzz)}
mkdir -p target/fuzz/found
for target in $targets; do
    echo "fuzz: $target for ${FUZZ_SECONDS:-60} s"
    mkdir -p "target/fuzz/$target"
    inputs=("target/fuzz/$target" "tests/fuzz/corpus/$target")
    options=(-max_total_time="${FUZZ_SECONDS:-60}" -timeout=25 -rss_limit_mb=2048 "-artifact_prefix=target/fuzz/found/$target-")
    if [ "$target" = policy_files ]; then
        inputs+=(gateway/testdata)
    fi
    if [ -f "tests/fuzz/dictionaries/$target" ]; then
        options+=("-dict=tests/fuzz/dictionaries/$target")
    fi
    cargo +nightly fuzz run --fuzz-dir tests/fuzz "$target" "${inputs[@]}" -- "${options[@]}"
done
