"""``pantau witness`` as a process in a namespace, with no more rights than its unit gives it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.model import Site
from tests.lab.city import PANTAU, toml
from tests.lab.net import Namespace, cable
from tests.lab.process import Service
from tests.server.centre import Centre
from tests.wait import until

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

SITE = Site("maesa-0001", "A", "maesa", "telkom", address="10.98.0.2")
NOWHERE = Site("maesa-0002", "B", "maesa", "telkom", address="10.98.0.3")
_AS_THE_UNIT = (
    *("setpriv", "--no-new-privs", "--inh-caps", "-all,+net_raw"),
    *("--ambient-caps", "-all,+net_raw", "--bounding-set", "-all,+net_raw"),
)


@pytest.fixture
def places() -> Iterator[tuple[Namespace, Namespace]]:
    with Namespace() as centre, Namespace() as site:
        cable(centre, "10.98.0.1/24", site, "10.98.0.2/24")
        yield centre, site


def test_the_witness_keeps_from_when_to_when_an_address_answered(
    tmp_path: Path, places: tuple[Namespace, Namespace]
) -> None:
    here, there = places
    centre = Centre(tmp_path, SITE, NOWHERE)
    config = tmp_path / "server.toml"
    tables = {"store": {"url": centre.url}, "witness": {"every_s": 3}}
    # A key that the witness may not read, and does not want.
    tables["mqtt"] = {"url": "mqtts://localhost", "ca_file": "/nowhere/ca.pem"}
    config.write_text(toml({}, tables))
    run = [*_AS_THE_UNIT, PANTAU, "witness", "--config", str(config)]
    service = Service("witness", here.within(*run), tmp_path / "witness.log")

    def spans(site: Site = SITE) -> list[bool]:
        return [one.answered for one in centre.store.witnessed(site.id, 0.0, time.time())]

    service.start()
    try:
        until(lambda: spans() == [True], 30, "an answer")
        cut_at = time.time()
        there.cut("10.98.0.1")  # what the site answers
        until(lambda: spans() == [True, False], 30, "silence")
        mended_at = time.time()
        there.mend()
        until(lambda: spans() == [True, False, True], 30, "an answer again")
        service.stop()
    finally:
        service.discard()
        print(service)
    first, silent, again = centre.store.witnessed(SITE.id, 0.0, time.time())
    assert first.to_at < silent.from_at < again.from_at
    assert cut_at - 3 < silent.from_at < mended_at < again.from_at + 3
    assert spans(NOWHERE) == [False]
