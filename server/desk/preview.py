"""What other rules would have done: the stored readings, replayed and compared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent.wire import decode_reading, iso, slug
from server.dates import told
from server.model import Contract, Site
from server.replay import Difference, Episode, Heard, Outcome, replay
from server.rules import RuleBook
from server.show import CommandError
from server.store import Store

_DAY_S = 86_400.0


def chosen(
    store: Store, site: str | None, district: str | None, isp: str | None
) -> dict[str, Site]:
    """The sites in service that the options leave.

    Raises:
        CommandError: there is none.
    """
    found = {
        one.id: one
        for one in store.sites().values()
        if not one.retired
        and site in (None, one.id)
        and (district is None or slug(district) == one.district)
        and (isp is None or slug(isp) == one.isp)
    }
    if not found:
        raise CommandError("no site in service is meant by these options; see 'pantau sites list'")
    return found


def differences(
    store: Store,
    sites: Mapping[str, Site],
    old: RuleBook,
    new: RuleBook,
    contracts: Mapping[str, Contract],
    days: float,
    now: float,
) -> Iterator[Difference]:
    """What differs, site by site; a site that keeps its rules is not replayed."""
    since = now - days * _DAY_S
    absences = [one for one in store.absences() if one[1] > since]
    for name, site in sites.items():
        contract = contracts.get(site.contract)
        before, after = old.rules_for(site, contract), new.rules_for(site, contract)
        if before == after:
            continue
        heard = _heard(store, name, since)
        found = Difference(
            name,
            replay(name, heard, absences, before, now),
            replay(name, heard, absences, after, now),
        )
        if found:
            yield found


def _heard(store: Store, site: str, since: float) -> list[Heard]:
    found = [
        Heard(decode_reading(row.body).reading, stream, row.received_at, row.taken_at)
        for stream, row in store.readings(site)
        if row.received_at >= since
    ]
    return sorted(found, key=lambda one: (one.received_at, one.reading.seq))


def body(found: Sequence[Difference], looked_at: int, days: float) -> dict[str, object]:
    """The preview as JSON."""
    return {
        "days": days,
        "sites_looked_at": looked_at,
        "sites": [
            {
                "site": one.site,
                "before": _figures([one.before]),
                "after": _figures([one.after]),
                "raised": [_episode(episode) for episode in one.raised],
                "cleared": [_episode(episode) for episode in one.cleared],
            }
            for one in found
        ],
        "sum": {
            "before": _figures([one.before for one in found]),
            "after": _figures([one.after for one in found]),
            "raised": sum(len(one.raised) for one in found),
            "cleared": sum(len(one.cleared) for one in found),
        },
    }


def _figures(those: Iterable[Outcome]) -> dict[str, object]:
    outcomes = list(those)
    return {
        "incidents": sum(len(one.episodes) for one in outcomes),
        "degraded_minutes": round(sum(one.degraded_s for one in outcomes) / 60, 1),
        "offline_minutes": round(sum(one.offline_s for one in outcomes) / 60, 1),
    }


def _episode(one: Episode) -> dict[str, object]:
    return {
        "kind": one.kind,
        "from": iso(one.from_at),
        "to": None if one.to_at is None else iso(one.to_at),
        "reasons": one.reasons,
    }


def tell(found: Sequence[Difference], sites: Mapping[str, Site]) -> None:
    """The preview for a person: sites that differ, and all of them in sum."""
    for one in found:
        print(f"{one.site}: {_compared([one])}")
        for sign, episodes in (("-", one.cleared), ("+", one.raised)):
            for episode in episodes:
                print(f"  {sign} {_line(episode, sites[one.site].timezone)}")
    total = f": {_compared(found)}" if found else ""
    print(f"{len(sites)} sites looked at, {len(found)} would have differed{total}")


def _line(one: Episode, zone: str) -> str:
    lasted = "still" if one.to_at is None else f"{(one.to_at - one.from_at) / 60:.0f} min"
    return f"{one.kind} {told(one.from_at, zone)}, {lasted}: {', '.join(one.reasons)}"


def _compared(found: Iterable[Difference]) -> str:
    those = list(found)
    before, after = (
        _figures([one.before for one in those]),
        _figures([one.after for one in those]),
    )
    words = ("incidents", "min degraded", "min offline")
    return ", ".join(
        f"{old:g} -> {new:g} {word}"
        for word, old, new in zip(words, before.values(), after.values(), strict=True)
    )
