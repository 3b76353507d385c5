"""A small certificate authority in one folder, by the openssl command (P-256).

    ca.py DIR init
    ca.py DIR sign NAME [--san DNS:a,IP:b] [--days N] < request.pem > certificate.pem
    ca.py DIR revoke NAME [--but SERIAL] [--dry-run]

The name in a certificate is the one that is asked for here, whatever the request says. Exit
code 1 with one line on stderr that names the mend.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import subprocess
import sys
import time
from pathlib import Path

_CONFIG = """\
[ca]
default_ca = pantau
[pantau]
dir = {folder}
database = $dir/index.txt
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir/certs
certificate = $dir/ca.pem
private_key = $dir/ca.key
default_md = sha256
policy = policy
unique_subject = no
rand_serial = yes
[policy]
commonName = supplied
[extensions]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
extendedKeyUsage = {usage}
{more}
"""
_CA_DAYS = 3650
_CRL_DAYS = 3650
"""Long, on purpose: a broker whose list has expired refuses everybody. Revoking makes a new one."""
_BACK_S = 86400
"""Certificates and lists begin a day ago: a machine whose clock is behind would refuse them."""


class CaError(Exception):
    """One line with the place and the mend."""


class Authority:
    """The authority in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def init(self) -> bool:
        """Make it, or what an existing one lacks to sign and to revoke; True when it did.

        An existing one is its certificate as `ca.pem` with its key as `ca.key`, no more.
        """
        cert = self._folder / "ca.pem"
        if cert.exists():
            if self._openssl("x509", "-in", cert, "-checkend", "86400", refuse=False) is None:
                raise CaError(
                    f"{cert}: has expired, or does so within a day; move the folder away and run"
                    " site.yml for all sites"
                )
            if not (self._folder / "ca.key").exists():
                raise CaError(f"{cert}: its key ca.key is not beside it; bring it back")
            if (self._folder / "ca.crl").exists():
                return False
            self._check_pair(cert)
        (self._folder / "certs").mkdir(parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        (self._folder / "index.txt").touch()
        (self._folder / "crlnumber").write_text("01\n")
        if not cert.exists():
            self._openssl(
                *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-keyout", self._folder / "ca.key", "-out", cert, "-days", str(_CA_DAYS)),
                *("-subj", "/CN=Pantau", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            )
        self._renew_list()
        return True

    def sign(self, name: str, request: str, san: str, days: int) -> str:
        """The certificate for a request."""
        usage, more = ("serverAuth", f"subjectAltName = {san}") if san else ("clientAuth", "")
        incoming, outgoing = self._folder / "request.pem", self._folder / "signed.pem"
        incoming.write_text(request)
        self._ca(
            *("-in", incoming, "-out", outgoing, "-batch", "-notext", "-days", str(days)),
            *("-subj", f"/CN={name}", "-extensions", "extensions", "-startdate", _a_day_ago()),
            usage=usage,
            more=more,
        )
        return outgoing.read_text()

    def revoke(self, name: str, but: str, dry: bool) -> int:
        """Revoke the valid certificates of a name, that of serial `but` left out; how many.

        What a run that was cut off revoked, and the list does not have, is among them.
        """
        rows = [row.split("\t") for row in (self._folder / "index.txt").read_text().splitlines()]
        serials = [row[3] for row in rows if row[0] == "V" and row[5] == f"/CN={name}"]
        serials = [serial for serial in serials if serial != but]
        listed = self._listed()
        late = [row for row in rows if row[0] == "R" and _lasts(row[1]) and row[3] not in listed]
        count = len(serials) + sum(row[5] == f"/CN={name}" for row in late)
        if dry:
            return count
        for serial in serials:
            self._ca("-revoke", self._folder / "certs" / f"{serial}.pem")
        if serials or late:
            self._renew_list()
        return count

    def _check_pair(self, cert: Path) -> None:
        """An authority that exists must be one, and the key its own."""
        key = self._folder / "ca.key"
        key.chmod(0o600)
        of_key = self._openssl("pkey", "-in", key, "-passin", "pass:", "-pubout", refuse=False)
        if of_key != self._openssl("x509", "-in", cert, "-noout", "-pubkey"):
            raise CaError(
                f"{key}: is not the key of ca.pem, or has a password; bring the right one"
            )
        if "CA:TRUE" not in (self._openssl("x509", "-in", cert, "-noout", "-text") or ""):
            raise CaError(f"{cert}: is no authority's (CA:TRUE); bring one that may sign")

    def _listed(self) -> set[str]:
        """The serials that the list has; none where it is no list."""
        crl = self._folder / "ca.crl"
        said = self._openssl("crl", "-in", crl, "-noout", "-text", refuse=False) or ""
        return set(re.findall(r"Serial Number: ([0-9A-F]+)", said))

    def _renew_list(self) -> None:
        unfinished = self._folder / "ca.crl.new"
        self._ca(
            *("-gencrl", "-crldays", str(_CRL_DAYS), "-crl_lastupdate", _a_day_ago()),
            *("-out", unfinished),
        )
        unfinished.replace(self._folder / "ca.crl")

    def _ca(self, *arguments: str | Path, usage: str = "clientAuth", more: str = "") -> None:
        config = self._folder / "openssl.cnf"
        config.write_text(_CONFIG.format(folder=self._folder, usage=usage, more=more))
        self._openssl("ca", "-config", config, *arguments)

    def _openssl(self, *arguments: str | Path, refuse: bool = True) -> str | None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout
        if not refuse:
            return None
        said = done.stderr.strip().splitlines()
        raise CaError(f"openssl {arguments[0]} in {self._folder}: {said[-1] if said else 'failed'}")


def _lasts(until: str) -> bool:
    """Whether a time of index.txt, with two digits for a year before 2050, is to come."""
    whole = until if len(until) == len("20500101000000Z") else f"20{until}"
    return whole > time.strftime("%Y%m%d%H%M%SZ", time.gmtime())


def _a_day_ago() -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() - _BACK_S))


def main() -> int:
    parser = argparse.ArgumentParser(description="A small certificate authority.")
    parser.add_argument("folder", type=Path)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init")
    sign = verbs.add_parser("sign")
    sign.add_argument("name")
    sign.add_argument("--san", default="")
    sign.add_argument("--days", type=int, default=365)
    revoke = verbs.add_parser("revoke")
    revoke.add_argument("name")
    revoke.add_argument("--but", default="", metavar="SERIAL")
    revoke.add_argument("--dry-run", action="store_true", help="only say how many")
    options = parser.parse_args()
    os.umask(0o077)
    authority = Authority(options.folder.resolve())
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        with (options.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if options.verb == "init":
                print("made" if authority.init() else "kept")
            elif options.verb == "sign":
                request = sys.stdin.read()
                print(authority.sign(options.name, request, options.san, options.days), end="")
            else:
                count = authority.revoke(options.name, options.but, options.dry_run)
                print(f"certificates {'to revoke' if options.dry_run else 'revoked'}: {count}")
    except (CaError, OSError) as err:
        print(f"ca: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
