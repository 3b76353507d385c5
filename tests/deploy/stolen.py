"""A copy of a device's identity in other hands, and what the broker says to it."""

from __future__ import annotations

import shutil

from tests.deploy.town import Town
from tests.wait import until

_LET_IN_S = 120.0


def serial(town: Town, site: str) -> str:
    """The number of the certificate on a device."""
    return town.on(site, "openssl x509 -in /etc/pantau/site.pem -noout -serial")


def steal(town: Town, site: str) -> str:
    """A copy of a device's identity, at the centre; gives its folder there."""
    folder = f"/root/stolen-{site}-{serial(town, site).strip()[-8:]}"
    source, copy = (town.machines[name].root for name in (site, "centre"))
    (copy / folder[1:]).mkdir(exist_ok=True)
    for name in ("site.key", "site.pem"):
        shutil.copy(source / "etc/pantau" / name, copy / folder[1:] / name)
    return folder


def handshake(town: Town, stolen: str) -> str:
    """What the broker says to a stolen identity; TLS 1.2, where the refusal is part of it."""
    command = (
        "openssl s_client -tls1_2 -connect 10.81.1.2:8883 -CAfile /etc/pantau/ca.pem"
        f" -cert {stolen}/site.pem -key {stolen}/site.key </dev/null 2>&1 || true"
    )
    return town.on("centre", command)


def is_let_in(town: Town, stolen: str) -> bool:
    said = handshake(town, stolen)
    refused = "certificate revoked" in said
    assert refused or "Verify return code: 0 (ok)" in said, said
    return not refused


def log_in_and_stay(town: Town, site: str, stolen: str) -> None:
    """Begin a session with a stolen identity, which tries again when it ends: unit `thief`."""
    before = admissions(town, site)
    town.on(
        *("centre", "systemd-run", "-q", "--unit=thief", "-p", "Restart=always"),
        *("-p", "RestartSec=1", "-p", "StartLimitIntervalSec=0"),
        *("mosquitto_sub", "--host", "10.81.1.2", "--port", "8883", "--id", site),
        *("--cafile", "/etc/pantau/ca.pem", "--cert", f"{stolen}/site.pem"),
        *("--key", f"{stolen}/site.key", "--topic", f"pantau/v1/sites/{site}/acks"),
    )
    until(lambda: admissions(town, site) > before, _LET_IN_S, "the thief to be let in")


def admissions(town: Town, site: str) -> int:
    """How often the broker has let a site in so far."""
    return _broker_says(town).count(f" as {site} (")


def refusals(town: Town) -> int:
    """How often the broker has refused a certificate so far."""
    return _broker_says(town).count("certificate verify failed")


def _broker_says(town: Town) -> str:
    return town.on("centre", "journalctl --no-pager -q -u mosquitto")
