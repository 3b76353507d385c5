"""The network of a site as the files that its system reads at boot; pure functions.

Two kinds of system: NetworkManager (Raspberry Pi OS), with keyfiles, and systemd-networkd (Debian),
with wpa_supplicant for WiFi. What is not set is DHCP on the cable.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from typing import Any, NamedTuple

_KEYS = {
    "ethernet": {"address", "gateway", "dns"},
    "wifi": {"ssid", "password", "country", "address", "gateway", "dns"},
    "lte": {"apn", "user", "password", "pin"},
}
_TYPES = {"ethernet": "ethernet", "wifi": "wifi", "lte": "gsm"}
_NM = "/etc/NetworkManager/system-connections"
_NETWORKD = "/etc/systemd/network"
WPA = "/etc/wpa_supplicant/wpa_supplicant-wlan0.conf"


class NetworkError(Exception):
    """What is wrong in pantau_network, with the mend."""


class File(NamedTuple):
    """A file of the card: its path there, its text and its mode."""

    path: str
    content: str
    mode: int


def checked(network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings as they were given, DHCP on the cable where there are none.

    Raises:
        NetworkError: an unknown key or a value that no system would take.
    """
    if not isinstance(network or {}, dict):
        raise NetworkError("pantau_network is no table; write {ethernet: {}}")
    links: dict[str, dict[str, Any]] = {}
    for kind, given in (network or {"ethernet": {}}).items():
        if kind not in _KEYS:
            raise NetworkError(f"{kind} is unknown; take {', '.join(_KEYS)}")
        if not isinstance(given or {}, dict):
            raise NetworkError(f"{kind} is no table; write {kind}: {{}}, with its keys within")
        links[kind] = values = dict(given or {})
        for key in values:
            if key not in _KEYS[kind]:
                known = ", ".join(sorted(_KEYS[kind]))
                raise NetworkError(f"{kind}.{key} is unknown; take {known}")
        _check_texts(kind, values)
        for key in ("ssid", "password", "apn", "user", "pin"):
            values[key] = values.get(key) or ""
            if any(ord(letter) < 32 for letter in values[key]):
                raise NetworkError(f"{kind}.{key} holds a control character; take it out")
        _check_addresses(kind, values)
    _check_wifi(links.get("wifi"))
    if "lte" in links and not links["lte"]["apn"]:
        raise NetworkError("lte.apn is missing; the provider of the card tells it")
    return links


def network_manager(site: str, links: dict[str, dict[str, Any]]) -> list[File]:
    """One keyfile a link (nm-settings-keyfile(5))."""
    found = []
    for kind, values in links.items():
        name = f"pantau-{kind}"
        sections: dict[str, dict[str, str]] = {
            "connection": {
                "id": name,
                "uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{site}")),
                "type": _TYPES[kind],
                "autoconnect-retries": "0",
            }
        }
        if kind == "wifi":
            ssid = ";".join(str(byte) for byte in values["ssid"].encode())
            sections["wifi"] = {"mode": "infrastructure", "ssid": f"{ssid};"}
            if values["password"]:
                psk = _kept(values["password"])
                sections["wifi-security"] = {"key-mgmt": "wpa-psk", "psk": psk}
        if kind == "lte":
            named = {"apn": "apn", "user": "username", "password": "password", "pin": "pin"}
            sections["gsm"] = {
                theirs: _kept(values[ours]) for ours, theirs in named.items() if values[ours]
            }
        sections["ipv4"] = {"method": "auto"}
        if values.get("address"):
            sections["ipv4"] = {"method": "manual", "address1": values["address"]}
        if values.get("gateway"):
            sections["ipv4"]["gateway"] = values["gateway"]
        if values.get("dns"):
            sections["ipv4"]["dns"] = "".join(f"{one};" for one in values["dns"])
        sections["ipv6"] = {"method": "auto"}
        found.append(File(f"{_NM}/{name}.nmconnection", _ini(sections), 0o600))
    return found


def networkd(links: dict[str, dict[str, Any]]) -> list[File]:
    """One file a link (systemd.network(5)), and the supplicant's where there is a radio.

    Raises:
        NetworkError: LTE, which networkd does not know.
    """
    if "lte" in links:
        raise NetworkError("lte needs NetworkManager; take an image of Raspberry Pi OS")
    found = []
    for kind, values in links.items():
        kinds = {"ethernet": "ether", "wifi": "wlan"}
        lines = ["[Match]", f"Type={kinds[kind]}", "", "[Network]"]
        if values.get("address"):
            lines.append(f"Address={values['address']}")
        else:
            lines.append("DHCP=yes")
        if values.get("gateway"):
            lines.append(f"Gateway={values['gateway']}")
        lines += [f"DNS={one}" for one in values.get("dns") or ()]
        if not values.get("address"):
            # As NetworkManager has it: the cable before the radio.
            lines += ["", "[DHCPv4]", f"RouteMetric={100 if kind == 'ethernet' else 600}"]
        found.append(File(f"{_NETWORKD}/10-pantau-{kind}.network", "\n".join([*lines, ""]), 0o644))
    if "wifi" in links:
        found.append(File(WPA, _supplicant(links["wifi"]), 0o600))
    return found


def nameservers(links: dict[str, dict[str, Any]]) -> list[str]:
    """All that were given."""
    return [one for values in links.values() for one in values.get("dns") or ()]


def _supplicant(wifi: dict[str, Any]) -> str:
    # Hexadecimal, so that no name needs quoting; a password of 64 digits is the key itself.
    password = wifi["password"]
    quoted = password if len(password) == 64 else f'"{password}"'
    secret = f"psk={quoted}" if password else "key_mgmt=NONE"
    return (
        f"ctrl_interface=DIR=/run/wpa_supplicant\ncountry={wifi['country']}\n"
        f"network={{\n\tssid={wifi['ssid'].encode().hex()}\n\tscan_ssid=1\n\t{secret}\n}}\n"
    )


def _check_texts(kind: str, values: dict[str, Any]) -> None:
    """Without quotes 0123 is 83 to YAML, and NO is false: nobody knows any more what was meant."""
    for key, value in values.items():
        if key == "dns" and not isinstance(value or [], list):
            raise NetworkError(f"{kind}.dns is no list; write [192.168.1.1]")
        texts = value or [] if key == "dns" else [value]
        if not all(one is None or isinstance(one, str) for one in texts):
            raise NetworkError(f"{kind}.{key} is a number or a switch to YAML; put it in quotes")


def _check_addresses(kind: str, values: dict[str, Any]) -> None:
    try:
        if values.get("address"):
            if "/" not in values["address"]:
                raise NetworkError(f"{kind}.address needs its length, such as 192.168.1.20/24")
            net = ipaddress.IPv4Interface(values["address"]).network
            if values.get("gateway") and ipaddress.IPv4Address(values["gateway"]) not in net:
                raise NetworkError(f"{kind}.gateway is not within {net}; correct one of the two")
        elif values.get("gateway"):
            raise NetworkError(f"{kind}.gateway stands there without address; DHCP brings its own")
        for one in values.get("dns") or ():
            ipaddress.IPv4Address(str(one))
    except ValueError as err:
        raise NetworkError(f"{kind}: {err}") from None


def _check_wifi(wifi: dict[str, Any] | None) -> None:
    if wifi is None:
        return
    wifi["country"] = wifi.get("country") or "ID"
    if not re.fullmatch("[A-Z]{2}", wifi["country"]):
        raise NetworkError("wifi.country is two capital letters, such as ID")
    if not 1 <= len(wifi["ssid"].encode()) <= 32:
        raise NetworkError("wifi.ssid has 1 to 32 bytes; name the network")
    password = wifi["password"]
    key = re.fullmatch("[0-9a-fA-F]{64}", password)
    if password and not key and not (8 <= len(password) <= 63 and password.isascii()):
        raise NetworkError("wifi.password has 8 to 63 letters; an open network has none")


def _kept(value: str) -> str:
    """A value that a keyfile gives back as it is."""
    escaped = value.replace("\\", "\\\\")
    return escaped if not escaped.startswith(" ") else "\\s" + escaped[1:]


def _ini(sections: dict[str, dict[str, str]]) -> str:
    blocks = [
        "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in values.items()), ""])
        for name, values in sections.items()
    ]
    return "\n".join(blocks)
