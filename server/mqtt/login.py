"""How to reach the broker and log in, and what to say when that fails.

A refusal is one line that names the place and the mend. `permanent` tells those
that a retry cannot mend: somebody has to change a file or the broker first.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from server.config import Mqtt

_PLAIN_PORT = 1883
_TLS_PORT = 8883
_ALERT_S = 2.0
# CONNACK codes: MQTT 3.1.1 section 3.2.2.3, MQTT 5 section 3.2.2.2.
_LOGIN_REFUSED = {4, 5, 0x86, 0x87, 0x8A, 0x8C}
_CLIENT_ID_REFUSED = {2, 0x85}
_VERSION_REFUSED = {1, 0x84}
_NOT_NOW = {3: "unavailable", 0x88: "unavailable", 0x89: "busy", 0x97: "over quota"}


class Refused(Exception):
    """No connection came about; the text is one line with the place and the mend.

    Attributes:
        permanent: a retry fails as well until somebody changes something.
        other_version: the broker may only not speak this version of MQTT.
    """

    def __init__(self, text: str, *, permanent: bool, other_version: bool = False) -> None:
        super().__init__(text)
        self.permanent = permanent
        self.other_version = other_version


def address(settings: Mqtt) -> tuple[str, int]:
    """Host and port of the broker."""
    url = urlsplit(settings.url)
    return url.hostname or "", url.port or (_TLS_PORT if url.scheme == "mqtts" else _PLAIN_PORT)


def tls(settings: Mqtt) -> ssl.SSLContext | None:
    """The TLS side of the login, None for a plain connection.

    Raises:
        Refused: a certificate or key file cannot be used.
    """
    if not settings.url.startswith("mqtts:"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as err:
        raise _bad_file("ca_file", settings.ca_file, err) from None
    if settings.cert_file and settings.key_file:
        try:
            context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError) as err:
            raise _bad_file("cert_file, mqtt.key_file", settings.cert_file, err) from None
    return context


def password(settings: Mqtt) -> str | None:
    """The password, None where there is none.

    Raises:
        Refused: its file cannot be read.
    """
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as err:
        raise _bad_file("password_file", settings.password_file, err) from None


def unreached(settings: Mqtt, err: BaseException | None) -> Refused:
    """What to say when the broker could not be reached, or closed without an answer."""
    host, port = address(settings)
    place = f"mqtt.url {host}:{port}"
    if isinstance(err, ssl.SSLCertVerificationError):
        return Refused(
            f"{place}: the broker's certificate is not trusted ({err.verify_message});"
            " mend mqtt.ca_file, or the host in mqtt.url",
            permanent=True,
        )
    if isinstance(err, ssl.SSLError) and "ALERT" in (err.reason or ""):
        return Refused(
            f"{place}: the broker refused our certificate ({_spoken(err)});"
            " mend mqtt.cert_file and mqtt.key_file",
            permanent=True,
        )
    if isinstance(err, ssl.SSLError):
        return Refused(
            f"{place}: no TLS there ({_spoken(err)}); mend the port, or write mqtt://",
            permanent=True,
        )
    if isinstance(err, socket.gaierror):
        why, mend = f"no such host ({err.strerror})", "mend mqtt.url or the name service"
    elif isinstance(err, TimeoutError):
        why, mend = "no answer", "is it up, and does the network let us through?"
    elif isinstance(err, ConnectionRefusedError):
        why, mend = "no broker there (connection refused)", "start it, or mend mqtt.url"
    elif isinstance(err, OSError) and not isinstance(err, ConnectionError):
        why, mend = (
            f"cannot be reached ({err.strerror or 'no address of it answers'})",
            "mend the network or mqtt.url",
        )
    else:
        other = "mqtt" if settings.url.startswith("mqtts:") else "mqtts"
        return Refused(
            f"{place}: closed without an answer; look at its log, does it expect {other}://?",
            permanent=False,
            other_version=True,
        )
    return Refused(
        f"{place}: {why}; {mend}", permanent=False, other_version=isinstance(err, TimeoutError)
    )


async def late_alert(settings: Mqtt) -> ssl.SSLError | None:
    """Why the broker closed a TLS connection on which we had just logged in, if TLS says it.

    In TLS 1.3 our certificate is judged after the handshake, for us, is over, and
    the reset that then answers our CONNECT may overtake the alert. So connect
    again, say nothing, and listen.
    """
    secure = tls(settings)
    if secure is None:
        return None
    writer = None
    try:
        async with asyncio.timeout(_ALERT_S):
            reader, writer = await asyncio.open_connection(*address(settings), ssl=secure)
            await reader.read(1)
    except ssl.SSLError as err:
        return err
    except OSError:  # the timeout too: no alert came
        return None
    finally:
        if writer is not None:
            writer.transport.abort()
    return None


def unanswered(settings: Mqtt) -> Refused:
    """What to say when the broker took our login and is silent."""
    host, port = address(settings)
    text = f"mqtt.url {host}:{port}: no answer to the login; is that an MQTT broker?"
    return Refused(text, permanent=False, other_version=True)


def refused(settings: Mqtt, client_id: str, code: int) -> Refused:
    """What to say when the broker answered no (CONNACK with `code`)."""
    host, port = address(settings)
    place = f"mqtt.url {host}:{port}"
    if code in _LOGIN_REFUSED:
        text = f"{place}: login refused (code {code}); mend mqtt.username, mqtt.password_file"
        return Refused(f"{text}, or what the broker allows {client_id}", permanent=True)
    if code in _CLIENT_ID_REFUSED:
        text = f"{place}: client id {client_id} refused (code {code}); allow it at the broker"
        return Refused(text, permanent=True)
    if code in _VERSION_REFUSED:
        text = f"{place}: the broker does not speak that MQTT; set mqtt.version to auto"
        return Refused(text, permanent=True, other_version=True)
    why = _NOT_NOW.get(code, "not accepting us")
    return Refused(f"{place}: {why} (code {code}); look at the broker's log", permanent=False)


def _bad_file(key: str, path: Path | None, err: Exception) -> Refused:
    why = _spoken(err) if isinstance(err, ssl.SSLError) else getattr(err, "strerror", None) or err
    return Refused(f"mqtt.{key}: cannot use {path}: {why}; mend the file", permanent=True)


def _spoken(err: ssl.SSLError) -> str:
    """OpenSSL's reason in words: ``TLSV13_ALERT_CERTIFICATE_REQUIRED`` and the like."""
    return (err.reason or str(err)).replace("_", " ").lower()


def unsubscribed(settings: Mqtt, topic: str, code: int) -> Refused:
    """What to say when the broker does not let us hear a topic."""
    host, port = address(settings)
    text = f"mqtt.url {host}:{port}: may not subscribe to {topic} (code {code})"
    return Refused(f"{text}; mend the broker's ACL", permanent=True)
