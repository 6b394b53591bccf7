#!/usr/bin/env python3
"""Run by hand: what the encoder writes is right for Valkey.

    cargo build --release -p tercel-rdb --example rdb_tool
    rdb/tests/with_valkey.py --tool target/release/examples/rdb_tool --valkey .../valkey/src [--redis redis-server]

Writes files with the tool, lets valkey-check-rdb look at them, has servers load them, asks them for
every key over the protocol, and has them write a file that the tool reads; restores payloads of DUMP,
in both directions. Needs nothing but the programs; servers are on the loopback.
"""
import argparse
import pathlib
import socket
import subprocess
import tempfile
import time


class Client:
    def __init__(self, port):
        deadline = time.monotonic() + 20
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
                self.file = self.socket.makefile("rb")
                if self.ask(b"PING") == b"PONG":
                    return
            except (OSError, RuntimeError):
                pass  # not listening yet, or still loading
            if time.monotonic() > deadline:
                raise SystemExit("the server does not answer")
            time.sleep(0.05)

    def ask(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        request = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(b"*%d\r\n%s" % (len(words), request))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise RuntimeError(line)


def entries(tool, path):
    """(database, key, value, expiry or None, idle or None, frequency or None) of all entries."""
    out = subprocess.run([tool, "show", path], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        db, key, value, *numbers = line.split(" ")
        yield int(db), bytes.fromhex(key), parsed(value), *(None if n == "-" else int(n) for n in numbers)


def parsed(value):
    """Bytes, a list of them, or a dictionary of fields to value and deadline or None."""
    if value[:1] == "l":
        return [bytes.fromhex(element) for element in value.split(",")[1:]]
    if value[:1] == "h":
        fields = (field.replace("=", "@").split("@") for field in value.split(",")[1:])
        return {bytes.fromhex(f): (bytes.fromhex(v), int(at[0]) if at else None) for f, v, *at in fields}
    return bytes.fromhex(value)


def stored(client, key):
    """The value of a key of the server, in the same form."""
    kind = client.ask(b"TYPE", key)
    if kind == b"list":
        return client.ask(b"LRANGE", key, 0, -1)
    if kind == b"hash":
        flat = client.ask(b"HGETALL", key)
        fields, values = flat[::2], flat[1::2]
        at = client.ask(b"HPEXPIRETIME", key, b"FIELDS", len(fields), *fields)
        return {f: (v, None if at_ms == -1 else at_ms) for f, v, at_ms in zip(fields, values, at)}
    return client.ask(b"GET", key)


def expected(form):
    """What the tool's `write` puts into a file, put together anew."""

    def noise(seed, length):
        state, out = seed, bytearray()
        for _ in range(length):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            out.append(state >> 56)
        return bytes(out)

    keys = {}
    for db in (0, 1, 9):
        for number in range(1000):
            expire = 4_102_444_800_000 + number if number % 3 == 0 else None
            spread = ((number - 500) << (number % 55)) % 2**64
            keys[db, b"int:%d" % number] = (b"%d" % (spread - 2**64 if spread >= 2**63 else spread), expire)
            length = number * number // 37
            keys[db, b"text:%d" % number] = ((b"some text, " * (length // 11 + 1))[:length], expire)
            mixed = noise(number, length)
            keys[db, noise(number + 7, 12)] = (b"-" * (length // 2) + mixed[length // 2 :], expire)
        keys[db, b"long"] = (noise(db, 3 << 20), None)
        keys[db, b"a key that repeats itself " * 10] = (bytes(5 << 20), None)
        keys[db, b"12345"] = (b"", None)

    def element(number):
        texts = (b"%d" % (number**3 - 5000), b"element %d" % number, None, b"x" * (number * 7 % 5000))
        return noise(number, number % 300) if number % 4 == 2 else texts[number % 4]

    for count in (1, 5, 127, 600, 20_000):
        elements = [element(number) for number in range(count)]
        keys[2, b"list:%d" % count] = (elements, None)
        keys[2, b"hash:%d" % count] = ({b"field:%d" % n: (value, None) for n, value in enumerate(elements)}, None)
        if form == ["deadlines"]:
            at = [None if n % 2 else 4_102_444_800_000 + n for n in range(count)]
            keys[2, b"expiring:%d" % count] = (
                {b"field:%d" % n: (value, at[n]) for n, value in enumerate(elements)},
                None,
            )
    disputed = [b"d" * length for length in (16_377, 16_378, 16_379, 2_097_145, 2_097_146, 2_097_147)]
    keys[2, b"list:disputed"] = (disputed, None)
    keys[2, b"hash:disputed"] = ({string: (string, None) for string in disputed}, None)
    return keys


def dumped(client, tool, folder, keys):
    """Has the server give fields a deadline, dump all collections and save them; returns how many these are."""
    client.ask(b"SELECT", 2)
    values = {}
    for (db, key), (value, _) in keys.items():
        if db == 2:
            values[key] = value
            if key in (b"hash:5", b"hash:600", b"hash:20000"):
                fields = list(value)[::3]
                at_ms = 4_102_444_800_000 + len(value)
                client.ask(b"HPEXPIREAT", key, at_ms, b"FIELDS", len(fields), *fields)
                values[key] = value | {field: (value[field][0], at_ms) for field in fields}
    lines = "".join(client.ask(b"DUMP", key).hex() + "\n" for key in values)
    told = subprocess.run([tool, "restore"], input=lines, check=True, capture_output=True, text=True).stdout
    for key, line in zip(values, told.splitlines(), strict=True):
        assert parsed(line) == values[key], key
    client.ask(b"SAVE")
    saved = {key: value for db, key, value, *_ in entries(tool, folder / "dump.rdb") if db == 2}
    assert saved == values
    return len(values)


def check(server, policy, tool, port, path, keys, form):
    """Loads the file at `path`; returns how many values were compared."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "dump.rdb").write_bytes(pathlib.Path(path).read_bytes())
        options = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--maxmemory-policy", policy]
        log = open(folder / "log", "w+")
        running = subprocess.Popen([str(word) for word in [server, *options]], stdout=log, stderr=log)
        try:
            client = Client(port)
            client.ask(b"SAVE")
            saved = {}
            for db, key, value, expire, idle, freq in entries(tool, folder / "dump.rdb"):
                saved[db, key] = (value, expire)
                # What the file says about use counts where the policy asks for it.
                name, _, number = key.partition(b":")
                if name == b"int" and "lru" in policy and db == 1:
                    assert 0 <= idle - 100 * int(number) <= 60, (key, idle)
                if name == b"int" and "lfu" in policy and db == 9:
                    assert 0 <= int(number) % 256 - freq <= 1, (key, freq)
            assert saved == keys
            total, db_now = 0, None
            for (db, key), (value, expire) in keys.items():
                if db != db_now:
                    client.ask(b"SELECT", db)
                    db_now = db
                    total += client.ask(b"DBSIZE")
                assert stored(client, key) == value, (db, key)
                assert client.ask(b"PEXPIRETIME", key) == (-1 if expire is None else expire), (db, key)
            assert total == len(keys), (total, len(keys))
            total += dumped(client, tool, folder, keys)
            client.ask(b"FLUSHALL")
            dumps = subprocess.run([tool, "dumps", *form[:1]], check=True, capture_output=True, text=True).stdout
            for line in dumps.splitlines():
                value, payload = line.split(" ")
                assert client.ask(b"RESTORE", b"key", 0, bytes.fromhex(payload), b"REPLACE") == b"OK"
                assert stored(client, b"key") == parsed(value)
                total += 1
        except BaseException:
            log.seek(0)
            print(log.read()[-3000:])
            raise
        finally:
            running.kill()
            running.wait()
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--valkey", required=True, help="the folder of valkey-server and valkey-check-rdb")
    parser.add_argument("--redis", help="a redis-server of 7.2 or newer")
    parser.add_argument("--port", type=int, default=28092)
    args = parser.parse_args()
    valkey = pathlib.Path(args.valkey)
    with tempfile.TemporaryDirectory() as folder:
        for form in ([], ["plain"], ["deadlines"]):
            keys = expected(form)
            path = f"{folder}/dump.rdb"
            subprocess.run([args.tool, "write", path, *form], check=True)
            assert {(db, key): (value, expire) for db, key, value, expire, *_ in entries(args.tool, path)} == keys
            told = subprocess.run([valkey / "valkey-check-rdb", path], capture_output=True, text=True)
            assert told.returncode == 0 and "RDB looks OK" in told.stdout, told.stdout
            servers = [(valkey / "valkey-server", policy) for policy in ("noeviction", "allkeys-lru", "allkeys-lfu")]
            # Redis has no such type as Valkey's hashes with deadlines.
            servers += [(args.redis, "noeviction")] if args.redis and form != ["deadlines"] else []
            for server, policy in servers:
                compared = check(server, policy, args.tool, args.port, path, keys, form if form == ["deadlines"] else [])
                print(f"{pathlib.Path(server).name} {policy} {''.join(form) or 'compressed'}: {compared} values")


if __name__ == "__main__":
    main()
