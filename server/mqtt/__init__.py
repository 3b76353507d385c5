"""The server's MQTT edge: one connection to the broker, batches in, messages out.

`connect` gives one `Connection`, which ends with `Lost`; connecting again is the
caller's loop. What it keeps to:

1. A message is acknowledged when `Connection.acknowledge` is called with its
   batch, never before, and only on the connection that brought it: packet ids
   begin anew on the next one, where the broker delivers again what was not
   acknowledged.
2. All of it runs on the event loop, and nothing waits for the broker: what is
   published queues here, and a bounded number of messages awaits its PUBACK.
3. MQTT 5 and 3.1.1 behave the same; 5 only names more reasons.

The protocol is gmqtt's. Its client is used without its own reconnecting, and two
of its handlers are replaced, because its public ones know no packet ids, and
cost a task and a write for each message. docs/bench.md has the figures.
"""

from server.mqtt.client import Will
from server.mqtt.connection import Connection, Lost, connect
from server.mqtt.incoming import Batch
from server.mqtt.login import Refused, tls
from server.mqtt.queue import Message, Turn

__all__ = [
    "Batch",
    "Connection",
    "Lost",
    "Message",
    "Refused",
    "Turn",
    "Will",
    "connect",
    "tls",
]
