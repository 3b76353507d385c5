"""Stations of an access point, and what is told of them all: counts, signal, retries. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import UNSET, UnsetType

from agent import wire
from agent.wire.hotspot import Band

ACTIVE_S = 60.0
"""A station that was heard within this time is active."""


class Station(NamedTuple):
    """One station. Its address tells it from others between two looks, and stays here."""

    address: str
    idle_ms: float | None
    signal_dbm: float | None
    tx_frames: int | None
    tx_retries: int | None


def from_nl80211(messages: Iterable[Any]) -> list[Station]:
    """The stations of a decoded station dump (NL80211_CMD_GET_STATION)."""
    found = []
    for message in messages:
        info = message.get_attr("NL80211_ATTR_STA_INFO")
        names = ("INACTIVE_TIME", "SIGNAL_AVG", "SIGNAL", "TX_PACKETS", "TX_RETRIES")
        idle_ms, average, last, frames, retries = (
            info.get_attr(f"NL80211_STA_INFO_{name}") for name in names
        )
        signal_dbm = _signed(last if average is None else average)
        address = str(message.get_attr("NL80211_ATTR_MAC"))
        found.append(Station(address, idle_ms, signal_dbm, frames, retries))
    return found


def _signed(value: int | None) -> float | None:
    """pyroute2 gives the signed byte of a signal unsigned; there is none above 127 dBm."""
    return None if value is None else float(value - 256 if value > 127 else value)


def from_hostapd(text: str) -> Station | None:
    """One station from the answer to STA-FIRST or STA-NEXT: its address, then ``key=value``.

    None at the list's end, where the answer is empty or FAIL.
    """
    lines = text.splitlines()
    if not lines or lines[0].strip() in ("", "FAIL"):
        return None
    values = dict(line.partition("=")[::2] for line in lines[1:])
    idle_ms, signal_dbm = _number(values, "inactive_msec"), _number(values, "signal")
    frames = _number(values, "tx_packets")
    # hostapd tells no retries
    return Station(
        lines[0].strip(), idle_ms, signal_dbm, None if frames is None else int(frames), None
    )


def _number(values: Mapping[str, str], key: str) -> float | None:
    try:
        return float(values[key])
    except (KeyError, ValueError):
        return None


def radio(
    stations: Sequence[Station], before: Mapping[str, Station], band: Band | None
) -> wire.Radio:
    """What is told of one radio's stations.

    Args:
        stations: now.
        before: the same radio's stations at the last look, by address.
        band: where the radio works, if that is known.
    """
    signals = sorted(s.signal_dbm for s in stations if s.signal_dbm is not None)
    active = sum(s.idle_ms is not None and s.idle_ms <= ACTIVE_S * 1000 for s in stations)
    return wire.Radio(
        associated=len(stations),
        band=band or UNSET,
        active=active,
        signal_p50_dbm=_percentile(signals, 0.5) if signals else UNSET,
        signal_p10_dbm=_percentile(signals, 0.1) if signals else UNSET,
        retry_ratio=_retry_ratio(stations, before),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """By nearest rank (RFC 2330, section 11.3)."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _retry_ratio(stations: Sequence[Station], before: Mapping[str, Station]) -> float | UnsetType:
    """Retries' share of all transmissions since the last look; UNSET where nothing was sent."""
    frames = retries = 0
    for now in stations:
        then = before.get(now.address)
        if then is None or None in (then.tx_frames, then.tx_retries, now.tx_frames, now.tx_retries):
            continue
        new_frames = (now.tx_frames or 0) - (then.tx_frames or 0)
        new_retries = (now.tx_retries or 0) - (then.tx_retries or 0)
        if new_frames >= 0 and new_retries >= 0:  # below: the station came anew
            frames += new_frames
            retries += new_retries
    total = frames + retries
    return round(retries / total, 4) if total else UNSET


def total(source: str, radios: Mapping[str, wire.Radio]) -> wire.Clients:
    """The radios put together."""
    active = [r.active for r in radios.values() if not isinstance(r.active, UnsetType)]
    return wire.Clients(
        source=source,
        associated=sum(r.associated for r in radios.values()),
        active=sum(active),
        radios=dict(radios),
    )


def band(frequency_mhz: float | None) -> Band | None:
    """The band of a frequency (IEEE 802.11, annex E)."""
    for name, low, high in BANDS:
        if frequency_mhz is not None and low <= frequency_mhz < high:
            return name
    return None


BANDS: tuple[tuple[Band, float, float], ...] = (
    ("2.4", 2400, 2500),
    ("5", 4900, 5925),
    ("6", 5925, 7200),
    ("60", 57000, 71000),
)
