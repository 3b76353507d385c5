"""Installs a release's archive into the root of another machine, without running anything of it.

What the role `release` does on a device with pip, done here by the wheels' own format
(https://packaging.python.org/en/latest/specifications/binary-distribution-format/): the same folder
under /opt/pantau, each wheel checked against the archive's lock, and a virtual environment that is
links and one file. So an arm64 card is made on any controller.
"""

from __future__ import annotations

import compileall
import configparser
import hashlib
import io
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

_SCRIPT = """\
#!{python}
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({name}())
"""


class WheelError(Exception):
    """What is wrong with an archive, with the mend."""


def needed_mb(archive: Path) -> int:
    """What the release takes on the disk, compiled too, with a little to spare."""
    total = sum(
        member.file_size for wheel in _wheels(archive) for member in wheel.infolist()
    )  # fmt: skip
    return 3 * total // 2**20 + 10


def install(archive: Path, folder: Path, at: str, python: str) -> None:
    """Make `folder` the release.

    Args:
        archive: what build.py made.
        folder: where it goes, as seen from here; made anew.
        at: the same place as the machine will see it.
        python: the machine's version, such as 3.11.
    """
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    packages = unfinished / "lib" / f"python{python}" / "site-packages"
    packages.mkdir(parents=True)
    (unfinished / "bin").mkdir()
    (unfinished / "include").mkdir()
    (unfinished / "lib64").symlink_to("lib")
    (unfinished / "bin" / "python").symlink_to("python3")
    (unfinished / "bin" / "python3").symlink_to("/usr/bin/python3")
    (unfinished / "bin" / f"python{python}").symlink_to("python3")
    (unfinished / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python}\n"
    )
    for wheel in _wheels(archive):
        _unpack(wheel, unfinished, packages, at)
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        # Else the agent compiles at each start: the service may not write there.
        there = f"{at}/lib/python{python}/site-packages"
        compileall.compile_dir(packages, quiet=2, ddir=there)
    (unfinished / ".complete-agent").write_text(f"{_digest(archive)}\n")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def is_there(archive: Path, folder: Path) -> bool:
    """Whether `folder` is the release of `archive`.

    Raises:
        WheelError: it is one of the same version that another archive gave.
    """
    mark = folder / ".complete-agent"
    if not mark.exists():
        return False
    if mark.read_text().strip() != _digest(archive):
        raise WheelError(
            f"has a {folder.name} of another archive than this {archive.name}; give the checkout a"
            " new version in agent/__init__.py, and run build.yml"
        )
    return True


def _digest(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wheels(archive: Path) -> list[zipfile.ZipFile]:
    """The wheels of the lock, each checked.

    Raises:
        WheelError: one is missing or is not what was locked.
    """
    try:
        with tarfile.open(archive) as tar:
            members = {PurePosixPath(one.name).name: one for one in tar if one.isfile()}
            contents = {name: _read(tar, one) for name, one in members.items()}
    except (OSError, tarfile.TarError) as err:
        raise WheelError(f"{archive}: {err}; build it again") from None
    locked = re.findall(r"sha256:([0-9a-f]{64})", contents.get("requirements.lock", b"").decode())
    by_hash = {
        hashlib.sha256(content).hexdigest(): content
        for name, content in contents.items()
        if name.endswith(".whl")
    }
    if not locked or not set(locked) <= set(by_hash):
        raise WheelError(f"{archive}: a wheel is not the one that was locked; build it again")
    return [zipfile.ZipFile(io.BytesIO(by_hash[digest])) for digest in locked]


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def _unpack(wheel: zipfile.ZipFile, folder: Path, packages: Path, at: str) -> None:
    for member in wheel.infolist():
        parts = PurePosixPath(member.filename).parts
        if member.is_dir() or ".." in parts or member.filename.startswith("/"):
            continue
        if not parts[0].endswith(".data"):
            target = packages.joinpath(*parts)
        elif parts[1] in ("purelib", "platlib"):
            target = packages.joinpath(*parts[2:])
        elif parts[1] == "data":
            target = folder.joinpath(*parts[2:])
        else:
            continue  # headers and ready scripts: none of what we install has any
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(wheel.read(member))
        if parts[-1] == "entry_points.txt" and parts[0].endswith(".dist-info"):
            _scripts(target.read_text(encoding="utf-8"), folder / "bin", at)


def _scripts(entry_points: str, folder: Path, at: str) -> None:
    told = configparser.ConfigParser(delimiters=("=",))
    told.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    told.read_string(entry_points)
    for script, place in told["console_scripts"].items() if "console_scripts" in told else ():
        module, _, name = place.partition(":")
        file = folder / script
        file.write_text(_SCRIPT.format(python=f"{at}/bin/python", module=module, name=name))
        file.chmod(0o755)
