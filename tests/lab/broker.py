"""A real mosquitto for tests, run from the configuration that Pantau ships."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.lab.pki import Authority
from tests.wait import until

SHIPPED = Path(__file__).parents[2] / "deploy" / "mosquitto"
_START_S = 20.0
_STOP_S = 60.0


class Broker:
    """Mosquitto on one address, with its memory in `folder`.

    With an `authority`: mutual TLS and the shipped ACL. Without: no TLS, anyone
    may do anything; every other line of the shipped configuration stays.

    Args:
        folder: certificates, configuration, log and persistence go here.
        authority: who signs; the broker's own certificate is made from it.
        host: the address to listen on, and that `url` names.
        port: 0 for a free one of the loopback.
        prefix: put before the command, such as ``("ip", "netns", "exec", NAME)``.
        extra: further lines of configuration.

    Use as a context manager: it starts on entering, and is ended on leaving.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: Authority | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        prefix: Sequence[str] = (),
        extra: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.authority = authority
        self.host = host
        self.port = port or _free_port()
        self.log = folder / "mosquitto.log"
        self._memory = folder / "memory"
        self._memory.mkdir(exist_ok=True)
        self._prefix = tuple(prefix)
        self._process: subprocess.Popen[bytes] | None = None
        self._conf = folder / "mosquitto.conf"
        self._conf.write_text("\n".join([*self._lines(), *extra, ""]))

    @property
    def url(self) -> str:
        """What agent and server take as ``mqtt.url``."""
        return f"{'mqtts' if self.authority else 'mqtt'}://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def settings(self, user: str) -> dict[str, str]:
        """The keys of ``[mqtt]`` with which `user` gets in."""
        if self.authority is None:
            return {"url": self.url}
        own = self.authority.client(user)
        return {
            "url": self.url,
            "ca_file": str(self.authority.ca),
            "cert_file": str(own.cert),
            "key_file": str(own.key),
        }

    def config(self, user: str) -> str:
        """`settings` as a TOML table, ready to stand in a configuration file."""
        return "\n".join(
            ["[mqtt]", *(f'{key} = "{value}"' for key, value in self.settings(user).items()), ""]
        )

    def start(self) -> None:
        """Start, and return once it listens."""
        assert self._process is None, "the broker is running already"
        if shutil.which("mosquitto") is None:
            pytest.skip("needs mosquitto: apt-get install mosquitto")
        seen = self._log_text().count(" running")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._prefix, "mosquitto", "-c", str(self._conf)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: self._runs(seen), _START_S, f"mosquitto to run (log: {self.log})")

    def stop(self) -> None:
        """End it gracefully: it closes its connections and saves its memory."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """End it as a power cut would: what was not yet saved is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """End it gracefully and start it again on the same port."""
        self.stop()
        self.start()

    def forget(self) -> None:
        """Delete the memory of a broker that is not running: sessions, queues, retained."""
        assert self._process is None, "stop the broker first"
        for file in self._memory.iterdir():
            file.unlink()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill9()

    def _end(self, sign: signal.Signals) -> None:
        assert self._process is not None, "the broker is not running"
        self._process.send_signal(sign)
        self._process.wait(_STOP_S)
        self._process = None

    def _runs(self, seen: int) -> bool:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            self._process = None
            raise AssertionError(f"mosquitto ended with {code}:\n{self._log_text()[-2000:]}")
        return self._log_text().count(" running") > seen

    def _log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _lines(self) -> list[str]:
        """The shipped configuration with this broker's paths and listener."""
        changed: dict[str, str | None] = {
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "listener": f"{self.port} {self.host}",
            "persistence_location": f"{self._memory}/",
        }
        if self.authority is None:
            changed |= dict.fromkeys(_TLS_LINES)
            changed["allow_anonymous"] = "true"
        else:
            kind = "IP" if self.host[-1].isdigit() else "DNS"
            server = self.authority.server(f"{kind}:{self.host}", "DNS:localhost")
            changed |= {
                "cafile": str(self.authority.ca),
                "certfile": str(server.cert),
                "keyfile": str(server.key),
                "acl_file": str(SHIPPED / "acl"),
            }
        return _filled((SHIPPED / "mosquitto.conf").read_text(), changed)


_TLS_LINES = (
    "cafile",
    "certfile",
    "keyfile",
    "tls_version",
    "require_certificate",
    "use_identity_as_username",
    "use_username_as_clientid",
    "acl_file",
)


def _filled(text: str, changed: dict[str, str | None]) -> list[str]:
    """`text` with the value of each key in `changed` replaced, or its line left out."""
    lines, met = [], set()
    for line in text.splitlines():
        key = line.partition(" ")[0]
        if key not in changed:
            lines.append(line)
            continue
        met.add(key)
        if changed[key] is not None:
            lines.append(f"{key} {changed[key]}")
    assert met == set(changed), f"not in the shipped configuration: {set(changed) - met}"
    return lines


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
