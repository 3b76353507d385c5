"""`pantau simulate` as a person runs it: what it refuses, and that nothing of it is left behind."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.spool import Spool
from tests.fleet.lab import Centre
from tests.lab.broker import Broker
from tests.lab.net import Namespace, child_environment
from tests.lab.pki import Authority
from tests.wait import until

PANTAU = Path(sys.executable).with_name("pantau")
MEMORY = Path("/dev/shm")  # noqa: S108  # the fleet makes its folder in it
WITHIN_S = 60.0


def command(config: Path, *options: object) -> list[str]:
    """The command line."""
    return [str(PANTAU), "simulate", *map(str, options), "--config", str(config)]


def listed(folder: Path, count: int) -> tuple[Path, list[str]]:
    """A sites.csv whose sites nobody else has."""
    mark = secrets.token_hex(4)
    names = [f"f-{mark}-{n}" for n in range(count)]
    file = folder / "sites.csv"
    rows = [f"{name},{name},girian,biznet" for name in names]
    file.write_text("\n".join(["site,name,district,isp", *rows, ""]))
    return file, names


def configured(folder: Path, url: str = "mqtt://127.0.0.1:9", more: str = "") -> Path:
    """A server.toml; nobody listens at the discard port."""
    file = folder / "server.toml"
    file.write_text(f'[mqtt]\nurl = "{url}"\nkeepalive_s = 5\n{more}')
    return file


def refused(argv: Sequence[str], *named: str, code: int = 1) -> str:
    """What a command says that cannot be done."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=WITHIN_S, env=child_environment(), check=False
    )
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("pantau: ")
    for word in named:
        assert word in line
    return line


class Given:
    """Where each bad command is tried: a folder with one file of each kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = configured(folder)
        self.sites, self.names = listed(folder, 3)

    def file(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def story(self, text: str) -> list[object]:
        return ["--registry", self.sites, "--story", self.file("story.toml", text)]


WRONG: dict[str, tuple[Callable[[Given], Sequence[object]], list[str], int]] = {
    "no sites": (lambda _: [], ["--sites N or --registry"], 2),
    "too many sites": (lambda _: ["--sites", 20_001], ["1 to 20000"], 2),
    "a window of nothing": (lambda _: ["--sites", 1, "--window-s", 0], ["--window-s is 0"], 2),
    "an endless play": (lambda _: ["--sites", 1, "--minutes", "nan"], ["--minutes is nan"], 2),
    "two stories": (
        lambda _: ["--sites", 1, "--events", 1, "--story", "s.toml"],
        ["not both"],
        2,
    ),
    "no registry there": (
        lambda given: ["--registry", given.folder / "none.csv"],
        ["none.csv", "look at the name"],
        1,
    ),
    "a registry with a fault": (
        lambda given: ["--registry", given.file("bad.csv", "site,name\na,b\n")],
        ["bad.csv: line 1"],
        1,
    ),
    "an empty registry": (
        lambda given: ["--registry", given.file("no.csv", "site,name,district,isp\n")],
        ["no.csv", "no site"],
        1,
    ),
    "an unknown event": (
        lambda given: given.story("[[event]]\nid='e7'\nat_s=1\nwhat='flood'\nsite='x'"),
        ["story.toml: event e7: unknown event 'flood'; there are"],
        1,
    ),
    "an unknown site": (
        lambda given: given.story("[[event]]\nid='e7'\nat_s=1\nwhat='cable_cut'\nsite='x'"),
        ["story.toml: event e7: no site", "'x'"],
        1,
    ),
    "a story on no site of ours": (
        lambda given: given.story(f"fleet.real = {json.dumps(given.names)}"),
        ["story.toml", "no site to model"],
        1,
    ),
    "a story that is over": (
        lambda given: given.story("fleet.begins_at = '2020-01-01T00:00:00Z'"),
        ["story.toml", "begins_at is over"],
        1,
    ),
    "a list to nowhere": (
        lambda given: ["--sites", 1, "--write-registry", given.folder / "none" / "sites.csv"],
        ["none/sites.csv", "No such file"],
        1,
    ),
    "certificates without TLS": (
        lambda given: ["--sites", 1, "--certificates", given.folder],
        ["mqtt.url mqtt://127.0.0.1:9", "mqtts"],
        1,
    ),
    "no broker there": (
        lambda _: ["--sites", 1],
        ["mqtt.url 127.0.0.1:9", "connection refused", "start it"],
        1,
    ),
}


@pytest.mark.parametrize(("options", "named", "code"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_played_is_refused_in_one_line(
    tmp_path: Path, options: Callable[[Given], Sequence[object]], named: list[str], code: int
) -> None:
    given = Given(tmp_path)
    refused(command(given.config, *options(given)), *named, code=code)


def test_a_configuration_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    refused(command(tmp_path / "none.toml", "--sites", 1), "none.toml", "no such file", code=2)


def test_too_few_descriptors_are_refused_and_the_advice_that_is_given_helps(tmp_path: Path) -> None:
    config = configured(tmp_path)
    limit = ["prlimit", "--nofile=128:128"]
    if os.geteuid() == 0:  # who else may raise the limit
        limit += ["setpriv", "--bounding-set=-sys_resource"]
    line = refused([*limit, *command(config, "--sites", 100)], "128 are allowed", "ulimit -n")
    advice = re.search(r"--processes (\d+)", line)
    assert advice is not None, line
    enough = command(config, "--sites", 100, "--processes", advice[1])
    refused([*limit, *enough], "connection refused")


@pytest.mark.needs_root
def test_too_few_ports_are_refused_with_the_mend(tmp_path: Path) -> None:
    with Namespace() as small:
        small.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40500")
        config = configured(tmp_path)
        refused(
            small.within(*command(config, "--sites", 301)), "500 are there", "ip_local_port_range"
        )
        refused(small.within(*command(config, "--sites", 299)), "connection refused")


# At a broker


def none_stayed(broker: Broker) -> bool:
    """Whether each client that came has gone."""
    log = broker.log.read_text()
    came = re.findall(r"New client connected from \S+ as (\S+)", log)
    gone = re.findall(r"Client (\S+) (?:disconnected|closed)", log)
    return sorted(came) == sorted(gone)


@pytest.fixture
def given(tmp_path: Path, broker: Broker) -> Given:
    """The same, at a broker that runs."""
    made = Given(tmp_path)
    made.config = configured(tmp_path, broker.url)
    return made


@pytest.mark.parametrize("option", ["--journal", "--spools"])
def test_a_place_that_cannot_be_written_is_refused_and_no_site_is_heard(
    given: Given, broker: Broker, option: str
) -> None:
    place = given.folder / "taken"
    if option == "--journal":
        place.mkdir()
    else:
        place.write_text("")
    with Centre(broker) as centre:
        refused(command(given.config, "--registry", given.sites, option, place), str(place))
        assert centre.seen("sites/") == []
    until(lambda: none_stayed(broker), WITHIN_S, "the look at the broker to be over")


def test_a_broker_that_asks_for_a_password_is_refused_in_one_line(tmp_path: Path) -> None:
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "somebody", "secret"], check=True)
    users.chmod(0o644)
    asking = [f"password_file {users}", "allow_anonymous false"]
    with Broker(tmp_path / "broker", extra=asking) as broker:
        config = configured(tmp_path, broker.url)
        refused(command(config, "--sites", 2), "login refused", "sim-00001")


def test_a_certificate_that_is_missing_or_of_another_authority_is_refused(
    tmp_path: Path, tls_broker: Broker, authority: Authority
) -> None:
    sites, names = listed(tmp_path, 2)
    config = configured(tmp_path, tls_broker.url, f'ca_file = "{authority.ca}"\n')
    folder = certificates(tmp_path / "own", authority, names)
    (folder / f"{names[1]}.key").unlink()
    options = ["--registry", sites, "--certificates"]
    refused(command(config, *options, folder), f"{names[1]}.key", "each site needs its own")
    strangers = certificates(tmp_path / "strange", Authority(tmp_path / "other"), names)
    refused(command(config, *options, strangers), "refused our certificate")
    refused(command(config, "--registry", sites), "certificate")


def certificates(folder: Path, authority: Authority, names: Sequence[str]) -> Path:
    """A folder as ``--certificates`` takes it."""
    folder.mkdir()
    for name in names:
        own = authority.client(name)
        shutil.copy(own.cert, folder / f"{name}.crt")
        shutil.copy(own.key, folder / f"{name}.key")
    return folder


# Played


class Run:
    """A fleet under way in processes of its own, with all that it leaves in memory."""

    def __init__(self, argv: Sequence[str], names: Sequence[str], log: Path) -> None:
        self._names, self.log = names, log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=child_environment(),
                start_new_session=True,
            )
        self.workers: set[int] = set()

    def said(self) -> list[dict[str, float]]:
        """The JSON lines so far."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def connected(self) -> bool:
        """Whether all sites are."""
        self.look()
        assert self._process.poll() is None, self.log.read_text()
        return any(one["connected"] == len(self._names) for one in self.said())

    def look(self) -> set[int]:
        """Its child processes; all that there ever were are remembered."""
        pid = self._process.pid
        try:
            text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            text = ""
        self.workers |= {int(word) for word in text.split()}
        return self.workers

    def spools(self) -> list[Path]:
        """The folders of its sites."""
        return [one for name in self._names for one in MEMORY.glob(f"pantau-fleet-*/{name}")]

    def signal(self, number: int) -> None:
        """Send a signal to the command."""
        os.kill(self._process.pid, number)

    def press_ctrl_c(self) -> None:
        """SIGINT to all of its processes, as a terminal sends it."""
        os.killpg(self._process.pid, signal.SIGINT)

    def ended(self) -> int:
        """Its exit code."""
        return self._process.wait(WITHIN_S)

    def left(self) -> list[object]:
        """Its processes and folders that are still there."""
        alive = [pid for pid in self.workers if running(pid)]
        return [*alive, *self.spools()]

    def discard(self) -> None:
        """End what is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for pid in self.workers:
            if running(pid):
                os.kill(pid, signal.SIGKILL)


def running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def run(given: Given, *options: object) -> Iterator[Run]:
    """Play the given sites in two processes."""
    argv = command(given.config, "--registry", given.sites, "--json", "--window-s", 1, *options)
    one = Run([*argv, "--processes", "2"], given.names, given.folder / "simulate.log")
    try:
        yield one
    finally:
        one.discard()


def test_it_tells_by_how_much_it_is_late_itself(given: Given, broker: Broker) -> None:
    with Centre(broker), run(given) as one:
        until(one.connected, WITHIN_S, "the sites")
        before = len(one.said())
        workers = [pid for pid in one.look() if running(pid)]
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        stands_until_s = time.monotonic() + 4.0
        until(lambda: time.monotonic() > stands_until_s, WITHIN_S, "the time to pass")
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        late = "it to tell so"
        until(lambda: any(told["late_s"] > 2.5 for told in one.said()[before:]), WITHIN_S, late)
        until(lambda: one.said()[-1]["late_s"] < 1.0, WITHIN_S, "the fleet to be in time again")


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_it_in_order_and_leaves_nothing(
    given: Given, broker: Broker, how: str
) -> None:
    with Centre(broker) as centre, run(given) as one:
        until(one.connected, WITHIN_S, "the sites")
        assert len(one.look()) >= 2
        assert one.spools()
        one.signal(signal.SIGTERM) if how == "SIGTERM" else one.press_ctrl_c()
        assert one.ended() == 0, one.log.read_text()
        assert [line for line in one.log.read_text().splitlines() if line[0] != "{"] == []
        until(lambda: not one.left(), WITHIN_S, "its processes and folders to go")
        until(
            lambda: all(centre.said(name, "offline") for name in given.names), WITHIN_S, "the wills"
        )


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
def test_a_signal_while_it_starts_ends_it_in_order_too(given: Given, how: str) -> None:
    with run(given) as one:
        until(lambda: len(one.look()) >= 2, WITHIN_S, "its processes")
        one.signal(signal.SIGTERM) if how == "SIGTERM" else one.press_ctrl_c()
        assert one.ended() == 0, one.log.read_text()
        assert "Traceback" not in one.log.read_text()
        until(lambda: not one.left(), WITHIN_S, "its processes and folders to go")


def test_when_the_command_is_killed_its_processes_end_and_put_the_spools_away(
    given: Given,
) -> None:
    with run(given) as one:
        until(one.connected, WITHIN_S, "the sites")
        assert one.spools()
        one.signal(signal.SIGKILL)
        one.ended()
        until(lambda: not one.left(), WITHIN_S, "its processes and folders to go")
        assert "Traceback" not in one.log.read_text()


def test_a_spool_that_another_one_has_is_told_and_ends_the_play(given: Given) -> None:
    spools = given.folder / "spools"
    taken = Spool(spools / given.names[0], 1 << 20, boot="b")
    try:
        with run(given, "--spools", spools) as one:
            assert one.ended() == 1
            said = one.log.read_text()
            assert str(spools / given.names[0]) in said
            assert "Traceback" not in said
    finally:
        taken.close()


def test_mutual_tls_with_a_certificate_for_each_site_also_after_the_broker_was_killed(
    tmp_path: Path, tls_broker: Broker, authority: Authority
) -> None:
    given = Given(tmp_path)
    given.config = configured(tmp_path, tls_broker.url, f'ca_file = "{authority.ca}"\n')
    folder = certificates(tmp_path / "own", authority, given.names)
    with run(given, "--certificates", folder) as one:
        with Centre(tls_broker) as centre:
            until(one.connected, WITHIN_S, "the sites")
            names = given.names
            until(
                lambda: all(centre.said(name, "online") for name in names), WITHIN_S, "their word"
            )
        tls_broker.kill9()
        until(lambda: one.said()[-1]["connected"] == 0, WITHIN_S, "the sites to notice")
        tls_broker.start()
        until(
            lambda: one.said()[-1]["connected"] == len(given.names), WITHIN_S, "the sites' return"
        )
        one.signal(signal.SIGTERM)
        assert one.ended() == 0, one.log.read_text()
        assert [line for line in one.log.read_text().splitlines() if line[0] != "{"] == []


@pytest.mark.slow
def test_a_story_is_played_to_its_end_and_the_journal_tells_all_of_it(
    given: Given, broker: Broker
) -> None:
    first, second, third = given.names
    rows = ["id,at_s,lasts_s,what,site", f"cut,2,2,cable_cut,{first}", f"off,3,,power_off,{second}"]
    story = given.file("story.csv", "\n".join([*rows, f"late,9999,,cable_cut,{third}", ""]))
    journal = given.folder / "journal.jsonl"
    options = ["--story", story, "--journal", journal, "--minutes", 0.2, "--backlog-h", 0.02]
    with Centre(broker) as centre, run(given, *options) as one:
        assert one.ended() == 0, one.log.read_text()
        until(lambda: not one.left(), WITHIN_S, "its processes and folders to go")
    noted = [json.loads(line) for line in journal.read_text().splitlines()]
    told = sorted((row["event"], row["edge"]) for row in noted if "event" in row)
    assert told == [("cut", "begin"), ("cut", "end"), ("off", "begin")]
    made = [row for row in noted if "seq" in row]
    assert {row["site"] for row in made} == set(given.names)
    for name in given.names:
        seqs = sorted(row["seq"] for row in made if row["site"] == name)
        assert seqs == list(range(1, len(seqs) + 1))
        assert len(seqs) > 60
    off_at = next(row["at"] for row in noted if row.get("event") == "off")
    assert all(row["from"] <= off_at for row in made if row["site"] == second)
    heard = {(third, one["seq"]) for one in centre.readings(third)}
    assert heard <= {(row["site"], row["seq"]) for row in made}
    assert (third, 1) in heard
