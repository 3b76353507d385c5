"""A process that ingests for ever, to be killed: ``python store_writer.py URL LOG SEED``.

Each batch is committed first and written to the log then, synchronously, so that
the log never runs ahead of the store. A restarted writer goes on where the log ends.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from server.ingest import Ingest
from server.model import Rules
from server.store import open_store
from tests.server.made import Device, Message, identity

SITES = ("aa-1", "aa-2", "aa-3")


def batch(number: int) -> list[Message]:
    """The batch of that number: always the same readings."""
    dice = random.Random(number)  # noqa: S311  # no secret
    messages = []
    for site in SITES:
        device = Device(site=site, stream=identity(site), seq=10 * number)
        for n in range(1 + dice.randrange(10)):
            pad = dice.randbytes(dice.randrange(1500)).hex()
            device.reading(1000.0 + 600 * number + 60 * n, errors={"pad": pad})
        messages.append(device.message(1600.0 + 600 * number, *device.spool))
    return messages


def main(url: str, log: str) -> None:
    ingest = Ingest(open_store(url), Rules(), 3600.0)
    with Path(log).open("ab+") as done:
        done.seek(0)
        number = len(done.read().splitlines())
        while True:
            ingest.take(batch(number), 1600.0 + 600 * number, caught_up=True)
            done.write(b"%d\n" % number)
            done.flush()
            os.fsync(done.fileno())
            number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
