"""Side-by-side figures until the project's own harness stands. See scripts/bench.

Each round runs every workload against every server once, in turn, so that a machine whose speed
drifts slows them alike; the table shows medians over the rounds, and ratios to the first peer.
Server CPU is what the kernel charged the process during the run.
"""

import argparse
import csv
import io
import os
import statistics
import subprocess
import tempfile
import time

WORKLOADS = [
    # name, extra server options (Tercel only), redis-benchmark options
    ("1 conn, GET, server sleeps", [], ["-c", "1", "-t", "get", "-n", "30000"]),
    ("1 conn, GET, Tercel spins", ["--busy-poll-us", "-1"], ["-c", "1", "-t", "get", "-n", "60000"]),
    ("50 conns, GET", [], ["-c", "50", "-t", "get", "-n", "200000"]),
    ("50 conns, SET", [], ["-c", "50", "-t", "set", "-n", "200000"]),
    ("50 conns, pipeline 16, GET", [], ["-c", "50", "-P", "16", "-t", "get", "-n", "2000000"]),
    ("50 conns, pipeline 16, SET", [], ["-c", "50", "-P", "16", "-t", "set", "-n", "2000000"]),
]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(command, port, core, options):
    devnull = subprocess.DEVNULL
    with tempfile.TemporaryDirectory() as directory:
        # Peers snapshot by default, which would be measured with them.
        arguments = ["taskset", "-c", str(core), command, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
        process = subprocess.Popen(arguments, stdout=devnull, stderr=devnull, cwd=directory)
        for _ in range(200):
            if subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True).stdout == b"PONG\n":
                return process
            time.sleep(0.05)
    raise SystemExit(f"{command} does not answer on port {port}")


def measure(command, options, load, benchmark, port):
    server = start(command, port, 0, options)
    try:
        fill = ["redis-benchmark", "-p", str(port), "-t", "set", "-n", "200000", "-r", "100000", "-d", "64", "-P", "32", "-q"]
        subprocess.run(fill, capture_output=True, check=True)
        before = cpu_seconds(server.pid)
        run = ["taskset", "-c", "1", benchmark, "-p", str(port), "-r", "100000", "-d", "64", "--csv", *load]
        out = subprocess.run(run, capture_output=True, check=True, text=True).stdout
        cpu = cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    row = list(csv.DictReader(io.StringIO(out)))[-1]
    requests = int(load[load.index("-n") + 1])
    return {
        "rps": float(row["rps"]),
        "p50_us": float(row["p50_latency_ms"]) * 1000,
        "p99_us": float(row["p99_latency_ms"]) * 1000,
        "max_us": float(row["max_latency_ms"]) * 1000,
        "cpu_ns": cpu / requests * 1e9,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--benchmark", default="redis-benchmark")
    parser.add_argument("--option", action="append", default=[], help="option for Tercel, as --setting=value")
    options = parser.parse_args()
    extra = [part for option in options.option for part in option.split("=", 1)]
    servers = [("tercel", os.path.abspath(options.server))] + [tuple(peer.split("=", 1)) for peer in options.peer]
    print("| workload | server | requests/s | p50 us | p99 us | max us | CPU ns a request |")
    print("|---|---|---|---|---|---|---|")
    for workload, special, load in WORKLOADS:
        samples = {name: [] for name, _ in servers}
        for turn in range(options.rounds):
            for name, command in servers if turn % 2 == 0 else reversed(servers):
                own = [*special, *extra] if name == "tercel" else []
                samples[name].append(measure(command, own, load, options.benchmark, 7390 + turn % 7))
        medians = {n: {k: statistics.median(s[k] for s in rows) for k in rows[0]} for n, rows in samples.items()}
        for name, median in medians.items():
            base = medians[servers[-1][0]] if name == "tercel" and len(servers) > 1 else None
            cells = []
            for key, value in median.items():
                ratio = f" ({value / base[key]:.2f}x)" if base and base[key] else ""
                cells.append(f"{value:.0f}{ratio}")
            print(f"| {workload} | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
