"""Figures of one Tercel server that no load generator gives: the longest turn of its loop while much
is freed, expired or evicted, how late expiry is told, what idle connections cost, what prefetching
brings among ten million keys, and bytes a key. Server and load run on cores of their own.

    python3 scripts/measure_server.py target/release/tercel-server [names...]
"""

import argparse
import itertools
import os
import resource
import socket
import statistics
import subprocess
import tempfile
import time

SERVER_CORE, LOAD_CORE = 0, 1


class Client:
    """RESP2 over one socket, as much of it as is needed here."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb", buffering=1 << 20)

    @staticmethod
    def encode(*words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    def read(self):
        line = self.file.readline()
        if not line:
            raise SystemExit("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind in b"*>":
            return [self.read() for _ in range(int(rest))]
        if kind == b"-":
            raise SystemExit(f"the server answered {rest.decode()}")
        return int(rest) if kind == b":" else rest

    def call(self, *words):
        self.socket.sendall(self.encode(*words))
        return self.read()

    def pipeline(self, commands, depth=1000):
        commands = iter(commands)
        while batch := list(itertools.islice(commands, depth)):
            self.socket.sendall(b"".join(batch))
            for _ in batch:
                self.read()

    def info(self, section="memory"):
        # One section: INFO of everything is a long turn of its own.
        lines = self.call("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


class Server:
    def __init__(self, command, *options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        directory = tempfile.mkdtemp()
        arguments = [command, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--enable-debug-command", "yes", *options]
        # Pinned as an operator would: the executor alone on its core, the helpers elsewhere.
        arguments += ["--cpu-affinity", str(SERVER_CORE)]
        self.process = subprocess.Popen(
            arguments,
            preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE, LOAD_CORE}),
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                self.client = Client(self.port)
                return
            except OSError:
                time.sleep(0.02)
        raise SystemExit("the server does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    def longest_turn_us(self, during):
        """The longest turn while `during` ran, and until what it set going was done."""
        self.client.call("CONFIG", "RESETSTAT")
        during()
        return int(self.client.info("tercel")["turn_usec_max"])


def hiccup_us(seconds):
    """The longest gap of a loop that does nothing on the server's core: the machine's own share."""
    code = (
        "import time\n"
        f"end=time.perf_counter_ns()+int({seconds}*1e9)\nlast=time.perf_counter_ns();most=0\n"
        "while last<end:\n now=time.perf_counter_ns();most=max(most,now-last);last=now\n"
        "print(most//1000)"
    )
    return int(subprocess.run(["taskset", "-c", str(SERVER_CORE), "python3", "-c", code], capture_output=True, check=True).stdout)


def wait_until(client, section, done, seconds=60):
    end = time.monotonic() + seconds
    while not done(client.info(section)):
        if time.monotonic() > end:
            raise SystemExit("what was waited for did not happen")
        time.sleep(0.05)


def turns(command):
    """Longest loop turn: FLUSHALL of 10 M keys, 1 M keys expiring at once, 1 GB evicted."""
    rows = {"FLUSHALL of 10 M keys": [], "1 M keys expire in one millisecond": [], "1 GB evicted": []}
    for _ in range(3):
        with Server(command) as server:
            client = server.client
            client.call("DEBUG", "POPULATE", 10_000_000, "key", 8)

            def flush():
                client.call("FLUSHALL", "ASYNC")
                # Not asked meanwhile: INFO of memory asks the allocator, which takes longer than a slice.
                time.sleep(6)

            rows["FLUSHALL of 10 M keys"].append(server.longest_turn_us(flush))
            if client.info()["lazyfree_pending_objects"] != "0":
                raise SystemExit("six seconds were too short for freeing ten million keys")
            at_ms = int(time.time() * 1000) + 15_000
            client.pipeline(Client.encode("SET", f"e{n}", "value", "PXAT", at_ms) for n in range(1_000_000))
            if time.time() * 1000 > at_ms - 500:
                raise SystemExit("a million SETs took too long to expire together")

            def expire():
                wait_until(client, "stats", lambda info: int(info["expired_keys"]) == 1_000_000)

            rows["1 M keys expire in one millisecond"].append(server.longest_turn_us(expire))
        with Server(command, "--maxmemory-policy", "allkeys-lru") as server:
            client = server.client
            client.call("DEBUG", "POPULATE", 1_500_000, "key", 1024)
            used = int(client.info()["used_memory"])

            def evict():
                client.call("CONFIG", "SET", "maxmemory", used - (1 << 30))
                time.sleep(6)

            rows["1 GB evicted"].append(server.longest_turn_us(evict))
            # INFO itself takes a few kilobytes while it runs.
            if int(client.info()["used_memory"]) > used - (1 << 30) + (1 << 20):
                raise SystemExit("six seconds were too short for evicting a gigabyte")
    alone = hiccup_us(5)
    for name, values in rows.items():
        print(f"longest turn, {name}: {sorted(values)} us (the machine alone, 5 s: {alone} us)", flush=True)


def expiry(command):
    """How late `expired` is told, with 1 M other keys that have TTLs."""
    with Server(command, "--notify-keyspace-events", "Ex") as server:
        client, listener = server.client, Client(server.port)
        hour = int(time.time() * 1000) + 3_600_000
        client.pipeline(Client.encode("SET", f"o{n}", "v", "PXAT", hour + n % 100_000) for n in range(1_000_000))
        listener.call("SUBSCRIBE", "__keyevent@0__:expired")
        late_us = []
        for start in range(0, 2000, 200):
            base_ms = int(time.time() * 1000) + 200
            for n in range(200):
                client.call("SET", f"p{start + n}:{base_ms + 3 * n}", "v", "PXAT", base_ms + 3 * n)
            for _ in range(200):
                key = listener.read()[2]
                late_us.append(time.time() * 1e6 - int(key.split(b":")[1]) * 1000)
        late_us.sort()
        at = lambda share: late_us[min(len(late_us) - 1, int(len(late_us) * share))]
        print(f"expiry told, us after its time, 1 M other TTLs, {len(late_us)} keys: p50 {at(0.5):.0f} p99 {at(0.99):.0f} max {late_us[-1]:.0f}", flush=True)


def idle(command):
    """Processor time and memory of idle connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 20_000), limit))
    for backend in ("io_uring", "epoll"):
        with Server(command, "--transport-backend", backend, "--maxclients", "11000") as server:
            time.sleep(2)
            before, used_before = server.rss(), int(server.client.info()["used_memory"])
            sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(1000)]
            server.client.call("PING")
            time.sleep(1)
            cpu = server.cpu_seconds()
            time.sleep(20)
            share = (server.cpu_seconds() - cpu) / 20
            sockets += [socket.create_connection(("127.0.0.1", server.port)) for _ in range(9000)]
            server.client.call("PING")
            time.sleep(2)
            each = (server.rss() - before) / len(sockets)
            used_each = (int(server.client.info()["used_memory"]) - used_before) / len(sockets)
            print(f"idle, {backend}: 1,000 connections {share * 100:.2f} % of a core; 10,000: {each:.0f} bytes of RSS each, {used_each:.0f} of used_memory", flush=True)


def prefetch(command):
    """Pipelined GETs among 10 M keys with prefetching on and off, interleaved."""
    benchmark = ["taskset", "-c", str(LOAD_CORE), "redis-benchmark", "-c", "50", "-P", "16", "-n", "2000000", "-r", "10000000"]
    for options in ((), ("--disable-thp", "yes")):
        with Server(command, *options) as server:
            server.client.pipeline(
                Client.encode("MSET", *(word for n in range(at, at + 100) for word in (f"key:{n:012}", "value:42")))
                for at in range(0, 10_000_000, 100)
            )
            figures = {"16": [], "0": []}
            for turn in range(10):
                width = ("16", "0")[turn % 2]
                server.client.call("CONFIG", "SET", "prefetch-batch-max-size", width)
                cpu = server.cpu_seconds()
                out = subprocess.run(
                    [*benchmark, "-p", str(server.port), "-q", "GET", "key:__rand_int__"], capture_output=True, check=True, text=True
                ).stdout
                rate = float(out.replace("\r", "\n").strip().splitlines()[-1].split(" requests per second")[0].split()[-1])
                figures[width].append((rate, (server.cpu_seconds() - cpu) / 2e6 * 1e9))
            on, off = ([statistics.median(column) for column in zip(*figures[width])] for width in ("16", "0"))
            name = " ".join(options) or "as shipped"
            print(
                f"GET pipeline 16, 10 M keys, {name}: prefetch on {on[0]:.0f}/s {on[1]:.0f} ns CPU, off {off[0]:.0f}/s {off[1]:.0f} ns:"
                f" {on[0] / off[0]:.2f} times the rate, CPU a request off/on {off[1] / on[1]:.2f}",
                flush=True,
            )


def memory(command):
    """Bytes a key."""
    for size in (8, 64):
        with Server(command) as server:
            time.sleep(1)
            before, rss_before = int(server.client.info()["used_memory"]), server.rss()
            value = "v" * size
            server.client.pipeline(
                Client.encode("MSET", *(word for n in range(at, at + 100) for word in (f"key:{n:012}", value)))
                for at in range(0, 10_000_000, 100)
            )
            info = server.client.info()
            used, rss = int(info["used_memory"]) - before, server.rss()
            print(
                f"10 M keys of 16 bytes, values of {size}: used_memory {used / 1e7:.1f} bytes a key,"
                f" RSS {rss / (used + before) * 100 - 100:+.1f} % of used_memory, grown by {(rss - rss_before) / 1e7:.1f} a key;"
                f" blocks from the page stock {info['mem_page_stock_taken']}, missed {info['mem_page_stock_missed']}",
                flush=True,
            )


MEASURES = {"turns": turns, "expiry": expiry, "idle": idle, "prefetch": prefetch, "memory": memory}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", help="the server's binary")
    parser.add_argument("names", nargs="*", help=f"what to measure: {', '.join(MEASURES)}; nothing for all")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    for name in arguments.names or MEASURES:
        if name not in MEASURES:
            raise SystemExit(f"there is no measure '{name}': {', '.join(MEASURES)}")
        MEASURES[name](os.path.abspath(arguments.server))


if __name__ == "__main__":
    main()
