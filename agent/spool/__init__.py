"""The spool: where readings wait, on disk, until the server has them."""

from agent.spool.folder import PlaceError, SpoolError, held, lock, write_file
from agent.spool.store import Spool
from agent.spool.streams import Stream

__all__ = ["PlaceError", "Spool", "SpoolError", "Stream", "held", "lock", "write_file"]
