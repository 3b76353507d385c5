"""Writes what a site's device needs into a root file system, without running anything of it.

Each file appears whole; what is right already stays as it is, and `Root.changed` tells the rest.
A dry `Root` goes the same way and touches nothing.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from image import ImageError
from network import WPA, File, nameservers, network_manager, networkd
from wheels import install

_RENEW_BEFORE_S = 60 * 86400
_WANTS = "etc/systemd/system/multi-user.target.wants"
_SSHD = """\
# Pantau: keys alone, and for root alone. First of the files there, and the first word counts.
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitEmptyPasswords no
AllowUsers root
X11Forwarding no
AllowAgentForwarding no
AllowTcpForwarding no
MaxAuthTries 3
LoginGraceTime 30
"""
_ASKS = ("userconfig.service", "regenerate_ssh_host_keys.service", "sshswitch.service")
"""What Raspberry Pi OS asks or makes at its first boot, which is answered or made already."""


class Root:
    """The root file system of a card, mounted at `path`; where it is `dry` nothing is written."""

    def __init__(self, path: Path, *, dry: bool = False) -> None:
        self._path = path
        self._dry = dry
        self.changed: list[str] = []
        self.diff: list[str] = []
        # Not yet anybody's: what a vendor gave to all must not stay one device's.
        self._fresh = not (self._identity / "site.pem").exists()

    def owner(self) -> str:
        """The site that the card is, or nothing."""
        said = self._ask("x509", "-in", self._identity / "site.pem", "-noout", "-subject",
                         "-nameopt", "RFC2253")  # fmt: skip
        return said.strip().removeprefix("subject=CN=")

    def has(self, folder: str, name: str) -> bool:
        """Whether a file is there, or a link that leads somewhere on the card."""
        file = self._path / folder / name
        return bool(name) and (file.is_symlink() or file.is_file())

    def release(self, archive: Path, version: str, python: str) -> None:
        """The release under /opt/pantau, and `current`."""
        at = f"/opt/pantau/{version}"
        folder = self._path / at[1:]
        if not (folder / ".complete-agent").exists():
            self.changed.append(at)
            if not self._dry:
                folder.parent.mkdir(parents=True, exist_ok=True)
                install(archive, folder, at, python)
        self._link("opt/pantau/current", version)
        self._link("usr/local/bin/pantau-agent", "/opt/pantau/current/bin/pantau-agent")

    def identity(self, site: str, authority: str, ca: str, days: int) -> None:
        """Key and certificate; the key is made on the card and is nowhere else."""
        folder = self._identity
        if not self._dry:
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
        if self._fresh:
            # Two devices from one image must not be one machine. Before it has a certificate: a
            # run that is cut off here begins with this again.
            self._put(File("/etc/machine-id", "", 0o444))
            for old in sorted((self._path / "etc/ssh").glob("ssh_host_*_key*")):
                self._take(f"/etc/ssh/{old.name}")
        self._put(File("/etc/pantau/ca.pem", Path(authority, "ca.pem").read_text(), 0o644))
        if self._lasts(authority):
            return
        self.changed.append("/etc/pantau/site.key")
        if self._dry:
            self.changed.append("/etc/pantau/site.pem")
        else:
            key, request = folder / "site.key.new", folder / "request"
            key.touch(mode=0o600)
            key.chmod(0o600)
            self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                          "-out", key)  # fmt: skip
            self._openssl("req", "-new", "-key", key, "-subj", f"/CN={site}", "-out", request)
            signed = _sign(site, request.read_text(), authority, ca, days)
            request.unlink()
            key.replace(folder / "site.key")
            self._put(File("/etc/pantau/site.pem", signed, 0o644))

    def agent(self, files: list[dict[str, Any]], enable: list[str], version: str) -> bool:
        """Configuration and units; whether the agent itself could judge its configuration here."""
        judged = False
        for one in files:
            file = File(one["path"], one["content"], int(one["mode"], 8))
            if file.path.endswith("/agent.toml") and not self._dry:
                judged = self._judge(file, version)
            self._put(file)
        for unit in enable:
            self._link(f"{_WANTS}/{unit}", f"/etc/systemd/system/{unit}")
        if not self._dry:
            (self._path / "etc/systemd/system/pantau-agent.service.d").mkdir(exist_ok=True)
        return judged

    def network(self, site: str, links: dict[str, dict[str, Any]], kind: str) -> None:
        """The links as the system there knows them."""
        if kind == "NetworkManager":
            wanted = network_manager(site, links)
            self._enable("NetworkManager.service")
        else:
            wanted = networkd(links)
            self._enable("systemd-networkd.service")
            if self.has("lib/systemd", "systemd-resolved"):
                self._enable("systemd-resolved.service")
            elif servers := nameservers(links):
                lines = "".join(f"nameserver {one}\n" for one in servers)
                self._put(File("/etc/resolv.conf", lines, 0o644))
        for file in wanted:
            self._put(file)
        if any(file.path == WPA for file in wanted):
            unit = "/lib/systemd/system/wpa_supplicant@.service"
            self._link(f"{_WANTS}/wpa_supplicant@wlan0.service", unit)
        if "wifi" in links:
            country = links["wifi"]["country"]
            line = f"options cfg80211 ieee80211_regdom={country}\n"
            self._put(File("/etc/modprobe.d/pantau-wifi.conf", line, 0o644))
            # Raspberry Pi OS blocks the radio until somebody names the country.
            for block in (self._path / "var/lib/systemd/rfkill").glob("*:wlan"):
                self._put(File(f"/var/lib/systemd/rfkill/{block.name}", "0", 0o644))

    def names(self, site: str, timezone: str) -> None:
        """Host name and time zone."""
        self._put(File("/etc/hostname", f"{site}\n", 0o644))
        hosts = self._path / "etc/hosts"
        lines = hosts.read_text().splitlines() if hosts.exists() else ["127.0.0.1\tlocalhost"]
        kept = [line for line in lines if not line.startswith("127.0.1.1")]
        text = "\n".join([*kept, f"127.0.1.1\t{site}", ""])
        self._put(File("/etc/hosts", text, 0o644))
        self._link("etc/localtime", f"/usr/share/zoneinfo/{timezone}")
        self._put(File("/etc/timezone", f"{timezone}\n", 0o644))

    def ssh(self, keys: list[str]) -> str:
        """Logins by key alone; gives the host key, which is made here; none yet where it is dry."""
        for unit in _ASKS:
            if (self._path / _WANTS / unit).is_symlink():
                self._take(f"/{_WANTS}/{unit}")
        self._put(File("/etc/ssh/sshd_config.d/00-pantau.conf", _SSHD, 0o644))
        if not self._dry:
            (self._path / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        lines = "".join(f"{key.strip()}\n" for key in keys)
        self._put(File("/root/.ssh/authorized_keys", lines, 0o600))
        self._enable("ssh.service")
        host_key = self._path / "etc/ssh/ssh_host_ed25519_key"
        if not host_key.exists() or (self._dry and self._fresh):
            self.changed.append("/etc/ssh/ssh_host_ed25519_key")
            if self._dry:
                return ""
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key))
        return " ".join(host_key.with_suffix(".pub").read_text().split()[:2])

    def clock(self) -> None:
        """The earliest time that systemd believes: a Pi has no clock, and TLS needs one."""
        epoch = self._path / "usr/lib/clock-epoch"
        if not epoch.exists():
            self.changed.append("/usr/lib/clock-epoch")
        if self.changed and not self._dry:
            epoch.touch()
            os.utime(epoch, (time.time(),) * 2)

    @property
    def _identity(self) -> Path:
        return self._path / "etc/pantau"

    def _lasts(self, authority: str) -> bool:
        """Whether the certificate is ours, the key's, not revoked, and lasts."""
        cert, key = self._identity / "site.pem", self._identity / "site.key"
        ours = ("verify", "-crl_check", "-CAfile", Path(authority, "ca.pem"))
        return bool(
            key.exists()
            and self._ask(*ours, "-CRLfile", Path(authority, "ca.crl"), cert)
            and self._ask("x509", "-in", cert, "-noout", "-checkend", str(_RENEW_BEFORE_S))
            and self._ask("x509", "-in", cert, "-noout", "-pubkey")
            == self._ask("pkey", "-in", key, "-pubout")
        )

    def _judge(self, file: File, version: str) -> bool:
        """Let the agent there read its configuration, where this machine can run it."""
        tried = f"{file.path}.tried"
        self._put(file._replace(path=tried))
        self.changed.remove(tried)
        agent = f"/opt/pantau/{version}/bin/pantau-agent"
        done = subprocess.run(
            ["chroot", str(self._path), agent, "spool", "--config", tried],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        (self._path / tried[1:]).unlink()
        if "Exec format error" in done.stderr:
            return False
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["the agent refuses it"]
            raise ImageError(said[-1].replace(tried, "agent.toml"))
        return True

    def _put(self, file: File) -> None:
        """Make a file what it should be."""
        target = self._path / file.path[1:]
        content = file.content.encode()
        old = target.read_bytes() if target.is_file() and not target.is_symlink() else None
        if old == content:
            if target.stat().st_mode & 0o7777 != file.mode:
                self.changed.append(file.path)
                if not self._dry:
                    target.chmod(file.mode)
            return
        self.changed.append(file.path)
        self._differs(file, (old or b"").decode(errors="replace"))
        if self._dry:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name}.pantau")
        unfinished.touch(mode=0o600)
        unfinished.write_bytes(content)
        unfinished.chmod(file.mode)
        unfinished.replace(target)

    def _differs(self, file: File, old: str) -> None:
        """What is new in a file; what only root may read there is for nobody to read here."""
        if file.mode & 0o044:
            lines = (old.splitlines(), file.content.splitlines())
            self.diff += difflib.unified_diff(*lines, file.path, file.path, lineterm="", n=1)
        else:
            self.diff.append(f"{file.path}: not shown, since it is for root alone")

    def _take(self, path: str) -> None:
        """Take a file away."""
        self.changed.append(path)
        if not self._dry:
            (self._path / path[1:]).unlink()

    def _enable(self, unit: str) -> None:
        self._link(f"{_WANTS}/{unit}", f"/lib/systemd/system/{unit}")

    def _link(self, place: str, to: str) -> None:
        link = self._path / place
        if link.is_symlink() and str(link.readlink()) == to:
            return
        self.changed.append(f"/{place}")
        if self._dry:
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(to)

    def _openssl(self, *arguments: str | Path) -> None:
        _run("openssl", *arguments)

    def _ask(self, *arguments: str | Path) -> str:
        """What openssl says; nothing where it refuses."""
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        return (done.stdout or " ") if done.returncode == 0 else ""


def _sign(site: str, request: str, authority: str, ca: str, days: int) -> str:
    """A certificate, by the authority's script as the user that owns it."""
    owner = Path(authority).stat()
    as_owner: dict[str, Any] = {}
    if os.geteuid() == 0 and owner.st_uid:
        as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    command = [sys.executable, ca, authority, "sign", site, f"--days={days}"]
    done = subprocess.run(
        command, input=request, capture_output=True, text=True, check=False, **as_owner
    )
    if done.returncode:
        raise ImageError(re.sub("^ca: ", "", done.stderr.strip()))
    return done.stdout


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"{command[0]}: {done.stderr.strip()}")
