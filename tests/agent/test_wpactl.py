"""The control socket of hostapd and wpa_supplicant, against a daemon made of a real socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.probes import ProbeError, clients_hostapd
from agent.wpactl import ControlSocket

STATION = "02:00:00:00:01:{:02x}\nflags=[AUTH]\ntx_packets=4\ninactive_msec=20\nsignal=-{}\n"


@contextmanager
def daemon(path: Path, answers: dict[str, list[str]]) -> Iterator[None]:
    """Answers each command with its texts, one datagram each; silent to what it does not know."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))

        def serve() -> None:
            while True:
                asked, source = sock.recvfrom(1024)
                if asked == b"end":
                    return
                for text in answers.get(asked.decode(), []):
                    sock.sendto(text.encode(), source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            sock.sendto(b"end", str(path))
            thread.join()


def test_an_event_between_question_and_answer_is_kept_for_later(tmp_path: Path) -> None:
    with (
        daemon(tmp_path / "wlan0", {"STATUS": ["<3>CTRL-EVENT-X", "freq=2437\n"]}),
        ControlSocket(tmp_path / "wlan0") as control,
    ):
        assert control.ask("STATUS") == "freq=2437\n"
        assert control.event(0.0) == "<3>CTRL-EVENT-X"
        assert control.event(0.0) is None


def test_silence_is_a_timeout_that_names_the_command(tmp_path: Path) -> None:
    with (
        daemon(tmp_path / "wlan0", {}),
        ControlSocket(tmp_path / "wlan0", timeout_s=0.05) as control,
        pytest.raises(TimeoutError, match="no answer to STA-NEXT"),
    ):
        control.ask("STA-NEXT 02:00:00:00:01:01")


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refused:
        ControlSocket(tmp_path / "wlan9")
    assert refused.value.filename == str(tmp_path / "wlan9")


def test_all_stations_of_all_networks_are_read(tmp_path: Path) -> None:
    first, second = STATION.format(1, 40), STATION.format(2, 60)
    two = {
        "STA-FIRST": [first],
        "STA-NEXT 02:00:00:00:01:01": [second],
        "STA-NEXT 02:00:00:00:01:02": ["FAIL\n"],
        "STATUS": ["state=ENABLED\nfreq=5180\n"],
    }
    none = {"STA-FIRST": ["FAIL\n"], "STATUS": ["state=ENABLED\n"]}
    with daemon(tmp_path / "wlan0", two), daemon(tmp_path / "wlan1", none):
        found = clients_hostapd.networks(tmp_path)
    assert [s.signal_dbm for s in found["wlan0"].stations] == [-40, -60]
    assert found["wlan0"].frequency_mhz == 5180
    assert found["wlan1"] == clients_hostapd.Network([], None)


def test_a_list_that_runs_in_a_circle_ends(tmp_path: Path) -> None:
    circle = {
        "STA-FIRST": [STATION.format(1, 40)],
        "STA-NEXT 02:00:00:00:01:01": [STATION.format(1, 40)],
        "STATUS": ["freq=2437\n"],
    }
    with daemon(tmp_path / "wlan0", circle):
        assert len(clients_hostapd.networks(tmp_path)["wlan0"].stations) == 2007


def test_what_a_dead_hostapd_left_behind_and_a_missing_folder_count_for_nothing(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "wlan0"))
    (tmp_path / "a-file").write_text("")
    assert clients_hostapd.networks(tmp_path) == {}
    assert clients_hostapd.networks(tmp_path / "nowhere") == {}


def test_a_hostapd_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    with daemon(tmp_path / "wlan0", {}), pytest.raises(TimeoutError):
        clients_hostapd.networks(tmp_path)


def test_a_refusal_names_the_mend() -> None:
    assert "ctrl_interface_group" in str(clients_hostapd._not_permitted(Path("/run/hostapd")))
    assert isinstance(clients_hostapd._not_permitted(Path("/")), ProbeError)
