"""The unit that spares the card, its very commands, on a card of its own in a mount namespace."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.net import sh

_UNIT = Path(__file__).parents[2] / "systemd" / "pantau-card.service"


def command(key: str) -> str:
    """The shell command of one key of the unit."""
    found = re.search(rf"^{key}=/bin/sh -c '(.*)'$", _UNIT.read_text(), re.MULTILINE)
    assert found
    return found[1]


def mounts_after(key: str, prepare: str) -> str:
    """/proc/mounts once that command was run, in a namespace where `prepare` was run before."""
    # an empty /var/lib first: nothing of this machine's can be reached by a mistake
    script = f"""set -e
mount --make-rprivate /
mount -t tmpfs none /var/lib
mkdir /var/lib/pantau
{prepare}
({command(key)})
grep " /var/lib" /proc/mounts
"""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs_root
@pytest.mark.parametrize(("key", "spared"), [("ExecStart", True), ("ExecStop", False)])
def test_the_ext4_that_holds_the_spool_commits_seldom_until_the_unit_is_stopped(
    tmp_path: Path, key: str, spared: bool
) -> None:
    image = tmp_path / "card.img"
    sh("truncate", "-s", "8M", str(image))
    sh("mkfs.ext4", "-q", "-F", str(image))
    given = "rw,noatime" if key == "ExecStart" else "rw,noatime,commit=1800"
    prepare = f"mount -o loop,{given} {image} /var/lib/pantau"
    ext4 = mounts_after(key, prepare).splitlines()[-1].split()

    assert ext4[1:3] == ["/var/lib/pantau", "ext4"]
    assert ("commit=1800" in ext4[3].split(",")) is spared
    assert "noatime" in ext4[3]


@pytest.mark.needs_root
@pytest.mark.parametrize("key", ["ExecStart", "ExecStop"])
def test_another_file_system_is_left_alone(key: str) -> None:
    (tmpfs,) = mounts_after(key, "").splitlines()

    assert "commit" not in tmpfs


def test_a_container_is_left_alone() -> None:
    assert "\nConditionVirtualization=!container\n" in _UNIT.read_text()
