"""How fast the backlog goes, on a real mosquitto: by how late the server's acks are."""

from __future__ import annotations

import time
from pathlib import Path

from agent.publish.tempo import FIRST, QUICK_S
from tests.agent.publish_helper import WAIT_S, Rig, rig
from tests.lab.broker import Broker
from tests.wait import until

HELD = 60
_LATE_S = 1.5 * QUICK_S


def _first_message(agent: Rig) -> list[int]:
    """The backlog's first, behind the one reading that the server has."""
    found = until(
        lambda: [seqs for _, _, seqs in agent.batches() if seqs[0] == 2], WAIT_S, "the backlog"
    )
    return found[0]


def test_a_server_that_acknowledges_late_gets_no_backlog_for_a_while_but_the_newest(
    tmp_path: Path, broker: Broker
) -> None:
    with rig(tmp_path, broker) as agent:
        agent.append()
        agent.wait_seqs(1)
        agent.ack(1)
        agent.wait_unreleased(0)
        agent.append(HELD)
        first = _first_message(agent)
        assert first == list(range(2, 2 + FIRST))
        ready_s = time.monotonic() + _LATE_S
        until(lambda: time.monotonic() > ready_s, WAIT_S, "the ack to be late")
        agent.ack(first[-1])
        agent.wait_unreleased(1 + HELD - first[-1])
        for newest in (HELD + 2, HELD + 3):
            agent.append()
            until(lambda n=newest: [n] in [one[2] for one in agent.batches()], WAIT_S, "the newest")

        assert [seqs[0] for _, _, seqs in agent.batches() if len(seqs) > 1] == [2]
