"""One connection to the broker: one paho client, one session, one will.

paho runs without a thread of its own here: `turn` is called again and again by
whoever owns the connection, and every callback runs inside it. So nothing here
needs a lock, and an exception in a callback cannot end the network thread.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent import wire
from agent.config import Mqtt
from agent.publish import login
from agent.publish.login import BrokerError
from agent.publish.traffic import Traffic

log = logging.getLogger(__name__)

Protocol = Literal["5", "3.1.1"]
MAX_IN_FLIGHT = 20
_LOGIN_S = 10.0
# A lost ack stands retained and comes again: QoS 0 saves a packet each way for each reading.
_LEAVES = {"acks": 0, "settings": 1, "commands": 1}
_PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}

Receive = Callable[[str, bytes, bool], None]
"""Takes the last part of the topic, the payload, and whether it was retained."""


class Connection:
    """A connection that was opened; `alive` until it is lost or closed.

    Args:
        site: the client id, and the user name where none is configured.
        mqtt: the broker and how to log in.
        protocol: the MQTT version to speak.
        will: the presence to publish for us when we are lost; None for no will.
        receive: takes what arrives.
        traffic: counts what the connection takes.

    Raises:
        BrokerError: it could not be opened.
        ConfigError: a certificate file is no good (any more).
    """

    def __init__(
        self,
        site: str,
        mqtt: Mqtt,
        protocol: Protocol,
        *,
        will: bytes | None,
        receive: Receive,
        stopping: Callable[[], bool] = lambda: False,
        traffic: Traffic | None = None,
    ) -> None:
        self._site = site
        self._traffic = traffic or Traffic()
        self._mqtt = mqtt
        self._receive = receive
        self._stopping = stopping
        self._login: ReasonCode | None = None
        self._last_error = ""
        self.why_lost = ""
        self.subscribed = False
        self.max_in_flight = MAX_IN_FLIGHT
        self.max_packet_bytes = wire.MAX_PAYLOAD_BYTES
        self.in_flight: dict[int, bytes] = {}
        self.refused: str | None = None
        self._takes_alias = self._alias_is_known = False
        self._client = self._make_client(protocol, will)
        self._open()

    def _make_client(self, protocol: Protocol, will: bytes | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._site,
            protocol=_PROTOCOLS[protocol],
            reconnect_on_failure=False,
        )
        client.suppress_exceptions = True
        client.max_queued_messages_set(2 * MAX_IN_FLIGHT)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_log = self._on_log
        if will is not None:
            client.will_set(wire.site_topic(self._site, "presence"), will, qos=1, retain=True)
        context = login.tls_context(self._mqtt)
        if context is not None:
            client.tls_set_context(context)
        client.username_pw_set(self._mqtt.username or self._site, login.password(self._mqtt))
        return client

    def _open(self) -> None:
        url = urlsplit(self._mqtt.url)
        host = url.hostname or ""
        port = url.port or (8883 if url.scheme == "mqtts" else 1883)
        place = f"broker {host}:{port}"
        self._traffic.begin()
        try:
            self._client.connect(host, port, self._mqtt.keepalive_s)
        except ssl.SSLCertVerificationError as err:
            self._traffic.handshake_failed()
            raise BrokerError(
                f"{place}: its certificate is not accepted: {err.verify_message};"
                " check mqtt.ca_file and the host in mqtt.url",
                refused=True,
            ) from None
        except (OSError, ValueError) as err:
            if isinstance(err, ssl.SSLError):
                self._traffic.handshake_failed()
            raise BrokerError(
                f"{place}: {login.reason(err)}; check mqtt.url and the network",
                refused=login.is_alert(str(err)),
            ) from None
        until_s = time.monotonic() + _LOGIN_S
        while self._login is None and self.alive and time.monotonic() < until_s:
            if self._stopping():
                break
            self.turn(0.2)
        if self._login is None:
            perhaps = None if url.scheme == "mqtts" and not self.alive else False
            self.close()
            raise BrokerError(
                f"{place}: no answer to the login{self._hint()}; check the certificate,"
                " mqtt.version and that this is an MQTT port",
                other_protocol=True,
                refused=login.is_alert(self._last_error) or perhaps,
            )
        if self._login.is_failure:
            self.close()
            raise BrokerError(
                f"{place}: refuses the login of {self._mqtt.username or self._site}:"
                f" {self._login}; check mqtt.username, mqtt.password_file and the certificate",
                other_protocol=str(self._login) == "Unsupported protocol version",
                refused=str(self._login) in login.REFUSALS,
            )

    def _hint(self) -> str:
        return f" ({self._last_error})" if self._last_error else ""

    @property
    def alive(self) -> bool:
        return self._client.socket() is not None

    @property
    def logged_in(self) -> bool:
        return self.alive and self._client.is_connected()

    def subscribe(self) -> None:
        """Ask for what the server says to this site."""
        self._client.subscribe(
            [(wire.site_topic(self._site, leaf), qos) for leaf, qos in _LEAVES.items()]
        )

    def publish(self, leaf: str, payload: bytes, *, retain: bool = False) -> int | None:
        """Hand a message to the network at QoS 1; its id, None when the link is gone."""
        topic, properties = self._name(leaf)
        info = self._client.publish(topic, payload, 1, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return None
        self.in_flight[info.mid] = payload if leaf == "replies" else b""
        return info.mid

    def _name(self, leaf: str) -> tuple[str, Properties | None]:
        """A leaf's topic; for readings a number once the broker knows it (MQTT 5, 3.3.2.3.4).

        That saves 45 KB a day.
        """
        topic = wire.site_topic(self._site, leaf)
        if leaf != "readings" or not self._takes_alias:
            return topic, None
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # of paho
        properties.TopicAlias = 1
        known, self._alias_is_known = self._alias_is_known, True
        return "" if known else topic, properties

    def turn(self, timeout_s: float, wake: int | None = None) -> None:
        """Wait for the network or for `wake`, a descriptor, and do what is due."""
        sock: Any = self._client.socket()
        if sock is None:
            return
        readers = [sock] if wake is None else [sock, wake]
        writers = [sock] if self._client.want_write() else []
        try:
            readable, writable, _ = select.select(readers, writers, [], timeout_s)
        except (OSError, ValueError):
            return  # the socket went while we waited; the next turn sees it
        if sock in readable:
            self._client.loop_read()
            while isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending():
                self._client.loop_read()
        if sock in writable:
            self._client.loop_write()
        self._client.loop_misc()
        self._traffic.look(sock)

    def close(self) -> None:
        """Say goodbye, so that the broker drops the will, and end it."""
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
            self.turn(0.0)
        sock: Any = self._client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            self._client.loop_read()

    # Called by paho, inside `turn`; none may raise
    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._login = reason
        receive_maximum = getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)
        self.max_in_flight = max(1, min(MAX_IN_FLIGHT, receive_maximum))
        self._takes_alias = getattr(properties, "TopicAliasMaximum", 0) > 0
        self.max_packet_bytes = getattr(properties, "MaximumPacketSize", wire.MAX_PAYLOAD_BYTES)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.why_lost = f"{reason}{self._hint()}"

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: object,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        self.subscribed = True
        refused = [
            leaf for leaf, reason in zip(_LEAVES, reasons, strict=False) if reason.is_failure
        ]
        if refused:
            self.refused = (
                f"the broker refuses our subscription to {', '.join(refused)}; check its ACL"
            )

    def _on_publish(
        self,
        _client: paho.Client,
        _data: object,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self.in_flight.pop(mid, None)
        if reason.is_failure:
            self.refused = f"the broker refuses what we publish: {reason}; check its ACL"

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            self._receive(message.topic.rpartition("/")[2], bytes(message.payload), message.retain)
        except Exception:
            log.exception("a message on %s could not be handled", message.topic)

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._last_error = text
