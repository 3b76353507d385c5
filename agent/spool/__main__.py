"""`python -m agent.spool DIR`: every held reading, one JSON object a line.

Reads without a lock and changes nothing, so it may run beside the agent.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from agent.spool.folder import held


def lines(path: Path) -> list[str]:
    """Stream, seq, SHA-256 of the bytes and the reading itself, the oldest first."""
    return [
        f'{{"stream":"{stream}","seq":{seq},"sha256":"{hashlib.sha256(payload).hexdigest()}"'
        f',"reading":{payload.decode()}}}'
        for stream, seq, payload in held(path)
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m agent.spool DIR")
    for line in lines(Path(sys.argv[1])):
        print(line)
