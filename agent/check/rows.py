"""The rows of `check`: what was tried and what came of it, in no language.

A failure has a number that can be said on the phone. Its first digit says where it lies:
1 this device, 2 cable and address, 3 the internet, 4 the hotspot, 5 the centre. Numbers are
for ever: one that is no longer used is not given to another failure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal, NamedTuple

import agent

Status = Literal["pass", "fail", "absent", "skipped"]
Value = str | int | float

CODES: Mapping[str, int] = {
    "config_wrong": 101,
    "service_silent": 102,
    "service_other": 103,
    "safe_mode": 104,
    "config_forbidden": 105,
    "certificate_expired": 111,
    "certificate_early": 112,
    "certificate_foreign": 113,
    "login_files": 114,
    "clock_unset": 121,
    "clock_off": 122,
    "spool_unusable": 131,
    "spool_used": 132,
    "disk_full": 133,
    "disk_read_only": 134,
    "undervoltage": 141,
    "hot": 142,
    "host_unmeasured": 143,
    "cable_out": 201,
    "link_off": 202,
    "no_interface": 203,
    "radio_lost": 204,
    "no_address": 211,
    "no_route": 212,
    "gateway_silent": 221,
    "isp_silent": 301,
    "domestic_silent": 302,
    "world_silent": 303,
    "rung_unmeasured": 304,
    "icmp_forbidden": 305,
    "dns_silent": 311,
    "dns_refuses": 312,
    "dns_no_name": 313,
    "dns_unreachable": 314,
    "filter_open": 321,
    "filter_blocks": 322,
    "filter_unanswered": 323,
    "web_portal": 331,
    "web_name": 332,
    "web_connect": 333,
    "web_tls": 334,
    "web_timeout": 335,
    "web_answer": 336,
    "ntp_silent": 341,
    "access_point_silent": 401,
    "access_points_unmeasured": 402,
    "wifi_unseen": 411,
    "wifi_foreign": 412,
    "wifi_unmeasured": 413,
    "clients_unmeasured": 421,
    "broker_name": 501,
    "broker_refused": 502,
    "broker_unreachable": 503,
    "tls_untrusted": 511,
    "tls_expired": 512,
    "tls_early": 513,
    "tls_host": 514,
    "tls_ours_expired": 515,
    "tls_ours_untrusted": 516,
    "tls_ours_missing": 517,
    "tls_failed": 518,
    "login_refused": 521,
    "login_silent": 522,
    "login_lost": 523,
    "topic_refused": 531,
    "echo_missing": 541,
}
"""The number of each failure."""


class Row(NamedTuple):
    """One thing that was tried.

    Attributes:
        name: what was tried; several rows may be of one name (interfaces, access points).
        status: ``absent`` is not configured, ``skipped`` not tried as something below it fails.
        told: which text says what came of it; for a failure also its key in `CODES`.
        values: what that text has to name.
    """

    name: str
    status: Status
    told: str
    values: Mapping[str, Value]

    @property
    def code(self) -> int | None:
        """The number of the failure; None for what did not fail."""
        return CODES[self.told] if self.status == "fail" else None


def passed(name: str, told: str, **values: Value) -> Row:
    return Row(name, "pass", told, values)


def failed(name: str, told: str, **values: Value) -> Row:
    return Row(name, "fail", told, values)


def absent(name: str, told: str = "not_configured", **values: Value) -> Row:
    return Row(name, "absent", told, values)


def skipped(name: str, told: str, **values: Value) -> Row:
    return Row(name, "skipped", told, values)


def encode(rows: list[Row]) -> bytes:
    """The rows as the service sends them over its socket."""
    told = {"agent": agent.__version__, "rows": [row._asdict() for row in rows]}
    return json.dumps(told).encode()


def decode(answer: bytes) -> list[Row]:
    """The rows that the service sent.

    Raises:
        ValueError: another version's answer, or none.
    """
    try:
        told = json.loads(answer)
        if told["agent"] != agent.__version__:
            raise ValueError(f"of version {told['agent']}")
        return [Row(row["name"], row["status"], row["told"], row["values"]) for row in told["rows"]]
    except (KeyError, TypeError) as err:
        raise ValueError(f"no rows: {err}") from None
