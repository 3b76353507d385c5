"""Properties of MQTT 5 that a device may add to what it publishes, and the broker hands on."""

from __future__ import annotations

import random

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

_TEXTS = ("", "a", "é\U0001f600", "x" * 60_000, "{}", "%s", "pantau/v1/sites/a/readings")
_BYTES = (b"", b"\x00", b"\xff\xfe", b"y" * 65_535)


def odd(rng: random.Random) -> Properties:
    """One to four of them, with any values that a broker takes."""
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho's own
    for _ in range(rng.randint(1, 4)):
        way = rng.randrange(6)
        if way == 0:
            pairs = [(rng.choice(_TEXTS), rng.choice(_TEXTS)) for _ in range(rng.randint(1, 20))]
            found.UserProperty = pairs
        elif way == 1:
            found.ContentType = rng.choice(_TEXTS)
        elif way == 2:
            found.ResponseTopic = rng.choice(_TEXTS[1:])
        elif way == 3:
            found.CorrelationData = rng.choice(_BYTES)
        elif way == 4:
            found.MessageExpiryInterval = rng.choice((600, 2**31, 2**32 - 1))
        else:
            found.PayloadFormatIndicator = 0
    return found
