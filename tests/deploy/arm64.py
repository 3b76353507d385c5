"""An arm64 machine as a Raspberry Pi is one: Debian's own kernel and system, emulated whole.

Its image has a boot partition with kernel, command line and initial file system, and a root
partition with Debian 12, NetworkManager and ssh, as Raspberry Pi OS has them. What takes long is
made once and kept in the cache folder. Nothing is registered with this machine's kernel, and
nothing stays behind.
"""

from __future__ import annotations

import gzip
import shutil
import signal
import stat
import subprocess
from pathlib import Path
from typing import Self

from tests.deploy.images import from_boot, partitioned
from tests.deploy.machines import CACHE, Machine, debian, kept, making
from tests.lab.apt import arm64_apt
from tests.lab.net import Namespace, sh
from tests.lab.wifi.machine import cpio
from tests.wait import until

PROGRAMS = {
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm",
    "mmdebstrap": "mmdebstrap",
    "arch-test": "arch-test",
    "mcopy": "mtools",
    "depmod": "kmod",
}
"""What it needs of this machine, with Debian's packages."""

BOOT_MB, ROOT_MB = 128, 1200
_SYSTEM = (
    *("systemd", "systemd-sysv", "libpam-systemd", "dbus", "udev", "kmod", "python3", "tzdata"),
    *("openssh-server", "iproute2", "iputils-ping", "ca-certificates"),
    *("network-manager", "modemmanager", "wpasupplicant"),
)
_AT_FIRST = ("virtio_pci", "virtio_mmio", "virtio_blk", "ext4")
_LATER = ("virtio_net", "virtio_rng")
# No authority of the world's either: to hash them takes the emulator two minutes.
_SMALL = (
    "force-unsafe-io",
    *(f"path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "ca-certificates")),
)
_BOOT_FILES = ("kernel8.img", "initramfs8", "cmdline.txt")
_CMDLINE = "console=ttyAMA0 root=/dev/vda2 rootfstype=ext4 rootwait quiet"
_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/list); do /bin/busybox insmod /modules/$module; done
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in root=*) root=${word#root=};; esac
done
until /bin/busybox mount -t ext4 $root /new; do /bin/busybox sleep 1; done
exec /bin/busybox switch_root /new /sbin/init
"""
# The emulator of single programs is known in a user namespace alone, which has a list of its own.
_FOREIGN = """
read -r go
mount -t binfmt_misc binfmt /proc/sys/fs/binfmt_misc
cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
exec "$@"
"""
_UNPACK_S, _SYSTEM_S, _APT_S = 600, 1800, 300


def missing() -> list[str]:
    """The packages that this machine has not."""
    return [package for name, package in PROGRAMS.items() if shutil.which(name) is None]


def vendor_image(file: Path) -> None:
    """What a vendor ships: nobody's keys, names or network."""
    with making("arm64"):
        image = kept("arm64.img", _made_by(CACHE))
        if not image.exists():
            unfinished = CACHE / "arm64.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            root = kept("bookworm-arm64", _made_by(CACHE))
            if not root.exists():
                _system(unfinished / "root").rename(root)
            made = unfinished / "arm64.img"
            boot_files = _kernel(unfinished, root)
            partitioned(made, root, boot_mb=BOOT_MB, root_mb=ROOT_MB, boot_files=boot_files)
            made.rename(image)
            shutil.rmtree(unfinished)
        sh("cp", "--sparse=always", str(image), str(file), within_s=_UNPACK_S)


def _made_by(root: Path) -> list[str]:
    small = [f"--dpkgopt={option}" for option in _SMALL]
    return debian(root, _SYSTEM, "--architectures=arm64", *small)


def _system(root: Path) -> Path:
    """Debian 12 for arm64, its packages configured by their own scripts."""
    process = subprocess.Popen(
        ["unshare", "--user", "--mount", "sh", "-euc", _FOREIGN, "sh", *_made_by(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    here, there = Path("/proc/self/ns/user"), Path(f"/proc/{process.pid}/ns/user")
    until(lambda: there.readlink() != here.readlink(), 60.0, "a user namespace")
    for kind in ("uid", "gid"):
        Path(f"/proc/{process.pid}/{kind}_map").write_text("0 0 4294967295")
    said, _ = process.communicate("go\n", _SYSTEM_S)
    assert process.returncode == 0, said[-2000:]
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    return root


def _kernel(folder: Path, root: Path) -> list[Path]:
    """The files of the boot partition; the modules that the system loads itself go into `root`."""
    apt = arm64_apt(folder / "apt")
    asked = _run(["apt-cache", *apt[1:], "depends", "linux-image-arm64"], _APT_S)
    name = next(line.split()[1] for line in asked.splitlines() if "Depends:" in line)
    _run([*apt, "download", name, "busybox-static"], _APT_S, folder)
    unpacked = folder / "kernel"
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], _UNPACK_S)
    [release] = (path.name for path in (unpacked / "lib/modules").iterdir())
    sh("depmod", "-b", str(unpacked), release)
    at_first = _modules(unpacked, release, _AT_FIRST)
    for path in _modules(unpacked, release, _AT_FIRST + _LATER):
        target = root / path.relative_to(unpacked)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for listed in (unpacked / "lib/modules" / release).glob("modules.*"):
        shutil.copy(listed, root / "lib/modules" / release)
    sh("depmod", "-b", str(root), release)

    shutil.copy(unpacked / f"boot/vmlinuz-{release}", folder / "kernel8.img")
    names = "\n".join(path.name for path in at_first).encode()
    files = [
        ("bin/busybox", stat.S_IFREG | 0o755, (unpacked / "bin/busybox").read_bytes()),
        ("init", stat.S_IFREG | 0o755, _INIT.encode()),
        ("modules/list", stat.S_IFREG | 0o644, names),
        *((f"modules/{one.name}", stat.S_IFREG | 0o644, one.read_bytes()) for one in at_first),
    ]
    folders = ("bin", "modules", "proc", "sys", "dev", "new")
    archive = cpio([*((name, stat.S_IFDIR | 0o755, b"") for name in folders), *files])
    (folder / "initramfs8").write_bytes(gzip.compress(archive, 1))
    (folder / "cmdline.txt").write_text(f"{_CMDLINE}\n")
    return [folder / name for name in _BOOT_FILES]


def _modules(unpacked: Path, release: str, names: tuple[str, ...]) -> list[Path]:
    """The files of some modules and of what they need, in the order of their loading."""
    found: dict[Path, None] = {}
    for name in names:
        lines = sh("modprobe", "-d", str(unpacked), "-S", release, "--show-depends", name)
        for line in lines.splitlines():
            if line.startswith("insmod"):
                found[Path(line.split()[1])] = None
    return list(found)


def _run(command: list[str], within_s: float, folder: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=within_s, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}"
    return done.stdout


class Board(Machine):
    """A board with a card in it, at the end of a cable.

    It has no clock of its own: it wakes in the year 2000.

    Args:
        name: for messages; what the device calls itself stands on the card.
        folder: for its console; made anew.
        network: where it is plugged in, by the one cable that is there.
        card: the image.
    """

    def __init__(self, name: str, folder: Path, network: Namespace, card: Path) -> None:
        super().__init__(name, folder, network, "")
        self._card = card

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        cable = next(link for link in self.network.links() if link != "lo")
        self.network.ip("link", "add", "board", "type", "bridge")
        self.network.ip("tuntap", "add", "port", "mode", "tap")
        for link in (cable, "port"):
            self.network.ip("link", "set", link, "master", "board", "up")
        self.network.ip("link", "set", "board", "up")
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        self.halt()

    def boot(self) -> None:
        """Switch it on: the firmware reads the boot partition and starts what is there."""
        from_boot(self._card, _BOOT_FILES, self._folder)
        kernel, first, cmdline = (self._folder / name for name in _BOOT_FILES)
        command = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024",
            "-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config", "-display", "none",
            "-no-reboot", "-serial", "stdio", "-rtc", "base=2000-01-01",
            "-kernel", str(kernel), "-initrd", str(first), "-append", cmdline.read_text().strip(),
            "-drive", f"file={self._card},format=raw,if=none,id=card,cache=unsafe",
            "-device", "virtio-blk-pci,drive=card", "-device", "virtio-rng-pci",
            "-netdev", "tap,id=net,ifname=port,script=no,downscript=no",
            "-device", "virtio-net-pci,netdev=net,romfile=",
        ]  # fmt: skip
        with (self._folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                self.network.within(*command), stdin=subprocess.DEVNULL, stdout=console,
                stderr=console,
            )  # fmt: skip

    def is_on(self) -> bool:
        """Whether it still runs; fails with its last words where it does not."""
        assert self._process is not None
        assert self._process.poll() is None, self.journal()
        return True

    def halt(self) -> None:
        """Take its power away."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
            self._process = None

    def journal(self, lines: int = 60) -> str:
        """The end of what it wrote to its console, for a test that failed."""
        console = (self._folder / "console").read_text(errors="replace")
        return f"--- {self.name} ---\n" + "\n".join(console.splitlines()[-lines:])
