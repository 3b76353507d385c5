"""The installed agent on arm64, as on a Raspberry Pi, in user-mode emulation.

Debian's arm64 packages are unpacked into a folder, the wheel of this source and the arm64
wheels of what it needs are installed there, and the agent runs windows against a broker on
this machine. Nothing is registered with the kernel and nothing stays behind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.lab.apt import arm64_apt
from tests.lab.broker import Broker
from tests.lab.city import toml
from tests.lab.net import sh
from tests.lab.observer import Observer
from tests.lab.process import Service
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

SITE = "bitung-0064"
ROOT = Path(__file__).parents[2]
_QEMU = "qemu-aarch64-static"
_WINDOWS = 5
_APT_S = _PIP_S = 600


@pytest.fixture(scope="module")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root folder with an arm64 Python and the agent installed beneath /opt/agent."""
    if shutil.which(_QEMU) is None:
        pytest.skip("needs qemu-aarch64-static: apt-get install qemu-user-static")
    folder = tmp_path_factory.mktemp("arm64")
    root = folder / "root"
    for package in _packages(folder / "apt"):
        sh("dpkg-deb", "-x", str(package), str(root))
    shutil.copy(str(shutil.which(_QEMU)), root)
    _install(folder, root / "opt" / "agent")
    for name in ("proc", "sys", "dev", "tmp"):
        (root / name).mkdir(exist_ok=True)
    return root


def _packages(folder: Path) -> list[Path]:
    """Debian's Python for arm64 with all it needs, downloaded by an apt of our own."""
    apt = arm64_apt(folder)
    install = ["install", "-y", "--no-install-recommends", "--download-only"]
    _run([*apt, *install, "python3.11", "libgcc-s1", "libstdc++6"], _APT_S)
    return sorted((folder / "cache" / "archives").glob("*.deb"))


def _install(folder: Path, target: Path) -> None:
    """The wheel of this source, and the arm64 wheels of what the agent needs."""
    source = folder / "source"
    shutil.copytree(ROOT / "agent", source / "agent")
    shutil.copytree(ROOT / "server", source / "server")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(source)], _PIP_S)
    (wheel,) = folder.glob("pantau-*.whl")
    platforms = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
    where = ["--target", str(target), "--only-binary=:all:", "--implementation", "cp"]
    where += ["--python-version", "3.11", *(f"--platform={name}" for name in platforms)]
    as_tested = ["--constraint", str(ROOT / "constraints.txt")]
    _run([*pip, "install", *as_tested, *where, f"{wheel}[agent]"], _PIP_S)


def _run(command: list[str], within_s: float) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"


def _agent(root: Path, *arguments: str) -> list[str]:
    """A command line of ``pantau-agent`` in there, with mounts that end with it."""
    mounts = (
        f"mount -t proc proc {root}/proc; mount --rbind /sys {root}/sys;"
        f" mount --rbind /dev {root}/dev; export PYTHONPATH=/opt/agent;"
    )
    python = f"/{_QEMU} /usr/bin/python3.11 /opt/agent/bin/pantau-agent"
    run = f"set -e; {mounts} exec chroot {root} {python} {' '.join(arguments)}"
    return ["unshare", "--mount", "sh", "-c", run]


def _configure(root: Path, broker: Broker) -> None:
    """A site with its certificate, as it would lie on the device."""
    etc = root / "etc" / "pantau"
    etc.mkdir(parents=True)
    mqtt: dict[str, object] = {}
    for key, value in broker.settings(SITE).items():
        if key.endswith("_file"):
            shutil.copy(value, etc)
            value = f"/etc/pantau/{Path(value).name}"
        mqtt[key] = value
    tables = {
        "mqtt": mqtt,
        "reading": {"window_s": 2},
        "targets": {"gateway": ["127.0.0.1"], "world": ["127.0.0.2"]},
    }
    (etc / "agent.toml").write_text(toml({"site": SITE}, tables))


def _first_readings(observer: Observer) -> list[dict[str, Any]]:
    """By seq, once more than enough are there without a gap.

    One that is late is overtaken, and one whose ack is late may come twice.
    """
    bodies = [seen.body for seen in observer.site(SITE, "readings")]
    found = {one["seq"]: one for body in bodies for one in body["readings"]}
    whole = len(found) > _WINDOWS and max(found) == len(found)
    return [found[seq] for seq in sorted(found)] if whole else []


def test_the_installed_agent_measures_windows_on_arm64_and_delivers_them(
    arm64: Path, tls_broker: Broker, tmp_path: Path
) -> None:
    machine = f"/{_QEMU} /usr/bin/python3.11 -c 'import platform; print(platform.machine())'"
    assert sh("sh", "-c", f"chroot {arm64} {machine}").strip() == "aarch64"
    _configure(arm64, tls_broker)
    agent = Service("agent", _agent(arm64, "run"), tmp_path / "agent.log")
    with Observer(tls_broker) as observer:
        agent.start()
        try:
            readings = until(lambda: _first_readings(observer), 180, f"{_WINDOWS} readings")
            assert agent.stop() == 0, str(agent)
        finally:
            agent.discard()
    # The emulator knows neither receive stamps nor ethtool: the probes that need those say so.
    # It is slow, too, and now and then a probe is not done in time.
    whole = [one for one in readings if set(one.get("errors", {})) <= {"icmp", "link"}]
    assert whole, readings
    assert whole[-1]["host"]["memory_ratio"] > 0
    errors = whole[-1].get("errors", {})
    assert "no receive stamps" in errors.get("icmp", "no receive stamps")
    assert "SIOCETHTOOL" in errors.get("link", "SIOCETHTOOL")
    held = sh(*_agent(arm64, "spool", "--json")).splitlines()
    assert len(held) >= len(readings)
