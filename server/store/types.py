"""What a store gives and takes: rows, and what can go wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from msgspec import Struct

from server.health import Health
from server.model import Contract, Incident, Status
from server.seqset import SeqSet
from server.timeline import Run

FLAG_CORRECTED = 1
"""The time of a reading was put right by the time of receipt."""
FLAG_UNCERTAIN = 2
"""Nothing anchors the time of a reading."""


Boots = tuple[tuple[str, float], ...]
"""Kernel boots of one device, oldest first, and when each began by the server's clock."""


class StoreError(Exception):
    """Storage failed (full disk, locked, corrupt); the text is for the operator."""


class PlaceError(StoreError):
    """No database can be where the configuration puts it; the text says why, and the mend."""


class NoStoreError(StoreError):
    """There is no database yet, and none was to be made."""


class StreamRow(NamedTuple):
    """A stream and which of its sequence numbers are accounted for."""

    id: int
    site: str
    stream: str
    seqs: SeqSet
    lost: int


class ReadingRow(NamedTuple):
    """One reading as it is stored."""

    stream_id: int
    seq: int
    received_at: float
    taken_at: float
    flags: int
    body: bytes


class NewReading(NamedTuple):
    """One reading to store: it stays in its message, at `place`."""

    stream_id: int
    seq: int
    received_at: float
    taken_at: float
    flags: int
    message: int
    place: int


class HealthRow(NamedTuple):
    """A site's health, when it is due, where its state topic stands; its growing span of up."""

    health: Health
    due_at: float | None
    district: str
    isp: str
    run: Run | None = None


class Standing(Struct, frozen=True, gc=False):
    """How a site stands, and no more of it than a list of all shows."""

    site: str
    name: str
    district: str
    isp: str
    timezone: str
    registered: bool
    status: Status
    since: float
    reasons: tuple[str, ...]
    flapping: bool


class ContractVersion(NamedTuple):
    """All terms of a contract as they were known from `at` on, until the next version."""

    version: int
    at: float
    terms: tuple[Contract, ...]


class RulesVersion(NamedTuple):
    """The rules as they were imported at `at`."""

    version: int
    at: float
    text: str


class OutageRow(NamedTuple):
    """A time that a site was offline, and its cause.

    That of its group where its own is unknown, or a guess, as it is while the outage lasts; that
    its agent was not running is shown by then.
    """

    site: str
    opened_at: float
    resolved_at: float | None
    verdict: str


class Unsettled(NamedTuple):
    """A site whose ended outages are to be looked at again, where they touch this time."""

    site: str
    from_at: float
    to_at: float


class Letter(NamedTuple):
    """A message that has yet to be published."""

    id: int
    topic: str
    payload: bytes
    retain: bool


class Quarantined(NamedTuple):
    """A message, or one reading of it, that broke the contract."""

    at: float
    topic: str
    reason: str
    size: int
    head: bytes


class Streams(Protocol):
    """What accounting for the readings of streams takes of a store."""

    def stream(self, site: str, stream: str) -> StreamRow | None:
        """One stream, or None."""

    def add_stream(self, site: str, stream: str) -> StreamRow:
        """A new stream, nothing of it accounted for."""

    def put_streams(self, rows: Iterable[StreamRow]) -> None:
        """Replace what is known of streams."""

    def streams(self) -> Iterator[StreamRow]:
        """All streams: of years of power cuts that is many."""

    def holed_streams(self) -> Iterator[StreamRow]:
        """The streams with something stored beyond a hole, of sites in service or heard from."""

    def newest_streams(self, seen: Mapping[str, str]) -> Iterator[tuple[str, str, int]]:
        """A stream of each site, and its `through`: the one `seen` of it last, else the newest."""

    def seqs_above(self, stream_id: int, seq: int, most: int) -> list[int]:
        """The next numbers of a stream's readings above `seq`, in order."""

    def count_readings(self, stream_id: int, low: int, high: int) -> int:
        """How many readings a stream has of these numbers, both ends included."""


class Settling(Protocol):
    """What looking at outages again takes of a store."""

    def told(self, site: str, from_at: float, to_at: float) -> Iterator[tuple[str, ReadingRow]]:
        """Readings of a site that were taken after the one and by the other time, with their
        streams, of each stream the newest first; and last the newest that was taken before."""

    def unsettle(self, site: str, from_at: float, to_at: float, at: float) -> None:
        """Something new is known of this time of a site, since `at`."""

    def unsettled(self, from_at: float, to_at: float, most: int) -> list[Unsettled]:
        """Some of which nothing new came between these times, those that wait longest first."""

    def settled(self, sites: Iterable[str]) -> None:
        """They were looked at."""

    def ended(self, site: str, from_at: float, to_at: float) -> list[Incident]:
        """The outages of a site that have ended and touch a time, oldest first."""

    def went(self, from_at: float, to_at: float) -> set[str]:
        """The sites with an outage that began between these times."""
