"""Sending: presence, the spool's readings, replies; and listening to the server."""

from agent.publish.connection import Connection, Protocol
from agent.publish.delivery import Delivery
from agent.publish.drain import Range
from agent.publish.login import BrokerError, tls_context
from agent.publish.presence import Here, Reason
from agent.publish.publisher import Publisher

__all__ = [
    "BrokerError",
    "Connection",
    "Delivery",
    "Here",
    "Protocol",
    "Publisher",
    "Range",
    "Reason",
    "tls_context",
]
