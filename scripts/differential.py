#!/usr/bin/env python3
"""Sends the same random commands to Tercel and to a peer and compares the replies byte by byte.

    scripts/differential.py --ours target/release/tercel-server --peer .../valkey-server --seconds 600

Starts both on free loopback ports. A round is a few clients in RESP2 and RESP3 that share a handful
of keys and channels; its number is its seed, so `--round N` repeats it alone. Commands come from the
templates below, a quarter of them spoilt: words missing, doubled, swapped or replaced. Where a reply
depends on time or on a table's order, what may differ is taken out first; what a server says of
itself is listed in KNOWN with the reason. Ends with status 1 if anything else differed. Needs only
Python's standard library.
"""

import argparse
import os
import random
import re
import select
import socket
import subprocess
import sys
import tempfile
import time

# --- what is sent ---------------------------------------------------------------------------------
# The smallest 64-bit number is not among BITFIELD's values: there it saturates to the wrong side.
# K key, V value, N integer, O small integer, F float, P pattern, C channel, S seconds, M milliseconds,
# TS/TM absolute times, D database, B bit, T bit-field type, @ bit-field offset, W any word.
# [..] may be left out, (a|b) is one of them, x* is one to four of x.
TEMPLATES = """
3 GET K
4 SET K V [(NX|XX|IFEQ V)] [GET] [(EX S|PX M|EXAT TS|PXAT TM|KEEPTTL)]
2 SET K V
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


def skip(data, at=0):
    """Offset behind the reply that begins at `at`, or None if it is not whole."""
    end = data.find(b"\r\n", at)
    if end < 0:
        return None
    kind, head, at = data[at:at + 1], data[at + 1:end], end + 2
    if kind in b"+-:_,#(":
        return at
    if kind in b"$=!":
        length = int(head)
        return at if length < 0 else (at + length + 2 if len(data) >= at + length + 2 else None)
    count = int(head) * (2 if kind in b"%|" else 1) + (1 if kind == b"|" else 0)
    for _ in range(max(count, 0)):
        at = skip(data, at)
        if at is None:
            return None
    return at


def parse(data, at=0):
    """The reply that begins at `at` as (kind, content), and the offset behind it."""
    end = data.index(b"\r\n", at)
    kind, head, at = data[at:at + 1], data[at + 1:end], end + 2
    if kind in b"+-:_,#(":
        return (kind, head), at
    if kind in b"$=!":
        length = int(head)
        return ((kind, None), at) if length < 0 else ((kind, data[at:at + length]), at + length + 2)
    if int(head) < 0:
        return (kind, None), at
    items = []
    for _ in range(int(head) * (2 if kind in b"%|" else 1)):
        item, at = parse(data, at)
        items.append(item)
    return (kind, items), at


def close_integers(ours, peers, tolerance):
    """Whether two replies are alike but for integers of a deadline."""
    if ours[0] != peers[0] or isinstance(ours[1], list) != isinstance(peers[1], list):
        return False
    if isinstance(ours[1], list):
        return len(ours[1]) == len(peers[1]) and all(close_integers(a, b, tolerance) for a, b in zip(ours[1], peers[1]))
    if ours[0] == b":" and ours != peers:
        a, b = int(ours[1]), int(peers[1])
        return a > 50 and b > 50 and abs(a - b) <= tolerance
    return ours == peers


OWN_FIELDS = re.compile(rb"\b(id|addr|laddr|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem|tot-net-in|tot-net-out|tot-cmds|events|redir)=[^ ]*")
MONITOR = re.compile(rb"\+[0-9]+\.[0-9]+ \[([0-9]+) [^\]]*\]")


def sorted_reply(value):
    return (value[0], sorted(value[1], key=repr)) if isinstance(value[1], list) else value


def client_lines(text):
    """CLIENT LIST's lines without what measures; a transaction that was never begun counts like an empty one."""
    return sorted(OWN_FIELDS.sub(rb"\1", text.removeprefix(b"txt:")).replace(b" multi=0 ", b" multi=-1 ").splitlines())


def alike(words, ours, peers, in_exec):
    """Whether two replies to `words` say the same."""
    if ours == peers:
        return True
    name = words[0].upper() if words else b""
    sub = words[1].upper() if len(words) > 1 else b""
    a, b = parse(ours)[0], parse(peers)[0]
    # Error texts: what is no UTF-8 is shown as U+FFFD, and a zero byte ends nothing.
    if a[0] == b[0] == b"-" and any(set(word) & {0, 255, 254} for word in words):
        return a[1][:12] == b[1][:12]
    if name == b"EXEC":
        return close_integers(a, b, 1500)
    if name in (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"):
        return close_integers(a, b, 1500)
    if name in (b"KEYS", b"PUBSUB") and a[0] == b[0]:
        return sorted_reply(a) == sorted_reply(b)
    if name == b"SCAN" and a[0] == b[0] == b"*":
        if words[1] != b"0" or (b"1000" not in words and b"COUNT" in [word.upper() for word in words]):
            return True  # where a cursor stands is each server's own
        return a[1][0] == b[1][0] and sorted_reply(a[1][1]) == sorted_reply(b[1][1])
    if name in (b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"):
        return True  # several messages in the order of a table; the last count is compared by what follows
    if name == b"RANDOMKEY":
        return (a[1] is None) == (b[1] is None)
    if name in (b"TIME",):
        return a[0] == b[0] and a[0] == b"*"
    if name == b"MEMORY" and sub == b"USAGE":
        return a[0] == b[0] and (a[0] == b":" or a == b)
    if name == b"OBJECT" and sub in (b"IDLETIME", b"FREQ"):
        return a[0] == b[0]
    if name == b"CLIENT" and sub in (b"INFO", b"LIST") and a[0] == b[0]:
        return client_lines(a[1]) == client_lines(b[1])
    if name == b"HELLO" and a[0] == b[0] != b"-":
        own = (b"server", b"version", b"id", b"modules")
        pairs = lambda value: [(k, None if k[1] in own else v) for k, v in zip(value[1][::2], value[1][1::2])]
        return len(a[1]) == len(b[1]) and pairs(a) == pairs(b)
    if name == b"COMMAND" and a[0] == b[0] and sub == b"LIST":
        return True
    if name == b"CONFIG" and sub == b"GET" and a[0] == b[0]:
        return True
    if name == b"LATENCY" and sub == b"HISTOGRAM" and a[0] == b[0]:
        return True
    return False


# --- what may differ ------------------------------------------------------------------------------
# (command, reason): a regular expression over "COMMAND\nours\npeers", all printable.
KNOWN = [
    (r"^[A-Z]+ HELP\b", "help texts are our own"),
    (r"^CONFIG SET .*argument must be a memory value", "a size without digits is refused, not taken for 0"),
    (r"^OBJECT ENCODING [^\n]*\n\$3~int~\n\$6~embstr~", "a whole number from INCRBYFLOAT is held as one here"),
    (r"^SCAN [^\n]*\n-ERR invalid cursor", "a cursor with a space, a sign or leading zeros is refused here"),
    (r"^LCS .*transient memory for LCS", "the memory LCS takes is not bounded by proto-max-bulk-len here"),
    (r"^CLIENT (INFO|LIST)[^\n]*\n[^\n]*\n[^\n]* watch=[0-9]+$", "keys a broken transaction watched are counted after FLUSHALL there"),
    (r"^LATENCY DOCTOR", "advice is worded by each server"),
    (r"^\(message\)\n[^\n]*\"(HELLO|AUTH)\"[^\n]*\(redacted\)", "what a refused HELLO or AUTH carried is hidden from MONITOR here"),
    (r"^[^\n]*\n[>*]4~\$8~pmessage((?!__key)[^\n])*\n[>*]4~\$8~pmessage", "patterns that match the same channel get the message in the order of a table"),
    (r"^(COMMAND( COUNT| DOCS| INFO)?|LOLWUT|INFO)\b", "a server describes itself"),
]
KNOWN = [(re.compile(pattern, re.I | re.S), reason) for pattern, reason in KNOWN]


def show(data):
    text = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in data.replace(b"\r\n", b"~"))
    return text if len(text) < 300 else text[:160] + f"...({len(data)})..." + text[-60:]


# --- servers and clients --------------------------------------------------------------------------


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    def __init__(self, program, options):
        self.port = free_port()
        self.dir = tempfile.TemporaryDirectory()
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--enable-debug-command", "yes", "--dir", self.dir.name, "--save", "",
                   "--slowlog-log-slower-than", "-1", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            try:
                self.connect().close()
                return
            except OSError:
                time.sleep(0.02)
        sys.exit(f"{program} does not start")

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def end(self):
        self.process.kill()
        self.process.wait()


class Side:
    """One client's connection to one of the two servers."""

    def __init__(self, server):
        self.sock, self.data, self.ended = server.connect(), b"", False

    def receive(self):
        try:
            chunk = self.sock.recv(1 << 20)
        except ConnectionError:
            chunk = b""
        self.ended |= not chunk
        self.data += chunk


class Client:
    def __init__(self, servers, protocol):
        self.sides = [Side(server) for server in servers]
        self.protocol = protocol
        self.monitor = False
        self.queued = False

    def send(self, words):
        frame = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.send_bytes(frame)

    def send_bytes(self, frame):
        for side in self.sides:
            try:
                side.sock.sendall(frame)
            except OSError:
                side.ended = True

    def split(self):
        """Takes as many whole replies as both sides have."""
        pairs = []
        while all(side.data for side in self.sides):
            ends = [skip(side.data) for side in self.sides]
            if None in ends:
                break
            pairs.append(tuple(side.data[:end] for side, end in zip(self.sides, ends)))
            for side, end in zip(self.sides, ends):
                side.data = side.data[end:]
        return pairs

    def close(self):
        for side in self.sides:
            side.sock.close()


def wait(clients, seconds):
    """Reads what is there, waiting for something to come at most so long."""
    sides = {side.sock: side for client in clients for side in client.sides if not side.ended}
    ready, _, _ = select.select(list(sides), [], [], seconds)
    for sock in ready:
        sides[sock].receive()
    return bool(ready)


class Differ:
    def __init__(self, servers, verbose):
        self.servers, self.generator, self.found, self.excused, self.commands, self.verbose = servers, Generator(), {}, {}, 0, verbose

    def report(self, number, step, client, words, ours, peers):
        if len(words) > 1 and words[0].upper() == b"CLIENT" and words[1].upper() in (b"INFO", b"LIST") and ours[:1] == peers[:1] != b"-":
            ours, peers = (b" ".join(b"|".join(line.split(b" ")) for line in client_lines(text)) for text in (ours, peers))
            fields = [set(text.split(b"|")) for text in (ours, peers)]
            ours, peers = (b" ".join(sorted(fields[at] - fields[1 - at])) for at in range(2))
        line = b" ".join(words).decode("latin-1")
        key = f"{line}\n{show(ours)}\n{show(peers)}".replace("\0", "")
        for pattern, reason in KNOWN:
            if pattern.search(key):
                self.excused[reason] = self.excused.get(reason, 0) + 1
                return False
        # The same difference is told once: by command, and by the replies without their details.
        name = line.upper().split(" ")[0]
        signature = (name, re.sub(r"\d+", "#", show(ours))[:50], re.sub(r"\d+", "#", show(peers))[:50])
        count, first = self.found.get(signature, (0, None))
        if first is None:
            first = f"round {number} step {step} RESP{client.protocol}: {show(b' '.join(words))}\n    ours: {show(ours)}\n    peer: {show(peers)}"
            print(first, flush=True)
        self.found[signature] = (count + 1, first)
        return True

    def settle(self, number, step, clients, sender, words):
        """Waits until both servers have said the same; False at a difference."""
        answered = sender is None
        deadline = time.monotonic() + 3.0
        good = True
        in_exec = False
        while True:
            for client in clients:
                for ours, peers in client.split():
                    mine = client is sender
                    answered |= mine
                    about = words if mine else [b"(message)"]
                    if client.monitor:
                        ours, peers = MONITOR.sub(rb"+[\1]", ours), MONITOR.sub(rb"+[\1]", peers)
                        if b"\"time\"" in ours.lower():
                            continue
                    if not alike(about, ours, peers, in_exec):
                        good &= not self.report(number, step, client, about, ours, peers)
            if sender is not None and any(side.ended for side in sender.sides):
                answered = True
            rest = [client for client in clients if any(side.data for side in client.sides) or len({side.ended for side in client.sides}) > 1]
            if answered and not rest:
                return good
            if time.monotonic() > deadline:
                for client in rest or [sender]:
                    texts = [side.data + (b"<closed>" if side.ended else b"<open>") for side in client.sides]
                    self.report(number, step, client, words, *texts)
                return False
            wait(clients, 0.05)

    def round(self, number, steps):
        rng = random.Random(number)
        admin = Client(self.servers, 2)
        clients = []
        guarded = rng.random() < 0.1
        for words in [[b"FLUSHALL"], [b"CLIENT", b"UNPAUSE"], [b"CONFIG", b"SET", b"slowlog-log-slower-than", b"-1"], [b"SLOWLOG", b"RESET"], [b"CONFIG", b"SET", b"requirepass", b"sesame" if guarded else b""]]:
            admin.send(words)
            self.settle(number, 0, [admin], admin, words)
        for at in range(4):
            clients.append(Client(self.servers, 2 + (at + number) % 2))
        everything = clients[3]
        for client in clients:
            client.send([b"HELLO", b"%d" % client.protocol])
            self.settle(number, 0, clients, client, [b"HELLO"])
        events = rng.random() < 0.5
        setup = [(clients[0], [b"CONFIG", b"SET", b"notify-keyspace-events", b"KEA" if events else b""]),
                 (clients[0], [b"CONFIG", b"SET", b"maxmemory-policy", b"allkeys-lfu" if rng.random() < 0.2 else b"noeviction"])]
        if events:
            setup.append((everything, [b"PSUBSCRIBE", b"__key*"]))
        elif rng.random() < 0.2:
            everything.monitor = True
            setup.append((everything, [b"MONITOR"]))
        for client, words in setup:
            client.send(words)
            self.settle(number, 0, clients, client, words)
        for step in range(1, steps + 1):
            client = rng.choice(clients[:3])
            words = self.generator.command(rng)
            if self.leave_out(client, words):
                continue
            self.commands += 1
            if self.verbose:
                print(f"  {step} {clients.index(client)}: {show(b' '.join(words))}", flush=True)
            client.send(words)
            good = self.settle(number, step, clients, client, words)
            name = words[0].upper()
            if name == b"MULTI":
                client.queued = True
            elif name in (b"EXEC", b"DISCARD", b"RESET", b"QUIT"):
                client.queued = False
            if not good:
                break
            for at, one in enumerate(clients[:3]):
                if one.sides[0].ended:
                    one.close()
                    clients[at] = Client(self.servers, one.protocol)
                    clients[at].send([b"HELLO", b"%d" % one.protocol])
                    self.settle(number, step, clients, clients[at], [b"HELLO"])
        for words in [[b"AUTH", b"sesame"], [b"CONFIG", b"SET", b"requirepass", b""]]:
            admin.send(words)
            self.settle(number, steps, [admin], admin, words)
        for client in [admin, *clients]:
            client.close()

    @staticmethod
    def leave_out(client, words):
        """What would end, stop or stall a server, or answers by a table's order inside EXEC."""
        upper = [word.upper() for word in words]
        name, sub = upper[0], upper[1] if len(upper) > 1 else b""
        if name == b"SHUTDOWN" and (len(upper) < 2 or not any(word in (b"ABORT",) for word in upper)):
            # An option that is none is refused; everything else would end it.
            options = (b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"SAFE", b"FAILOVER")
            return all(word in options for word in upper[1:])
        # Times so short that the two servers may see them pass at different commands.
        for at, word in enumerate(upper[:-1]):
            soon = {b"PX": 50000, b"EX": 60, b"PEXPIRE": 50000, b"EXPIRE": 60, b"PSETEX": 50000, b"SETEX": 60}.get(word, 0)
            if any(re.fullmatch(rb"[1-9][0-9]{0,4}", time) and int(time) <= soon for time in upper[at + 1:at + 3]):
                return True
        if name == b"CLIENT" and sub == b"PAUSE" and len(upper) > 2 and re.fullmatch(rb"[0-9]+", upper[2]):
            return True
        if name == b"CLIENT" and sub == b"KILL":
            return any(word in (b"NORMAL", b"DEFAULT", b"NO", b"MAXAGE", b"PUBSUB") for word in upper) or b"ID" in upper
        if name == b"CLIENT" and sub in (b"REPLY", b"ID", b"TRACKING", b"CACHING", b"LIST") and (sub in (b"ID",) or b"OFF" in upper or b"SKIP" in upper or b"ID" in upper[2:]):
            return True
        if name == b"DEBUG" and sub not in (b"", b"ABC", b"SET-ACTIVE-EXPIRE"):
            return True
        if name == b"CONFIG" and sub == b"SET" and len(upper) == 4:
            takes = {b"MAXMEMORY": rb"[0-9]+", b"PROTO-MAX-BULK-LEN": rb"[0-9]+", b"PORT": rb".*", b"BIND": rb".*", b"TIMEOUT": rb".*", b"MAXCLIENTS": rb".*", b"APPENDONLY": rb".*"}
            return bool(re.fullmatch(takes.get(upper[2], rb"(?!)"), upper[3]))
        if client.queued and name in (b"KEYS", b"SCAN", b"RANDOMKEY", b"TIME", b"PUBSUB", b"CLIENT", b"HELLO", b"MEMORY", b"COMMAND", b"CONFIG", b"UNSUBSCRIBE",
                                      b"PUNSUBSCRIBE", b"SUNSUBSCRIBE", b"OBJECT", b"LATENCY"):
            return True
        return False

    def frames(self, number):
        """Broken and odd frames: everything the server says until it closes or falls silent."""
        rng = random.Random(~number)
        pieces = [b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"*", b"\r\n", b"$", b"-1", b"0", b"*0\r\n", b"*-1\r\n", b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\r\n", b"*1\r\n", b"$-1\r\n", b"$0\r\n\r\n",
                  b"GET a\r\n", b"SET a \"b\\x41\\n\"\r\n", b"ECHO 'it\\'s'\r\n", b"ECHO \"x\"y\r\n", b"ECHO \"open\r\n", b":1\r\n", b"+OK\r\n", b"*3\n", b"\n", b"$99999999999\r\n",
                  b"*1048577\r\n", b"*2147483648\r\n", b"*1\r\n:5\r\n", b"*01\r\n$04\r\nPING\r\n", b"* 1\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx", b"  PING  \r\n", b"ECHO \xc3\xa9\r\n", b"*+1\r\n", b"EXEC\r\n", b"ECHO\r\n",
                  b"ECHO " + b"x" * 200 + b"\r\n", b"*1\r\n$" + b"1" * 40]
        data = b"".join(rng.choice(pieces) for _ in range(rng.randint(1, 6)))
        client = Client(self.servers, 2)
        client.send_bytes(data)
        quiet = time.monotonic() + 0.05
        while not all(side.ended for side in client.sides) and time.monotonic() < quiet + 0.3:
            if wait([client], 0.02):
                quiet = time.monotonic()
            elif time.monotonic() > quiet and client.sides[0].data == client.sides[1].data and client.sides[0].ended == client.sides[1].ended:
                break
        self.commands += 1
        texts = [side.data + (b"<closed>" if side.ended else b"<open>") for side in client.sides]
        if texts[0] != texts[1]:
            self.report(number, 0, client, [b"(frames)", data], *texts)
        client.close()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ours", default="target/release/tercel-server")
    options.add_argument("--peer", required=True)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--steps", type=int, default=200, help="commands a round")
    options.add_argument("--first", type=int, default=1, help="number of the first round")
    options.add_argument("--round", type=int, help="only this one, with every command shown")
    options.add_argument("--our-options", default="", help="more options for our server")
    given = options.parse_args()
    servers = [Server(given.ours, given.our_options.split()), Server(given.peer, ["--loglevel", "warning"])]
    differ = Differ(servers, given.round is not None)
    number = given.round if given.round is not None else given.first
    end = time.monotonic() + given.seconds
    try:
        while True:
            differ.round(number, given.steps)
            for at in range(3):
                differ.frames(number * 3 + at)
            for server in servers:
                if server.process.poll() is not None:
                    sys.exit(f"a server ended in round {number}")
            number += 1
            if given.round is not None or time.monotonic() > end:
                break
    finally:
        for server in servers:
            server.end()
    print(f"\n{differ.commands} commands in {number - (given.round or given.first)} rounds")
    for reason, count in sorted(differ.excused.items()):
        print(f"{count:6} excused: {reason}")
    for _, (count, first) in sorted(differ.found.items(), key=lambda item: -item[1][0]):
        print(f"{count:6} times: {first}")
    sys.exit(1 if differ.found else 0)


if __name__ == "__main__":
    main()
