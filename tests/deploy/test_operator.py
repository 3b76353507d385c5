"""The operator's page, followed to the letter: its commands are run as they stand there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.city import PANTAU
from tests.server.centre import home
from tests.server.made import SITE, Device
from tests.wait import until

pytestmark = pytest.mark.needs_root

_PAGE = Path(__file__).parents[2] / "docs" / "operator.md"
# What stands for the machine: where its configuration is, and systemd with one unit.
_PANTAU = '#!/bin/sh\nexec {pantau} "$@" --config {folder}/server.toml\n'
_SYSTEMCTL = """#!/bin/sh
case "$*" in
"stop pantau-witness* pantau-ingest")
    kill "$(cat {folder}/pid)" && tail --pid="$(cat {folder}/pid)" -f /dev/null ;;
"start pantau-ingest")
    {folder}/bin/pantau ingest </dev/null >>{folder}/log 2>&1 &
    echo $! >{folder}/pid ;;
*) exit 1 ;;
esac
"""


class Machine:
    """A centre with the page's commands, and ingest running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backups = folder / "backups"
        for made in (folder / "bin", self.backups):
            made.mkdir()
        (folder / "server.toml").write_text(
            f'[mqtt]\nurl = "mqtt://127.0.0.1:9"\n[store]\nurl = "sqlite://{folder}/pantau.db"\n'
        )
        for name, text in (("pantau", _PANTAU), ("systemctl", _SYSTEMCTL)):
            file = folder / "bin" / name
            file.write_text(text.format(pantau=PANTAU, folder=folder))
            file.chmod(0o755)
        self.device, self.centre = Device(), home(folder)
        self.hears(3)

    def hears(self, count: int) -> None:
        """So many more readings, committed."""
        for _ in range(count):
            self.centre.hears(self.device.live(1000.0 + 60 * self.device.seq))

    def follow(self, part: str) -> subprocess.CompletedProcess[str]:
        """Run a block of the page, with a /var/backups of its own."""
        return self.run(_block(part))

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run commands as root of this machine."""
        prepared = f"mount --bind {self.backups} /var/backups\nset -e\n{script}"
        return subprocess.run(
            ["unshare", "--mount", "bash", "-c", prepared],
            env={**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def starts(self) -> None:
        """Ingest runs, and has the database open."""
        assert self.run("systemctl start pantau-ingest").returncode == 0
        log = self.folder / "log"
        until(lambda: "trying again" in log.read_text(), 60, "ingest to run")

    def ends(self) -> None:
        """End ingest, whichever runs."""
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    built = Machine(tmp_path)
    try:
        built.starts()
        yield built
    finally:
        built.ends()


def _block(part: str) -> str:
    """The commands that stand under this mark of the page."""
    [found] = re.findall(
        rf"<!-- followed by tests/deploy/test_operator.py: {part} -->\n```sh\n(.*?)```",
        _PAGE.read_text(),
        re.DOTALL,
    )
    return str(found)


def test_the_page_backs_up_beside_ingest_and_restores(machine: Machine) -> None:
    done = machine.follow("back up")
    assert done.returncode == 0, done.stderr
    machine.hears(2)
    machine.centre.store.close()
    done = machine.follow("restore")

    assert done.returncode == 0, done.stderr
    assert "restored, as of" in done.stdout
    assert SITE in done.stdout
    machine.centre.restart()
    assert machine.centre.seqs(SITE) == [1, 2, 3]
    machine.centre.store.close()


def test_a_restore_while_ingest_runs_is_refused_as_the_page_says(machine: Machine) -> None:
    assert machine.follow("back up").returncode == 0
    machine.centre.store.close()
    forgot = "\n".join(line for line in _block("restore").splitlines() if "systemctl" not in line)
    done = machine.run(forgot)

    assert done.returncode == 1
    assert "is in use; stop pantau-ingest and pantau-witness first" in done.stderr
