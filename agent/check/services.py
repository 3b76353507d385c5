"""The rows of what users need: names, filter, web, time, access points, radio, clients."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from agent import wire
from agent.check.rows import Row, absent, failed, passed
from agent.config import Config
from agent.measured import AccessPoints, Outcome

_DNS = {
    "timeout": "dns_silent",
    "nxdomain": "dns_no_name",
    "empty": "dns_no_name",
    "unreachable": "dns_unreachable",
}
_WEB = {
    "name": "web_name",
    "connect": "web_connect",
    "tls": "web_tls",
    "timeout": "web_timeout",
    "answer": "web_answer",
}


def dns(outcome: Outcome | None) -> Row:
    if outcome is None:
        return absent("dns")
    found, detail = outcome.value, outcome.error or "-"
    if not isinstance(found, wire.Dns):
        told = "dns_silent" if detail.startswith("timeout") else "dns_unreachable"
        return failed("dns", told, detail=detail)
    if found.ok:
        return passed("dns", "dns_answers", ms=_ms(found.time_ms))
    return failed("dns", _DNS.get(str(found.outcome), "dns_refuses"), detail=detail)


def filtering(outcome: Outcome | None, must_be_filtered: Iterable[str]) -> Row:
    """What stands open is told first: that is what the law asks for."""
    if outcome is None:
        return absent("filter")
    found, detail = outcome.value, outcome.error or "-"
    if not isinstance(found, wire.Filter):
        return failed("filter", "filter_unanswered", detail=detail)
    wrong = [name for name, one in found.names.items() if not one.ok]
    stopped = set(must_be_filtered)
    if opened := [name for name in wrong if name in stopped]:
        return failed("filter", "filter_open", names=", ".join(opened))
    if wrong:
        return failed("filter", "filter_blocks", names=", ".join(wrong))
    if outcome.error is not None:
        return failed("filter", "filter_unanswered", detail=detail)
    return passed("filter", "filter_right", count=len(found.names))


def web(outcome: Outcome | None, url: str) -> Row:
    if outcome is None:
        return absent("web")
    found, detail = outcome.value, outcome.error or "-"
    if not isinstance(found, wire.Web):
        told = "web_timeout" if detail.startswith("timeout") else "web_answer"
        return failed("web", told, url=url, detail=detail)
    if found.ok:
        return passed("web", "web_there", url=url, ms=_ms(found.time_ms))
    if found.portal is True:
        return failed("web", "web_portal", url=url, status=_whole(found.status))
    return failed("web", _WEB[str(found.failure or "answer")], url=url, detail=detail)


def ntp(outcome: Outcome | None) -> Row:
    if outcome is None:
        return absent("ntp")
    found = outcome.value
    if not isinstance(found, wire.Ntp):
        return failed("ntp", "ntp_silent", detail=outcome.error or "-")
    ms = "-" if found.offset_ms is UNSET else round(found.offset_ms, 1)
    return passed("ntp", "ntp_answers", server=found.server or "-", ms=ms)


def access_points(outcome: Outcome | None, config: Config) -> list[Row]:
    if outcome is None or config.access_points is None:
        return [absent("access_points")]
    found = outcome.value
    if not isinstance(found, AccessPoints):
        return [failed("access_points", "access_points_unmeasured", detail=outcome.error or "-")]
    addresses = config.access_points.addresses
    return [
        passed("access_points", "access_point_answers", point=name, ms=_ms(one.rtt_ms))
        if one.reachable
        else failed("access_points", "access_point_silent", point=name, address=addresses[name])
        for name, one in found.by_name.items()
    ]


def wifi(outcome: Outcome | None, config: Config) -> Row:
    if outcome is None or config.wifi is None:
        return absent("wifi")
    found, ssid = outcome.value, config.wifi.ssid
    if not isinstance(found, wire.Wifi):
        return failed("wifi", "wifi_unmeasured", detail=outcome.error or "-")
    if found.foreign is not UNSET and found.foreign:
        return failed("wifi", "wifi_foreign", ssid=ssid, count=found.foreign)
    if not found.seen or found.expected == 0:
        return failed("wifi", "wifi_unseen", ssid=ssid)
    signal = "-" if found.strongest is UNSET else f"{found.strongest.signal_dbm:.0f}"
    return passed("wifi", "wifi_seen", ssid=ssid, dbm=signal)


def clients(outcome: Outcome) -> Row:
    found = outcome.value
    if isinstance(found, wire.Clients):
        return passed(
            *("clients", "clients_counted"),
            count=_whole(found.associated),
            source=found.source or "-",
        )
    if outcome.error is not None:
        return failed("clients", "clients_unmeasured", detail=outcome.error)
    return absent("clients", "nobody_to_count")


def _ms(value: object) -> int | str:
    return round(value) if isinstance(value, int | float) else "-"


def _whole(value: object) -> int | str:
    return value if isinstance(value, int) else "-"
