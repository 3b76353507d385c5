"""Scan for the hotspot by nl80211, in a process of its own: pyroute2 goes with it.

Request: ``ssid``, ``bssids`` (name to address), ``interface`` or null. Value: `wire.Wifi`.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from pyroute2 import IW, NetlinkError  # type: ignore[import-untyped]  # it ships no types

from agent.helpers.walk_talk import NET_ADMIN, HelperError, serve
from agent.helpers.wifi_heard import announced, busy_ratios, tell

_STATION = 2  # NL80211_IFTYPE_STATION
_UP = 0x1  # IFF_UP
_REFUSALS = {
    errno.ENETDOWN: "the radio is off; ip link set it up, or rfkill unblock wifi",
    errno.EBUSY: "the radio is scanning for somebody else",
}


def work(request: dict[str, Any]) -> object:
    """Scan once and judge it."""
    with _nl80211() as nl80211:
        index = station(list(nl80211.get_interfaces_dump()), request["interface"])
        try:
            heard = list(nl80211.scan(index, ssids=[request["ssid"]], flush_cache=True))
        except NetlinkError as err:
            raise HelperError(_REFUSALS.get(err.code, f"no scan: {err}")) from None
        busy = busy_ratios(nl80211.survey(index))
    return tell(announced(heard), request["ssid"], request["bssids"], busy)


def _nl80211() -> Any:
    try:
        return IW()
    except NetlinkError as err:
        if err.code == errno.ENOENT:
            raise HelperError("no radio: this kernel has no wireless (nl80211)") from None
        raise


def station(interfaces: list[Any], wanted: str | None) -> int:
    """The index of the wanted interface, or of the first in station mode, one that is up first.

    Raises:
        HelperError: there is none.
    """
    if wanted is not None:
        fit = [each for each in interfaces if each.get_attr("NL80211_ATTR_IFNAME") == wanted]
    else:
        fit = [each for each in interfaces if each.get_attr("NL80211_ATTR_IFTYPE") == _STATION]
        fit.sort(key=lambda each: not _is_up(each.get_attr("NL80211_ATTR_IFNAME")))
    if fit:
        return int(fit[0].get_attr("NL80211_ATTR_IFINDEX"))
    if wanted is not None:
        raise HelperError(f"no radio named {wanted}; mend interface in [wifi]")
    raise HelperError("no radio in station mode; plug one in, or leave out [wifi]")


def _is_up(name: str) -> bool:
    try:
        return bool(int(Path("/sys/class/net", name, "flags").read_text(), 16) & _UP)
    except OSError:
        return False  # gone since it was listed


if __name__ == "__main__":
    serve(work, (NET_ADMIN,))
