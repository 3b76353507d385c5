"""The rows of the device itself: identity, clock, disk, processor."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import UNSET

from agent import clock, wire
from agent.check import certificate
from agent.check.certificate import Certificate
from agent.check.rows import Row, absent, failed, passed
from agent.config import Config, ConfigError, Mqtt
from agent.measured import Outcome
from agent.publish import tls_context

SOON_S = 30 * 86_400.0
"""A certificate that ends within this is told with its days."""
OFF_MS = 1000.0
"""A clock that is further off a time server than this is a failure."""
_LEAST_FREE_BYTES = 2 * 1024 * 1024
_HOT_C = 80.0


def identity(mqtt: Mqtt, site: str, now_s: float) -> Row:
    """Our certificate: can it be used, is it ours, is it its time?"""
    try:
        tls_context(mqtt)
    except ConfigError as err:
        return failed("identity", "login_files", detail=str(err))
    if mqtt.cert_file is None:
        return absent("identity", "no_certificate")
    try:
        found = certificate.parse(mqtt.cert_file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError) as err:
        return failed("identity", "login_files", detail=f"{mqtt.cert_file}: {err}")
    return judged_identity(found, site, now_s)


def judged_identity(found: Certificate, site: str, now_s: float) -> Row:
    """Pure: what is wrong with a certificate of `site`."""
    name = found.name or "-"
    if name != site:
        return failed("identity", "certificate_foreign", holder=name, site=site)
    if now_s < found.not_before:
        return failed("identity", "certificate_early", since=_day(found.not_before))
    if now_s >= found.not_after:
        return failed("identity", "certificate_expired", until=_day(found.not_after))
    left_s = found.not_after - now_s
    if left_s < SOON_S:
        days = int(left_s // 86_400)
        return passed("identity", "certificate_soon", until=_day(found.not_after), days=days)
    return passed("identity", "certificate_good", until=_day(found.not_after))


def _day(epoch_s: float) -> str:
    return wire.iso(epoch_s)[:10]


def _minute(epoch_s: float) -> str:
    text = wire.iso(epoch_s)
    return f"{text[:10]} {text[11:16]} UTC"


def time_of_day(ntp: wire.Ntp | None, now_s: float) -> Row:
    """Our clock, against a time server where one answered.

    A clock that is not synchronised is no failure: the server puts the times right.
    """
    if ntp is not None and ntp.offset_ms is not UNSET and abs(ntp.offset_ms) > OFF_MS:
        seconds = round(ntp.offset_ms / 1000)
        server = "-" if ntp.server is UNSET else str(ntp.server)
        return failed("clock", "clock_off", now=_minute(now_s), seconds=seconds, server=server)
    if now_s < clock.BUILT_S:
        return failed("clock", "clock_unset", now=_minute(now_s))
    if clock.is_synchronised():
        return passed("clock", "clock_synchronised", now=_minute(now_s))
    return passed("clock", "clock_unsynchronised", now=_minute(now_s))


def disk(config: Config, waiting: int | None) -> Row:
    """Where the readings wait: `waiting` of them, where the service knows."""
    path = config.spool.path
    try:
        there = next(p for p in (path, *path.parents) if p.exists())
        found = os.statvfs(there)
    except OSError as err:
        return failed("spool", "spool_unusable", path=str(path), detail=err.strerror or str(err))
    if found.f_flag & os.ST_RDONLY:
        return failed("spool", "disk_read_only", path=str(path))
    free_bytes = found.f_bavail * found.f_frsize
    if free_bytes < _LEAST_FREE_BYTES or (found.f_files and not found.f_favail):
        return failed("spool", "disk_full", path=str(path), free_kb=free_bytes // 1024)
    free_mb = free_bytes // (1024 * 1024)
    if not path.exists():
        return passed("spool", "spool_new", path=str(path), free_mb=free_mb)
    if waiting is None:
        return passed("spool", "spool_usable", path=str(path), free_mb=free_mb)
    return passed("spool", "spool_used_by_service", waiting=waiting, free_mb=free_mb)


def spool_refused(path: Path, text: str) -> Row:
    """A spool that cannot be taken, as `agent.spool` says it."""
    if "another pantau-agent" in text:
        return failed("spool", "spool_used", path=str(path))
    return failed("spool", "spool_unusable", path=str(path), detail=text)


def host(outcome: Outcome) -> Row:
    """Processor, memory, temperature and supply."""
    found = outcome.value
    if not isinstance(found, wire.Host):
        return failed("host", "host_unmeasured", detail=outcome.error or "-")
    if found.undervoltage is True:
        return failed("host", "undervoltage")
    if found.temperature_c is not UNSET and found.temperature_c >= _HOT_C:
        return failed("host", "hot", degrees=round(found.temperature_c))
    ratios = {"cpu": found.cpu_ratio, "memory": found.memory_ratio}
    percent = {name: "-" if r is UNSET else f"{r * 100:.0f}%" for name, r in ratios.items()}
    return passed("host", "host_fine", **percent)
