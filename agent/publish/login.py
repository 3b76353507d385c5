"""What a login needs from files: certificates, the key, the password; and what refuses it."""

from __future__ import annotations

import ssl

from agent.config import ConfigError, Mqtt


class BrokerError(Exception):
    """No connection: one line with the place and the mend.

    `other_protocol`: it may only not speak this version; `refused`: it will be so in a minute, too
    (None: perhaps; the broker hung up on a login over TLS, where its alert gets lost at times).
    """

    def __init__(
        self, text: str, *, other_protocol: bool = False, refused: bool | None = False
    ) -> None:
        super().__init__(text)
        self.other_protocol = other_protocol
        self.refused = refused


REFUSALS = (
    "Client identifier not valid",
    "Bad user name or password",
    "Not authorized",
    "Banned",
    "Bad authentication method",
)
"""Answers to a login that do not change by themselves (MQTT 5, 3.2.2.2)."""


def is_alert(text: str) -> bool:
    """Whether an error of TLS is the other side's word: of a certificate, mostly (RFC 8446, 6)."""
    return "SSL" in text and " alert " in text


def tls_context(mqtt: Mqtt) -> ssl.SSLContext | None:
    """TLS as configured; None for a url without.

    Raises:
        ConfigError: a file that holds no such thing, or a key of another certificate.
    """
    if not mqtt.url.startswith("mqtts:"):
        return None
    try:
        context = ssl.create_default_context(cafile=mqtt.ca_file)
    except (ssl.SSLError, OSError) as err:
        raise ConfigError(
            f"mqtt.ca_file: {mqtt.ca_file}: {reason(err)}; put a PEM file there"
        ) from None
    if mqtt.cert_file and mqtt.key_file:
        try:
            # an empty password keeps an encrypted key from asking at the terminal
            context.load_cert_chain(mqtt.cert_file, mqtt.key_file, password="")
        except (ssl.SSLError, OSError) as err:
            raise ConfigError(
                f"mqtt.cert_file, mqtt.key_file: {mqtt.cert_file}, {mqtt.key_file}: {reason(err)};"
                " put a PEM certificate and its own, unencrypted key there"
            ) from None
    return context


def password(mqtt: Mqtt) -> str | None:
    """The first line of the password file.

    Raises:
        ConfigError: it can no longer be read.
    """
    if mqtt.password_file is None:
        return None
    try:
        return mqtt.password_file.read_text(encoding="utf-8").split("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            f"mqtt.password_file: {mqtt.password_file}: {reason(err)}; put the password there"
        ) from None


def reason(err: Exception) -> str:
    """The short text of an error of the system or of TLS."""
    text = err.reason if isinstance(err, ssl.SSLError) else getattr(err, "strerror", None)
    return str(text or err)
