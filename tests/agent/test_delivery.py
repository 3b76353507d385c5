"""What proves that the centre stores what this process sends."""

from __future__ import annotations

from agent.publish import Delivery


def test_an_ack_of_what_was_sent_confirms() -> None:
    delivery = Delivery()
    delivery.sent("s", 7)
    delivery.sent("s", 8)
    assert not delivery.confirmed
    delivery.acked("s", 6, retained=False)
    assert not delivery.confirmed
    delivery.acked("s", 7, retained=False)
    assert delivery.confirmed


def test_what_stood_retained_confirms_nothing_however_far_it_goes() -> None:
    delivery = Delivery()
    delivery.sent("s", 7)
    delivery.acked("s", 9, retained=True)
    delivery.acked("s", 9, retained=False)  # said once more as ingest connects
    assert not delivery.confirmed
    delivery.acked("s", 10, retained=False)
    assert delivery.confirmed


def test_an_ack_of_a_stream_that_was_not_sent_confirms_nothing() -> None:
    delivery = Delivery()
    delivery.sent("s", 1)
    delivery.acked("other", 50, retained=False)
    assert not delivery.confirmed


def test_a_backlog_counts_from_its_first_reading() -> None:
    """Months of it would take longer to confirm than a trial lasts."""
    delivery = Delivery()
    delivery.sent("s", 5000)  # the newest goes first, alone
    delivery.acked("s", 120, retained=True)
    delivery.sent("s", 121)
    delivery.acked("s", 220, retained=False)
    assert delivery.confirmed
