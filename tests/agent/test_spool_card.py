"""The advice on the spool's mount: by recorded lines of the kernel's, and by a real ext4."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.spool.card import advice, advice_on
from tests.lab.net import sh

_MOUNTED = """\
21 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw{root}
81 27 179:3 / /var/lib/pantau rw,noatime shared:29 - {kind} /dev/mmcblk0p3 rw{own}
half a line
"""


@pytest.mark.parametrize("own", ["", ",errors=remount-ro", ",commit=5", ",commit=30", ",commit=x"])
def test_an_ext4_that_commits_often_is_named_with_its_mend(own: str) -> None:
    told = advice_on(_MOUNTED.format(root="", kind="ext4", own=own), "179:3")

    assert told is not None
    assert told.startswith("/var/lib/pantau is an ext4 with commit=")
    assert told.endswith("; mount it with commit=1800")


def test_one_that_commits_seldom_and_another_file_system_need_nothing() -> None:
    mounted = _MOUNTED.format(root=",commit=1800", kind="ext4", own=",errors=panic,commit=600")

    assert advice_on(mounted, "179:2") is None
    assert advice_on(mounted, "179:3") is None
    assert advice_on(_MOUNTED.format(root="", kind="f2fs", own=""), "179:3") is None
    assert advice_on(mounted, "0:99") is None
    assert advice_on("", "179:2") is None


@pytest.mark.needs_root
def test_a_real_ext4_is_named_until_it_is_mounted_as_asked(tmp_path: Path) -> None:
    image, place = tmp_path / "card.img", tmp_path / "card"
    place.mkdir()
    sh("truncate", "-s", "8M", str(image))
    sh("mkfs.ext4", "-q", "-F", str(image))
    sh("mount", "-o", "loop", str(image), str(place))
    try:
        told = advice(place / "not" / "there" / "yet")
        assert told is not None
        assert told.startswith(f"{place} is an ext4 with commit=5:")
        sh("mount", "-o", "remount,commit=1800", str(place))
        assert advice(place) is None
    finally:
        sh("umount", str(place))
