#!/usr/bin/env bash
# tool.sh NAME VERSION [cargo install options]: a cargo tool in target/tools/bin, built once.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=$1 version=$2
shift 2

if [ -x "target/tools/bin/$name" ] && grep -qs "\"$name $version " target/tools/.crates.toml; then
    exit 0
fi
echo "setup: building $name $version into target/tools/bin (once; some minutes)"
cargo install --locked --quiet --root target/tools --target-dir target/tools/build "$@" "$name@$version" </dev/null
rm -rf target/tools/build
