"""From what a window measured to its reading. Pure: times come as arguments.

The rules:

1. An echo belongs to the window it was sent in. Loss is over all echoes to all targets of
   a rung (RFC 7680), round-trip times over all that came back (RFC 2681).
2. A percentile is the smallest sample that at least that share of the samples does not
   exceed (RFC 2330 section 11.3, "nearest rank"); never an interpolated value.
3. PDV is RTT minus the window's minimum (RFC 5481); its p95 is that of RTT minus the minimum.
4. An echo rung is ``ok`` when one echo of the window came back from any of its targets,
   over IPv4 or IPv6, ``fail`` when none did, absent when none was sent. ``dns`` and ``web``
   fail when their probe failed or says so, and are absent when it had nothing to measure.
5. ``first_failure`` is the lowest failing rung of `wire.RUNGS`.
6. A rung is silent while none of its targets answers and each of those asked has missed
   three echoes in a row. Silence begins with the sending of the first echo lost after the
   last answered one, and ends with the receipt of the first answer.
7. A silence stands in every window whose echoes it touches, always with the same beginning;
   only a wall clock that stepped by more than `CLOCK_STEP_S` moves it. Echoes lost at a
   window's end that become a silence in the next window are reported from there on.
8. An access point that is this machine has the users of this machine's radios. No other one's
   users are known: a device of its own tells nobody but its maker's controller.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from msgspec import UNSET, UnsetType, structs

from agent import wire
from agent.measured import AccessPoints, Family, Links, Outcome, Sample, Section

SILENT_AFTER = 3
"""So many echoes in a row, unanswered by each target, make a silence."""
CLOCK_STEP_S = 1.0
_NOTHING = wire.Ping()

S = TypeVar("S", bound=Section)


def percentile(ordered: Sequence[float], ratio: float) -> float:
    """The smallest of the `ordered` samples that `ratio` of them do not exceed.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5), percentile([1.0, 2.0, 3.0, 4.0], 0.95)
    (2.0, 4.0)
    """
    return ordered[max(0, math.ceil(ratio * len(ordered) - 1e-9) - 1)]


def echoes(samples: Iterable[Sample]) -> wire.Echoes | UnsetType:
    """The statistics of one rung's echoes; absent when none was sent (rules 1 to 3)."""
    all_rtt_ms = [sample.rtt_ms for sample in samples]
    rtt_ms = sorted(rtt for rtt in all_rtt_ms if rtt is not None)
    sent, received = len(all_rtt_ms), len(rtt_ms)
    if not sent:
        return UNSET
    counts = wire.Echoes(
        sent=sent, received=received, loss_ratio=round((sent - received) / sent, 6)
    )
    if not received:
        return counts
    p95_ms = percentile(rtt_ms, 0.95)
    return wire.Echoes(
        sent=counts.sent,
        received=counts.received,
        loss_ratio=counts.loss_ratio,
        rtt_min_ms=round(rtt_ms[0], 3),
        rtt_p50_ms=round(percentile(rtt_ms, 0.5), 3),
        rtt_p95_ms=round(p95_ms, 3),
        rtt_max_ms=round(rtt_ms[-1], 3),
        pdv_p95_ms=round(p95_ms - rtt_ms[0], 3),
    )


def ping(samples: Sequence[Sample], family: Family = 4) -> wire.Ping:
    """The statistics of every echo rung over IPv4, or over IPv6."""
    samples = [sample for sample in samples if sample.family == family]
    return wire.Ping(
        gateway=echoes(s for s in samples if s.rung == "gateway"),
        isp=echoes(s for s in samples if s.rung == "isp"),
        domestic=echoes(s for s in samples if s.rung == "domestic"),
        world=echoes(s for s in samples if s.rung == "world"),
    )


def ladder(
    measured: wire.Ping, outcomes: Mapping[str, Outcome], measured6: wire.Ping = _NOTHING
) -> wire.Ladder:
    """One verdict a rung, and the lowest that fails (rules 4 and 5)."""
    link = outcomes.get("link")
    links = link.value if link is not None else None
    verdicts: dict[wire.Rung, wire.Verdict | UnsetType] = {
        "carrier": (links.carrier or UNSET) if isinstance(links, Links) else UNSET,
        "gateway": _echo_verdict(measured.gateway, measured6.gateway),
        "isp": _echo_verdict(measured.isp, measured6.isp),
        "domestic": _echo_verdict(measured.domestic, measured6.domestic),
        "world": _echo_verdict(measured.world, measured6.world),
        "dns": _probe_verdict(outcomes.get("dns")),
        "web": _probe_verdict(outcomes.get("web")),
    }
    failing = (rung for rung in wire.RUNGS if verdicts[rung] == "fail")
    return wire.Ladder(**verdicts, first_failure=next(failing, UNSET))


def _echo_verdict(*families: wire.Echoes | UnsetType) -> wire.Verdict | UnsetType:
    measured = [rung for rung in families if not isinstance(rung, UnsetType)]
    if not measured:
        return UNSET
    return "ok" if any(rung.received for rung in measured) else "fail"


def _probe_verdict(outcome: Outcome | None) -> wire.Verdict | UnsetType:
    if outcome is None or (outcome.value is None and outcome.error is None):
        return UNSET
    fine = isinstance(outcome.value, wire.Dns | wire.Web) and outcome.value.ok
    return "ok" if fine and outcome.error is None else "fail"


@dataclass(frozen=True, slots=True)
class Lost:
    """Echoes lost in a row on one rung, carried from window to window.

    ``start_s`` is the sending of the first (CLOCK_MONOTONIC); ``offset_s`` makes it wall time.
    """

    start_s: float
    offset_s: float
    by_target: Mapping[tuple[str, Family], int] = field(default_factory=dict)

    @property
    def silent(self) -> bool:
        """Whether each target that was asked has missed enough of them (rule 6)."""
        return min(self.by_target.values()) >= SILENT_AFTER

    def also(self, target: tuple[str, Family]) -> Lost:
        """With one more echo lost."""
        missed = {**self.by_target, target: self.by_target.get(target, 0) + 1}
        return replace(self, by_target=missed)

    def edge(self, rung: wire.EchoRung, end_s: float | None) -> wire.Dead:
        """As it stands in a reading."""
        end = None if end_s is None else wire.iso(end_s + self.offset_s)
        return wire.Dead(rung=rung, start=wire.iso(self.start_s + self.offset_s), end=end)


Silences = Mapping[wire.EchoRung, Lost]
"""The rungs whose latest echoes are lost; the state that is carried between windows."""


def silences(
    before: Silences, samples: Sequence[Sample], offset_s: float
) -> tuple[Silences, list[wire.Dead]]:
    """The state after a window, and the silences that touch it (rules 6 and 7).

    Args:
        before: what the last window left; empty at first.
        samples: of this window, every rung, any order.
        offset_s: wall clock minus the samples' clock.
    """
    after = dict(before)
    dead: list[wire.Dead] = []
    for rung in wire.ECHO_RUNGS:
        sent = sorted((s for s in samples if s.rung == rung), key=lambda s: s.sent_s)
        if not sent:
            continue
        lost, edges = _follow(_on_clock(before.get(rung), offset_s), sent, offset_s)
        dead += edges
        after.pop(rung, None)
        if lost is not None:
            after[rung] = lost
    return after, dead


def _on_clock(lost: Lost | None, offset_s: float) -> Lost | None:
    """`lost` in today's wall time where that has stepped, unchanged where it only drifts."""
    if lost is None or abs(lost.offset_s - offset_s) <= CLOCK_STEP_S:
        return lost
    return replace(lost, offset_s=offset_s)


def _follow(
    lost: Lost | None, sent: Sequence[Sample], offset_s: float
) -> tuple[Lost | None, list[wire.Dead]]:
    edges: list[wire.Dead] = []
    rung = sent[0].rung
    for sample in sent:
        if sample.rtt_ms is None:
            lost = (lost or Lost(sample.sent_s, offset_s)).also((sample.target, sample.family))
        elif lost is not None:
            if lost.silent:
                edges.append(lost.edge(rung, sample.sent_s + sample.rtt_ms / 1000))
            lost = None
    if lost is not None and lost.silent:
        edges.append(lost.edge(rung, None))
    return lost, edges


def build(
    *,
    seq: int,
    boot: str,
    agent: str,
    taken_at: float,
    uptime_s: float,
    clock: wire.Clock,
    window_s: float,
    samples: Sequence[Sample],
    outcomes: Iterable[Outcome],
    dead: Sequence[wire.Dead],
    settings_revision: int | None = None,
    errors: Mapping[str, str] | None = None,
) -> wire.Reading:
    """The reading of one window.

    Args:
        taken_at: the window's end, seconds since 1970.
        uptime_s: of the machine, at the window's end.
        samples: the echoes sent in the window.
        outcomes: of the probes that ran for it.
        dead: from `silences`.
        errors: further ones beside the probes' own, such as `Prober.errors`.
    """
    by_name = {outcome.name: outcome for outcome in outcomes}
    failures = dict(errors or {})
    failures.update((o.name, o.error) for o in by_name.values() if o.error is not None)
    measured, measured6 = ping(samples), ping(samples, 6)
    links = _section(Links, by_name.get("link"))
    points = _section(AccessPoints, by_name.get("access_points"))
    clients = _section(wire.Clients, by_name.get("clients"))
    return wire.Reading(
        seq=seq,
        boot=boot,
        taken_at=wire.iso(taken_at),
        uptime_s=round(uptime_s, 3),
        clock=clock,
        window_s=window_s,
        agent=agent,
        ladder=ladder(measured, by_name, measured6),
        settings_revision=UNSET if settings_revision is None else settings_revision,
        ping=measured if measured != _NOTHING else UNSET,
        ping6=measured6 if measured6 != _NOTHING else UNSET,
        dead=list(dead) or UNSET,
        dns=_section(wire.Dns, by_name.get("dns")),
        filter=_section(wire.Filter, by_name.get("filter")),
        web=_section(wire.Web, by_name.get("web")),
        ntp=_section(wire.Ntp, by_name.get("ntp")),
        links=UNSET if isinstance(links, UnsetType) else dict(links.by_name) or UNSET,
        clients=clients,
        access_points=UNSET if isinstance(points, UnsetType) else _points(points, clients) or UNSET,
        wifi=_section(wire.Wifi, by_name.get("wifi")),
        walk=_section(wire.Walk, by_name.get("walk")),
        host=_section(wire.Host, by_name.get("host")),
        errors=failures or UNSET,
    )


def _points(points: AccessPoints, clients: wire.Clients | UnsetType) -> dict[str, wire.AccessPoint]:
    """The access points, with their users where these are known (rule 8)."""
    found = dict(points.by_name)
    if isinstance(clients, UnsetType) or isinstance(clients.radios, UnsetType):
        return found
    for name in points.own:
        found[name] = structs.replace(found[name], clients=clients.associated)
    return found


def _section(kind: type[S], outcome: Outcome | None) -> S | UnsetType:
    """The value of an outcome, where it has one of that kind."""
    value = outcome.value if outcome is not None else None
    return value if isinstance(value, kind) else UNSET
