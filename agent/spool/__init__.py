"""The spool: where readings wait, on disk, until the server has them."""

from agent.spool.folder import SpoolError, held, lock, write_file
from agent.spool.store import Spool
from agent.spool.streams import Stream

__all__ = ["Spool", "SpoolError", "Stream", "held", "lock", "write_file"]
