"""Valkey with RDMA, built from its source package: Debian's own binaries leave RDMA out.

Writes the cache's `valkey` directory: bin/ (valkey-server, valkey-cli, valkey-benchmark, rdma-test)
and `version`.
"""

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from packages import Apt, LabError, say, unpack

OLDEST = 9
# Where the host's own release has no Valkey that new.
SUITE = "sid"
HEADERS = ["libibverbs-dev", "librdmacm-dev"]
BINARIES = ["src/valkey-server", "src/valkey-cli", "src/valkey-benchmark", "tests/rdma/rdma-test"]


def _newest(apt):
    """Version of the source package, without Debian's part; None if there is none."""
    try:
        listing = apt.run("apt-cache", "showsrc", "valkey", capture=True)
    except LabError:
        return None
    versions = re.findall(r"^Version: (?:\d+:)?([0-9.]+)", listing, re.MULTILINE)
    return max(versions, key=lambda text: [int(part) for part in text.strip(".").split(".")], default=None)


def _tarball(cache):
    """Path of a source archive of Valkey: the one VALKEY_SOURCE names, else the source package's."""
    given = os.environ.get("VALKEY_SOURCE")
    if given:
        if not Path(given).is_file():
            raise LabError(f"VALKEY_SOURCE names no file: {given}")
        return Path(given)
    into = cache / "valkey-source"
    into.mkdir(exist_ok=True)
    there = sorted(into.glob("valkey_*.orig.tar.*z*"))
    if there:
        return there[-1]
    for name, suite in (("own-source", None), (f"{SUITE}-source", SUITE)):
        apt = Apt(cache / "apt" / name, suite, sources=True)
        try:
            apt.update()
        except LabError as error:
            if suite:
                raise LabError(f"no Valkey {OLDEST} to be had from {SUITE}: {error}\nname an archive of its source in VALKEY_SOURCE") from None
            continue
        version = _newest(apt)
        if version and int(version.split(".")[0]) >= OLDEST:
            say(f"fetching the source of Valkey {version}")
            apt.run("apt-get", "source", "-qq", "--download-only", "valkey", cwd=into)
            return sorted(into.glob("valkey_*.orig.tar.*z*"))[-1]
    raise LabError(f"no source package of Valkey {OLDEST} or newer; name an archive of its source in VALKEY_SOURCE")


def _headers(cache):
    """A tree with the headers and link libraries of the host's release."""
    tree = cache / "dev"
    if not tree.exists():
        apt = Apt(cache / "apt/own")
        apt.update()
        fresh = cache / "dev.new"
        shutil.rmtree(fresh, ignore_errors=True)
        unpack(apt.download(apt.closure(HEADERS), cache / "debs"), fresh)
        os.replace(fresh, tree)
    return tree


def _make(where, *words, env, log):
    done = subprocess.run(["make", "-C", str(where), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, check=False)
    if done.returncode != 0:
        raise LabError(f"make {' '.join(words)} in {where} failed; the end of {log.name}:\n" + "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-15:]))


def build(cache):
    """Builds what is not there yet. Returns the directory and the version."""
    home = cache / "valkey"
    version_file = home / "version"
    if version_file.exists():
        return home, version_file.read_text().strip()
    for tool in ("make", "cc"):
        if not shutil.which(tool):
            raise LabError(f"{tool} is not there: apt-get install build-essential")
    archive = _tarball(cache)
    dev = _headers(cache)
    libraries = next((dev / "usr/lib").glob("*/libibverbs.so")).parent
    tree = cache / "valkey-build"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    with tarfile.open(archive) as source:
        source.extractall(tree, filter="data") if hasattr(tarfile, "data_filter") else source.extractall(tree)
    top = next((path.parent.parent for path in tree.glob("*/src/version.h")), None)
    if top is None:
        raise LabError(f"{archive} is no source of Valkey")
    version = re.search(r'VALKEY_VERSION "([^"]+)"', (top / "src/version.h").read_text()).group(1)
    say(f"building Valkey {version} with RDMA; some minutes")
    # As system headers: Valkey builds with -Werror, and those of rdma-core are not pedantic C99.
    env = {**os.environ, "C_INCLUDE_PATH": str(dev / "usr/include"), "LIBRARY_PATH": str(libraries)}
    for name in ("MAKEFLAGS", "CFLAGS", "LDFLAGS", "LD_LIBRARY_PATH"):
        env.pop(name, None)
    through = f"-Wl,-rpath-link,{libraries}"
    jobs = f"-j{os.cpu_count()}"
    fresh = cache / "valkey.new"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "bin").mkdir(parents=True)
    with open(cache / "valkey-build.log", "w") as log:
        _make(top, jobs, "BUILD_RDMA=yes", "MALLOC=libc", f"LDFLAGS={through}", env=env, log=log)
        _make(top / "tests/rdma", f"CC=cc {through}", env=env, log=log)
    for binary in BINARIES:
        shutil.copy2(top / binary, fresh / "bin")
    (fresh / "version").write_text(version + "\n")
    shutil.rmtree(home, ignore_errors=True)
    os.replace(fresh, home)
    shutil.rmtree(tree)
    return home, version
