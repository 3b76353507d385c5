"""One MQTT client for tests: says what it is told to say, remembers what it heard."""

from __future__ import annotations

import threading
from socket import SHUT_RDWR, socket
from types import TracebackType
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.lab.broker import Broker
from tests.lab.pki import Authority
from tests.wait import until

_ANSWER_S = 20.0


class Heard(NamedTuple):
    """One message, in the order of arrival."""

    topic: str
    payload: bytes
    retained: bool


class Refused(Exception):
    """The broker did not let us in."""


class Peer:
    """A client of `broker`; a context manager that connects and disconnects.

    Args:
        broker: whom to connect to.
        user: the name in the certificate; without TLS only the client id.
        version: 4 for MQTT 3.1.1, 5 for MQTT 5.
        client_id: what to ask for; the broker may decide otherwise.
        clean: begin with an empty session; otherwise the session outlives us.
        will: topic, payload, retained.
        authority: who signed our certificate, when not the broker's own.
        certificate: whether to show one at all.
        claimed: a user name to send besides the certificate.
    """

    def __init__(
        self,
        broker: Broker,
        user: str,
        *,
        version: int = 4,
        client_id: str | None = None,
        clean: bool = True,
        will: tuple[str, bytes, bool] | None = None,
        authority: Authority | None = None,
        certificate: bool = True,
        claimed: str | None = None,
    ) -> None:
        self.heard: list[Heard] = []
        self.disconnects = 0
        self._broker, self._clean, self._v5 = broker, clean, version == 5
        self._answered = threading.Event()
        self._code = ""
        self._subscribed: set[int] = set()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=user if client_id is None else client_id,
            clean_session=None if self._v5 else clean,
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
        )
        if broker.authority is not None:
            own = (authority or broker.authority).client(user)
            shown = (str(own.cert), str(own.key)) if certificate else ()
            self._client.tls_set(str(broker.authority.ca), *shown)
        if claimed is not None:
            self._client.username_pw_set(claimed, "x")
        if will is not None:
            self._client.will_set(will[0], will[1], qos=1, retain=will[2])
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_subscribe = self._on_subscribe

    def connect(self) -> Self:
        """Connect.

        Raises:
            Refused: the broker closed the connection or said no.
        """
        more: dict[str, Any] = {}
        if self._v5:
            more["clean_start"] = self._clean
            more["properties"] = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own
            more["properties"].SessionExpiryInterval = 0 if self._clean else 3600
        try:
            self._client.connect(self._broker.host, self._broker.port, keepalive=30, **more)
        except OSError as err:
            raise Refused(str(err)) from None
        self._client.loop_start()
        assert self._answered.wait(_ANSWER_S), "neither CONNACK nor an end of the connection"
        if self._code != "Success":
            self._client.loop_stop()
            raise Refused(self._code)
        return self

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
        """Publish with QoS 1 and wait for the broker's answer, be it yes or no."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        info.wait_for_publish(_ANSWER_S)
        assert info.is_published(), f"no PUBACK for {topic}"

    def send(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        properties: Properties | None = None,
    ) -> None:
        """Publish with QoS 1 and wait for nothing; `properties` on MQTT 5 alone."""
        self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)

    def subscribe(self, pattern: str) -> None:
        """Subscribe with QoS 1 and wait for the answer (mosquitto always grants)."""
        _, mid = self._client.subscribe(pattern, qos=1)
        assert mid is not None
        until(lambda: mid in self._subscribed, _ANSWER_S, f"SUBACK for {pattern}")

    def wait_for(self, payload: bytes) -> Heard:
        """The first message with this payload, waiting for it to arrive."""
        return until(
            lambda: next((m for m in list(self.heard) if m.payload == payload), None),
            _ANSWER_S,
            f"a message {payload!r}",
        )

    def has(self, payload: bytes) -> bool:
        """Whether a message with this payload has arrived."""
        return any(message.payload == payload for message in list(self.heard))

    def cut(self) -> None:
        """End the connection as a cut line does: without a word, so that the will is due."""
        sock = self._client.socket()
        assert isinstance(sock, socket)
        # Beneath TLS, whose own shutdown would take the session from the thread that reads.
        socket.shutdown(sock, SHUT_RDWR)
        self._client.loop_stop()

    def close(self) -> None:
        """Disconnect properly."""
        self._client.disconnect()
        self._client.loop_stop()
        # No longer a cycle: the sockets that paho leaves open go with the client
        self._client.on_connect = self._client.on_disconnect = None
        self._client.on_message = self._client.on_subscribe = None

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _on_connect(self, _c: object, _u: object, _f: object, code: object, _p: object) -> None:
        self._code = str(code)
        self._answered.set()

    def _on_disconnect(self, _c: object, _u: object, _f: object, code: object, _p: object) -> None:
        self.disconnects += 1
        self._code = self._code if self._answered.is_set() else f"closed: {code}"
        self._answered.set()

    def _on_message(self, _c: object, _u: object, message: mqtt.MQTTMessage) -> None:
        self.heard.append(Heard(message.topic, bytes(message.payload), message.retain))

    def _on_subscribe(self, _c: object, _u: object, mid: int, _r: object, _p: object) -> None:
        self._subscribed.add(mid)
