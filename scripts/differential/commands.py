"""What is sent: templates of commands, and the generator that fills and spoils them."""

import re

# --- what is sent ---------------------------------------------------------------------------------
# The smallest 64-bit number is not among BITFIELD's values: there it saturates to the wrong side.
# K key, V value, FN field, FV field and value, FLIST and FVLIST such behind FIELDS and their count, N integer, O small integer, F float, P pattern, C channel, S seconds, M milliseconds,
# TS/TM absolute times, D database, B bit, T bit-field type, @ bit-field offset, W any word.
# [..] may be left out, (a|b) is one of them, x* is one to four of x.
TEMPLATES = """
3 GET K
4 SET K V [(NX|XX|IFEQ V)] [GET] [(EX S|PX M|EXAT TS|PXAT TM|KEEPTTL)]
2 SET K V
1 DUMP missing
1 RESTORE K M V [REPLACE] [ABSTTL] [(IDLETIME O|FREQ O)]
1 SETNX K V
1 SETEX K S V
1 PSETEX K M V
1 GETSET K V
1 GETDEL K
1 DELIFEQ K V
2 GETEX K [(EX S|PX M|EXAT TS|PXAT TM|PERSIST)]
1 MGET K*
1 MSET KV*
1 MSETNX KV*
2 MSETEX O KV* [(NX|XX)] [(EX S|PX M|EXAT TS|PXAT TM|KEEPTTL)]
2 APPEND K V
1 STRLEN K
2 GETRANGE K O O
1 SUBSTR K O O
2 SETRANGE K O V
2 INCR K
1 DECR K
2 INCRBY K N
1 DECRBY K N
2 INCRBYFLOAT K F
2 LCS K K [(LEN|IDX)] [MINMATCHLEN O] [WITHMATCHLEN]
2 SETBIT K O B
1 GETBIT K O
2 BITCOUNT K [O O [(BYTE|BIT)]]
1 BITCOUNT K O
2 BITPOS K B [O [O [(BYTE|BIT)]]]
2 BITOP (AND|OR|XOR|NOT|DIFF|DIFF1|ANDOR|ONE) K K*
3 BITFIELD K BF*
1 BITFIELD_RO K GETBF*
3 (LPUSH|RPUSH) K V*
1 (LPUSHX|RPUSHX) K V*
1 LINSERT K (BEFORE|AFTER) V V
1 LLEN K
1 LINDEX K O
1 LSET K O V
2 LRANGE K O O
1 LTRIM K O O
1 LPOS K V [RANK O] [COUNT O] [MAXLEN O]
1 LREM K O V
2 (LPOP|RPOP) K [O]
1 LMPOP O K K (LEFT|RIGHT) [COUNT O]
1 LMOVE K K (LEFT|RIGHT) (LEFT|RIGHT)
1 RPOPLPUSH K K
4 HSET K FV*
1 HMSET K FV*
1 HSETNX K FN V
1 HGET K FN
1 HMGET K FN*
2 (HGETALL|HKEYS|HVALS|HLEN) K
1 (HSTRLEN|HEXISTS) K FN
1 HDEL K FN*
2 HINCRBY K FN N
2 HINCRBYFLOAT K FN F
1 HRANDFIELD K (1000|0|W) [WITHVALUES]
1 HSCAN K 0 [MATCH P] [COUNT 1000] [NOVALUES]
1 HEXPIRE K S [(NX|XX|GT|LT)] [(NX|XX|GT|LT)] FLIST
1 HPEXPIRE K M [(NX|XX|GT|LT)] FLIST
1 HEXPIREAT K TS [(NX|XX|GT|LT)] FLIST
1 HPEXPIREAT K TM [(NX|XX|GT|LT)] FLIST
2 (HTTL|HPTTL|HEXPIRETIME|HPEXPIRETIME) K FLIST
1 HPERSIST K FLIST
2 HGETEX K [(EX S|PX M|EXAT TS|PXAT TM|PERSIST)] FLIST
2 HSETEX K [(NX|XX)] [(FNX|FXX)] [(EX S|PX M|EXAT TS|PXAT TM|KEEPTTL)] FVLIST
1 HGETDEL K FLIST
2 DEL K*
1 UNLINK K*
1 EXISTS K*
1 TOUCH K*
1 TYPE K
3 EXPIRE K S [(NX|XX|GT|LT)] [(NX|XX|GT|LT)]
2 PEXPIRE K M [(NX|XX|GT|LT)]
2 EXPIREAT K TS [(NX|XX|GT|LT)]
2 PEXPIREAT K TM [(NX|XX|GT|LT)]
1 TTL K
1 PTTL K
1 EXPIRETIME K
1 PEXPIRETIME K
1 PERSIST K
1 RENAME K K
1 RENAMENX K K
2 COPY K K [DB D] [REPLACE]
1 MOVE K D
1 RANDOMKEY
1 KEYS P
1 SCAN 0 [MATCH P] [COUNT 1000] [TYPE (string|list|nosuch)]
1 SCAN W
1 OBJECT (ENCODING|REFCOUNT|FREQ) K
1 DUMP_NOT K
3 MULTI
5 EXEC
1 DISCARD
2 WATCH K*
1 UNWATCH
1 SUBSCRIBE C*
1 PSUBSCRIBE P*
1 SSUBSCRIBE C*
2 UNSUBSCRIBE
1 UNSUBSCRIBE C*
2 PUNSUBSCRIBE
1 PUNSUBSCRIBE P*
2 SUNSUBSCRIBE
1 SUNSUBSCRIBE C*
3 PUBLISH C V
1 SPUBLISH C V
1 PUBSUB CHANNELS [P]
1 PUBSUB NUMSUB C*
1 PUBSUB NUMPAT
1 PUBSUB SHARDCHANNELS [P]
1 PUBSUB SHARDNUMSUB C*
1 PING [V]
1 ECHO V
2 SELECT D
1 RESET
1 HELLO [(2|3|4|W)] [AUTH (default|W) (W|sesame)] [SETNAME W]
1 AUTH W [W]
1 AUTH [default] sesame
1 CLIENT SETNAME W
1 CLIENT GETNAME
1 CLIENT SETINFO (LIB-NAME|LIB-VER|W) W
1 CLIENT NO-EVICT (ON|OFF|W)
1 CLIENT NO-TOUCH (ON|OFF|W)
1 CLIENT REPLY (ON|W)
1 CLIENT KILL (ID N|USER W|TYPE W|SKIPME W|ADDR 1.1.1.1:1|LADDR 1.1.1.1:1|MAXAGE N|W)
1 CLIENT KILL W
1 CLIENT UNBLOCK N [(TIMEOUT|ERROR|W)]
1 CLIENT PAUSE W
1 CLIENT UNPAUSE
1 CLIENT INFO
1 CLIENT LIST [(TYPE (normal|pubsub|replica|master|W)|ID N N|W)]
1 CLIENT LIST (NAME W|IP W|DB D|NOT-DB D|FLAGS W|NOT-FLAGS W|CAPA W|LIB-NAME W|NOT-LIB-VER W|NOT-ID N|NOT-TYPE (normal|W)|NOT-USER W|IDLE N|NOT-IP W|NOT-ADDR W|MAXAGE N)
1 CLIENT TRACKINGINFO
1 CLIENT GETREDIR
1 CLIENT CAPA W*
1 CLIENT IMPORT-SOURCE (ON|OFF|W)
1 CLIENT W
1 CONFIG SET (maxmemory|maxclients|appendonly|hz|timeout|maxmemory-policy|nosuch|proto-max-bulk-len|client-output-buffer-limit|notify-keyspace-events|port|bind|databases|loglevel|lfu-log-factor|slowlog-log-slower-than|maxmemory-samples|latency-monitor-threshold|tcp-keepalive|unixsocketperm) BADCONF
1 CONFIG GET (maxmemory|maxmemory-*|W|*policy|hash-max*) [W]
1 CONFIG RESETSTAT
1 CONFIG W
1 COMMAND GETKEYS TEMPLATE
1 COMMAND GETKEYSANDFLAGS TEMPLATE
1 COMMAND INFO W
1 COMMAND LIST FILTERBY (PATTERN|ACLCAT|MODULE|W) (g*t|set*|nosuch|W)
1 COMMAND W
1 DBSIZE
1 FLUSHDB [(ASYNC|SYNC|W)]
1 FLUSHALL [(ASYNC|SYNC|W)]
1 SWAPDB D D
1 TIME
1 MEMORY USAGE K [SAMPLES O]
1 MEMORY W
1 LATENCY (RESET|LATEST|HISTORY|GRAPH|DOCTOR|W) [W]
1 LATENCY HISTOGRAM nosuch
1 SLOWLOG (LEN|RESET|GET|W) [O]
1 COMMANDLOG (LEN|RESET|GET|W) [O] [(slow|large-request|large-reply|W)]
1 OBJECT W [K]
1 OBJECT IDLETIME K
1 PUBSUB W
1 LOLWUT VERSION N N_NOT
1 WAIT_NOT
1 NOSUCHCOMMAND V*
1 QUIT
1 DEBUG W
1 DEBUG (SET-ACTIVE-EXPIRE B|JMAP_NOT)
1 SHUTDOWN (W|NOSAVE W|ABORT|ABORT NOW)
"""

KEYS = ["a", "b", "k1", "k2", "{t}x", "", "bin\0\r\n\xff", "a" * 300]
FIELDS = ["f", "g", "field", "", "f\0\xff", "f" * 70]
CHANNELS = ["ch", "ch2", "news.a", "", "c\0c"]
PATTERNS = ["*", "ch*", "k?", "[ab]", "[^a]", "news.*", "\\*", "a[", "[a-k]1", "", "*\0*", "??", "[]", "[z-a]", "h\\"]
INTEGERS = ["0", "1", "-1", "2", "7", "10", "100", "9223372036854775807", "-9223372036854775808", "9223372036854775808",
            "-9223372036854775809", "4294967296", "2147483648", "-2147483649", "1.0", "1e3", "", " 1", "1 ", "+1", "01", "-0", "0x10", "abc",
            "18446744073709551616", "99999999999999999999999"]
SMALL = ["0", "1", "2", "3", "5", "7", "8", "9", "31", "100", "1000", "-1", "-2", "-5", "-100", "4095"]
FLOATS = ["0", "1.5", "-1.5", "3.0e3", "1e400", "-1e400", "nan", "inf", "-inf", "0.1", "1e-10", "5e-324", "1.7976931348623157e308", "1e17", "1e21", "abc", "",
          " 1", "1 ", "0x1p3", "3.", ".5", "-0", "1e", "1234567890.123456789", "0.30000000000000004", "100000000000000000000"]
VALUES = ["", "v", "hello world", "0", "1", "-5", "12", "10000", "9223372036854775807", "9223372036854775806", "1.5", "3.0e3", "abc\0def\xff\xfe", "x" * 43, "x" * 44, "x" * 45,
          "ohmytext", "mynewtext", "y" * 200, "z" * 2000, "bb" * 9000, "+5", " 7", "07"]
SECONDS = ["100", "1000", "99999", "0", "-1", "9223372036854775807", "9223372036854775", "9223372036854776", "-9223372036854775808", "x", "", "1.5"]
MILLIS = ["100000", "12345678", "0", "-1", "9223372036854775807", "9223370000000000000", "-9223372036854775808", "x", ""]
TIMES = ["4102444800", "5000000000", "1", "0", "-1", "9223372036854775807", "9223372036854775", "9223372036854776", "x"]
WORDS = ["", "0", "1", "-1", "2", "3", "abc", "x y", "nx", "xx", "get", "ex", "px", "keepttl", "persist", "match", "count", "type", "db", "replace", "len", "idx", "byte", "bit",
         "and", "gt", "lt", "ON", "OFF", "yes", "no", "normal", "default", "string", "withmatchlen", "u8", "\xff\x00", "very" * 40, "a\nb", "'q'", '"dq"', "ifeq", "sync", "100000"]
BITFIELD_TYPES = ["u1", "u8", "i8", "u16", "i5", "u63", "i64", "u64", "i65", "u0", "x8", "i", "u-1", ""]
BITFIELD_OFFSETS = ["0", "1", "#0", "#1", "#3", "7", "100", "-1", "#-1", "4294967296", "#", "x", "#9223372036854775807"]
BAD_CONFIG = ["x", "-1", "", "99999999999999999999", "yes", "0x", "1.5", "normal 1 2", "nosuch 0 0 0", "normal 0 0 -1", "Kz!"]


def parse_template(text):
    """A template as a list of alternatives, options and leaves."""
    tokens = re.findall(r"[\[\]()|]|[^\s\[\]()|]+", text)
    at = 0

    def sequence(ends):
        nonlocal at
        out = []
        while at < len(tokens) and tokens[at] not in ends:
            token = tokens[at]
            at += 1
            if token == "[":
                out.append(("option", sequence("]")))
                at += 1
            elif token == "(":
                choices = [sequence("|)")]
                while tokens[at] == "|":
                    at += 1
                    choices.append(sequence("|)"))
                at += 1
                out.append(("choice", choices))
            else:
                out.append(("leaf", token))
        return out

    return sequence("")


class Generator:
    def __init__(self):
        self.templates, self.weights = [], []
        for line in TEMPLATES.strip().splitlines():
            weight, text = line.split(" ", 1)
            if "_NOT" in text:
                continue
            self.templates.append(parse_template(text))
            self.weights.append(int(weight))

    def leaf(self, rng, token):
        pick = rng.choice
        if token.endswith("*") and len(token) > 1:
            return [word for _ in range(rng.randint(1, 4)) for word in self.leaf(rng, token[:-1])]
        if token == "KV":
            return [pick(KEYS), pick(VALUES)]
        if token == "FN":
            return [pick(FIELDS)]
        if token == "FV":
            return [pick(FIELDS), pick(VALUES)]
        if token in ("FLIST", "FVLIST"):
            count = rng.randint(1, 3)
            named = [word for _ in range(count) for word in self.leaf(rng, "FN" if token == "FLIST" else "FV")]
            return ["FIELDS", str(count) if rng.random() < 0.95 else pick(SMALL), *named]
        if token in ("BF", "GETBF"):
            where = [pick(BITFIELD_TYPES[:7] if rng.random() < 0.85 else BITFIELD_TYPES), pick(BITFIELD_OFFSETS[:7] if rng.random() < 0.85 else BITFIELD_OFFSETS)]
            kind = "GET" if token == "GETBF" and rng.random() < 0.9 else pick(["GET", "SET", "INCRBY", "OVERFLOW"])
            if kind == "OVERFLOW":
                return [kind, pick(["WRAP", "SAT", "FAIL", "fail", "x"])]
            return [kind, *where] + ([pick(INTEGERS[:8] + INTEGERS[9:12])] if kind != "GET" else [])
        if token == "TEMPLATE":
            return self.valid(rng)
        pools = {"K": KEYS, "V": VALUES, "N": INTEGERS, "O": SMALL, "F": FLOATS, "P": PATTERNS, "C": CHANNELS, "S": SECONDS, "M": MILLIS, "TS": TIMES,
                 "D": ["0", "1", "2", "15", "16", "-1", "x", "99999999999999999999"], "B": ["0", "1", "0", "1", "2", "-1", "x"], "W": WORDS, "BADCONF": BAD_CONFIG}
        if token == "TM":
            return [pick(TIMES) + ("000" if rng.random() < 0.8 else "")]
        if token == "O" and rng.random() < 0.05:
            return [pick(INTEGERS)]
        if token == "K" and rng.random() < 0.6:
            return [pick(KEYS[:4])]
        if token in ("S", "M") and rng.random() < 0.6:
            return [pools[token][rng.randint(0, 1)]]
        if token == "D" and rng.random() < 0.7:
            return [pick(["0", "1"])]
        return [pick(pools[token])] if token in pools else [token]

    def fill(self, rng, nodes):
        words = []
        for kind, content in nodes:
            if kind == "leaf":
                words += self.leaf(rng, content)
            elif kind == "option" and rng.random() < 0.45:
                words += self.fill(rng, content)
            elif kind == "choice":
                words += self.fill(rng, rng.choice(content))
        return words

    def valid(self, rng):
        return self.fill(rng, rng.choices(self.templates, self.weights)[0])

    def command(self, rng):
        words = self.valid(rng)
        if rng.random() < 0.25:
            at = rng.randrange(1, len(words) + 1)
            spoil = rng.randrange(4)
            if spoil == 0 and at < len(words):
                del words[at]
            elif spoil == 1:
                words.insert(at, rng.choice(WORDS))
            elif spoil == 2 and at < len(words):
                words[at] = rng.choice(WORDS + INTEGERS)
            elif at < len(words):
                words.insert(at, words[at])
        if rng.random() < 0.3:
            words[0] = words[0].lower()
        return [word.encode("latin-1") for word in words]


# --- replies --------------------------------------------------------------------------------------
