#!/usr/bin/env python3
"""Run by hand: what the encoder writes is right for Valkey.

    cargo build --release -p tercel-rdb --example rdb_tool
    rdb/tests/with_valkey.py --tool target/release/examples/rdb_tool --valkey .../valkey/src [--redis redis-server]

Writes files with the tool, lets valkey-check-rdb look at them, has servers load them, asks them for
every key over the protocol, and has them write a file that the tool reads; restores payloads of DUMP.
Needs nothing but the programs; servers are on the loopback.
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
        raise RuntimeError(line)


def entries(tool, path):
    """(database, key, value, expiry or None, idle or None, frequency or None) of all entries."""
    out = subprocess.run([tool, "show", path], check=True, capture_output=True, text=True).stdout
    for line in out.splitlines():
        db, key, value, *numbers = line.split(" ")
        yield int(db), bytes.fromhex(key), bytes.fromhex(value), *(None if n == "-" else int(n) for n in numbers)


def expected():
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
    return keys


def check(server, policy, tool, port, path, keys):
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
                assert client.ask(b"GET", key) == value, (db, key)
                assert client.ask(b"PEXPIRETIME", key) == (-1 if expire is None else expire), (db, key)
            assert total == len(keys), (total, len(keys))
            client.ask(b"FLUSHALL")
            for line in subprocess.run([tool, "dumps"], check=True, capture_output=True, text=True).stdout.splitlines():
                value, payload = (bytes.fromhex(word) for word in line.split(" "))
                assert client.ask(b"RESTORE", b"key", 0, payload, b"REPLACE") == b"OK"
                assert client.ask(b"GET", b"key") == value
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
    keys = expected()
    with tempfile.TemporaryDirectory() as folder:
        for form in ([], ["plain"]):
            path = f"{folder}/dump{len(form)}.rdb"
            subprocess.run([args.tool, "write", path, *form], check=True)
            assert {(db, key): (value, expire) for db, key, value, expire, *_ in entries(args.tool, path)} == keys
            told = subprocess.run([valkey / "valkey-check-rdb", path], capture_output=True, text=True)
            assert told.returncode == 0 and "RDB looks OK" in told.stdout, told.stdout
            servers = [(valkey / "valkey-server", policy) for policy in ("noeviction", "allkeys-lru", "allkeys-lfu")]
            servers += [(args.redis, "noeviction")] if args.redis else []
            for server, policy in servers:
                compared = check(server, policy, args.tool, args.port, path, keys)
                print(f"{pathlib.Path(server).name} {policy} {''.join(form) or 'compressed'}: {compared} values")


if __name__ == "__main__":
    main()
