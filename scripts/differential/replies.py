"""What comes back: replies parsed, what may differ in them taken out, and differences that are known."""

import re

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


OWN_FIELDS = re.compile(rb"\b(id|addr|laddr|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem|tot-net-in|tot-net-out|tot-cmds|events|redir)=[^ \n]*")
# Only our server says how a client came.
OUR_FIELDS = re.compile(rb" transport=[a-z]+")
MONITOR = re.compile(rb"\+[0-9]+\.[0-9]+ \[([0-9]+) [^\]]*\]")


def sorted_reply(value):
    return (value[0], sorted(value[1], key=repr)) if isinstance(value[1], list) else value


def client_lines(text):
    """CLIENT LIST's lines without what measures; a transaction that was never begun counts like an empty one."""
    text = OUR_FIELDS.sub(b"", OWN_FIELDS.sub(rb"\1", text.removeprefix(b"txt:")))
    return sorted(text.replace(b" multi=0 ", b" multi=-1 ").splitlines())


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
    if name in (b"HTTL", b"HPTTL", b"HEXPIRETIME", b"HPEXPIRETIME"):
        return close_integers(a, b, 1500)
    if name in (b"HGETALL", b"HKEYS", b"HVALS", b"HRANDFIELD") and a[0] == b[0]:
        return sorted_reply(a) == sorted_reply(b)
    if name == b"HSCAN" and a[0] == b[0] == b"*":
        return sorted_reply(a[1][1]) == sorted_reply(b[1][1]) or words[2] != b"0"
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
    (r"^(SCAN|HSCAN) [^\n]*\n-ERR invalid cursor", "a cursor with a space, a sign or leading zeros is refused here"),
    (r"^(HGETEX|HSETEX) FIELDS ", "a key may be called FIELDS here"),
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
