"""A guest machine with radios: Debian's own kernel and mac80211_hwsim under qemu.

The guest's root is this machine's, shared read-only (9p): what the tests see here, hostapd,
wpa_supplicant, our package, the guest sees as well. No disk image, no KVM, no network.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.lab.net import sh

_ROOT = Path(__file__).parents[3]
_FIRST_MODULES = ("virtio_pci", "9p", "9pnet_virtio")
PROGRAMS = (
    "qemu-system-x86_64",
    "hostapd",
    "wpa_supplicant",
    "iw",
    "dnsmasq",
    "mosquitto",
    "depmod",
)
_BOOT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/list); do /bin/busybox insmod /modules/$module; done
/bin/busybox mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /new
exec /bin/busybox switch_root /new {init}
echo 'guest: no root'; exec /bin/busybox poweroff -f
"""


def kernel(folder: Path) -> Path:
    """Debian's current kernel, fetched by name and unpacked; the folder that holds it.

    Leaves the test out where there is no apt or no archive.
    """
    fetched = _fetch(folder)
    if fetched.returncode:  # what apt knows of the archive may be old, or nothing
        _apt(folder, "update")
        fetched = _fetch(folder)
        if fetched.returncode:
            pytest.skip(f"no kernel to be had: {fetched.stderr.strip()}")
    [package] = folder.glob("linux-image-*.deb")
    unpacked = folder / package.name.partition("_")[0]
    sh("dpkg-deb", "-x", str(package), str(unpacked))
    package.unlink()
    [release] = (path.name for path in (unpacked / "lib/modules").iterdir())
    sh("depmod", "-b", str(unpacked), release)
    return unpacked


def _fetch(folder: Path) -> subprocess.CompletedProcess[str]:
    """Downloads the package that the name of every Debian's kernel depends on."""
    asked = subprocess.run(
        ["apt-cache", "depends", "linux-image-amd64"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    names = [line.split(":")[1] for line in asked.stdout.splitlines() if "Depends:" in line]
    return _apt(folder, "download", names[0].strip()) if names else asked


def _apt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def programs_missing() -> list[str]:
    """The programs that the guest needs and this machine has not."""
    return [name for name in (*PROGRAMS, "busybox") if shutil.which(name) is None]


def run(kernel_folder: Path, folder: Path, init: str, within_s: float) -> str:
    """Boot the guest, let it play the story that `init` begins, and give all that it said."""
    [release] = (path.name for path in (kernel_folder / "lib/modules").iterdir())
    initramfs = folder / "initramfs"
    initramfs.write_bytes(gzip.compress(cpio(_initramfs(kernel_folder, release, init)), 1))
    console = f"console=ttyS0 quiet panic=-1 mitigations=off MODULES={kernel_folder}"
    command = [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", "q35", "-cpu", "max",
        "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-display", "none",
        "-no-reboot", "-serial", "stdio",
        "-kernel", str(kernel_folder / "boot" / f"vmlinuz-{release}"),
        "-initrd", str(initramfs),
        "-append", f"{console} REPOSITORY={_ROOT} PYTHON={sys.executable}",
        "-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
    ]  # fmt: skip
    with (folder / "console").open("w+b") as log:
        guest = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            guest.wait(within_s)
        except subprocess.TimeoutExpired:
            pass  # what it said by then tells where it stands
        finally:
            guest.kill()
            guest.wait()
    return (folder / "console").read_text(errors="replace")


def _initramfs(kernel_folder: Path, release: str, init: str) -> Iterator[tuple[str, int, bytes]]:
    """Busybox, the first modules, and a script: name, mode and content of each."""
    modules = []
    for name in _FIRST_MODULES:
        lines = sh("modprobe", "-d", str(kernel_folder), "-S", release, "--show-depends", name)
        paths = [Path(line.split()[1]) for line in lines.splitlines() if line.startswith("insmod")]
        modules += [path for path in paths if path not in modules]
    busybox = shutil.which("busybox")
    assert busybox is not None
    script = _BOOT.format(init=Path(__file__).with_name(init))
    for folder in ("bin", "modules", "proc", "sys", "dev", "new"):
        yield folder, stat.S_IFDIR | 0o755, b""
    yield "bin/busybox", stat.S_IFREG | 0o755, Path(busybox).read_bytes()
    for path in modules:
        yield f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()
    yield "modules/list", stat.S_IFREG | 0o644, "\n".join(p.name for p in modules).encode()
    yield "init", stat.S_IFREG | 0o755, script.encode()


def cpio(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """An archive in cpio's newc format, which the kernel unpacks as its first root.

    Args:
        entries: name, mode and content of each file or folder.
    """
    return b"".join(_entry(*one) for one in (*entries, ("TRAILER!!!", 0, b"")))


def _entry(name: str, mode: int, data: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
