"""The bound on new connections that the role `broker` brings, for a broker of a bench."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

_TABLE = "pantau_storms"


@contextlib.contextmanager
def bounded(port: int, per_s: int) -> Iterator[None]:
    """Drop what asks for a connection faster than that, for a moment twice as fast. Root.

    All of a bench comes from one address, so the role's bound by address has no place here.
    """
    rules = f"""
table inet {_TABLE} {{
  chain begin {{
    type filter hook input priority filter - 5; policy accept;
    tcp dport {port} tcp flags & (syn | ack) == syn limit rate over {per_s}/second burst {2 * per_s} packets counter drop
  }}
}}
"""  # noqa: E501
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", _TABLE], check=False)
