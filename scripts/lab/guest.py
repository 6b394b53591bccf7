"""One run of the guest: starts QEMU, relays what the command prints, returns its status.

Owns the QEMU process it starts and a temporary directory; ends both whatever happens.
"""

import ctypes
import json
import os
import platform
import re
import secrets
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace  # noqa: F401 (for those who vary a run)
from pathlib import Path

import image
from packages import LabError, say

RDMA_ADDR = "10.77.0.1"
PEER_ADDR = "10.77.0.2"
PLAIN_ADDR = "10.78.0.1"

STATUS_TIMEOUT = 124
STATUS_LOST = 125

# A boot under emulation takes 4 to 8 s on a quiet machine; a KVM that is none gets no longer.
KVM_TRIAL_S = 20

TROUBLE = re.compile(r"Kernel panic|Oops|BUG:|general protection|WARNING:|soft lockup|rcu_\w+ self-detected|blocked for more than|Out of memory|lab: |cq queue full")


@dataclass
class Run:
    """What one run is asked to do; times in seconds, memory in MiB, memlock in KiB."""

    command: str
    timeout_s: float = 300
    memory_mib: int = 768
    cpus: int = 2
    out: Path = None
    env: dict = field(default_factory=dict)
    wire: bool = False
    memlock_kib: int = None
    hugepages: int = 0
    accel: str = None
    verbose: bool = False
    network: bool = True


def qemu_binary():
    """The emulator, or an error that says how to get it."""
    if platform.machine() != "x86_64":
        raise LabError(f"the lab's guest is x86-64; this machine is {platform.machine()}")
    found = shutil.which("qemu-system-x86_64")
    if not found:
        raise LabError("QEMU is not there: apt-get install --no-install-recommends qemu-system-x86")
    return found


def _escaped(path):
    return str(path).replace(",", ",,")


def _die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Stream:
    """Splits the guest's output into what the command wrote and the marked lines between."""

    def __init__(self, mark):
        self.mark = mark
        self.held = b""

    def feed(self, data):
        """Returns (bytes to print, [(word, value)])."""
        self.held += data
        text, events = b"", []
        while True:
            at = self.held.find(self.mark)
            if at < 0:
                # The beginning of a mark may be at the end.
                keep = next((n for n in range(min(len(self.mark) - 1, len(self.held)), 0, -1) if self.mark.startswith(self.held[-n:])), 0)
                text += self.held[: len(self.held) - keep]
                self.held = self.held[len(self.held) - keep :]
                return text, events
            end = self.held.find(b"\n", at)
            text += self.held[:at]
            self.held = self.held[at:]
            if end < 0:
                return text, events
            word, value = self.held[len(self.mark) : end - at].decode("ascii", "replace").split()
            events.append((word, value))
            self.held = self.held[end - at + 1 :]


def _command_file(run):
    lines = [f"export {key}={shlex.quote(value)}" for key, value in run.env.items()]
    lines.append(f"cd {shlex.quote(os.getcwd())} 2>/dev/null || cd /")
    lines.append(run.command)
    return "\n".join(lines) + "\n"


def _arguments(cache, folder, run, accel, pipe):
    vmlinux, initrd = image.build(cache)
    loglevel = 7 if run.verbose else 5
    line = f"console=ttyS0 loglevel={loglevel} nokaslr mitigations=off cryptomgr.notests tsc=reliable panic=-1 oops=panic"
    cpu = "host" if accel == "kvm" else "Nehalem"
    words = [qemu_binary(), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-name", "softroce"]
    words += ["-M", "q35", "-accel", "kvm" if accel == "kvm" else "tcg,thread=multi", "-cpu", cpu]
    words += ["-m", str(run.memory_mib), "-smp", str(run.cpus), "-kernel", vmlinux, "-initrd", initrd, "-append", line]
    words += ["-serial", f"file:{_escaped(folder / 'console')}", "-device", "virtio-serial-pci"]
    words += ["-chardev", f"file,id=output,path=/dev/fd/{pipe},append=on", "-device", "virtserialport,chardev=output,name=output"]
    shares = [("run", folder / "share", ""), ("out", run.out, ""), ("tools", cache / "root", ",readonly=on"), ("host", Path("/"), ",readonly=on")]
    for tag, path, options in shares:
        words += ["-fsdev", f"local,id={tag},path={_escaped(path)},security_model=none,multidevs=remap{options}"]
        words += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    return [str(word) for word in words]


class Outcome:
    """Status of the command (None if it never ended), seconds until it began and in all."""

    def __init__(self):
        self.status = None
        self.ready_s = None
        self.total_s = None
        self.timed_out = False


def _boot(cache, run, accel, sink):
    """Runs the guest once under `accel`; `sink` takes the command's output."""
    outcome = Outcome()
    mark = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="softroce-") as name:
        folder = Path(name)
        (folder / "share").mkdir()
        settings = {
            "mark": mark,
            "rdma_addr": RDMA_ADDR,
            "peer_addr": PEER_ADDR,
            "plain_addr": PLAIN_ADDR,
            "network": "none" if not run.network else "wire" if run.wire else "dummy",
            "memlock": "unlimited" if run.memlock_kib is None else str(run.memlock_kib),
            "hugepages": str(run.hugepages),
        }
        (folder / "share/settings").write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items()))
        (folder / "share/command").write_text(_command_file(run))
        (folder / "console").touch()
        reader, writer = os.pipe()
        began = time.monotonic()
        with open(folder / "qemu.err", "w+b") as errors:
            # The guest's console stays readable while it runs, its errors for the report.
            qemu = subprocess.Popen(
                _arguments(cache, folder, run, accel, writer),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[writer],
                preexec_fn=_die_with_parent,
            )
        os.close(writer)
        try:
            _relay(qemu, reader, folder, mark.encode(), run, began, outcome, sink)
        finally:
            os.close(reader)
            qemu.kill()
            qemu.wait()
        outcome.total_s = time.monotonic() - began
        outcome.console = (folder / "console").read_text(errors="replace")
        outcome.errors = (folder / "qemu.err").read_text(errors="replace")
    return outcome


def _relay(qemu, reader, folder, mark, run, began, outcome, sink):
    stream = Stream(mark)
    deadline = began + run.timeout_s
    os.set_blocking(reader, False)
    selector = selectors.DefaultSelector()
    selector.register(reader, selectors.EVENT_READ)
    with open(folder / "console", "rb") as console:
        while outcome.status is None:
            left = deadline - time.monotonic()
            if left <= 0:
                outcome.timed_out = True
                return
            ready = selector.select(min(left, 0.2))
            if run.verbose:
                sys.stderr.write(console.read().decode(errors="replace"))
                sys.stderr.flush()
            if not ready:
                continue
            data = os.read(reader, 1 << 16)
            if not data:
                # QEMU is gone: a panic, an oops or an error of its own.
                return
            text, events = stream.feed(data)
            if text:
                sink(text)
            for word, value in events:
                if word == "ready":
                    outcome.ready_s = time.monotonic() - began
                elif word == "exit":
                    outcome.status = int(value)


def _host_identity():
    cpu = ""
    try:
        cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    except OSError:
        pass
    uname = os.uname()
    return f"{uname.release} {uname.version} {cpu}"


def choose_accel(cache):
    """`kvm` where it boots the guest, else `tcg`; the answer is remembered for this host kernel."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    memory = cache / "accel.json"
    identity = _host_identity()
    try:
        known = json.loads(memory.read_text())
        if known["host"] == identity:
            return known["accel"]
    except (OSError, ValueError, KeyError):
        pass
    say("trying KVM once")
    out = cache / "out"
    out.mkdir(exist_ok=True)
    trial = _boot(cache, Run("exit 42", timeout_s=KVM_TRIAL_S, out=out), "kvm", lambda text: None)
    accel = "kvm" if trial.status == 42 else "tcg"
    say(f"KVM {'works' if accel == 'kvm' else 'does not boot the guest here: emulating'}; {memory} remembers it")
    memory.write_text(json.dumps({"host": identity, "accel": accel}) + "\n")
    return accel


def to_stdout(text):
    """Passes output on as it is."""
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def execute(cache, run, sink=to_stdout):
    """Runs a command in the guest; its output goes to `sink`. Returns its exit status, 124 when the
    time ran out, 125 when the guest ended without one."""
    qemu_binary()
    run.out = (run.out or cache / "out").resolve()
    run.out.mkdir(parents=True, exist_ok=True)
    run.env = {
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERCEL_RDMA_ADDR": RDMA_ADDR,
        "TERCEL_PLAIN_ADDR": PLAIN_ADDR,
        "TERCEL_SOFTROCE": "1",
        "TERCEL_SOFTROCE_OUT": "/run/softroce",
        **({"TERCEL_RDMA_PEER_ADDR": PEER_ADDR} if run.wire else {}),
        **run.env,
    }
    accel = run.accel or choose_accel(cache)
    outcome = _boot(cache, run, accel, sink)
    trouble = [line for line in outcome.console.splitlines() if TROUBLE.search(line)]
    for line in trouble[:20]:
        say(f"guest's kernel: {line.strip()}")
    if run.verbose:
        ready = f"ready after {outcome.ready_s:.1f} s, " if outcome.ready_s is not None else ""
        say(f"{accel}: {ready}ended after {outcome.total_s:.1f} s, status {outcome.status}")
    if outcome.status is not None:
        return outcome.status
    if outcome.timed_out:
        say(f"stopped after {run.timeout_s:g} s" + ("" if outcome.ready_s is not None else "; the guest was not ready by then"))
    else:
        say("the guest ended without a status; the end of its console:")
    if not (outcome.timed_out and outcome.ready_s is not None):
        tail = outcome.console.splitlines()[-25:]
        print("\n".join(tail), outcome.errors.strip(), sep="\n", file=sys.stderr)
    return STATUS_TIMEOUT if outcome.timed_out else STATUS_LOST
