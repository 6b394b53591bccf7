"""Distribution packages for the lab: found with apt, downloaded and unpacked into the cache.

Touches only the cache directory. apt works on private lists and a private package cache, so neither
root nor a current package list is needed and nothing of the host's apt changes.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Later kernels were seen to lose events in rxe ("cq queue full"), so the kernel is this suite's
# wherever the host comes from.
KERNEL_SUITE = "bookworm"
KERNEL_META = "linux-image-amd64"

# What the guest needs in user space beside what the host has.
TOOLS = ["busybox-static", "iproute2", "libibverbs1", "ibverbs-providers", "librdmacm1", "ibverbs-utils", "rdmacm-utils", "perftest"]

# Never unpacked: the guest uses the host's C library and loader, and configures no package.
NOT_WANTED = re.compile(r"^(libc6|libc-bin|libgcc-s1|libcrypt1|libpam.*|libaudit.*|libsemanage.*|.*-bin|.*-common)$")


class LabError(Exception):
    """Something the user can mend; the message says what."""


def say(text):
    """One line of progress on stderr."""
    print(f"softroce: {text}", file=sys.stderr, flush=True)


def host_release():
    """The fields of /etc/os-release."""
    fields = {}
    try:
        for line in Path("/etc/os-release").read_text().splitlines():
            key, _, value = line.partition("=")
            fields[key] = value.strip('"')
    except OSError:
        pass
    return fields


class Apt:
    """apt for one suite, with lists and downloads of its own under `home`."""

    def __init__(self, home, suite=None, sources=False):
        """`suite`: None for the host's own. `sources`: source packages too."""
        if not shutil.which("apt-get"):
            raise LabError("apt-get is not there: the lab takes its packages from Debian or one of its children")
        self.home = Path(home)
        for part in ("lists/partial", "cache/archives/partial", "empty"):
            (self.home / part).mkdir(parents=True, exist_ok=True)
        (self.home / "status").touch()
        (self.home / "sources.list").write_text(self._sources(suite, sources))
        options = {
            "Dir::Etc::sourcelist": self.home / "sources.list",
            "Dir::Etc::sourceparts": self.home / "empty",
            "Dir::Etc::preferences": self.home / "empty/none",
            "Dir::Etc::preferencesparts": self.home / "empty",
            "Dir::State::lists": self.home / "lists",
            "Dir::State::status": self.home / "status",
            "Dir::Cache": self.home / "cache",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::http::Timeout": "60",
        }
        self.options = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    @staticmethod
    def _sources(suite, sources):
        """Lines of a sources.list: the host's own mirrors, with the suite asked for."""
        form = "$(TARGET_OF)|$(REPO_URI)|$(RELEASE)|$(SIGNED_BY)"
        listing = subprocess.run(["apt-get", "indextargets", "--no-release-info", "--format", form], capture_output=True, text=True, check=False)
        own = host_release().get("VERSION_CODENAME", "")
        rows = {tuple(line.split("|")[1:]) for line in listing.stdout.splitlines() if line.startswith("deb|")}
        # sid has neither security nor updates; other suites have them wherever the host has them.
        wanted = suite or own
        lines = []
        for uri, release, signed_by in sorted(rows):
            for tail in ("", "-updates", "-security"):
                if own and release == own + tail and not (tail and wanted in ("sid", "unstable")):
                    signed = f" signed-by={signed_by}" if signed_by.startswith("/") else ""
                    components = "main" if host_release().get("ID") == "debian" else "main universe"
                    for kind in ("deb", "deb-src") if sources else ("deb",):
                        arch = " arch=amd64" if kind == "deb" else ""
                        options = (arch + signed).strip()
                        lines.append(f"{kind} [{options}] {uri} {wanted}{tail} {components}" if options else f"{kind} {uri} {wanted}{tail} {components}")
        if not lines:
            raise LabError(f"apt's sources name no mirror of this system's release ({own or 'unknown'}): add one to /etc/apt/sources.list")
        return "\n".join(lines) + "\n"

    def run(self, *words, cwd=None, capture=False):
        """One apt-get or apt-cache command; the output if asked for."""
        command = [words[0], *self.options, *words[1:]]
        done = subprocess.run(command, cwd=cwd, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise LabError(f"{' '.join(words)} failed:\n{done.stderr.strip()}")
        return done.stdout if capture else ""

    def update(self):
        """Gets the package lists."""
        self.run("apt-get", "update", "-qq")

    def depends(self, package):
        """Names a package depends on, virtual ones left out."""
        output = self.run("apt-cache", "depends", "--important", package, capture=True)
        return re.findall(r"^[ |]*(?:Pre)?Depends: ([a-z0-9][^\s:]*)", output, re.MULTILINE)

    def closure(self, packages):
        """The packages and the libraries they need."""
        found, todo = [], list(packages)
        while todo:
            package = todo.pop(0)
            if package in found:
                continue
            found.append(package)
            todo += [name for name in self.depends(package) if name.startswith("lib") and not NOT_WANTED.match(name)]
        return found

    def download(self, packages, into):
        """Downloads packages; returns the paths of their .deb files."""
        into.mkdir(parents=True, exist_ok=True)
        uris = self.run("apt-get", "download", "--print-uris", *packages, capture=True)
        names = re.findall(r"^'[^']*' (\S+) ", uris, re.MULTILINE)
        missing = [name for name in names if not (into / name).exists()]
        if missing:
            self.run("apt-get", "download", "-qq", *packages, cwd=into)
        return [into / name for name in names]


def unpack(debs, root):
    """Unpacks .deb files into one tree with /bin, /sbin and /lib merged into /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        done = subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner"], stdin=tar.stdout, check=False)
        tar.stdout.close()
        if tar.wait() != 0 or done.returncode != 0:
            raise LabError(f"{deb} could not be unpacked; remove it and run scripts/softroce fetch")


def version_of(deb):
    """`name version` of a .deb file."""
    form = subprocess.run(["dpkg-deb", "-f", deb, "Package", "Version"], capture_output=True, text=True, check=True).stdout
    fields = dict(line.split(": ", 1) for line in form.splitlines())
    return f"{fields['Package']} {fields['Version']}"


def fetch(cache):
    """Downloads kernel and tools and unpacks them under `cache`; says what it got."""
    fresh = cache / "new"
    shutil.rmtree(fresh, ignore_errors=True)
    own = host_release().get("VERSION_CODENAME")
    say(f"fetching packages into {cache}")
    apt = Apt(cache / "apt/own")
    apt.update()
    tools = apt.download(apt.closure(TOOLS), cache / "debs")
    kernels = apt
    if own != KERNEL_SUITE:
        kernels = Apt(cache / f"apt/{KERNEL_SUITE}", KERNEL_SUITE)
        kernels.update()
    image = next((name for name in kernels.depends(KERNEL_META) if name.startswith("linux-image-")), None)
    if image is None:
        raise LabError(f"{KERNEL_META} of {KERNEL_SUITE} names no kernel")
    kernel = kernels.download([image], cache / "debs")
    unpack(tools, fresh / "root")
    unpack(kernel, fresh / "kernel")
    (fresh / "packages").write_text("".join(version_of(deb) + "\n" for deb in tools + kernel))
    for name in ("root", "kernel", "packages"):
        old = cache / name
        if old.is_dir():
            shutil.rmtree(old)
        os.replace(fresh / name, old)
    fresh.rmdir()
    shutil.rmtree(cache / "image", ignore_errors=True)
    say(f"{image} and {len(tools)} packages are there")
