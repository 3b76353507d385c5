"""Does the DNS filter that the law asks for work, and does it hit nothing else?"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Collection

from agent import wire
from agent.probes.dns_client import ask, shown
from agent.probes.dns_packet import Answer
from agent.probes.runner import Context, FilterRules, ProbeError


class FilterProbe:
    """Looks at every name once in ``every_s``, and again in the next window when all failed."""

    def __init__(self) -> None:
        self._due_s = 0.0

    def __call__(self, context: Context) -> wire.Filter | None:
        """How each name is answered; None while it is not due.

        Raises:
            ProbeError: a name had no usable answer (with what the others showed).
            OSError: the resolver refuses or cannot be reached.
        """
        rules, now_s = context.filter, time.monotonic()
        if rules is None or now_s < self._due_s:
            return None
        names = [*rules.must_resolve, *rules.must_be_filtered]
        end_s = now_s + context.deadline_s
        heard = ask(context.resolver, names, end_s, until_good=False)
        if not heard:
            raise TimeoutError
        # A window begins a little early or late: the grid of windows decides, not this.
        self._due_s = now_s + rules.every_s - context.window_s / 2
        answers = {one.name: one.answer for one in heard}
        section = judge(answers, rules)
        resolver = shown(context.resolver)
        failures = [
            f"{resolver} answers {answers[name].refusal} for {name}"
            if name in answers
            else f"{resolver} is silent about {name}"
            for name in names
            if name not in section.names
        ]
        if failures:
            raise ProbeError("; ".join(failures), section)
        return section


def judge(answers: dict[str, Answer], rules: FilterRules) -> wire.Filter:
    """Whether the names are filtered as they should be; those without answer are left out."""
    names: dict[str, wire.FilteredName] = {}
    for name, answer in answers.items():
        how = manner(answer, rules.pages)
        if how is not None:
            filtered = how != "open"
            ok = filtered == (name in rules.must_be_filtered)
            names[name] = wire.FilteredName(ok=ok, how=how)
    return wire.Filter(wrong=sum(not one.ok for one in names.values()), names=names)


def manner(answer: Answer, pages: Collection[str]) -> wire.FilterManner | None:
    """How a name is filtered, ``open`` when it is not, None when the answer does not tell.

    An alias or an address of the filter's `pages`; 0.0.0.0, where nobody can be; or a no.
    """
    if answer.outcome in ("nxdomain", "refused", "empty"):
        return answer.outcome
    if answer.outcome != "answer":
        return None
    if any(
        alias == page or alias.endswith(f".{page}") for alias in answer.aliases for page in pages
    ):
        return "cname"
    if any(_leads_to(address, pages) for address in answer.addresses):
        return "answer"
    return "open"


def _leads_to(address: str, pages: Collection[str]) -> bool:
    given = ipaddress.ip_address(address)
    return given.is_unspecified or any(given in network for network in _networks(pages))


def _networks(pages: Collection[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    networks = []
    for page in pages:
        try:
            networks.append(ipaddress.ip_network(page))
        except ValueError:
            continue  # a name
    return networks
