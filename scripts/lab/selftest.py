"""Tests of scripts/softroce itself: `scripts/softroce selftest`. Each boots a guest of its own."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import guest

SCRIPT = Path(__file__).resolve().parent.parent / "softroce"
BOUND_S = 120


def lab(*words, command_prefix=(), env=None, **options):
    """Runs the script; stdin is at its end unless `options` say otherwise."""
    options.setdefault("stdin", subprocess.DEVNULL)
    environment = {**os.environ, **(env or {})}
    return subprocess.run([*command_prefix, sys.executable, SCRIPT, *words], capture_output=True, timeout=BOUND_S, env=environment, check=False, **options)


class Splitter(unittest.TestCase):
    def test_marks_are_found_however_the_bytes_arrive(self):
        mark = b"0123456789abcdef"
        sent = b"\x00\xff01" + mark + b" ready 4.2\nbody 0123456789abcde" + b"0123" + mark + b" exit 7\n"
        for size in range(1, len(sent) + 1):
            stream = guest.Stream(mark)
            text, events = b"", []
            for at in range(0, len(sent), size):
                more, found = stream.feed(sent[at : at + size])
                text += more
                events += found
            self.assertEqual(text, b"\x00\xff01body 0123456789abcde0123")
            self.assertEqual(events, [("ready", "4.2"), ("exit", "7")])


class Guest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="softroce-selftest-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def test_status_environment_devices_and_closed_stdin(self):
        command = (
            'echo "<$A|$TERCEL_RDMA_ADDR|$(hostname)|$(pwd)|$(id -u)|$(ulimit -l)>"; ls -d /proc/self /sys/class /dev/shm;'
            "read line && echo unexpected; ibv_devices | grep -c rxe0; rdma link | grep -c ACTIVE; command -v taskset; exit 200"
        )
        done = lab("run", "--env", "A=a 'b' $c", command, cwd=self.folder, stdin=None, preexec_fn=lambda: os.close(0))
        self.assertEqual(done.returncode, 200, done.stderr.decode())
        first, *rest = done.stdout.decode().splitlines()
        self.assertEqual(first, f"<a 'b' $c|10.77.0.1|softroce|{self.folder.resolve()}|0|unlimited>")
        self.assertEqual(rest[:5], ["/dev/shm", "/proc/self", "/sys/class", "1", "1"])
        self.assertTrue(rest[5].endswith("/taskset"), rest)

    def test_output_is_exact_for_a_slow_reader(self):
        # All byte values, then many lines, more than any pipe holds.
        source = self.folder / "bytes"
        source.write_bytes(bytes(range(256)) * 8192)
        process = subprocess.Popen([sys.executable, SCRIPT, "run", f"cat '{source}'; seq 200000"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        first = process.stdout.read(10)
        time.sleep(3)
        output = first + process.stdout.read()
        errors = process.stderr.read()
        self.assertEqual(process.wait(BOUND_S), 0, errors.decode())
        process.stdout.close()
        process.stderr.close()
        wanted = source.read_bytes() + "".join(f"{n}\n" for n in range(1, 200001)).encode()
        self.assertEqual(len(output), len(wanted))
        self.assertEqual(hashlib.sha256(output).digest(), hashlib.sha256(wanted).digest())

    def test_files_come_back_and_the_host_stays_as_it_is(self):
        out = self.folder / "a, b"
        scratch = self.folder / "scratch"
        command = f"head -c 300000 /dev/zero >$TERCEL_SOFTROCE_OUT/zeros; mkdir $TERCEL_SOFTROCE_OUT/d; echo x >$TERCEL_SOFTROCE_OUT/d/x; echo y >'{scratch}'; cat '{scratch}'"
        done = lab("run", "--out", out, command)
        self.assertEqual((done.returncode, done.stdout), (0, b"y\n"), done.stderr.decode())
        self.assertEqual((out / "zeros").read_bytes(), bytes(300000))
        self.assertEqual((out / "d/x").read_text(), "x\n")
        self.assertFalse(scratch.exists())

    def test_the_time_limit_ends_it(self):
        began = time.monotonic()
        done = lab("run", "--timeout", "40", "echo before; sleep 1000")
        self.assertEqual((done.returncode, done.stdout), (124, b"before\n"), done.stderr.decode())
        self.assertLess(time.monotonic() - began, BOUND_S)

    def test_a_guest_that_dies_is_reported(self):
        done = lab("run", "echo before; sleep 0.2; echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 60")
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"Kernel panic", done.stderr)
        self.assertIn(b"before\n", done.stdout)

    def test_a_second_run_needs_no_network(self):
        for name in ("apt-get", "apt-cache", "dpkg-deb", "curl", "wget"):
            (self.folder / name).write_text("#!/bin/sh\necho no network >&2\nexit 99\n")
            (self.folder / name).chmod(0o755)
        alone = ["unshare", "-rn"] if subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0 else []
        done = lab("run", "echo fine", command_prefix=alone, env={"PATH": f"{self.folder}:{os.environ['PATH']}"})
        self.assertEqual((done.returncode, done.stdout), (0, b"fine\n"), done.stderr.decode())

    def test_no_privileges_are_needed(self):
        if os.getuid() != 0:
            self.skipTest("the whole run is unprivileged already")
        cache = Path(os.environ["SOFTROCE_DIR"])
        mine = self.folder / "cache"
        mine.mkdir()
        for name in ("root", "kernel", "image", "packages"):
            (mine / name).symlink_to(cache / name)
        self.folder.chmod(0o755)
        mine.chmod(0o777)
        as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        readable = subprocess.run([*as_nobody, "cat", SCRIPT, cache / "packages"], capture_output=True, check=False)
        interpreter = "/usr/bin/python3"
        if readable.returncode != 0 or not os.access(interpreter, os.X_OK):
            self.skipTest("nobody may not read this repository")
        command = [*as_nobody, interpreter, SCRIPT, "run", "ibv_devices | grep -c rxe0; echo x >$TERCEL_SOFTROCE_OUT/x"]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=BOUND_S, env={**os.environ, "SOFTROCE_DIR": str(mine)}, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, b"1\n"), done.stderr.decode())
        self.assertEqual((mine / "out/x").read_text(), "x\n")

    def test_pinned_memory_can_be_limited(self):
        # rping registers buffers of the size asked for.
        command = "ulimit -l; rping -s -a $TERCEL_RDMA_ADDR -C 1 & sleep 1; timeout 20 rping -c -a $TERCEL_RDMA_ADDR -C 1 -S 65000"
        done = lab("run", "--memlock", "16", command)
        self.assertTrue(done.stdout.startswith(b"16\n"), done.stdout)
        self.assertNotEqual(done.returncode, 0, "64 KB were registered under a limit of 16 KiB")
        done = lab("run", command)
        self.assertEqual(done.returncode, 0, done.stdout.decode())

    def test_a_wire_between_two_devices(self):
        command = (
            "before=$(cat /sys/class/net/wire0/statistics/tx_packets); rping -s -a $TERCEL_RDMA_PEER_ADDR -C 50 & sleep 1;"
            "timeout 30 rping -c -I $TERCEL_RDMA_ADDR -a $TERCEL_RDMA_PEER_ADDR -C 50 || exit;"
            "[ $(($(cat /sys/class/net/wire0/statistics/tx_packets) - before)) -gt 100 ]"
        )
        done = lab("run", "--wire", command)
        self.assertEqual(done.returncode, 0, done.stdout.decode())

    def test_a_device_can_be_taken_away(self):
        done = lab("run", "rdma link delete rxe0 && ibv_devices | grep -c rxe0")
        self.assertEqual((done.returncode, done.stdout), (1, b"0\n"), done.stderr.decode())

    def test_a_missing_emulator_is_named(self):
        for name in ("python3", "env"):
            (self.folder / name).symlink_to(shutil.which(name))
        done = lab("run", "true", env={"PATH": str(self.folder)})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"apt-get install", done.stderr)
        self.assertIn(b"qemu-system-x86", done.stderr)


class CheckHost(unittest.TestCase):
    """scripts/check-host against made-up trees of /sys and /proc."""

    def setUp(self):
        self.tree = Path(tempfile.mkdtemp(prefix="check-host-"))
        self.addCleanup(shutil.rmtree, self.tree)

    def put(self, path, text=""):
        path = self.tree / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    def device(self, name, driver, gids, state="4: ACTIVE", node_type="1: CA"):
        at = f"sys/class/infiniband/{name}"
        for file, text in {"fw_ver": "1.2", "node_type": node_type, "device/numa_node": "1", "device/local_cpulist": "8-15"}.items():
            self.put(f"{at}/{file}", text)
        (self.tree / at / "device/driver").symlink_to(f"/sys/bus/pci/drivers/{driver}")
        for file, text in {"state": state, "link_layer": "Ethernet", "rate": "100 Gb/sec (4X EDR)"}.items():
            self.put(f"{at}/ports/1/{file}", text)
        for index, (kind, gid) in enumerate(gids):
            self.put(f"{at}/ports/1/gids/{index}", gid)
            self.put(f"{at}/ports/1/gid_attrs/types/{index}", kind)
            self.put(f"{at}/ports/1/gid_attrs/ndevs/{index}", "eth9")
        self.put("sys/class/net/eth9/mtu", "1500")
        for file in ("dev/infiniband/rdma_cm", "dev/infiniband/uverbs0", "usr/lib/libibverbs.so.1", "usr/lib/librdmacm.so.1", "etc/libibverbs.d/x.driver"):
            self.put(file)

    def check(self, *words):
        script = SCRIPT.with_name("check-host")
        done = subprocess.run([script, *words], capture_output=True, text=True, env={**os.environ, "CHECK_HOST_ROOT": str(self.tree)}, stdin=subprocess.DEVNULL, timeout=60, check=False)
        self.assertEqual(done.stderr, "")
        return done

    IPV4 = "0000:0000:0000:0000:0000:ffff:0a4d:0001"
    LOCAL = "fe80:0000:0000:0000:0000:0000:0000:0001"

    def test_an_empty_host_is_told_what_is_missing(self):
        done = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertIn("mend!  no RDMA device", done.stdout)
        self.assertIn("mend!  libibverbs.so.1", done.stdout)

    def test_a_good_device_passes_and_its_gid_is_named(self):
        self.device("mlx5_0", "mlx5_core", [("IB/RoCE v1", self.LOCAL), ("RoCE v2", self.LOCAL), ("IB/RoCE v1", self.IPV4), ("RoCE v2", self.IPV4)])
        done = self.check("--core", "9")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("GID index 3 is RoCEv2 over IPv4", done.stdout)
        self.assertIn("core 9 is on mlx5_0's memory node 1", done.stdout)
        self.assertIn("mend   eth9: MTU 1500", done.stdout)
        self.assertIn("mend   core 2 is not on", self.check("--core", "2").stdout)

    def test_devices_that_cannot_carry_it_are_refused(self):
        self.device("efa_0", "efa", [])
        done = self.check()
        self.assertEqual(done.returncode, 1)
        self.assertIn("no RC queue pairs", done.stdout)
        self.assertIn("none of the devices", done.stdout)

    def test_iwarp_and_a_port_that_is_down(self):
        self.device("irdma0", "irdma", [("RoCE v2", self.IPV4)], node_type="4: RNIC")
        self.assertIn("devlink dev param", self.check().stdout)
        self.device("mlx5_1", "mlx5_core", [("RoCE v2", self.IPV4)], state="1: DOWN")
        done = self.check("--device", "mlx5_1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("mlx5_1 port 1 is 1: DOWN", done.stdout)

    def test_cores_governors_and_idle_states(self):
        self.device("mlx5_0", "mlx5_core", [("RoCE v2", self.IPV4)])
        cpu = "sys/devices/system/cpu"
        self.put("proc/cmdline", "quiet isolcpus=managed_irq,domain,8-9 nohz_full=8-9 rcu_nocbs=8")
        for file, text in {f"{cpu}/online": "0-15", f"{cpu}/isolated": "8-9", f"{cpu}/cpu9/cpufreq/scaling_governor": "powersave"}.items():
            self.put(file, text)
        for file, text in {"name": "C6", "latency": "133", "disable": "0"}.items():
            self.put(f"{cpu}/cpu9/cpuidle/state3/{file}", text)
        said = self.check("--core", "9").stdout
        for line in ("ok     isolcpus=8-9", "ok     nohz_full=8-9", "mend   core 9 is not among rcu_nocbs=8", "mend   core 9: governor powersave", "C6(133us)"):
            self.assertIn(line, said)
        self.assertIn("core 99 is not online", self.check("--core", "99").stdout)

    def test_this_very_host(self):
        done = subprocess.run([SCRIPT.with_name("check-host")], capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(done.returncode, (0, 1))
        self.assertEqual(done.stderr, "")
        self.assertRegex(done.stdout.splitlines()[-1], r"^== check-host: \d+ in the way of RDMA, \d+ to mend$")


def main(cache, names):
    """Runs the tests named, or all. Returns an exit status."""
    os.environ["SOFTROCE_DIR"] = str(cache)
    module = sys.modules[__name__]
    loader = unittest.TestLoader()
    if names:
        loader.testNamePatterns = [f"*{name}*" for name in names]
    result = unittest.TextTestRunner(verbosity=2).run(loader.loadTestsFromModule(module))
    return 0 if result.wasSuccessful() and result.testsRun else 1
