"""A small certificate authority for tests, by the openssl command (P-256)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, both PEM files."""

    name: str
    cert: Path
    key: Path


class Authority:
    """Signs certificates; everything lies in `folder`."""

    def __init__(self, folder: Path, name: str = "Pantau test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.crt"
        self._ca_key = folder / "ca.key"
        self._made: dict[str, Identity] = {}
        _openssl(
            *("req", "-x509", *_KEY, "-keyout", self._ca_key, "-out", self.ca),
            *("-days", "30", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:TRUE"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def client(self, name: str) -> Identity:
        """The client certificate whose common name is `name`; made once."""
        if name not in self._made:
            self._made[name] = self._sign(name, f"client-{len(self._made)}", "clientAuth", "")
        return self._made[name]

    def expired(self, name: str) -> Identity:
        """A client certificate that ended as it was made."""
        return self._sign(name, "expired", "clientAuth", "", days=0)

    def server(self, *hosts: str) -> Identity:
        """A server certificate for host names and addresses (``DNS:…``, ``IP:…``)."""
        return self._sign("broker", "server", "serverAuth", f"subjectAltName={','.join(hosts)}\n")

    def _sign(self, name: str, stem: str, usage: str, more: str, days: int = 30) -> Identity:
        cert, key = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        request, extensions = self.folder / f"{stem}.csr", self.folder / f"{stem}.ext"
        extensions.write_text(
            f"basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n"
            f"subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n{more}"
        )
        subject = "/CN=" + name.replace("/", "\\/")
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", subject)
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._ca_key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", cert),
        )
        return Identity(name, cert, key)


def _openssl(*argv: str | Path) -> None:
    done = subprocess.run(["openssl", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
