#!/bin/bash
# Valkey's own tools against a server over RDMA: runs inside the lab's guest (or on any host with an
# RDMA device). Looks at what comes back, not at exit statuses alone. The server's data is flushed.
#
#   interop.sh TOOLS HOST PORT [--quick] [--skip REGEX]
#
# TOOLS has valkey-cli, valkey-benchmark and rdma-test. --skip leaves out checks whose name matches,
# visibly. Prints a line a check and the counts; fails if one check did.
set -uo pipefail
tools=$1 host=$2 port=$3
shift 3
quick=no skip='^$'
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=yes ;;
    --skip) skip=$2 && shift ;;
    *) echo "interop.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0 skipped=0

ok() { passed=$((passed + 1)) && echo "ok    $1"; }
fail() {
    failed=$((failed + 1))
    echo "FAIL  $1"
    shift
    [ $# = 0 ] || printf '      %s\n' "$@" | cut -c1-300
    # Against a dead server every check left would take its whole time.
    if [ "$(cli PING 2>&1)" != PONG ]; then
        failed=$((failed + 1))
        echo "FAIL  the server no longer answers; the rest is left out"
        counts
        exit 1
    fi
}
counts() { echo "interop: $passed ok, $failed failed, $skipped skipped"; }
wanted() {
    [[ ! $1 =~ $skip ]] && return
    skipped=$((skipped + 1)) && echo "skip  $1"
    return 1
}
cli() { timeout "${bound:-20}" "$tools/valkey-cli" --rdma -h "$host" -p "$port" "$@"; }

# check NAME WANTED GOT
check() {
    wanted "$1" || return
    if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "wanted: $2" "got:    $3"; fi
}

# tour NAME <<TABLE: all commands of a table over one connection. A line is COMMAND => REPLY, the
# reply as valkey-cli --csv prints it; a reply in slashes is a pattern.
tour() {
    local name=$1 line n=0
    local commands=() replies=() got=()
    wanted "$name" || return
    while IFS= read -r line; do
        [ -n "$line" ] || continue
        commands+=("${line%% => *}") replies+=("${line##* => }")
    done
    mapfile -t got < <(printf '%s\n' "${commands[@]}" | cli --csv 2>&1)
    for line in "${commands[@]}"; do
        local reply=${replies[n]} have=${got[n]-no reply}
        if [[ $reply == /*/ ]]; then
            reply=${reply#/} reply=${reply%/}
            if [[ $have =~ $reply ]]; then ok "$name: $line"; else fail "$name: $line" "wanted: $reply" "got:    $have"; fi
        elif [ "$reply" = "$have" ]; then
            ok "$name: $line"
        else
            fail "$name: $line" "wanted: $reply" "got:    $have"
        fi
        n=$((n + 1))
    done
    [ ${#got[@]} -le $n ] || fail "$name: no more replies than commands" "${got[@]:n}"
}

echo "-- $("$tools/valkey-cli" --version), $("$tools/valkey-benchmark" --version | head -1)"
check "flush" OK "$(cli flushall 2>&1)"

echo "-- valkey-cli --rdma: commands"
tour connection <<'END'
PING => "PONG"
PING "two words" => "two words"
ECHO "a\x00b\xff" => "a\x00b\xff"
SELECT 1 => "OK"
SELECT 0 => "OK"
CLIENT SETNAME tour => "OK"
CLIENT GETNAME => "tour"
CLIENT ID => /^[0-9]+$/
CLIENT LIST => /name=tour/
CLIENT NO-EVICT on => "OK"
HELLO 3 => /"proto",3/
PING => "PONG"
HELLO 2 => /"proto",2/
NOSUCH a b => /^ERROR,"ERR unknown command/
GET => /^ERROR,"ERR wrong number of arguments/
RESET => "RESET"
END
tour strings <<'END'
SET s hello => "OK"
GET s => "hello"
SET s x NX => NULL
SET s again XX GET => "hello"
APPEND s "-more" => 10
STRLEN s => 10
GETRANGE s 0 4 => "again"
SETRANGE s 6 MORE => 10
GET s => "again-MORE"
GETDEL s => "again-MORE"
GET s => NULL
SET n 10 => "OK"
INCR n => 11
INCRBY n 31 => 42
DECRBY n 2 => 40
INCRBYFLOAT n 0.5 => "40.5"
INCR n => ERROR,"ERR value is not an integer or out of range"
MSET k1 a k2 b k3 "" => "OK"
MGET k1 none k2 k3 => "a",NULL,"b",""
MSETNX k3 z k4 z => 0
EXISTS k1 k2 k3 k4 => 3
SETEX e 100 v => "OK"
GETEX e PERSIST => "v"
TTL e => -1
SET bin "\x00\x01\r\n\xfe" => "OK"
GET bin => "\x00\x01\r\n\xfe"
LCS k1 k2 LEN => 0
END
tour bitmaps <<'END'
SETBIT b 7 1 => 0
GETBIT b 7 => 1
BITCOUNT b => 1
SETBIT b 100 1 => 0
BITCOUNT b => 2
BITPOS b 1 8 => 100
BITOP NOT nb b => 13
BITCOUNT nb => 102
BITFIELD bf SET u8 0 255 GET u4 4 INCRBY i5 100 1 => 0,15,1
END
tour keys <<'END'
FLUSHDB => "OK"
MSET a 1 b 2 c 3 => "OK"
DBSIZE => 3
TYPE a => "string"
RENAME a d => "OK"
EXISTS a d => 1
COPY b e => 1
GET e => "2"
EXPIRE b 100 => 1
TTL b => /^(99|100)$/
PERSIST b => 1
PEXPIREAT c 1 => 1
GET c => NULL
OBJECT ENCODING d => "int"
TOUCH b d => 2
SCAN 0 COUNT 100 => /^"0",("b"|"d"|"e")/
KEYS d => "d"
MOVE e 1 => 1
SWAPDB 0 1 => "OK"
GET e => "2"
SWAPDB 0 1 => "OK"
UNLINK b d => 2
RANDOMKEY => NULL
END
tour transactions <<'END'
MULTI => "OK"
SET t 1 => "QUEUED"
INCR t => "QUEUED"
GET t => "QUEUED"
EXEC => "OK",2,"2"
WATCH t => "OK"
SET t 5 => "OK"
MULTI => "OK"
GET t => "QUEUED"
EXEC => NULL
MULTI => "OK"
NOSUCH => /^ERROR,/
EXEC => /^ERROR,"EXECABORT/
MULTI => "OK"
SET t 9 => "QUEUED"
DISCARD => "OK"
GET t => "5"
END
tour server <<'END'
TIME => /^"[0-9]+","[0-9]+"$/
CONFIG SET maxmemory-policy allkeys-lru => "OK"
CONFIG GET maxmemory-policy => "maxmemory-policy","allkeys-lru"
CONFIG SET maxmemory-policy noeviction => "OK"
COMMAND COUNT => /^[1-9][0-9]+$/
SLOWLOG LEN => /^[0-9]+$/
MEMORY USAGE t => /^[1-9][0-9]+$/
PUBSUB NUMPAT => 0
CLIENT KILL ID 999999 => 0
END
check "INFO names the port" "tcp_port" "$(cli INFO server | grep -o '^tcp_port')"

echo "-- valkey-cli --rdma: pub/sub"
if wanted pubsub; then
    bound=30 cli --csv SUBSCRIBE news >"$scratch/news" 2>&1 &
    one=$!
    bound=30 cli --csv PSUBSCRIBE 'n*' >"$scratch/pattern" 2>&1 &
    two=$!
    reached=0
    for _ in $(seq 100); do
        [ "$(cli PUBSUB NUMSUB news 2>/dev/null | tail -1)" = 1 ] && [ "$(cli PUBSUB NUMPAT 2>/dev/null)" = 1 ] && reached=1 && break
        sleep 0.1
    done
    check "pubsub: both subscribers are seen" 1 "$reached"
    check "pubsub: PUBLISH reaches two" 2 "$(cli PUBLISH news 'first one')"
    head -c 100000 /dev/zero | tr '\0' m >"$scratch/message"
    check "pubsub: a message of 100,000 bytes reaches two" 2 "$(cli -x PUBLISH news <"$scratch/message")"
    for _ in $(seq 50); do
        [ "$(grep -c mmmm "$scratch/news")" = 1 ] && [ "$(grep -c mmmm "$scratch/pattern")" = 1 ] && break
        sleep 0.1
    done
    check "pubsub: the subscriber's first push" '"message","news","first one"' "$(grep -a first "$scratch/news")"
    check "pubsub: the pattern's first push" '"pmessage","n*","news","first one"' "$(grep -a first "$scratch/pattern")"
    check "pubsub: the long push is whole" "\"message\",\"news\",\"$(cat "$scratch/message")\"" "$(grep -a mmmm "$scratch/news")"
    kill "$one" "$two" 2>/dev/null
    wait "$one" "$two" 2>/dev/null
fi

echo "-- valkey-cli --rdma: values around the sizes where messages and windows split"
sizes=(1 63 64 65 511 512 513 4096 65535 65536 65537 1048500 1048575 1048576 1048577 3145735)
[ $quick = no ] || sizes=(1 512 65537 1048576)
for size in "${sizes[@]}"; do
    wanted "value of $size bytes" || continue
    head -c "$size" /dev/urandom >"$scratch/value"
    stored=$(bound=60 cli -x SET value <"$scratch/value" 2>&1)
    length=$(cli STRLEN value 2>&1)
    bound=60 cli --raw GET value >"$scratch/back" 2>&1
    # valkey-cli ends the value with a line feed of its own.
    echo >>"$scratch/value"
    if [ "$stored/$length" = "OK/$size" ] && cmp -s "$scratch/value" "$scratch/back"; then
        ok "value of $size bytes"
    else
        fail "value of $size bytes" "SET: $stored" "STRLEN: $length" "GET: $(stat -c %s "$scratch/back") bytes, $(cmp "$scratch/value" "$scratch/back" 2>&1)"
    fi
done

if wanted "many commands over one connection"; then
    seq 1 3000 | sed 's/.*/SET many:& value-&/' >"$scratch/many"
    seq 1 3000 | sed 's/.*/GET many:&/' >>"$scratch/many"
    bound=60 cli <"$scratch/many" >"$scratch/back" 2>&1
    { yes OK | head -3000; seq 1 3000 | sed 's/.*/value-&/'; } >"$scratch/wanted"
    if cmp -s "$scratch/wanted" "$scratch/back"; then
        ok "many commands over one connection"
    else
        fail "many commands over one connection" "$(wc -l <"$scratch/back") replies; $(diff "$scratch/wanted" "$scratch/back" | head -3)"
    fi
fi

# valkey-cli --pipe is not part of this: it writes to the socket, of which there is none over RDMA.

# benchmark CLIENTS PIPELINE BYTES REQUESTS TESTS: every test asked for reports a rate, and the server
# holds what they wrote.
benchmark() {
    local clients=$1 pipeline=$2 bytes=$3 requests=$4 tests=$5 name row rates=()
    name="valkey-benchmark --rdma -c $clients -P $pipeline -d $bytes -n $requests -t $tests"
    wanted "$name" || return
    cli flushall >/dev/null
    local start=$SECONDS
    timeout 120 "$tools/valkey-benchmark" --rdma -h "$host" -p "$port" --csv -c "$clients" -P "$pipeline" -d "$bytes" -n "$requests" -t "$tests" >"$scratch/csv" 2>"$scratch/errors"
    local status=$? problems=()
    [ $status = 0 ] || problems+=("status $status $(head -c 200 "$scratch/errors")")
    for test in ${tests//,/ }; do
        case $test in
        ping) rows="PING_INLINE PING_MBULK" ;;
        mset) rows='MSET' ;;
        *) rows=${test^^} ;;
        esac
        for row in $rows; do
            local rate
            rate=$(grep -a "^\"$row" "$scratch/csv" | head -1 | cut -d'"' -f4)
            if [[ $rate =~ ^[0-9.]+$ ]] && [ "${rate%.*}" -gt 0 ]; then
                rates+=("$row ${rate%.*}/s")
            else
                problems+=("$row reports no rate")
            fi
        done
        case $test in
        set) [ "$(cli STRLEN key:__rand_int__)" = "$bytes" ] || problems+=("SET left no value of $bytes bytes") ;;
        mset) [ "$(cli STRLEN key:__rand_int__)" = "$bytes" ] || problems+=("MSET left no value of $bytes bytes") ;;
        incr)
            local count
            count=$(cli GET counter:__rand_int__)
            # A client finishes its last pipeline, so there may be more.
            [ "${count:-0}" -ge "$requests" ] && [ "$count" -le $((requests + clients * pipeline)) ] || problems+=("INCR counted ${count:-nothing}, not $requests")
            ;;
        esac
    done
    if [ ${#problems[@]} = 0 ]; then ok "$name ($((SECONDS - start)) s: ${rates[*]})"; else fail "$name" "${problems[@]}"; fi
}

echo "-- valkey-benchmark --rdma"
all=ping,set,get,incr,mset
if [ $quick = yes ]; then
    benchmark 1 1 64 200 $all
    benchmark 16 16 64 2000 $all
    benchmark 128 384 64 60000 set,get
    benchmark 4 1 1048576 20 set,get
else
    # Every test connects its clients anew, and with 128 of them that is most of the time.
    benchmark 1 1 64 100 $all
    benchmark 16 1 64 400 set,get
    benchmark 128 1 64 600 set
    benchmark 1 16 64 800 set,mset
    benchmark 16 16 64 1600 $all
    benchmark 128 16 64 3000 incr
    benchmark 1 384 64 4000 ping,get,incr
    benchmark 16 384 64 8000 set,mset
    benchmark 128 384 64 50000 set,get
    benchmark 16 16 1024 1000 set,get
    benchmark 16 16 65536 200 set,get
    benchmark 1 1 1048576 10 set,get
    benchmark 16 1 1048576 32 set,get
fi

echo "-- rdma-test"
for threads in 0 4; do
    name="rdma-test -t $threads"
    wanted "$name" || continue
    timeout 120 "$tools/rdma-test" -h "$host" -p "$port" -t $threads -m 100 -M 400 >"$scratch/test" 2>&1
    status=$?
    if [ $status = 0 ] && [ "$(grep -c 'GET .* KVs \[OK\]' "$scratch/test")" = $((threads > 0 ? threads : 1)) ]; then
        ok "$name"
    else
        fail "$name" "status $status" "$(tail -3 "$scratch/test" | tr '\n' ' ')"
    fi
done

echo "-- afterwards"
check "the server answers" PONG "$(cli PING 2>&1)"
left=
for _ in $(seq 50); do
    left=$(cli CLIENT LIST 2>/dev/null | grep -c .)
    [ "$left" = 1 ] && break
    sleep 0.1
done
check "no client is left over" 1 "$left"
counts
[ $failed = 0 ]
