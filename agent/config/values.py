"""The checks of single values: the right kind, or `ValueError` with wrong and mend."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from agent.wire import is_site

Version = Literal["auto", "5", "3.1.1"]


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not text; put it in quotes")
    if not value.strip() or not value.isprintable():
        raise ValueError(f"{shown(value)} is empty or holds control characters; write it anew")
    return value


def site(value: object) -> str:
    given = text(value)
    if not is_site(given):
        raise ValueError(
            f"{given!r} cannot name a site; use 2 to 63 of a-z, 0-9 and -, not beginning with -"
        )
    return given


def whole_from(low: int, high: int, unit: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(
                f"{shown(value)} is not possible; give whole {unit} from {low} to {high}"
            )
        return value

    return check


def window_s(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1 <= value <= 3600:
        raise ValueError(f"{shown(value)} is not possible; give seconds from 1 to 3600")
    return float(value)


def version(value: object) -> Version:
    known: dict[object, Version] = {"auto": "auto", "5": "5", 5: "5", "3.1.1": "3.1.1"}
    version = known.get(value) if isinstance(value, (str, int)) else None
    if version is None:
        raise ValueError(f'{shown(value)} is not possible; give "auto", "5" or "3.1.1"')
    return version


def path_from(folder: Path) -> Callable[[object], Path]:
    """A path; a relative one starts at the configuration file's folder."""

    def check(value: object) -> Path:
        return folder / text(value)

    return check


def file_from(folder: Path) -> Callable[[object], Path]:
    def check(value: object) -> Path:
        path = folder / text(value)
        try:
            with path.open("rb"):
                return path
        except OSError as err:
            raise ValueError(
                f"cannot read {path}: {err.strerror}; put the file there or mend the path"
            ) from None

    return check


def user(value: object) -> str:
    given = text(value)
    if set(given) & set("/+#"):  # it is part of our topics for the broker's ACL
        raise ValueError(f"{given!r} holds /, + or #, which brokers refuse; write it without")
    return given


_url_host = re.compile(r"[a-z0-9_.-]+|[0-9a-f:.]+(%[\w.-]+)?", re.ASCII)


def _has_host(url: SplitResult) -> bool:
    """Whether a connection can be made to it; a port that cannot be raises ValueError."""
    return url.port != 0 and _url_host.fullmatch(url.hostname or "") is not None


def broker_url(value: object) -> str:
    given = text(value)
    example = "write mqtts://HOST:8883 or mqtt://HOST:1883"
    try:
        url = urlsplit(given)
        well_formed = _has_host(url)
    except ValueError:
        well_formed = False
    if not well_formed or url.scheme not in ("mqtt", "mqtts") or url.path.strip("/"):
        raise ValueError(f"{given!r} is no broker; {example}")
    if url.username is not None or url.query or url.fragment:
        raise ValueError("holds more than a broker; write the user in username, not in the url")
    return given


def web_url(value: object) -> str:
    given = text(value)
    try:
        url = urlsplit(given)
        well_formed = _has_host(url)
    except ValueError:
        well_formed = False
    if not well_formed or url.scheme not in ("http", "https"):
        raise ValueError(f"{given!r} is no web address; write http://HOST/PATH")
    return given


_label = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")


def _host(value: object) -> str:
    given = text(value)
    labels = given.removesuffix(".").split(".")
    if len(given) > 253 or not all(_label.match(label) for label in labels):
        raise ValueError(f"{given!r} is neither an IPv4 address nor a host name; mend it")
    if labels[-1].isdigit():
        _address(given)
    return given


def _address(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address; mend it") from None
    return text


def hosts(value: object) -> tuple[str, ...]:
    return _list(value, _host)


def _list(value: object, check: Callable[[object], str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(
            f'{shown(value)} is not a list of hosts; write ["HOST"] or leave the key out'
        )
    hosts = tuple(check(item) for item in value)
    if len(set(hosts)) != len(hosts):
        raise ValueError(f"{shown(value)} names a host twice; keep each once")
    return hosts


def _target(value: object) -> str:
    """A host, or an IPv6 address."""
    if not isinstance(value, str) or ":" not in value:
        return _host(value)
    try:
        return str(ipaddress.IPv6Address(value))
    except ValueError:
        raise ValueError(f"{value!r} is no IPv6 address; mend it") from None


def targets(value: object) -> tuple[str, ...]:
    """Hosts that can be sent echoes."""
    return _list(value, _target)


def targets_or_auto(value: object) -> tuple[str, ...] | Literal["auto"]:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f'{shown(value)} is not possible; write "auto" or ["HOST"]')
        return "auto"
    return targets(value)


def _split_port(text: str) -> tuple[str, str]:
    host, colon, port = text.partition(":")
    if colon and not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has no possible port; give 1 to 65535")
    return host, port


def host_port(value: object) -> str:
    given = text(value)
    _host(_split_port(given)[0])
    return given


def hosts_port(value: object) -> tuple[str, ...]:
    """One HOST or HOST:PORT, or a list of them."""
    if isinstance(value, str):
        return (host_port(value),)
    if not isinstance(value, list) or not value:
        raise ValueError(f'{shown(value)} names no server; write "HOST" or ["HOST", "HOST:PORT"]')
    servers = tuple(host_port(item) for item in value)
    if len(set(servers)) != len(servers):
        raise ValueError(f"{shown(value)} names a server twice; keep each once")
    return servers


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as err:
        raise ValueError(f"{text!r} is no network ({err}); write ADDRESS or ADDRESS/BITS") from None
    return text


def networks(value: object) -> tuple[str, ...]:
    """Addresses and networks, IPv4 and IPv6."""
    if not isinstance(value, list) or not value:
        raise ValueError(f'{shown(value)} is not a list of networks; write ["192.0.2.0/24"]')
    return tuple(_network(text(item)) for item in value)


def networks_or_names(value: object) -> tuple[str, ...]:
    """Addresses, networks and host names."""
    if not isinstance(value, list) or not value:
        raise ValueError(
            f'{shown(value)} is not a list; write ["192.0.2.1", "page.example"], or leave it out'
        )
    given = tuple(text(item) for item in value)
    return tuple(_network(one) if re.search(r"[:/]|\d$", one) else _host(one) for one in given)


def resolver_or_system(value: object) -> str:
    return "system" if value == "system" else resolver(value)


def resolver(value: object) -> str:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT; IPv6 as well."""
    given = text(value)
    host, port = given, "53"
    if given.startswith("["):
        host, _, port = given[1:].partition("]:")
    elif given.count(":") == 1:
        host, port = _split_port(given)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        port = ""
    if not (port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{given!r} is no address of a resolver; write ADDRESS or ADDRESS:PORT")
    return given
