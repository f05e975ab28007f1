# Everything a person or CI needs, by name: `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test verify fix bench bench-table fuzz soak setup setup-bench setup-demo

# Seconds for each fuzz target, and for each long test.
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
# The test binaries that have them.
SOAKS := attacks_bounds cancel_race limits fleet_simulation fleet_waking
# What `make bench` is told besides: ARGS="--help".
ARGS ?=
# ONCE=1: the demo cleans up and ends instead of staying for you to play with.
ONCE ?=
export ONCE SOAK_SECONDS

# In CI nothing is built twice, so what would make the second time faster only costs.
ifeq ($(CI),true)
export CARGO_INCREMENTAL := 0
endif

CARGO_DENY := target/tools/bin/cargo-deny

help: ## This list
	@awk '/^[a-z-]+:.*## / { name = $$1; sub(/:$$/, "", name); sub(/^.*## /, ""); printf "  make %-11s %s\n", name, $$0 }' Makefile

demo: setup-demo ## See it work: a gateway, PostgreSQL, a client let in and one kept out (ONCE=1 ends by itself)
	@echo "demo: building portcullis (debug: the first time takes some minutes)"
	@cargo build --locked --package portcullis --bin portcullis
	@PORTCULLIS=target/debug/portcullis gateway/deploy/demo/run.sh

# One command and one set of features, so that nothing is compiled twice.
test: setup ## All tests, with real parts
	@rm -f target/tmp/skipped
	@ulimit -n "$$(ulimit -Hn)"; cargo test --workspace --locked --no-fail-fast
	@if [ -s target/tmp/skipped ]; then echo "NOT EVERYTHING RAN:"; sort target/tmp/skipped | uniq -c; fi

verify: setup ## Everything that reads: format, lints, docs, tidiness, dependencies
	@tests/setup/tool.sh cargo-deny 0.20.2
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked
	cargo test --workspace --locked --test tidy
	$(CARGO_DENY) --locked check bans licenses sources
	@if $(CARGO_DENY) fetch db >/dev/null 2>&1; then \
	    $(CARGO_DENY) --locked check advisories; \
	else \
	    echo "verify: ADVISORIES WERE NOT CHECKED: their database could not be fetched from here"; \
	fi

fix: ## Everything that writes: format, and lints that can mend what they find
	cargo clippy --fix --workspace --all-targets --locked --allow-dirty --allow-staged
	cargo fmt --all

bench: setup-bench ## Measure everything, each figure beside direct TLS, a bare relay and the peers
	cargo build --release --locked --package portcullis --package portcullis-bench --bin portcullis --bin portcullis-bench
	@ulimit -n "$$(ulimit -Hn)"; PORTCULLIS_BINARY=target/release/portcullis target/release/portcullis-bench $(ARGS)

bench-table: ## Put the table of the last `make bench` into README.md
	target/release/portcullis-bench table

fuzz: ## Feed every decoder nonsense, FUZZ_SECONDS each (needs a nightly toolchain; FUZZ_TARGETS="framing …" chooses)
	@tests/setup/tool.sh cargo-fuzz 0.13.2
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/setup/fuzz.sh

soak: setup ## The tests that take long, SOAK_SECONDS each
	ulimit -n "$$(ulimit -Hn)"; cargo test --package portcullis-tests --package portcullis-consensus --locked $(addprefix --test ,$(SOAKS)) -- --ignored --test-threads=1

setup: ## Install what tests need and this machine lacks (Debian packages, drivers, a second PostgreSQL)
	@tests/setup/debian.sh tests
	@tests/setup/python.sh
	@tests/setup/moto.sh
	@tests/setup/javascript.sh
	@tests/setup/sqlx.sh

setup-bench:
	@tests/setup/debian.sh bench

setup-demo:
	@tests/setup/debian.sh demo
