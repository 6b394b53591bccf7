"""Kernel and initial file system of the guest, made from unpacked packages.

Reads the cache's kernel and busybox, writes the cache's image directory.
"""

import lzma
import os
import re
import struct
import subprocess
import zlib
from pathlib import Path

from packages import LabError

HERE = Path(__file__).parent


def _unzstd(data):
    # The build appends the length of the image to the stream.
    done = subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if not done.stdout:
        raise LabError("zstd is needed to unpack this kernel: apt-get install zstd")
    return done.stdout


def unpack_vmlinux(bzimage):
    """The ELF kernel inside a bzImage (bytes to bytes); QEMU starts it at its PVH entry, which saves
    seconds of self-extraction under emulation."""
    setup_sectors = bzimage[0x1F1] or 4
    offset, length = struct.unpack_from("<II", bzimage, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = bzimage[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        kernel = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(payload)
    elif payload.startswith(b"\x28\xb5\x2f\xfd"):
        kernel = _unzstd(payload)
    elif payload.startswith(b"\x1f\x8b"):
        kernel = zlib.decompressobj(31).decompress(payload)
    else:
        raise LabError(f"the kernel is compressed in an unknown way ({payload[:6].hex()})")
    if not kernel.startswith(b"\x7fELF"):
        raise LabError("the kernel's payload is no ELF file")
    return kernel


class Modules:
    """The modules of one unpacked kernel package."""

    def __init__(self, tree):
        self.files = {}
        for path in tree.rglob("*.ko*"):
            self.files.setdefault(path.name.split(".ko")[0].replace("-", "_"), path)
        builtin = next(tree.rglob("modules.builtin"), None)
        text = builtin.read_text() if builtin else ""
        self.builtin = {line.rsplit("/", 1)[-1].removesuffix(".ko").replace("-", "_") for line in text.splitlines()}

    def read(self, name):
        """A module, decompressed."""
        path = self.files.get(name)
        if path is None:
            raise LabError(f"the kernel package has no module {name}")
        data = path.read_bytes()
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".zst":
            return _unzstd(data)
        return data

    def in_order(self, wanted):
        """(name, contents) of the wanted modules and all they need, in the order to load them."""
        loaded = {}

        def load(name):
            if name in loaded or name in self.builtin:
                return
            data = self.read(name)
            needs = re.search(rb"\0depends=([^\0]*)\0", data)
            for needed in needs.group(1).decode().split(",") if needs else []:
                if needed:
                    load(needed.replace("-", "_"))
            loaded[name] = data

        for name in wanted:
            load(name)
        return list(loaded.items())


def write_cpio(out, entries):
    """Writes a newc archive of (path, mode, contents) to a binary file."""

    def entry(inode, path, mode, data):
        name = path.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        out.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    for inode, (path, mode, data) in enumerate(entries, 1):
        entry(inode, path, mode, data)
    entry(0, "TRAILER!!!", 0, b"")


def build(cache):
    """Makes `image/vmlinux` and `image/initrd` where they are older than what they are made of."""
    image = cache / "image"
    image.mkdir(exist_ok=True)
    vmlinux, initrd = image / "vmlinux", image / "initrd"
    if not vmlinux.exists():
        bzimage = next((cache / "kernel/boot").glob("vmlinuz-*"))
        part = image / "vmlinux.part"
        part.write_bytes(unpack_vmlinux(bzimage.read_bytes()))
        os.replace(part, vmlinux)
    sources = [HERE / "init", HERE / "modules", HERE / "image.py", cache / "packages"]
    if initrd.exists() and all(initrd.stat().st_mtime > source.stat().st_mtime for source in sources):
        return vmlinux, initrd
    groups = (HERE / "modules").read_text().split("\n--\n")
    wanted = [[word for line in group.splitlines() for word in line.split("#")[0].split()] for group in groups]
    modules = Modules(cache / "kernel/usr/lib/modules")
    first = [name for name, _ in modules.in_order(wanted[0])]
    ordered = modules.in_order(wanted[0] + wanted[1])
    entries = [(name, 0o040755, b"") for name in ("bin", "dev", "proc", "sys", "mods", "host", "tools", "run", "top", "new")]
    entries.append(("init", 0o100755, (HERE / "init").read_bytes()))
    entries.append(("bin/busybox", 0o100755, (cache / "root/usr/bin/busybox").read_bytes()))
    entries += [(f"mods/{name}.ko", 0o100644, data) for name, data in ordered]
    rest = [name for name, _ in ordered if name not in first]
    for file, names in (("first", first), ("rest", rest)):
        entries.append((f"mods/{file}", 0o100644, "".join(f"{name}\n" for name in names).encode()))
    part = image / f"initrd.{os.getpid()}"
    with open(part, "wb") as out:
        write_cpio(out, entries)
    os.replace(part, initrd)
    return vmlinux, initrd
