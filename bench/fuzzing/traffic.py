"""What is sent, one after another: damaged payloads, odd topics, what was sent before."""

from __future__ import annotations

import random

from bench.fuzzing.compare import Message
from bench.fuzzing.mutate import Mutator
from bench.fuzzing.seeds import TO_AGENT, TO_SERVER, Seeds

MARKER = "pantau/v1/server/ingest/marker"
_LEAVES = (*TO_SERVER, *TO_AGENT)
_WEIGHTS = (45, 12, 8, 10, 10, 15)
_ODD = (
    *("pantau/v1/sites//{leaf}", "pantau/v1/sites/A/{leaf}", "pantau/v1/sites/-a/{leaf}"),
    *("pantau/v1/sites/{site} /{leaf}", "pantau/v1/sites/é/{leaf}", "pantau/v1/sites/a/{leaf}"),
    *("pantau/v1/sites/{site}\n/{leaf}", "pantau/v1/sites/_ops/{leaf}", MARKER),
    "pantau/v1/sites/" + "a" * 64 + "/{leaf}",
    "pantau/v1/sites/" + "x" * 60_000 + "/{leaf}",
)


class Traffic:
    """Gives message after message.

    Args:
        rng: decides all.
        seeds: where good payloads come from.
    """

    def __init__(self, rng: random.Random, seeds: Seeds) -> None:
        self._rng = rng
        self._seeds = seeds
        self._mutate = Mutator(rng)
        self.sent: list[Message] = []
        """To ingest, not long ago; may be sent again."""

    def next(self, now: float) -> tuple[str, Message]:
        """The last part of the topic that was meant, and the message."""
        rng = self._rng
        leaf = rng.choices(_LEAVES, _WEIGHTS)[0]
        site, tree = self._seeds.make(leaf, now)
        payload = self._mutate(tree)
        topic = f"pantau/v1/sites/{site}/{leaf}"
        if leaf in TO_AGENT:
            return leaf, Message(topic, payload, False, now)
        if rng.random() < 0.02:
            topic = rng.choice(_ODD).format(site=site, leaf=leaf)
        message = Message(topic, payload, rng.random() < 0.05, now)
        if self.sent and rng.random() < 0.03:  # once more, or on another's topic
            message = message._replace(payload=rng.choice(self.sent).payload)
            if rng.random() < 0.8:
                message = rng.choice(self.sent)._replace(received_at=now)
        return leaf, message
