#!/usr/bin/env bash
# The demo: a fleet of three gateways, one PostgreSQL, two tenants. Every step checks what came of it, and the
# first that is not as promised ends the demo with an error.
#
#   PORTCULLIS=target/debug/portcullis gateway/deploy/demo/run.sh    (what `make demo` does)
#   ONCE=1                                                            end instead of staying
#
# Needs bash, coreutils, sed, grep and PostgreSQL, which `portcullis dev` finds.
set -Eeuo pipefail
trap 'printf "\ndemo: FAILED at line %s: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR

main() {
    start
    an_allowed_client
    a_denied_client
    a_change_that_means_now
    and_back_again
    a_node_is_killed
    and_comes_back
    the_fleet_has_another_authority
    all_of_it_can_be_proved
    if [ -n "${ONCE:-}" ]; then
        heading "The end: nothing is left behind"
        stop
        say "The nodes, PostgreSQL and their directory are gone."
        heading "All as promised"
    else
        stay
    fi
}

# --- the steps ---------------------------------------------------------------------------------

start() {
    local program=${PORTCULLIS:-}
    [ -n "$program" ] || program=$(command -v portcullis) || fail "a portcullis: name one by PORTCULLIS=, or run \`make demo\`"
    [ -x "$program" ] || fail "an executable at $program: run \`make demo\`, which builds it"
    program=$(realpath "$program")

    scratch=$(mktemp -d)
    trap 'clean_up $?' EXIT
    heading "Starting three gateways that agree, and a throw-away PostgreSQL, on loopback"
    shown "portcullis dev --nodes 3 --json"
    "$program" dev --nodes 3 --json >"$scratch/ready" &
    dev=$!
    wait_for "$START_SECONDS" "\`portcullis dev\` to be ready" ready_or_gone
    [ -s "$scratch/ready" ] || fail "\`portcullis dev\` to start; what it said is above"

    directory=$(told directory)
    node_log=$(told node '"logs":')
    node=$(told_number node)
    config=$(told config)
    second_socket=$(told admin_socket '"name":"n2"')
    second_logs=$(dirname "$(told config '"name":"n2"')")/data/audit/logs
    second_port=$(told listen '"name":"n2"')
    second_port=${second_port##*:}
    postgres=$(told_number postgres)
    # What follows is typed as one would in a terminal.
    PATH=$(dirname "$program"):$(dirname "$(told psql)"):$PATH
    PORTCULLIS_SOCKET=$(told admin_socket)
    PGPASSFILE=$(told password_file)
    POLICY=$(told policy_dir)
    ACME=$(told connection '"tenant":"acme"')
    GLOBEX=$(told connection '"tenant":"globex"')
    export PATH PORTCULLIS_SOCKET PGPASSFILE
    say "Ready: three nodes, the first on $(told listen), with PostgreSQL $(told version '"postgres":{') behind it."
    settings
}

an_allowed_client() {
    heading "A client that may come: by name (SNI), certificate verified, channel bound"
    try 'psql -X "$ACME channel_binding=require" -c "select * from orders"'
    expect_status 0 "acme's client to be let in"
    expect_said 'rocket skates'
}

a_denied_client() {
    heading "A client that may not: right name, right password, wrong address"
    try 'psql -X "$GLOBEX channel_binding=require" -c "select * from customers"'
    expect_status 2 "globex's client to be refused"
    expect_said 'connection not permitted (reference PC-'
    expect_unsaid 'listed' "the reason to be kept from the client"
    local reference
    reference=$(grep -o 'PC-[0-9A-Z-]*' <<<"$said" | head -1)
    say "That is all it learns. Whoever runs the gateway learns the rest by the reference:"
    try "portcullis why $reference"
    expect_status 0 "the reference to be known"
    expect_said "$reference"
    expect_said 'address_not_listed'
    expect_said '127.0.0.1'
}

a_change_that_means_now() {
    heading "A change means now: a live connection, and the entry it came in by withdrawn"
    shown 'psql -X "$ACME" -c "select pg_sleep(600)" &'
    psql -X "$ACME" -c "select pg_sleep(600)" >"$scratch/live" 2>&1 &
    live=$!
    wait_for 10 "the connection to be open" is_live
    try 'portcullis connections'
    expect_status 0 "the connections to be listed"
    expect_said 'acme/orders'
    expect_said '1 live connection'

    cp "$POLICY/acme.yaml" "$scratch/acme.yaml"
    try 'sed -i "/prefix: 127.0.0.1/d" $POLICY/acme.yaml'
    try 'portcullis plan $POLICY'
    expect_status 0 "the plan to be made"
    expect_said '- 127.0.0.1/32 (1 address)'
    expect_said '1 live connection would close'
    kill -0 "$live" 2>/dev/null || fail "the plan to change nothing, but the connection has ended"

    try 'portcullis apply $POLICY --receipt'
    expect_status 0 "the change to be in force"
    expect_said 'in force on 3/3 nodes'
    expect_said '1 connection closed'
    expect_said 'its backend gone'
    local receipt=$said

    say "And this is what psql printed, in the middle of its query:"
    wait_for 5 "psql to have noticed" is_over
    status=0
    wait "$live" || status=$?
    live=
    said=$(<"$scratch/live")
    sed 's/^/    /' <<<"$said"
    expect_status 2 "psql to end in an error"
    expect_said 'no longer permitted (reference PC-'
    local reference
    reference=$(grep -o 'PC-[0-9A-Z-]*' <<<"$said" | head -1)
    grep -qF -- "$reference" <<<"$receipt" || fail "the receipt to name psql's reference $reference"

    try 'psql -X "$ACME" -c "select 1"'
    expect_status 2 "acme's client to be refused from now on"
    expect_said 'connection not permitted'
}

and_back_again() {
    heading "And back again"
    cp "$scratch/acme.yaml" "$POLICY/acme.yaml"
    say "(acme.yaml is as it was)"
    try 'portcullis apply $POLICY'
    expect_status 0 "the change to be in force"
    expect_said '+ 127.0.0.1/32 (1 address)'
    try 'psql -X "$ACME" -Atc "select '"'welcome back, '"' || current_user"'
    expect_status 0 "acme's client to be let in again"
    expect_said 'welcome back, acme_app'
}

a_node_is_killed() {
    heading "A node is killed, under load"
    say "A client of n2 asks ten times a second; n1, which most likely leads, is killed with -9 meanwhile."
    : >"$scratch/load"
    (
        for _ in $(seq 100); do echo 'select 1;'; sleep 0.1; done
    ) | psql -X -q -At -v ON_ERROR_STOP=1 "$ACME port=$second_port hostaddr=127.0.0.1 host=$(host_of "$ACME")" \
        >"$scratch/load" 2>"$scratch/load-errors" &
    load=$!
    wait_for 10 "the client of n2 to be answered" grep -q 1 "$scratch/load"
    try 'portcullis fleet status'
    expect_status 0 "the fleet to be shown"
    shown "kill -9 $node    # n1"
    kill -9 "$node"
    # Until the process is gone its listener takes connections that nobody will answer.
    wait_for 5 "n1 to be gone" is_gone "$node"
    PORTCULLIS_SOCKET=$second_socket
    say "New connections go to the next node that answers:"
    try 'psql -X "$ACME" -Atc "select '"'still here, '"' || current_user"'
    expect_status 0 "acme's client to be let in by another node"
    expect_said 'still here, acme_app'
    say "And policy can be changed; the receipt names who does not answer:"
    sed -i "s/note: the office/note: the head office/" "$POLICY/acme.yaml"
    try 'portcullis apply $POLICY --receipt'
    expect_status 5 "the change to be in force on two nodes"
    expect_said 'in force on 2/3 nodes'
    expect_said 'NOT confirmed by n1'
    local status=0
    wait "$load" || status=$?
    load=
    [ "$status" -eq 0 ] && [ ! -s "$scratch/load-errors" ] || fail "n2's client to notice nothing; it said: $(<"$scratch/load-errors")"
    [ "$(wc -l <"$scratch/load")" -eq 100 ] || fail "n2's client to be answered 100 times"
    say "n2's client meanwhile: 100 queries, 100 answers, no error."
}

and_comes_back() {
    heading "And it comes back, and catches up"
    shown "portcullis serve --config $config &"
    portcullis serve --config "$config" >>"$node_log" 2>&1 &
    node=$!
    restarted=$node
    wait_for 20 "n1 to have caught up" caught_up
    try 'portcullis apply $POLICY --receipt'
    expect_status 0 "the policy to be in force everywhere"
    expect_said 'in force on 3/3 nodes'
}

the_fleet_has_another_authority() {
    heading "The authority behind every node's certificate is exchanged, under load"
    say "A client of n2 asks ten times a second meanwhile."
    : >"$scratch/load"
    (
        until [ -e "$scratch/enough" ]; do echo 'select 1;'; sleep 0.1; done
    ) | psql -X -q -At -v ON_ERROR_STOP=1 "$ACME port=$second_port hostaddr=127.0.0.1 host=$(host_of "$ACME")" \
        >"$scratch/load" 2>"$scratch/load-errors" &
    load=$!
    wait_for 10 "the client of n2 to be answered" grep -q 1 "$scratch/load"
    try 'portcullis certs rotate'
    expect_status 0 "every node to follow"
    expect_said ': settled'
    expect_said 'issuing: waits for'
    expect_said 'node n2, until'
    try 'portcullis apply $POLICY --receipt'
    expect_status 0 "the nodes to know each other by their new certificates"
    expect_said 'in force on 3/3 nodes'
    : >"$scratch/enough"
    local status=0
    wait "$load" || status=$?
    load=
    [ "$status" -eq 0 ] && [ ! -s "$scratch/load-errors" ] || fail "n2's client to notice nothing; it said: $(<"$scratch/load-errors")"
    say "Each node was issued a new certificate, and showed it without closing a connection."
    say "n2's client meanwhile: $(wc -l <"$scratch/load") queries, as many answers, no error."
}

all_of_it_can_be_proved() {
    heading "All of it can be proved, to somebody who trusts none of us"
    say "Each node keeps the same log, and a majority signs it. Whom to believe is asked once, and kept elsewhere:"
    cd "$scratch"
    try 'portcullis audit trust | tee trust.policy'
    expect_status 0 "whom to believe"
    say "What an auditor is handed is a directory; checking it needs no node and no network:"
    shown "cp -r $second_logs logs"
    wait_for 20 "the last change to be signed" handed_over
    try 'portcullis audit verify logs --trust trust.policy'
    expect_status 0 "the log to be whole"
    expect_said 'everything is there and as it was signed'
    say "Everything of a period, for an auditor: it opens with nothing of ours but its own instructions:"
    try 'portcullis audit export logs --trust trust.policy --from 2026-01-01T00:00:00Z --to 2100-01-01T00:00:00Z --out evidence'
    expect_status 0 "the bundle to be written"
    expect_said 'allow-list-changes: '
    if command -v python3 >/dev/null; then
        try 'python3 -I -S evidence/verify.py trust.policy | tail -1'
        expect_status 0 "the bundle to hold"
        expect_said 'the bundle is whole'
    fi
    index=$(sed -n 3p evidence/populations/allow-list-changes.csv | cut -d, -f2)
    say "One entry, with all that proves it: the withdrawal, which was acme's second change:"
    try "portcullis audit prove logs --log acme --index $index --out withdrawal.tlog-proof"
    expect_status 0 "the entry to be proved"
    try 'portcullis audit check withdrawal.tlog-proof --trust trust.policy'
    expect_status 0 "the proof to hold"
    expect_said '"shut":{"public":["127.0.0.1/32"]}'
    say "Somebody rewrites history, by one byte:"
    entries=logs/tenants/acme/tile/entries/000.p/$(sed -n 2p logs/tenants/acme/checkpoint)
    try 'sed -i "0,/127.0.0.1/s//127.0.0.9/" $entries'
    try 'portcullis audit verify logs --trust trust.policy'
    expect_status 7 "the byte to be found"
    expect_said 'tenants/acme'
    expect_said 'entry 0'
}

stay() {
    heading "It is yours to play with, until Ctrl-C. In another terminal, paste this first:"
    settings
    say
    say "and then, for instance:"
    for line in 'psql "$ACME"' 'psql "$GLOBEX"' 'portcullis fleet status' 'portcullis connections' 'portcullis reach acme/orders' \
        'portcullis explain --to globex/shop --from 127.9.9.7' 'portcullis cluster check acme' \
        '"${EDITOR:-vi}" $POLICY/acme.yaml && portcullis plan $POLICY && portcullis apply $POLICY --receipt'; do
        say "  $line"
    done
    say
    trap 'stop; say; say "Ended; nothing is left behind."; exit 0' INT TERM HUP
    local status=0
    wait "$dev" || status=$?
    dev=
    fail "\`portcullis dev\` to stay; it ended with exit code $status"
}

settings() {
    say "  export PATH=$(dirname "$(command -v portcullis)"):$(dirname "$(command -v psql)"):\$PATH"
    say "  export PORTCULLIS_SOCKET=$PORTCULLIS_SOCKET PGPASSFILE=$PGPASSFILE"
    say "  POLICY=$POLICY"
    say "  ACME='$ACME'"
    say "  GLOBEX='$GLOBEX'"
}

# Ends everything in order, and looks whether it is so.
stop() {
    local status=0 pid=$dev
    dev=
    if [ -n "${restarted:-}" ]; then
        kill -INT "$restarted" 2>/dev/null || true
        wait "$restarted" || true
        restarted=
    fi
    kill -INT "$pid" 2>/dev/null || true
    wait "$pid" || status=$?
    [ "$status" -eq 0 ] || fail "\`portcullis dev\` to end with exit code 0, not $status"
    [ ! -e "$directory" ] || fail "$directory to be gone"
    [ ! -e "/proc/$node" ] || fail "the node (process $node) to be gone"
    [ ! -e "/proc/$postgres" ] || fail "PostgreSQL (process $postgres) to be gone"
}

# --- asking and checking -----------------------------------------------------------------------

# Shows a command as one would type it, runs it and shows what it printed. Leaves `said` and `status`.
try() {
    shown "$1"
    status=0
    said=$(eval "$1" 2>&1) || status=$?
    [ -z "$said" ] || sed 's/^/    /' <<<"$said"
}

expect_status() {
    [ "$status" -eq "$1" ] || fail "$2 (exit code $1, not $status)"
}

expect_said() {
    grep -qF -- "$1" <<<"$said" || fail "these words: $1"
}

expect_unsaid() {
    if grep -qF -- "$1" <<<"$said"; then fail "$2, but it says: $1"; fi
}

# wait_for SECONDS WHAT COMMAND…
wait_for() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || fail "$what"
        sleep 0.05
    done
}

# How long a slow machine may take to initialise and start everything.
START_SECONDS=120

ready_or_gone() { [ -s "$scratch/ready" ] || ! kill -0 "$dev" 2>/dev/null; }
is_live() { portcullis connections 2>/dev/null | grep -q ' open '; }
caught_up() { portcullis apply "$POLICY" --receipt >/dev/null 2>&1; }
# The first host of a connection string.
host_of() { [[ $1 =~ host=([^ ,]+) ]] && printf '%s\n' "${BASH_REMATCH[1]}"; }
# A log grows while it is copied: the copy is good once the tool says so, and it has the last of four changes (among what was recorded of connections).
handed_over() {
    rm -rf logs
    cp -r "$second_logs" logs 2>/dev/null
    [ "$(grep -raoh '"kind":"policy.applied"' logs/tenants/acme/tile/entries | wc -l)" = 4 ] && portcullis audit verify logs --trust trust.policy >/dev/null 2>&1
}
is_over() { is_gone "$live"; }
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# told KEY [AFTER]: the text of a key, the first behind AFTER, in the line that `portcullis dev
# --json` printed. Nothing in it is escaped: paths are of plain characters, the rest is names.
told() {
    local line
    line=$(<"$scratch/ready")
    [[ "${line#*"${2:-}"}" =~ \"$1\":\"([^\"]*)\" ]]
    printf '%s\n' "${BASH_REMATCH[1]}"
}

# told_number KEY: a process id in that line.
told_number() {
    [[ "$(<"$scratch/ready")" =~ \"$1\":([0-9]+) ]]
    printf '%s\n' "${BASH_REMATCH[1]}"
}

# --- words -------------------------------------------------------------------------------------

heading() { printf '\n== %s\n' "$1"; }
shown() { printf '\n  $ %s\n' "$1"; }
say() { printf '%s\n' "${1:-}"; }

fail() {
    printf '\ndemo: FAILED: expected %s\n' "$1" >&2
    if [ -n "${node_log:-}" ] && [ -e "$node_log" ]; then
        printf 'demo: the last of the node'\''s log (%s):\n' "$node_log" >&2
        tail -n 15 "$node_log" >&2
    fi
    exit 1
}

# However this script ends, nothing that it started stays.
clean_up() {
    trap - EXIT
    [ -z "${live:-}" ] || kill "$live" 2>/dev/null || true
    [ -z "${load:-}" ] || kill "$load" 2>/dev/null || true
    [ -z "${restarted:-}" ] || kill "$restarted" 2>/dev/null || true
    if [ -n "${dev:-}" ]; then
        kill -INT "$dev" 2>/dev/null || true
        wait "$dev" || true
    fi
    rm -rf -- "$scratch"
    exit "$1"
}

main "$@"
