"""The authority of the playbooks where one exists already: it signs and revokes by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_CA = Path(__file__).parents[2] / "deploy" / "ansible" / "roles" / "pki" / "files" / "ca.py"


def _openssl(*arguments: str | Path) -> str:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def _ca(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(_CA), str(folder), *arguments],
        input=given, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _existing(folder: Path, *further: str) -> Path:
    """An authority as a city's IT office may have one: RSA, and nothing but key and certificate."""
    folder.mkdir()
    made = ("-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days", "30")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *made,
             "-subj", "/O=Kota Bitung/CN=CA", *further)  # fmt: skip
    return folder


def test_an_authority_that_exists_signs_and_revokes(tmp_path: Path) -> None:
    folder = _existing(tmp_path / "pki")
    before = (folder / "ca.pem").read_text()
    assert _ca(folder, "init").stdout == "made\n"
    assert _ca(folder, "init").stdout == "kept\n"
    assert (folder / "ca.pem").read_text() == before
    assert folder.stat().st_mode & 0o077 == (folder / "ca.key").stat().st_mode & 0o077 == 0

    request = _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                       "-nodes", "-keyout", tmp_path / "key", "-subj", "/CN=else")  # fmt: skip
    site = tmp_path / "site.pem"
    site.write_text(_ca(folder, "sign", "bitung-0001", given=request).stdout)
    assert "CN = bitung-0001" in _openssl("x509", "-in", site, "-noout", "-subject")
    verify = ("verify", "-CAfile", folder / "ca.pem", "-crl_check", "-CRLfile", folder / "ca.crl")
    assert _openssl(*verify, site).strip() == f"{site}: OK"
    assert _ca(folder, "revoke", "bitung-0001").stdout == "certificates revoked: 1\n"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _openssl(*verify, site)
    assert "certificate revoked" in refused.value.stderr


def test_a_list_that_lacks_what_was_revoked_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    _ca(folder, "init")
    before = (folder / "ca.crl").read_bytes()
    request = _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                       "-nodes", "-keyout", tmp_path / "key", "-subj", "/CN=x")  # fmt: skip
    for name in ("bitung-0001", "bitung-0002"):
        (tmp_path / name).write_text(_ca(folder, "sign", name, given=request).stdout)
        assert _ca(folder, "revoke", name).stdout == "certificates revoked: 1\n"
    verify = ("verify", "-CAfile", folder / "ca.pem", "-crl_check", "-CRLfile", folder / "ca.crl")

    def revoked(name: str) -> bool:
        done = subprocess.run(["openssl", *verify, tmp_path / name],
                              capture_output=True, text=True, check=False)  # fmt: skip
        return "certificate revoked" in done.stderr

    for cut in (before, b""):  # off before the list was made, and in the middle of it
        (folder / "ca.crl").write_bytes(cut)
        said = _ca(folder, "revoke", "bitung-0001", "--dry-run").stdout
        assert said == "certificates to revoke: 1\n"
        assert (folder / "ca.crl").read_bytes() == cut
        assert _ca(folder, "revoke", "bitung-0001").stdout == "certificates revoked: 1\n"
        assert revoked("bitung-0001")
        assert revoked("bitung-0002")
    made = (folder / "ca.crl").read_bytes()
    assert _ca(folder, "revoke", "bitung-0001").stdout == "certificates revoked: 0\n"
    assert (folder / "ca.crl").read_bytes() == made


def test_what_is_no_authority_is_refused_and_nothing_is_made_beside_it(tmp_path: Path) -> None:
    other = _existing(tmp_path / "other")
    folder = _existing(tmp_path / "pki")
    (folder / "ca.key").write_text((other / "ca.key").read_text())
    leaf = _existing(tmp_path / "leaf", "-addext", "basicConstraints=critical,CA:FALSE")
    for broken, complaint in (
        (folder, f"{folder}/ca.key: is not the key of ca.pem, or has a password; bring the right"),
        (leaf, f"{leaf}/ca.pem: is no authority's (CA:TRUE); bring one that may sign"),
    ):
        done = _ca(broken, "init")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"ca: {complaint}")
        assert sorted(one.name for one in broken.iterdir()) == ["ca.key", "ca.pem", "lock"]
