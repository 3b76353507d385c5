"""A process that runs one probe as the agent does, and prints its outcomes as JSON lines.

    python -m tests.lab.one_probe NAME '{"names": ["example.org"]}'

It runs once at the start, and again for each line on stdin.
"""

from __future__ import annotations

import json
import sys

import msgspec

from agent import probes


def main() -> None:
    name, context = sys.argv[1], probes.Context(**json.loads(sys.argv[2]))
    while True:
        outcome = probes.run(name, context, 5.0)
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        sys.stdout.flush()
        if not sys.stdin.readline():
            return


if __name__ == "__main__":
    main()
