"""A centre, two sites and a controller that runs the very playbooks over ssh."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psutil

from tests.deploy.controller import ansible, environment
from tests.deploy.machines import CACHE, Machine, making
from tests.lab.net import Namespace, cable, sh
from tests.wait import until

_ROOT = Path(__file__).parents[2]
_ANSIBLE = _ROOT / "deploy" / "ansible"
_BUILT_FROM = (
    "agent", "server", "setup.cfg", "pyproject.toml", "constraints.txt", "README.md", "LICENSE",
)  # fmt: skip
_PROGRAMS = {"systemd-nspawn": "systemd-container", "mmdebstrap": "mmdebstrap"}
"""What it needs of this machine, which `make test-slow` brings; and Debian's packages."""
_CUT_OFF_S = 180.0
_COMMAND_S = 300.0
SITES = ("bitung-0001", "bitung-0002")
EVERY_S = 1.0
"""How often to ask a machine what takes a start of Python to answer."""
_VARIABLES = """\
ansible_user: root
ansible_ssh_private_key_file: {key}
ansible_ssh_common_args: >-
  -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
pantau_broker_host: {centre}
pantau_agent_window_s: 2
pantau_agent_domestic: [{centre}]
pantau_agent_tables:
  settings: {{trial_s: 300}}
  throughput: {{method: speedtest, per_day: 0}}
release_artifacts: {artifacts}
# A machine that is busy with other tests is not silent.
server_further_toml: |
  [health]
  offline_confirm_s = 2
  silence_windows = 60
"""
_SCAN = """
import select, socket, sys

def scan(address, ports):
    tried = {}
    poll = select.poll()
    for port in ports:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((address, port))
        tried[one.fileno()] = (one, port)
        poll.register(one, select.POLLOUT)
    while tried:
        answered = poll.poll(5000)
        assert answered, f"{len(tried)} ports of {address} do not answer"
        for descriptor, _ in answered:
            poll.unregister(descriptor)
            one, port = tried.pop(descriptor)
            if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                print(port)
            one.close()

first, last = map(int, sys.argv[2:])
for begin in range(first, last, 256):
    scan(sys.argv[1], range(begin, min(begin + 256, last)))
"""
"""Try to connect to every TCP port from the first to below the last; prints those that take it."""


class Town:
    """Everything in `folder`; `machines` by name, the controller in a namespace of its own.

    Args:
        folder: where it all is.
        sites: those whose machines are there from the beginning; all are in the inventory.
        also: further machines with Debian, behind the sites'; in no inventory.
        further: architectures that the agent is built for, besides this machine's own.
        mitogen: the controller has it, so that plays take half the time.
    """

    def __init__(
        self,
        folder: Path,
        sites: tuple[str, ...] = SITES,
        *,
        also: tuple[str, ...] = (),
        further: tuple[str, ...] = (),
        mitogen: bool = False,
    ) -> None:
        self._mitogen = mitogen
        self._sites = (*sites, *also)
        self._further = further
        self.folder = folder
        self.inventory = folder / "inventory"
        self.machines: dict[str, Machine] = {}
        self.complaints = ""  # what the last play said to stderr
        self._stack = ExitStack()
        self._controller = Namespace()

    def __enter__(self) -> Self:
        for command, package in _PROGRAMS.items():
            assert shutil.which(command), f"needs {command}: apt-get install {package}"
        with ExitStack() as stack:
            stack.enter_context(self._controller)
            self._controller.forward()
            key = self.folder / "id"
            sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
            for number, name in enumerate(("centre", *self._sites), 1):
                network = stack.enter_context(Namespace())
                cable(self._controller, f"10.81.{number}.1/24", network, f"10.81.{number}.2/24")
                network.route("default", f"10.81.{number}.1")
                public = key.with_suffix(".pub").read_text()
                machine = Machine(name, self.folder / name, network, public)
                self.machines[name] = stack.enter_context(machine)
            self._write_inventory(key)
            self._build()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def network(self, site: str) -> Namespace:
        """Where a site's machine can be put: a cable to the router, without any address yet."""
        number = SITES.index(site) + 2
        network = self._stack.enter_context(Namespace())
        _, there = cable(self._controller, f"10.81.{number}.1/24", network, "127.0.0.2/32")
        network.ip("addr", "flush", "dev", there)
        return network

    def play(self, book: str, *arguments: str, expect: int = 0, mitogen: bool | None = None) -> str:
        """Run a playbook as the controller; gives what it said.

        Args:
            book: its name.
            arguments: what stands behind it on the command line.
            expect: the exit code.
            mitogen: other than for the rest of the town.

        Raises:
            AssertionError: another exit code than expected; with the journals of all machines.
        """
        with_mitogen = self._mitogen if mitogen is None else mitogen
        command = [str(ansible() / "ansible-playbook"), "-i", str(self.inventory), book]
        done = subprocess.run(
            self._controller.within(*command, *arguments),
            cwd=_ANSIBLE, env=environment(self.folder, with_mitogen), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        self._judge(book, done, expect)
        self.complaints = done.stderr
        return done.stdout

    def cut_off(self, book: str, *arguments: str, when: Callable[[], bool]) -> None:
        """Run a playbook, and take the controller away as soon as `when` holds."""
        command = [str(ansible() / "ansible-playbook"), "-i", str(self.inventory), book]
        said = self.folder / "cut-off.log"
        with said.open("w") as out:
            process = subprocess.Popen(
                # Its workers leave the process group: a namespace takes them along.
                self._controller.within(
                    "unshare", "--pid", "--fork", "--kill-child", "--mount-proc",
                    *command, *arguments,
                ),
                cwd=_ANSIBLE, env=environment(self.folder, self._mitogen), stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            try:
                until(lambda: when() or process.poll() is not None, _CUT_OFF_S, f"{book} to get on")
                assert process.poll() is None, said.read_text()[-4000:]
            finally:
                # Ansible's workers have sessions of their own.
                whole = psutil.Process(process.pid)
                for one in (whole, *whole.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                process.wait()

    def checkout(self) -> Path:
        """The operator's copy of this tree, with the town's inventory as inventory/city."""
        folder = self.folder / "checkout"
        if not folder.exists():
            leave = shutil.ignore_patterns("__pycache__", "artifacts", "cards")
            for name in (*_BUILT_FROM, "deploy", "systemd"):
                source = _ROOT / name
                if source.is_dir():
                    shutil.copytree(source, folder / name, ignore=leave)
                else:
                    shutil.copy2(source, folder / name)
            (folder / "deploy/ansible/inventory/city").symlink_to(self.inventory)
        return folder

    def follow(self, commands: str, cwd: Path, expect: int = 0) -> str:
        """Run commands of a page, as the controller's operator types them; gives what they said.

        Raises:
            AssertionError: another exit code than expected; with the journals of all machines.
        """
        done = subprocess.run(
            self._controller.within("bash", "-euc", commands),
            cwd=cwd, env=environment(self.folder, self._mitogen), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=1800, check=False,
        )  # fmt: skip
        self._judge(commands, done, expect)
        return done.stdout

    def _judge(self, what: str, done: subprocess.CompletedProcess[str], expect: int) -> None:
        if done.returncode != expect:
            journals = "\n".join(machine.journal() for machine in self.machines.values())
            raise AssertionError(
                f"{what}: exit code {done.returncode}\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
                f"\n{journals}"
            )

    def on(self, name: str, *command: str) -> str:
        """What a command says on a machine; it must succeed."""
        host = f"root@10.81.{[*self.machines].index(name) + 1}.2"
        # Kept open from one command to the next: a login takes more than most of them.
        sockets = self.folder / "cp"
        sockets.mkdir(exist_ok=True)
        options = (
            *("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
            *("ControlMaster=auto", "ControlPersist=60", f"ControlPath={sockets}/on-{name}"),
        )
        ssh = ("ssh", "-i", str(self.folder / "id"), *(f"-o{one}" for one in options), host)
        return self._controller.run(*ssh, *command, within_s=_COMMAND_S)

    def open_ports(self, name: str) -> set[int]:
        """The TCP ports of a machine that take a connection from outside: all are tried."""
        address = f"10.81.{[*self.machines].index(name) + 1}.2"
        found: set[int] = set()
        for first in range(0, 65536, 8192):
            scan = (sys.executable, "-c", _SCAN, address, str(max(first, 1)), str(first + 8192))
            found |= {int(port) for port in self._controller.run(*scan).split()}
        return found

    def _write_inventory(self, key: Path) -> None:
        (self.inventory / "group_vars").mkdir(parents=True)
        (self.inventory / "host_vars").mkdir()
        rows = [f"{site},Site {site},Maesa,Telkom" for site in SITES]
        (self.inventory / "sites.csv").write_text("\n".join(["site,name,district,isp", *rows, ""]))
        (self.inventory / "sites.yml").write_text("plugin: pantau_sites\n")
        (self.inventory / "centre.yml").write_text(
            "broker: {hosts: {centre: {ansible_host: 10.81.1.2}}}\nserver: {hosts: {centre: }}\n"
        )
        for number, site in enumerate(SITES, 2):
            (self.inventory / "host_vars" / f"{site}.yml").write_text(
                f"ansible_host: 10.81.{number}.2\n"
            )
        text = _VARIABLES.format(key=key, centre="10.81.1.2", artifacts=self.folder / "artifacts")
        (self.inventory / "group_vars" / "all.yml").write_text(text)

    def _build(self) -> None:
        """The archives, by the very script; outside of the namespace, where the index is.

        What was built from the very same sources before is taken again.
        """
        kept = CACHE / "archives" / _sources()
        with making("archives"):
            for older in kept.parent.glob("*"):
                if older != kept:
                    shutil.rmtree(older)
            agents = [("agent", arch) for arch in (platform.machine(), *self._further)]
            for extra, arch in (("server", platform.machine()), *agents):
                done = subprocess.run(
                    [sys.executable, str(_ANSIBLE / "build.py"), "--extra", extra,
                     "--arch", arch, "--out", str(kept)],
                    capture_output=True, text=True, timeout=600, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
            shutil.copytree(kept, self.folder / "artifacts")


def _sources() -> str:
    """What tells one state of all that is built from another."""
    found = hashlib.sha256()
    for name in (*_BUILT_FROM, "deploy/ansible/build.py"):
        whole = _ROOT / name
        files = [whole] if whole.is_file() else sorted(whole.rglob("*"))
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(_ROOT)}\n".encode())
                found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]
