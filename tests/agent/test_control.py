"""Settings and commands: what is done, what is refused, what is passed over."""

from __future__ import annotations

import json
import threading
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import wire
from agent.config import ConfigError, load
from agent.config.overlay import overlaid, risks
from agent.control import Args, Control, Deeds
from agent.hotspot import AccessPoints
from agent.settings import RefusedError, Result, SettingsKeeper
from tests.wait import until

SITE = "bitung-0123"
NOW = "2026-11-22T06:50:00.000Z"
NOW_S = wire.epoch(NOW)
FILE = (
    f'site = "{SITE}"\n[mqtt]\nurl = "mqtt://broker.example"\n'
    '[targets]\ndomestic = ["192.0.2.1"]\nworld = ["198.51.100.1"]\n'
)
LATER = "2026-11-22T06:51:00.000Z"
EARLIER = "2026-11-22T06:49:59.000Z"


class Rig:
    """A control that notes what it does."""

    def __init__(self, path: Path, *, sure: bool = True) -> None:
        self.done: list[tuple[str, Args]] = []
        self.answers: list[wire.Reply] = []
        (path / "agent.toml").write_text(FILE)
        self.config = load(path / "agent.toml")
        self.keeper = SettingsKeeper(SITE, path / "settings.json", self._risks, trial_s=600)
        self.long_may_end = threading.Event()
        self.control = Control(
            SITE,
            self.keeper,
            Deeds(
                reading=self._deed("reading"),
                probe=self._deed("probe"),
                resend=self._refusing,
                throughput=self._long,
                trace=self._refusing,
                restart=lambda: self._restart(),
            ),
            clock_is_sure=lambda: sure,
            answer=self.answers.append,
        )

    def _deed(self, name: str) -> Callable[[Args], Result]:
        def deed(args: Args) -> Result:
            self.done.append((name, args))
            return {"did": name}

        return deed

    def _risks(self, standing: wire.Settings | None, new: wire.Settings) -> frozenset[str]:
        try:
            return risks(overlaid(self.config, standing), overlaid(self.config, new))
        except ConfigError as err:
            raise RefusedError(str(err)) from None

    def _long(self, args: Args) -> Result:
        assert self.long_may_end.wait(30)
        return self._deed("throughput")(args)

    def _refusing(self, _args: Args) -> Result:
        raise RefusedError("args.from and args.to must be seqs")

    def _restart(self) -> None:
        self.done.append(("restart", {"answered": len(self.answers)}))

    def command(
        self, verb: str, *, retained: bool = False, now_s: float = NOW_S, **changed: Any
    ) -> wire.Reply | None:
        message = {"v": 1, "site": SITE, "id": str(uuid.uuid4()), "do": verb, "expires_at": LATER}
        payload = json.dumps(message | changed).encode()
        return self.control.handle("commands", payload, retained, now_s)

    def settings(self, revision: object, **more: Any) -> wire.Reply | None:
        payload = json.dumps({"v": 1, "site": SITE, "revision": revision} | more).encode()
        return self.control.handle("settings", payload, True, NOW_S)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def error_of(reply: wire.Reply | None) -> str:
    assert reply is not None
    assert reply.ok is False
    assert isinstance(reply.result, dict)
    return str(reply.result["error"])


def test_a_command_is_done_and_answered_with_its_id(rig: Rig) -> None:
    command_id = str(uuid.uuid4())

    reply = rig.command("probe", id=command_id, args={"name": "dns"})

    assert reply == wire.Reply(v=1, site=SITE, id=command_id, ok=True, result={"did": "probe"})
    assert rig.done == [("probe", {"name": "dns"})]


def test_a_command_seen_before_is_passed_over_in_silence(rig: Rig) -> None:
    command_id = str(uuid.uuid4())

    first, second = (rig.command("reading", id=command_id) for _ in range(2))

    assert first is not None
    assert second is None
    assert len(rig.done) == 1


def test_an_expired_command_is_refused(rig: Rig) -> None:
    told = f"expired at {EARLIER}; our clock says {NOW}"
    assert error_of(rig.command("reading", expires_at=EARLIER)) == told
    assert rig.done == []


def test_a_clock_that_is_not_synchronised_refuses_it_too_and_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path, sure=False)

    told = f"expired at {EARLIER}; our clock says {NOW}, and is not synchronised"
    assert error_of(rig.command("reading", expires_at=EARLIER)) == told
    assert rig.done == []


def test_a_clock_that_was_never_set_expires_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, sure=False)

    reply = rig.command("reading", expires_at="1970-01-01T00:00:00.000Z", now_s=5.0)

    assert reply is not None
    assert reply.ok is True


def test_an_echo_that_is_waited_for_is_taken_by_a_clock_that_runs_ahead(rig: Rig) -> None:
    echo_id = str(uuid.uuid4())

    def answered() -> None:
        assert rig.command("echo", id=echo_id, expires_at=EARLIER) is None

    assert rig.control.await_echo(echo_id, answered, within_s=0.0)
    assert error_of(rig.command("echo", expires_at=EARLIER)).startswith("expired at ")


def test_a_command_to_another_site_is_refused_and_not_done(rig: Rig) -> None:
    reply = rig.command("reading", site="bitung-0124")

    assert error_of(reply) == "speaks for 'bitung-0124' on the topic of 'bitung-0123'"
    assert reply is not None
    assert reply.site == SITE
    assert rig.done == []


def test_settings_of_another_site_are_refused_and_not_followed(rig: Rig) -> None:
    reply = rig.settings(7, site="bitung-0124", window_s=30)

    assert "speaks for 'bitung-0124'" in error_of(reply)
    assert reply is not None
    assert (reply.site, reply.id) == (SITE, "settings-7")
    assert rig.keeper.current is None


_MEGABYTE = "x" * 1_000_000


@pytest.mark.parametrize("pack", [bytes, zlib.compress])
def test_a_command_of_a_megabyte_is_refused_by_its_id_and_not_queued(
    rig: Rig, pack: Callable[[bytes], bytes]
) -> None:
    command_id = str(uuid.uuid4())
    message = {"do": "reading", "args": {"x": _MEGABYTE}, "id": command_id, "site": SITE}
    payload = pack(json.dumps(message).encode())

    if pack is bytes:
        rig.control.take("commands", payload, False)
        (reply,) = rig.answers
    else:
        (reply,) = [rig.control.handle("commands", payload, False, NOW_S)]

    assert "more than 262144" in error_of(reply)
    assert reply is not None
    assert reply.id == command_id


def test_settings_of_a_megabyte_are_refused_under_their_revision(rig: Rig) -> None:
    message = {"v": 1, "site": SITE, "revision": 7, "x": _MEGABYTE}
    reply = rig.control.handle("settings", json.dumps(message).encode(), True, NOW_S)

    assert "more than 262144" in error_of(reply)
    assert reply is not None
    assert reply.id == "settings-7"
    assert rig.keeper.current is None


def test_what_is_larger_than_can_be_read_for_its_id_is_passed_over(rig: Rig) -> None:
    bomb = zlib.compress(b'{"id":"a","x":"' + b"x" * 5_000_000 + b'"}')

    assert rig.control.handle("commands", bomb, False, NOW_S) is None
    large = b'{"revision":7,"x":"' + b"x" * 5_000_000 + b'"}'
    assert rig.control.handle("settings", large, True, NOW_S) is None


def test_a_refusal_says_no_more_than_can_be_read(rig: Rig) -> None:
    assert len(error_of(rig.command("x" * 4000))) == 500


def test_a_retained_command_is_passed_over_in_silence(rig: Rig) -> None:
    assert rig.command("restart", retained=True) is None


def test_a_command_that_takes_long_holds_up_no_other_and_answers_by_itself(rig: Rig) -> None:
    command_id = str(uuid.uuid4())

    assert rig.command("throughput", id=command_id) is None
    assert "under way already" in error_of(rig.command("throughput"))
    assert rig.command("reading") is not None
    rig.long_may_end.set()
    until(lambda: rig.answers, 10, "the answer")

    (answer,) = rig.answers
    assert (answer.id, answer.result) == (command_id, {"did": "throughput"})
    assert rig.command("throughput") is None, "it may begin again"


def test_a_refusal_of_a_command_that_takes_long_is_its_answer(rig: Rig) -> None:
    assert rig.command("trace") is None
    until(lambda: rig.answers, 10, "the answer")

    assert error_of(rig.answers[0]) == "args.from and args.to must be seqs"


def test_an_unknown_command_is_refused_with_those_that_are_known(rig: Rig) -> None:
    assert error_of(rig.command("dance")) == (
        "unknown command 'dance';"
        " known are reading, probe, resend, restart, trace, throughput, echo"
    )


def test_a_refusal_of_the_deed_is_the_answer(rig: Rig) -> None:
    assert error_of(rig.command("resend")) == "args.from and args.to must be seqs"


def test_a_fault_in_the_deed_is_answered_and_survived(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_args: Args) -> Result:
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(rig.control._verbs, "probe", broken)

    assert error_of(rig.command("probe")) == "a fault of ours: ZeroDivisionError: by zero"


@pytest.mark.parametrize(
    "broken",
    [{"expires_at": "soon"}, {"do": 7}, {"args": []}, {"v": 2}, {"id": "not-a-uuid"}, {"site": 7}],
)
def test_a_malformed_command_with_an_id_is_refused(rig: Rig, broken: dict[str, Any]) -> None:
    assert error_of(rig.command("reading", **broken))
    assert rig.done == []


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{", b"[]", b"\xff", b'{"id":7}', b"[" * 50_000, b'{"id":""}'),
        *(b'{"id":"\\ud800"}', b'{"id":"' + b"x" * 65 + b'"}', b"x\x9c", b'{"id":1e400}'),
    ],
)
def test_a_malformed_command_without_an_id_is_passed_over(rig: Rig, payload: bytes) -> None:
    assert rig.control.handle("commands", payload, False, NOW_S) is None


def test_a_restart_is_answered_before_it_happens(rig: Rig) -> None:
    rig.control.start()
    message = {"v": 1, "site": SITE, "id": str(uuid.uuid4()), "do": "restart"}
    rig.control.take(
        "commands", json.dumps(message | {"expires_at": "2126-01-01T00:00:00Z"}).encode(), False
    )

    until(lambda: rig.done, 10, "the restart")

    assert rig.done == [("restart", {"answered": 1})]


def test_an_echo_is_heard_by_who_waits_for_it_and_not_answered(rig: Rig) -> None:
    echo_id = str(uuid.uuid4())
    replies: list[wire.Reply | None] = []

    def send() -> None:
        threading.Thread(target=lambda: replies.append(rig.command("echo", id=echo_id))).start()

    assert rig.control.await_echo(echo_id, send, 10)
    assert replies == [None]
    assert not rig.control.await_echo(str(uuid.uuid4()), lambda: None, 0)


def test_settings_are_taken_confirmed_and_kept_over_restarts(rig: Rig, tmp_path: Path) -> None:
    reply = rig.settings(7, window_s=30)

    assert reply == wire.Reply(v=1, site=SITE, id="settings-7", ok=True, result={"revision": 7})
    kept = Rig(tmp_path).keeper.current
    assert kept is not None
    assert (kept.revision, kept.window_s) == (7, 30)


def test_the_same_settings_again_are_confirmed_again(rig: Rig) -> None:
    assert rig.settings(7, window_s=30) == rig.settings(7, window_s=30)


def test_the_same_revision_with_other_content_is_refused(rig: Rig) -> None:
    rig.settings(7, window_s=30)

    assert "differs" in error_of(rig.settings(7, window_s=31))
    assert rig.keeper.current is not None
    assert rig.keeper.current.window_s == 30


def test_an_older_revision_is_refused_and_changes_nothing(rig: Rig) -> None:
    rig.settings(7, window_s=30)

    assert error_of(rig.settings(6, window_s=10)) == "older than revision 7, which stands"
    assert rig.keeper.current is not None
    assert rig.keeper.current.revision == 7


def test_a_newer_revision_that_does_not_name_a_key_gives_it_back_to_the_file(rig: Rig) -> None:
    rig.settings(7, window_s=30)
    rig.settings(8)

    assert rig.keeper.current == wire.Settings(v=1, site=SITE, revision=8)


@pytest.mark.parametrize("window_s", [0, 0.5, 3601, "60", None])
def test_settings_that_cannot_be_are_refused_under_their_revision(
    rig: Rig, window_s: object
) -> None:
    reply = rig.settings(8, window_s=window_s)

    assert "window_s" in error_of(reply)
    assert reply is not None
    assert reply.id == "settings-8"
    assert rig.keeper.current is None


@pytest.mark.parametrize("payload", [b"", b"{", b'{"revision":"x"}', b'{"revision":-1}', b"\xff"])
def test_malformed_settings_without_a_revision_are_passed_over(rig: Rig, payload: bytes) -> None:
    assert rig.control.handle("settings", payload, True, NOW_S) is None


@pytest.mark.parametrize(
    "stored",
    [b"", b"{", b'{"standing":{"v":1,"site":"bitung-0124","revision":7}}', b'{"standing":7}'],
)
def test_broken_stored_settings_are_as_none(tmp_path: Path, stored: bytes) -> None:
    (tmp_path / "settings.json").write_bytes(stored)

    assert Rig(tmp_path).keeper.current is None


POINTS = {"addresses": {"ap-1": "192.168.1.2"}, "by": "arp"}


def test_settings_name_the_access_points_that_the_file_does_not(rig: Rig) -> None:
    assert rig.settings(1, access_points=POINTS) is not None
    found = overlaid(rig.config, rig.keeper.current).access_points
    assert found == AccessPoints({"ap-1": "192.168.1.2"}, "arp")
    assert rig.keeper.on_trial is None, "an access point that is silent cuts nobody off"


def test_settings_change_how_access_points_of_the_file_are_asked_or_ask_none(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(FILE + '[access_points]\naddresses = { ap-9 = "192.168.1.9" }\n')

    def followed(**points: object) -> AccessPoints | None:
        text = json.dumps({"v": 1, "site": SITE, "revision": 1, "access_points": points})
        return overlaid(load(file), wire.decode(wire.Settings, text.encode())).access_points

    assert followed(by="arp") == AccessPoints({"ap-9": "192.168.1.9"}, "arp")
    assert followed(addresses={"a": "192.168.1.1"}) == AccessPoints({"a": "192.168.1.1"}, "icmp")
    assert followed(addresses={}) is None


@pytest.mark.parametrize(
    ("points", "error"),
    [
        ({"by": "arp"}, "settings: access_points.addresses: missing"),
        ({"addresses": {"ap": "ap.lan"}}, "settings: access_points.addresses: 'ap.lan' is no IPv4"),
        (
            {"addresses": {"a b": "192.0.2.1"}},
            "settings: access_points.addresses: 'a b' is no name",
        ),
        ({"addresses": {"a": "192.0.2.1"}, "by": "snmp"}, "settings: access_points.by: 'snmp'"),
    ],
)
def test_settings_with_impossible_access_points_are_refused(
    rig: Rig, points: dict[str, object], error: str
) -> None:
    assert error_of(rig.settings(1, access_points=points)).startswith(error)
    assert rig.keeper.current is None
