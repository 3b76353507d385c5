"""Machines for tests of the playbooks: Debian booted by systemd, each in its own namespace.

A root file system is made once (mmdebstrap, kept in the cache folder); each machine is an overlay
on it, booted by systemd-nspawn as PID 1 and reached by ssh from the controller's namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from tests.lab.net import Namespace, sh
from tests.wait import until

CACHE = Path(os.environ.get("PANTAU_TEST_CACHE", "/var/cache/pantau-tests"))
_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "python3", "openssh-server", "iproute2", "iputils-ping"),
    *("ca-certificates", "openssl", "mosquitto", "mosquitto-clients", "systemd-timesyncd"),
    "nftables",
)
_BOOT_S, _END_S = 120.0, 60.0

# The host's cgroups may be of the mixed kind: the machine gets a pure v2 tree of its own.
_BOOT = """
umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1
mkdir -p "/sys/fs/cgroup/$NAME" && echo $$ > "/sys/fs/cgroup/$NAME/cgroup.procs" || exit 1
exec systemd-nspawn --quiet --register=no --keep-unit --boot -D "$ROOT" -M "$NAME" \
  --network-namespace-path="/run/netns/$NS" --resolv-conf=off --timezone=off \
  --link-journal=no --console=pipe --kill-signal=SIGRTMIN+3 $FURTHER
"""


@contextlib.contextmanager
def making(what: str) -> Iterator[None]:
    """One process at a time: tests that run beside each other share the cache."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def debian(root: Path, packages: Iterable[str], *options: str) -> list[str]:
    """The command that makes a root file system of Debian 12."""
    return [
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", *options),
        *(f"--include={','.join(('usr-is-merged', *packages))}", "bookworm", str(root)),
    ]


def kept(what: str, how: Iterable[str]) -> Path:
    """Where it is kept, by how it was made: what was made in another way is of no use."""
    return CACHE / f"{what}-{hashlib.sha256(' '.join(how).encode()).hexdigest()[:8]}"


def root_file_system() -> Path:
    """Debian 12 with what a fresh machine has, and the broker's packages; made once."""
    root = kept("bookworm", debian(CACHE, _PACKAGES))
    with making("bookworm"):
        if root.exists():
            return root
        unfinished = CACHE / "bookworm.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        done = subprocess.run(
            # In mounts of its own: one that is cut off leaves no /proc in there.
            ["unshare", "--mount", *debian(unfinished, _PACKAGES)],
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        unfinished.rename(root)
    return root


# Its /sys is that of the host's interfaces until it is mounted from within; the cgroups move along.
_OWN_SYS = """
mount --bind /sys/fs/cgroup /mnt
mount -t sysfs -o ro sysfs /sys
mount --bind /mnt /sys/fs/cgroup
umount --lazy /mnt
"""


class Machine:
    """One booted machine.

    Args:
        name: its host name.
        folder: for its disk; removed by whoever made it.
        network: its namespace, with an address on the controller's net already.
        key: the public ssh key that root accepts.
    """

    further = "--capability=CAP_NET_ADMIN"
    """More for systemd-nspawn: its network is its own, with addresses and rules."""

    def __init__(self, name: str, folder: Path, network: Namespace, key: str) -> None:
        self.name = name
        self.network = network
        self.root = folder / "root"
        self._folder = folder
        self._key = key
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        upper, work = self._folder / "upper", self._folder / "work"
        for one in (upper, work, self.root):
            one.mkdir(parents=True)
        layers = f"lowerdir={root_file_system()},upperdir={upper},workdir={work}"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        try:
            self._prepare()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        """What the maker of an SD card gives along: a name, and who may log in."""
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/machine-id").write_text("")
        ssh = self.root / "root/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        (ssh / "authorized_keys").write_text(self._key)
        # A fresh broker must not listen before it was configured, and no other service either.
        (self.root / "etc/systemd/system/multi-user.target.wants/mosquitto.service").unlink(
            missing_ok=True
        )

    def __exit__(self, *_: object) -> None:
        self.halt()
        sh("umount", str(self.root))

    def boot(self) -> None:
        """Switch it on; returns when it takes logins."""
        environment = {**os.environ, "ROOT": str(self.root), "NS": self.network.name,
                       "FURTHER": self.further}  # fmt: skip
        with (self._folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "bash", "-c", _BOOT],
                env={**environment, "NAME": self._unique}, stdin=subprocess.DEVNULL,
                stdout=console, stderr=console,
            )  # fmt: skip
        until(self._listens, _BOOT_S, f"{self.name} to take logins (see {self._folder}/console)")
        nspawn = self._process.pid
        init = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()[0]
        sh("nsenter", "-t", init, "-m", "-n", "-p", "sh", "-euc", _OWN_SYS)

    def halt(self) -> None:
        """Shut it down in order."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)
        self._process = None

    def journal(self, lines: int = 60) -> str:
        """The end of its journal, for a test that failed."""
        done = subprocess.run(
            ["journalctl", "--no-pager", "-q", "-n", str(lines), "-D",
             str(self.root / "run/log/journal"), "-D", str(self.root / "var/log/journal")],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return f"--- {self.name} ---\n{done.stdout or done.stderr}"

    @property
    def _unique(self) -> str:
        return f"{self.name}-{self.network.name}"

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "console").read_text()[-2000:]
        return ":22 " in self.network.run("ss", "-Hltn")
