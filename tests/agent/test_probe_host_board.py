"""The board's supply and the disk's health: the kernel's files in a folder, a real program."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import UNSET

from agent import wire
from agent.probes import Context, ProbeError, Runner
from agent.probes.board import Board, Supply, parse
from agent.probes.host import HostProbe
from agent.probes.storage import Storage, at_device, has_given_up, storage
from tests.lab.net import sh
from tests.wait import until

FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
FINE = Supply(False, False, False, False)


def put(root: Path, name: str, text: str) -> None:
    """A file of the kernel's."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def vcgencmd(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program of that name on PATH, which holds nothing else of that name."""
    program = folder / "bin" / "vcgencmd"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    return tmp_path / "sys"


# The supply


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("throttled=0x0\n", FINE),
        ("0\n", FINE),
        ("throttled=0x50005\n", Supply(True, True, True, True)),
        ("50000\n", Supply(False, True, False, True)),
        ("throttled=0x1\n", Supply(True, False, False, False)),
        ("throttled=0x10000", Supply(False, True, False, False)),
        ("throttled=0x2", Supply(False, False, True, False)),
        ("throttled=0x4", Supply(False, False, True, False)),
        ("throttled=0x8", Supply(False, False, True, False)),
        ("throttled=0xe0000", Supply(False, False, False, True)),
    ],
)
def test_the_firmware_tells_of_now_and_of_since_the_start_by_its_bits(
    text: str, expected: Supply
) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["", "throttled=", 'error=1 error_msg="Command not registered"', "0x5000g", "9" * 40]
)
def test_what_is_no_number_of_the_firmware_is_named(text: str) -> None:
    with pytest.raises(ProbeError, match="get_throttled is no number"):
        parse(text)


@pytest.mark.parametrize(("alarm", "expected"), [("0", False), ("1", True)])
def test_the_kernels_alarm_tells_of_the_supply_alone(
    sysfs: Path, alarm: str, expected: bool
) -> None:
    put(sysfs, "class/hwmon/hwmon0/name", "cpu_thermal\n")
    put(sysfs, "class/hwmon/hwmon1/name", "rpi_volt\n")
    put(sysfs, "class/hwmon/hwmon1/in0_lcrit_alarm", f"{alarm}\n")

    assert Board(sysfs).look(0, 1) == (Supply(expected, expected), None)


def test_the_kernels_file_is_asked_before_any_program(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcgencmd(tmp_path, monkeypatch, f"touch {tmp_path}/asked; echo throttled=0x50005")
    put(sysfs, FIRMWARE, "0\n")

    assert Board(sysfs).look(0, 5) == (FINE, None)
    assert not (tmp_path / "asked").exists()


def test_what_was_seen_once_stays_seen_though_the_kernel_forgets_it(sysfs: Path) -> None:
    board = Board(sysfs)
    put(sysfs, FIRMWARE, "5\n")
    board.look(0, 1)
    put(sysfs, FIRMWARE, "0\n")

    assert board.look(60, 1) == (Supply(False, True, False, True), None)
    assert Board(sysfs).look(60, 1) == (FINE, None), "and not by another"


def test_an_alarm_of_the_last_seconds_counts_beside_the_firmwares_moment(sysfs: Path) -> None:
    put(sysfs, FIRMWARE, "0\n")
    put(sysfs, "class/hwmon/hwmon0/name", "rpi_volt\n")
    put(sysfs, "class/hwmon/hwmon0/in0_lcrit_alarm", "1\n")

    assert Board(sysfs).look(0, 1) == (Supply(True, True, False, False), None)


@pytest.mark.parametrize("name", ["class/hwmon/hwmon0/name", "class/net/eth0/mtu"])
def test_another_board_is_not_measured(sysfs: Path, name: str) -> None:
    put(sysfs, name, "coretemp\n")

    assert Board(sysfs).look(0, 1) == (Supply(), None)


def test_a_kernel_without_the_alarm_does_not_measure_it(sysfs: Path) -> None:
    put(sysfs, "class/hwmon/hwmon0/name", "rpi_volt\n")

    assert Board(sysfs).look(0, 1) == (Supply(), None)


def test_vcgencmd_is_asked_where_the_kernel_has_no_file(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcgencmd(tmp_path, monkeypatch, '[ "$*" = get_throttled ] && echo throttled=0x50000')

    assert Board(sysfs).look(0, 5) == (Supply(False, True, False, True), None)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (
            "echo Can\\'t open device file: /dev/vcio >&2; exit 255",
            "vcgencmd ended with 255: Can't open device file: /dev/vcio",
        ),
        ("exit 1", "vcgencmd ended with 1: no word"),
        ("echo garbage", "the board's get_throttled is no number: 'garbage'"),
        ("head -c 100 /dev/urandom", "the board's get_throttled is no number: "),
        ("exit 0", "the board's get_throttled is no number: ''"),
        ("kill -STOP $$", "vcgencmd hung and was killed after 0.5 s"),
    ],
)
def test_a_program_that_fails_is_told_and_left_alone_for_a_while(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch, script: str, problem: str
) -> None:
    vcgencmd(tmp_path, monkeypatch, script)
    board = Board(sysfs)

    supply, told = board.look(0, 0.5)
    assert supply == Supply()
    assert told is not None
    assert told.startswith(problem)

    vcgencmd(tmp_path, monkeypatch, "echo throttled=0x1")
    assert board.look(599, 5) == (Supply(), None)
    assert board.look(600, 5) == (Supply(True, True, False, False), None)


def test_a_program_that_hangs_is_killed_with_all_that_it_started(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcgencmd(tmp_path, monkeypatch, f"sleep 1000 & echo $! > {tmp_path}/child; wait")

    assert Board(sysfs).look(0, 1)[1] == "vcgencmd hung and was killed after 1.0 s"
    child = int((tmp_path / "child").read_text())
    until(lambda: _is_gone(child), 10, "the child to end")


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_program_that_may_not_be_run_is_named(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcgencmd(tmp_path, monkeypatch, "exit 0")
    (tmp_path / "bin" / "vcgencmd").chmod(0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    assert Board(sysfs).look(0, 1)[1] == "vcgencmd: Permission denied"


def test_a_board_that_does_not_answer_costs_nothing_of_the_rest(
    tmp_path: Path, sysfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vcgencmd(tmp_path, monkeypatch, "kill -STOP $$")
    outcome = Runner({"host": HostProbe(sysfs)}).run("host", Context(), 2.0)

    assert outcome.error == "vcgencmd hung and was killed after 1.0 s"
    assert isinstance(outcome.value, wire.Host)
    assert outcome.value.undervoltage is UNSET
    assert outcome.value.memory_ratio is not UNSET


# The disk


def card(sysfs: Path, name: str, number: str) -> Path:
    """The second part of a disk, as the kernel shows it."""
    part = sysfs / "devices/mmc0" / name / "block/mmcblk0/mmcblk0p2"
    put(part, "partition", "2\n")
    (sysfs / "dev/block").mkdir(parents=True)
    (sysfs / "dev/block" / number).symlink_to(part)
    (part.parent / "device").symlink_to(sysfs / "devices/mmc0" / name)
    return part


def test_an_emmc_tells_its_wear_and_ext4_its_errors(sysfs: Path) -> None:
    card(sysfs, "mmc0:0001", "179:2")
    put(sysfs, "fs/ext4/mmcblk0p2/errors_count", "3\n")
    put(sysfs, "devices/mmc0/mmc0:0001/life_time", "0x02 0x01\n")
    put(sysfs, "devices/mmc0/mmc0:0001/pre_eol_info", "0x02\n")

    assert at_device("179:2", False, sysfs) == Storage(3, False, 0.2, "warning")


@pytest.mark.parametrize(
    ("life", "spare", "expected"),
    [
        ("0x0b 0x0b", "0x03", (1.0, "urgent")),
        ("0x0a 0x01", "0x01", (1.0, "normal")),
        ("0x00 0x00", "0x00", (UNSET, UNSET)),
        ("0xff 0x01", "0xff", (UNSET, UNSET)),
        ("garbage", "", (UNSET, UNSET)),
        ("", "-1", (UNSET, UNSET)),
    ],
)
def test_wear_that_is_not_defined_or_makes_no_sense_is_absent(
    sysfs: Path, life: str, spare: str, expected: tuple[object, object]
) -> None:
    card(sysfs, "mmc0:0001", "179:2")
    put(sysfs, "devices/mmc0/mmc0:0001/life_time", life)
    put(sysfs, "devices/mmc0/mmc0:0001/pre_eol_info", spare)

    assert at_device("179:2", True, sysfs) == Storage(UNSET, True, *expected)


@pytest.mark.parametrize("count", ["garbage", "-1", ""])
def test_a_count_of_errors_that_makes_no_sense_is_absent(sysfs: Path, count: str) -> None:
    card(sysfs, "mmc0:0001", "179:2")
    put(sysfs, "fs/ext4/mmcblk0p2/errors_count", count)

    assert at_device("179:2", False, sysfs) == Storage(UNSET, False, UNSET, UNSET)


def test_an_sd_card_and_a_folder_in_memory_tell_neither(sysfs: Path) -> None:
    card(sysfs, "mmc0:0001", "179:2")

    assert at_device("179:2", False, sysfs) == Storage(UNSET, False, UNSET, UNSET)
    assert at_device("0:31", False, sysfs) == Storage(UNSET, False, UNSET, UNSET)


@pytest.mark.needs_root
def test_a_real_ext4_counts_its_errors_and_turns_read_only(tmp_path: Path) -> None:
    image, place = tmp_path / "card.img", tmp_path / "card"
    place.mkdir()
    sh("truncate", "-s", "8M", str(image))
    sh("mkfs.ext4", "-q", "-F", str(image))
    loop = sh("losetup", "--find", "--show", str(image)).strip()
    try:
        sh("mount", "-o", "errors=remount-ro", loop, str(place))
        try:
            assert storage(str(place)) == Storage(0, False)
            # the kernel's own way to try what an error does
            Path(f"/sys/fs/ext4/{Path(loop).name}/trigger_fs_error").write_text("a test")
            assert storage(str(place)) == Storage(1, True)
        finally:
            sh("umount", str(place))
    finally:
        sh("losetup", "--detach", loop)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("rw,errors=remount-ro", False),
        ("rw,errors=remount-ro,emergency_ro", True),
        ("ro,errors=remount-ro", True),
    ],
)
def test_the_options_of_the_file_system_tell_that_it_gave_up(options: str, expected: bool) -> None:
    mounted = (
        "27 1 179:2 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
        f"81 27 179:3 /spool /var/lib/pantau rw,noatime - ext4 /dev/mmcblk0p3 {options}\n"
    )

    assert has_given_up(mounted, "179:3") is expected
    assert not has_given_up(mounted, "179:2")
    assert not has_given_up("half a li", "179:2")


def test_a_path_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        storage("/nowhere")
