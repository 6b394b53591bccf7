"""What the lab runs of this project: the RDMA tests, the tour of Valkey's tools, the benchmark.

Builds with cargo on the host and runs the results in the guest.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import guest
import valkey
from packages import LabError, say

REPO = Path(__file__).resolve().parent.parent.parent
INTEROP = REPO / "scripts/lab/interop.sh"
BENCH = REPO / "scripts/lab/bench.sh"

# (crate, test target, features) of the tests that need an RDMA device.
TESTS = [
    ("tercel-rdma", "softroce", ["softroce"]),
]

TESTS_TIMEOUT_S = 600
INTEROP_TIMEOUT_S = 540
BENCH_TIMEOUT_S = 540

# rxe's queues take about 8 MiB a connection at the depths of stock clients and servers, on each side.
INTEROP_MEMORY_MIB = 4096


def _cargo(*words):
    """Runs cargo; the executables it made, as {target name: path}."""
    cargo = shlex.split(os.environ.get("CARGO", "cargo"))
    done = subprocess.run([*cargo, *words, "--locked", "--message-format=json-render-diagnostics"], cwd=REPO, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"cargo {' '.join(words)} failed")
    made = {}
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable"):
            made[message["target"]["name"]] = message["executable"]
    return made


def _server():
    return _cargo("build", "--release", "-p", "tercel", "--bin", "tercel-server")["tercel-server"]


class Counted:
    """Passes output on to stdout and counts what it says of results."""

    PATTERN = re.compile(rb"^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", re.MULTILINE)

    def __init__(self):
        self.text = b""

    def __call__(self, text):
        self.text += text
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()

    def sums(self):
        """(passed, failed, ignored)"""
        rows = [[int(number) for number in row] for row in self.PATTERN.findall(self.text)]
        return tuple(sum(row[column] for row in rows) for column in range(3))


# The second run of the conformance suite, with tiny windows, takes as long as all else together.
SLOW = "small_windows"


def tests(cache, run, names, quick):
    """The test binaries, each in a guest of its own, for one may take the device away. `names` limits
    which tests run, and `quick` leaves out the slow ones, visibly. Returns (passed, failed, ignored)."""
    totals = [0, 0, 0]
    for crate, target, features in TESTS:
        words = ["--features", ",".join(features)] if features else []
        binary = _cargo("test", "--no-run", "-p", crate, "--test", target, *words)[target]
        print(f"== {crate}: {target}", flush=True)
        counted = Counted()
        words = ["--include-ignored", "--test-threads=1", *names]
        if quick:
            words += ["--skip", SLOW]
            print(f"left out by --quick: {SLOW}")
        command = f"{shlex.quote(binary)} {shlex.join(words)}"
        status = guest.execute(cache, guest.replace(run, command=command, timeout_s=run.timeout_s or TESTS_TIMEOUT_S), counted)
        passed, failed, ignored = counted.sums()
        if status != 0 and failed == 0:
            # It crashed, hung or took the guest down: no count was printed.
            print(f"== {crate}: {target} ended with status {status}")
            failed = 1
        for column, number in enumerate((passed, failed, ignored)):
            totals[column] += number
    return tuple(totals)


def _start(kind, server):
    """Shell text that starts a server on the RDMA address and waits for it; $server is its process."""
    words = [server, "--port", "6379", "--bind", "$TERCEL_RDMA_ADDR", "--rdma-port", "6379", "--rdma-bind", "$TERCEL_RDMA_ADDR"]
    words += ["--protected-mode", "no", "--save", "''", "--dir", "/tmp"]
    if kind == "valkey":
        words += ["--appendonly", "no"]
    line = " ".join(word if word.startswith("$") or word == "''" else shlex.quote(word) for word in words)
    return f"""
{line} >$TERCEL_SOFTROCE_OUT/{kind}.log 2>&1 &
server=$!
tries=0
# Where nobody listens valkey-cli over RDMA crashes or waits for ever, and the shell would say so.
until (timeout 3 "$tools/valkey-cli" --rdma -h $TERCEL_RDMA_ADDR PING | grep -q PONG) >/dev/null 2>&1; do
    tries=$((tries + 1))
    if ! kill -0 $server 2>/dev/null || [ $tries -gt 50 ]; then
        echo "the server does not answer over RDMA:"
        tail -n 20 $TERCEL_SOFTROCE_OUT/{kind}.log
        exit 1
    fi
    sleep 0.2
done
"""


def interop(cache, run, peer, options):
    """Valkey's tools against our server, or against Valkey's (`peer`). Returns an exit status."""
    home, version = valkey.build(cache)
    tools = home / "bin"
    server = tools / "valkey-server" if peer == "valkey" else _server()
    print(f"== interoperability: the tools of Valkey {version} against {Path(server).name}", flush=True)
    command = f"tools={shlex.quote(str(tools))}\n" + _start(peer, str(server))
    command += f'{shlex.quote(str(INTEROP))} "$tools" $TERCEL_RDMA_ADDR 6379 {shlex.join(options)}\nstatus=$?\n'
    command += f"kill $server\nwait $server\n[ $status = 0 ] || tail -n 20 $TERCEL_SOFTROCE_OUT/{peer}.log\nexit $status\n"
    memory = max(run.memory_mib, INTEROP_MEMORY_MIB)
    return guest.execute(cache, guest.replace(run, command=command, timeout_s=run.timeout_s or INTEROP_TIMEOUT_S, memory_mib=memory))


def test(cache, run, only, names, interop_options):
    """All of it. Returns an exit status."""
    failed = False
    if only != "interop":
        passed, failures, ignored = tests(cache, run, names, "--quick" in interop_options)
        failed = failures > 0 or passed == 0
        print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failures} failed; {ignored} ignored")
    if only != "tests" and not names:
        if interop(cache, run, "tercel", interop_options) != 0:
            failed = True
    return 1 if failed else 0


def bench(cache, run, short):
    """The table of TCP, RDMA and raw verbs, all of one boot. Returns an exit status."""
    home, version = valkey.build(cache)
    harness = _cargo("build", "--release", "-p", "tercel-bench")["tercel-bench"]
    server = _server()
    say(f"the reports go to {run.out or cache / 'out'}")
    words = [str(BENCH), harness, server, str(home / "bin"), *(["--short"] if short else [])]
    memory = max(run.memory_mib, INTEROP_MEMORY_MIB)
    print(f"== Tercel and Valkey {version} in one guest: compare the ratios, the figures are emulation's", flush=True)
    return guest.execute(cache, guest.replace(run, command=shlex.join(words), timeout_s=run.timeout_s or BENCH_TIMEOUT_S, memory_mib=memory))
