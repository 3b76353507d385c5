"""A modelled line: what it does to echoes, and to the bytes of a connection, by a stepped clock."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.fleet.link import RTO_MAX_S, Link, sent_again_s
from server.fleet.tube import Tube, tube_time


def fair() -> random.Random:
    """The same chance in each run."""
    return random.Random(1)  # noqa: S311  # repeatable, no secret


class Stepping(selectors.DefaultSelector):
    """Waits by moving its own clock."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing will ever happen"
        self.now_s += timeout
        return super().select(0)


class Stepped(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only by waiting, at once."""

    def __init__(self) -> None:
        self._steps = Stepping()
        super().__init__(self._steps)

    def time(self) -> float:
        return self._steps.now_s


class End:
    """One end of a connection: notes what reaches it, and when."""

    def __init__(self) -> None:
        self.got: list[tuple[float, bytes]] = []
        self.ended_s: float | None = None

    def write(self, data: bytes) -> None:
        self.got.append((round(tube_time() - 1000, 3), data))

    data_received = write

    def connection_lost(self, _err: object = None) -> None:
        self.ended_s = round(tube_time() - 1000, 3)

    close = abort = connection_lost

    def is_closing(self) -> bool:
        return self.ended_s is not None


class Line:
    """A tube between two ends, and its line."""

    def __init__(self) -> None:
        self.link = Link("x")
        self.broker, self.site = End(), End()
        self.forgotten_s: float | None = None
        self.tube = Tube(self.link, fair(), self._forget)
        self.tube.join(self.broker, self.site)
        # The tube has put its own in place of these.
        self.hear, self.lost = self.site.data_received, self.site.connection_lost

    def _forget(self, _: Tube) -> None:
        """As a site does: it mends the tubes that it knows."""
        self.forgotten_s = round(tube_time() - 1000, 3)

    def at(self, at_s: float, deed: Callable[..., Any], *args: Any) -> None:
        asyncio.get_running_loop().call_at(1000 + at_s, deed, *args)

    def cut(self, from_s: float, to_s: float) -> None:
        self.at(from_s, self.link.begin, "e", "cut", 1000 + from_s)
        self.at(to_s, self.mend, 1000 + to_s)

    def mend(self, now_s: float) -> None:
        self.link.end("e", now_s)
        if self.forgotten_s is None:
            self.tube.mended(now_s)

    def say(self, at_s: float, data: bytes) -> None:
        """The site sends."""
        self.at(at_s, self.tube.write, data)


@pytest.fixture
def loop() -> Iterator[Stepped]:
    one = Stepped()
    yield one
    one.close()


def play(loop: Stepped, story: Callable[[Line], None], until_s: float = 300.0) -> Line:
    """What came of it."""

    async def whole() -> Line:
        line = Line()
        story(line)
        await asyncio.sleep(until_s)
        return line

    return loop.run_until_complete(whole())


def test_a_line_without_trouble_passes_bytes_at_once(loop: Stepped) -> None:
    line = play(loop, lambda line: (line.say(1, b"up"), line.at(2, line.hear, b"down")))
    assert line.broker.got == [(1.0, b"up")]
    assert line.site.got == [(2.0, b"down")]


def test_what_waits_at_a_cut_passes_with_the_next_retransmission_in_order(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.cut(10, 17)
        line.say(11, b"1")
        line.say(12, b"2")

    again = sent_again_s(11.0, 17.0)
    assert again == 17.2  # tries after 0.2, 0.6, 1.4, 3, 6.2 s
    assert play(loop, story).broker.got == [(again, b"1"), (again, b"2")]


def test_what_is_said_after_the_mending_does_not_hasten_the_retransmission(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.cut(10, 18)
        line.say(11, b"1")
        line.say(19, b"2")

    again = sent_again_s(11.0, 18.0)
    assert again > 20
    assert play(loop, story).broker.got == [(again, b"1"), (again, b"2")]


def test_a_line_cut_again_before_the_retransmission_still_holds(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.cut(10, 18)
        line.say(11, b"1")
        line.cut(19, 30)

    assert play(loop, story).broker.got == [(sent_again_s(11.0, 30.0), b"1")]


def test_retransmissions_double_from_a_fifth_of_a_second_to_two_minutes() -> None:
    assert sent_again_s(0.0, 0.01) == 0.2
    assert sent_again_s(0.0, 0.21) == 0.6
    assert sent_again_s(5.0, 4.0) == 5.0
    late = sent_again_s(0.0, 10_000.0)
    assert 10_000 <= late <= 10_000 + RTO_MAX_S


def test_a_slow_line_takes_half_of_its_round_trip_each_way(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.link.begin("e", "slow", 1000.0, 400.0)
        line.say(1, b"1")

    assert play(loop, story).broker.got == [(1.2, b"1")]


def test_a_lossy_line_costs_time_and_never_bytes_nor_their_order(loop: Stepped) -> None:
    said = [bytes([n]) for n in range(100)]

    def story(line: Line) -> None:
        line.link.begin("e", "lossy", 1000.0, 0.5)
        for n, data in enumerate(said):
            line.say(n * 0.05, data)

    got = play(loop, story).broker.got
    assert [data for _, data in got] == said
    late = [at_s - n * 0.05 for n, (at_s, _) in enumerate(got)]
    assert max(late) >= 0.2


def test_a_process_that_hangs_keeps_its_connection_and_goes_on_at_once(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.at(10, line.tube.freeze, True)
        line.say(11, b"1")
        line.at(50, line.tube.freeze, False)

    line = play(loop, story)
    assert line.broker.got == [(50.0, b"1")]
    assert line.broker.ended_s is None


def test_a_killed_process_hangs_up_at_once(loop: Stepped) -> None:
    line = play(loop, lambda line: line.at(10, line.tube.abort))
    assert line.broker.ended_s == 10.0


def test_the_broker_hears_of_a_process_killed_behind_a_cut_only_after_the_mending(
    loop: Stepped,
) -> None:
    def story(line: Line) -> None:
        line.cut(10, 20)
        line.at(11, line.tube.abort)
        line.say(12, b"never")

    line = play(loop, story)
    assert (line.broker.ended_s, line.broker.got) == (20.0, [])
    assert line.site.ended_s == 11.0


def test_a_device_without_power_tells_nobody_also_when_its_line_is_mended(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.cut(10, 20)
        line.say(11, b"never")
        line.at(12, line.tube.vanish)
        line.at(13, line.tube.abort)
        line.at(14, line.tube.freeze, False)

    line = play(loop, story)
    assert (line.broker.ended_s, line.broker.got) == (None, [])


def test_a_connection_that_the_broker_gave_up_is_missed_after_the_mending(loop: Stepped) -> None:
    def story(line: Line) -> None:
        line.cut(10, 50)
        line.at(30, line.lost, None)

    ended = play(loop, story).site.ended_s
    assert ended == 50.0


def test_an_echo_passes_a_sound_line_and_none_passes_a_cut_beyond_the_gateway() -> None:
    link, chance = Link("x"), fair()
    assert all(link.rtt_ms(rung, 5.0, chance) for rung in ("gateway", "isp", "domestic", "world"))
    link.begin("e", "cut", 10.0)
    assert link.rtt_ms("gateway", 11.0, chance) is not None
    assert [link.rtt_ms(rung, 11.0, chance) for rung in ("isp", "domestic", "world")] == [None] * 3
    assert link.rtt_ms("isp", 9.9, chance) is not None
    link.end("e", 20.0)
    assert link.rtt_ms("world", 20.0, chance) is not None
    assert link.rtt_ms("world", 19.0, chance) is None  # asked afterwards, it is still true


def test_two_cuts_hold_until_the_last_of_them_is_over_and_are_then_forgotten() -> None:
    link = Link("x")
    link.begin("cable", "cut", 10.0)
    link.begin("isp", "cut", 15.0)
    link.end("cable", 20.0)
    assert link.is_cut(20.0)
    link.end("isp", 30.0)
    assert not link.is_cut(30.0)
    link.forget(25.0)
    assert [one.event for one in link.spells] == ["isp"]
    link.forget(30.0)
    assert link.spells == []


def test_loss_and_delay_lie_beyond_the_isp_in_the_measure_that_was_asked_for() -> None:
    link, chance = Link("x"), fair()
    sound = max(link.rtt_ms("world", 1.0, chance) or 0 for _ in range(200))
    link.begin("loss", "lossy", 10.0, 0.3)
    link.begin("slow", "slow", 10.0, 400.0)
    far = [link.rtt_ms("world", 11.0, chance) for _ in range(4000)]
    assert 0.25 < far.count(None) / 4000 < 0.35
    assert min(one for one in far if one is not None) > 400
    near = [link.rtt_ms("isp", 11.0, chance) for _ in range(400)]
    assert None not in near
    assert max(one for one in near if one is not None) < sound
