"""What a scan heard, judged: which radios are ours, which are not. Pure; no address comes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_BANDS = (("2.4", 2400, 2500), ("5", 4900, 5925), ("6", 5925, 7200), ("60", 57000, 71000))


class Announced(NamedTuple):
    """One radio as it announces itself; its address stays in this process."""

    address: str
    ssid: bytes
    frequency_mhz: int
    signal_dbm: float


def announced(messages: Iterable[Any]) -> list[Announced]:
    """The radios of a decoded scan dump (NL80211_CMD_GET_SCAN)."""
    found = []
    for message in messages:
        bss = message.get_attr("NL80211_ATTR_BSS")
        if bss is None:
            continue
        signal = bss.get_attr("NL80211_BSS_SIGNAL_MBM")
        if signal is None:
            continue  # a driver that tells a share of an unknown whole
        elements = bss.get_attr("NL80211_BSS_INFORMATION_ELEMENTS") or {}
        found.append(
            Announced(
                address=_address(str(bss.get_attr("NL80211_BSS_BSSID"))),
                ssid=bytes(elements.get("SSID", b"")),
                frequency_mhz=int(bss.get_attr("NL80211_BSS_FREQUENCY")),
                signal_dbm=float(signal["VALUE"]) / 100,
            )
        )
    return found


def busy_ratios(messages: Iterable[Any]) -> dict[int, float]:
    """How busy each frequency (MHz) was, from a decoded survey (NL80211_CMD_GET_SURVEY)."""
    ratios = {}
    for message in messages:
        info = message.get_attr("NL80211_ATTR_SURVEY_INFO")
        if info is None:
            continue
        names = ("FREQUENCY", "TIME", "TIME_BUSY")
        frequency, time_ms, busy_ms = (info.get_attr(f"NL80211_SURVEY_INFO_{n}") for n in names)
        if frequency and time_ms and busy_ms is not None:
            ratios[int(frequency)] = round(min(1.0, busy_ms / time_ms), 4)
    return ratios


def tell(
    heard: Iterable[Announced], ssid: str, bssids: Mapping[str, str], busy: Mapping[int, float]
) -> dict[str, object]:
    """The value of `wire.Wifi`.

    Args:
        heard: every radio of the scan.
        ssid: the hotspot's.
        bssids: its own radios' addresses by name; empty where nobody configured them.
        busy: from `busy_ratios`.
    """
    everyone = sorted(heard, key=lambda radio: -radio.signal_dbm)
    wanted = ssid.encode()
    ours = [radio for radio in everyone if radio.ssid == wanted]
    names = {_address(address): name for name, address in bssids.items()}
    expected = [radio for radio in ours if radio.address in names]
    told: dict[str, object] = {"seen": bool(ours), "others": len(everyone) - len(ours)}
    if names:
        told["expected"] = len(expected)
        told["foreign"] = len(ours) - len(expected)
        told["access_points"] = {names[r.address]: _radio(r, busy) for r in expected}
    if strongest := (expected or ours)[:1]:
        told["strongest"] = _radio(strongest[0], busy)
    return told


def _radio(radio: Announced, busy: Mapping[int, float]) -> dict[str, object]:
    told: dict[str, object] = {"signal_dbm": radio.signal_dbm}
    if (band := _band(radio.frequency_mhz)) is not None:
        told["band"] = band
    if (number := channel(radio.frequency_mhz)) is not None:
        told["channel"] = number
    if radio.frequency_mhz in busy:
        told["load_ratio"] = busy[radio.frequency_mhz]
    return told


def _band(frequency_mhz: int) -> str | None:
    return next((name for name, low, high in _BANDS if low <= frequency_mhz < high), None)


def channel(frequency_mhz: int) -> int | None:
    """The channel's number (IEEE 802.11, annex E); None off every grid."""
    if frequency_mhz == 2484:
        return 14
    for low, high, base in ((2412, 2472, 2407), (5000, 5900, 5000), (5955, 7115, 5950)):
        if low <= frequency_mhz <= high and (frequency_mhz - base) % 5 == 0:
            return (frequency_mhz - base) // 5 or None
    return None


def _address(text: str) -> str:
    """Its hexadecimal digits alone, whatever stands between them."""
    return re.sub(r"[^0-9a-f]", "", text.lower())
