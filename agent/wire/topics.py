"""The topics of the wire format, and the names that stand in them."""

from __future__ import annotations

import re

from agent.wire.base import SITE_PATTERN, Invalid

PREFIX = "pantau/v1"

_site_id = re.compile(SITE_PATTERN)


def is_site(text: str) -> bool:
    """Whether `text` can name a site (service names begin with ``_`` and cannot)."""
    return _site_id.match(text) is not None


def slug(text: str) -> str:
    """A district or ISP name as it stands in topics; ``-`` when nothing is left.

    >>> slug("Lembeh Selatan"), slug(" - ")
    ('lembeh-selatan', '-')
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name or "-"


def site_topic(site: str, leaf: str) -> str:
    """The topic of one site: readings, presence, replies, acks, settings, commands."""
    return f"{PREFIX}/sites/{site}/{leaf}"


def split_site_topic(topic: str) -> tuple[str, str]:
    """The site and the leaf of a site's topic.

    Raises:
        Invalid: not a site's topic, or no site can have that name.
    """
    parts = topic.split("/")
    if len(parts) != 5 or topic[: len(PREFIX) + 7] != f"{PREFIX}/sites/" or not is_site(parts[3]):
        raise Invalid(f"not a topic of a site: {topic!r}")
    return parts[3], parts[4]


def state_topic(district: str, isp: str, site: str) -> str:
    """Where the verdict on a site stands retained."""
    return f"{PREFIX}/state/{district}/{isp}/{site}"


def alert_topic(district: str, isp: str, alert: str) -> str:
    """Where an alert stands retained while it fires."""
    return f"{PREFIX}/alerts/{district}/{isp}/{alert}"


def server_topic(name: str) -> str:
    """Where a service says that it lives."""
    return f"{PREFIX}/server/{name}"
