#!/bin/bash
# The figures of RDMA, TCP and raw verbs, taken in turns in one guest: runs inside the lab, or on any
# host with an RDMA device at TERCEL_RDMA_ADDR.
#
#   bench.sh TERCEL_BENCH TERCEL_SERVER VALKEY_DIR [--short]
#
# Reports go to TERCEL_SOFTROCE_OUT. Emulation's absolute figures mean nothing; the ratios within one
# run are what to look at. They end in a summary, whose gates are loose.
set -uo pipefail
bench=$1 server=$2 valkey=$3
short=no
[ "${4:-}" = --short ] && short=yes
addr=$TERCEL_RDMA_ADDR out=$TERCEL_SOFTROCE_OUT
rounds=5 load=(--warmup 0.5 -d 2) requests=6000
[ $short = no ] || { rounds=2 load=(--warmup 0.2 -d 0.5) requests=600; }
problems=0
last=$(($(nproc) - 1))
: >"$out/tables.md"

# serve NAME PORT COMMAND...: starts a server that answers on PORT over TCP and over RDMA.
serve() {
    local name=$1 port=$2 tries=0
    shift 2
    # Servers have the first core, the load the last: else it spins where they are to wake up.
    taskset -c 0 "$@" >"$out/$name.log" 2>&1 &
    echo $! >>/tmp/servers
    # Where nobody listens valkey-cli over RDMA crashes or waits for ever, and the shell would say so.
    until (timeout 3 "$valkey/valkey-cli" --rdma -h "$addr" -p "$port" PING | grep -q PONG) >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ $tries -gt 50 ]; then
            echo "bench.sh: $name does not answer over RDMA:" >&2
            tail -n 20 "$out/$name.log" >&2
            exit 1
        fi
        sleep 0.2
    done
}
common=(--bind "$addr" --rdma-bind "$addr" --protected-mode no --save '' --dir /tmp)
: >/tmp/servers
trap 'kill $(cat /tmp/servers) 2>/dev/null' EXIT
serve tercel 6379 "$server" "${common[@]}" --port 6379 --rdma-port 6379
serve valkey 6380 "$valkey/valkey-server" "${common[@]}" --port 6380 --rdma-port 6380 --appendonly no

# section TITLE NAME ARGUMENT...: one run of the harness, its table and its page.
section() {
    local title=$1 name=$2
    shift 2
    printf '\n== %s\n' "$title"
    {
        printf '\n## %s\n\n' "$title"
        timeout 120 "$bench" --quiet "$@" --json "$out/$name.json" --html "$out/$name.html" 2>&1
    } | tee -a "$out/tables.md"
    if [ ! -s "$out/$name.html" ] || [ ! -s "$out/$name.json" ] || grep -q '^  "failure":' "$out/$name.json"; then
        echo "bench.sh: $title could not be measured" >&2
        problems=$((problems + 1))
    fi
}

tercel_tcp="tercel-tcp=tcp://$addr:6379" tercel_rdma="tercel-rdma=rdma://$addr:6379"
valkey_tcp="valkey-tcp=tcp://$addr:6380" valkey_rdma="valkey-rdma=rdma://$addr:6380"

# A server that spins, as one that is to be compared with a spinning echo must; stopped while the echo
# has its core. In turns, one round each.
serve spinning 6381 "$server" "${common[@]}" --port 6381 --rdma-port 6381 --busy-poll-us -1 --cpu-affinity 0
spinning=$(tail -n 1 /tmp/servers)
for round in $(seq $rounds); do
    kill -STOP "$spinning"
    section "Raw verbs, round $round: WRITE_WITH_IMM ping-pong" "floor-$round" floor --over rdma --rdma-addr "$addr" --server-core 0 --client-core "$last" "${load[@]}"
    kill -CONT "$spinning"
    section "A spinning server, round $round: GET and SET" "spinning-$round" load "rdma://$addr:6381" -c 1 --client-core "$last" "${load[@]}"
done
section "A spinning server: SET of 1 KiB, windows of 1 MiB" handover load "rdma://$addr:6381" -c 1 --client-core "$last" --mix set:100 --value-size 1024 "${load[@]}"
kill "$spinning"
wait "$spinning" 2>/dev/null

section "One connection" one compare "$tercel_tcp" "$tercel_rdma" --rounds $rounds "${load[@]}" -c 1
section "One connection, against Valkey" valkey-one compare "$valkey_rdma" "$tercel_rdma" --rounds $rounds "${load[@]}" -c 1
section "16 connections, pipeline 16" sixteen compare "$valkey_rdma" "$tercel_rdma" --rounds $rounds "${load[@]}" -c 16 -P 16
[ $short = yes ] || section "Valkey, TCP and RDMA" valkey compare "$valkey_tcp" "$valkey_rdma" --rounds $rounds "${load[@]}" -c 1

# Valkey's own client, in turns: it waits for events, as most clients do.
printf '\n== valkey-benchmark --rdma, SET and GET of 64 bytes: requests a second and ms at p50, p95, p99\n'
{
    printf '\n## valkey-benchmark --rdma\n\n| server | clients | round | test | requests a second | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|---|---|\n'
    for clients in 1 16; do
        for round in $(seq $((rounds < 3 ? rounds : 3))); do
            for who in valkey:6380 tercel:6379; do
                timeout 60 taskset -c "$last" "$valkey/valkey-benchmark" --rdma -h "$addr" -p "${who#*:}" --csv -c "$clients" -n "$requests" -d 64 -t set,get 2>/dev/null |
                    tr -d '"' | awk -F, -v who="${who%:*}" -v clients="$clients" -v round="$round" \
                    '$2 + 0 > 0 { printf "| %s | %s | %s | %s | %.0f | %s | %s | %s |\n", who, clients, round, $1, $2, $5, $6, $7; n++ } END { exit n != 2 }' ||
                    echo "bench.sh: valkey-benchmark -c $clients against ${who%:*} gave no figures"
            done
        done
    done
} | tee -a "$out/tables.md"
grep -q '^bench.sh:' "$out/tables.md" && problems=$((problems + 1))

{
    printf '<!doctype html><meta charset="utf-8"><title>RDMA</title><h1>RDMA, TCP and raw verbs in one guest</h1><ul>\n'
    for page in one valkey-one sixteen valkey handover floor-{1..9} spinning-{1..9}; do
        [ ! -s "$out/$page.html" ] || printf '<li><a href="%s.html">%s</a></li>\n' "$page" "$page"
    done
    printf '</ul>\n'
} >"$out/index.html"
python3 "$(dirname "$0")/summary.py" "$out" | tee -a "$out/tables.md"
[ "${PIPESTATUS[0]}" = 0 ] || problems=$((problems + 1))
[ $problems = 0 ]
