"""`pantau-agent check` at a site of real parts, one of which is broken at a time.

The site is a namespace with a cable to the centre, where mosquitto (mutual TLS, shipped ACL),
``pantau ingest``, dnsmasq, a web page and a time server live.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.agent.servers import tcp_server, udp_server
from tests.agent.test_probe_ntp import reply
from tests.lab.broker import Broker
from tests.lab.city import PANTAU_AGENT, City, toml
from tests.lab.net import Namespace, child_environment, inside, sh
from tests.lab.observer import Observer
from tests.lab.pki import Authority
from tests.lab.process import Service
from tests.wait import until

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]

SITE, OTHER = "maesa-0001", "maesa-0002"
CENTRE = "10.99.0.1"
_NAMES = ("probe.lab", "broker.lab", "open.lab")

Told = dict[str, Any]


class Site:
    """The site, and all that it needs at the centre."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder = folder
        self.authority = authority
        self.city = City(folder / "city", authority, [SITE], apart=True)
        self.clock_ahead_s = 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Site:
        try:
            self._stack.enter_context(self.city)
            assert self.city.namespace is not None
            self.centre: Namespace = self.city.namespace
            self.agent = self.city.agents[SITE]
            assert self.agent.namespace is not None
            self.here: Namespace = self.agent.namespace
            self._stack.enter_context(_resolv_conf(self.here))
            self._stack.callback(lambda: self.dns.discard())
            self.dns = Service("dnsmasq", self._dnsmasq(), self.folder / "dnsmasq.log")
            self.dns.start()
            with inside(self.centre.name):
                web = self._stack.enter_context(tcp_server(_answering(204), CENTRE))
                portal = self._stack.enter_context(tcp_server(_answering(302), CENTRE))
                ntp = self._stack.enter_context(udp_server(self._tell_time, CENTRE))
            self.web, self.portal_port = web, portal.rpartition(":")[2]
            self.tables: dict[str, dict[str, Any]] = {
                **self.agent.tables,
                "targets": {"gateway": "auto", "domestic": [CENTRE]},
                "dns": {"names": ["probe.lab"]},
                "filter": {"must_resolve": ["open.lab"], "must_be_filtered": ["bad.lab"]},
                "web": {"url": f"http://{web}/generate_204"},
                "ntp": {"server": ntp},
            }
            until(lambda: "started" in self.dns.said(), 20, "dnsmasq")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _dnsmasq(self) -> list[str]:
        answers = [f"--address=/{name}/{CENTRE}" for name in _NAMES]
        alone = ("--no-resolv", "--no-hosts", "--bind-interfaces", "--conf-file=/dev/null")
        process = ("--keep-in-foreground", "--user=root", "--pid-file=", "--log-facility=-")
        listen = f"--listen-address={CENTRE}"
        return self.centre.within("dnsmasq", *process, *alone, listen, *answers, "--local=/lab/")

    def _tell_time(self, packet: bytes) -> list[bytes]:
        return [reply(packet, ahead_s=self.clock_ahead_s)]

    @property
    def way(self) -> str:
        """The site's interface."""
        routes = json.loads(self.here.ip("-j", "route", "show", "default"))
        return str(routes[0]["dev"])

    def run(
        self, *options: str, environment: Mapping[str, str] | None = None, **changed: Any
    ) -> subprocess.CompletedProcess[str]:
        """`check` at the site, with tables of its configuration changed."""
        file = self.agent.config.with_name("check.toml")
        file.write_text(toml({"site": SITE}, {**self.tables, **changed}))
        return subprocess.run(
            self.here.within(PANTAU_AGENT, "check", "--config", str(file), *options),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env={**child_environment(), **(environment or {})},
        )

    def check(self, **changed: Any) -> Told:
        """What `check` found, in JSON."""
        done = self.run("--json", **changed)
        assert done.stdout, done.stderr
        told: Told = json.loads(done.stdout)
        assert done.returncode == (0 if told["ok"] else 1)
        assert told["codes"] == [row["code"] for row in told["checks"] if row["status"] == "fail"]
        return told

    def mqtt(self, **changed: Any) -> dict[str, Any]:
        return {**self.tables["mqtt"], **changed}


def _answering(status: int) -> Any:
    def answer(connection: socket.socket) -> None:
        connection.recv(1024)
        connection.sendall(f"HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n".encode())

    return answer


@contextlib.contextmanager
def _resolv_conf(namespace: Namespace) -> Iterator[None]:
    """The centre's resolver, for what is run within the namespace (ip-netns(8))."""
    folder = Path("/etc/netns") / namespace.name
    made = not folder.parent.exists()
    folder.mkdir(parents=True)
    try:
        (folder / "resolv.conf").write_text(f"nameserver {CENTRE}\noptions timeout:1 attempts:1\n")
        yield
    finally:
        (folder / "resolv.conf").unlink()
        folder.rmdir()
        if made:
            with contextlib.suppress(OSError):  # another run has its own in there
                folder.parent.rmdir()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Site]:
    """One for all tests here: each mends what it broke."""
    with Site(tmp_path_factory.mktemp("check"), authority) as made:
        yield made


def failures(told: Told) -> dict[str, tuple[int, str]]:
    """Code and mend by what was tried."""
    return {row["name"]: (row["code"], row["mend"]) for row in told["checks"] if not row["ok"]}


def status(told: Told, name: str) -> str:
    return next(str(row["status"]) for row in told["checks"] if row["name"] == name)


# Nothing is wrong


def test_a_site_where_all_is_well_has_nothing_to_mend_with_and_without_the_service(
    site: Site,
) -> None:
    told = site.check()
    tried = {row["name"] for row in told["checks"] if row["status"] == "pass"}
    everything = {"identity", "clock", "spool", "host", "link", "address", "gateway", "domestic"}
    everything |= {"dns", "filter", "web", "ntp", "broker_port", "broker_tls", "broker", "echo"}
    assert (told["ok"], told["codes"], told["service"]) == (True, [], False)
    assert everything <= tried

    with Observer(site.city.broker, site.centre) as observer, _service(site):
        until(lambda: observer.live_readings(SITE), 30, "a reading")
        sessions = {seen.body["session"] for seen in observer.site(SITE, "presence")}
        told = site.check()
        assert (told["ok"], told["codes"], told["service"]) == (True, [], True)
        assert {"service", "spool", "broker_name", "broker_tls", "topics", "echo"} <= {
            row["name"] for row in told["checks"] if row["status"] == "pass"
        }
        assert {seen.body["session"] for seen in observer.site(SITE, "presence")} == sessions


@contextlib.contextmanager
def _service(site: Site) -> Iterator[Service]:
    site.agent.tables = site.tables
    site.agent.start()
    try:
        yield site.agent
    finally:
        site.agent.stop()


@pytest.mark.parametrize(
    ("locale", "last", "mend"),
    [
        ("id_ID.UTF-8", "Bacakan: maesa-0001, versi ", "perbaikan: atur server DNS"),
        ("C", "Read out: maesa-0001, version ", "mend: set the DNS server"),
    ],
)
def test_the_table_fits_80_columns_of_a_dumb_terminal_in_both_languages(
    site: Site, locale: str, last: str, mend: str
) -> None:
    environment = {"LC_ALL": locale, "TERM": "dumb", "COLUMNS": "80"}
    rules = {"must_be_filtered": ["open.lab"]}
    done = site.run(environment=environment, filter=rules)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert max(map(len, lines)) <= 80
    assert all(char.isascii() and char.isprintable() for line in lines for char in line)
    assert lines[-1].startswith(last)
    assert lines[-1].endswith((" filter DNS 321.", " DNS filter 321."))
    assert mend in " ".join(done.stdout.split())


# Cable, address, the internet


def test_a_cable_that_is_out_is_named_first(site: Site) -> None:
    peer = site.agent._cable
    site.centre.ip("link", "set", peer, "down")
    try:
        told = site.check()
    finally:
        site.centre.ip("link", "set", peer, "up")
    assert told["codes"][0] == 201
    assert "plug the network cable in" in failures(told)["link"][1]
    assert {row["status"] for row in told["checks"] if row["name"] == "echo"} == {"skipped"}


_LEASED = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/30" dev "$interface" && ip route replace default via "$router"
"""


def test_a_site_without_an_address_is_told_of_dhcp_and_well_once_it_has_a_lease(
    site: Site, tmp_path: Path
) -> None:
    way, peer = site.way, site.agent._cable
    script = tmp_path / "leased"
    script.write_text(_LEASED)
    script.chmod(0o755)
    ask = (
        "busybox",
        "udhcpc",
        "-i",
        way,
        "-n",
        "-q",
        "-f",
        "-t",
        "3",
        "-T",
        "1",
        "-s",
        str(script),
    )
    alone = ("--port=0", "--no-ping", "--conf-file=/dev/null", f"--interface={peer}")
    leases = ("--dhcp-range=10.99.1.2,10.99.1.2,255.255.255.252", f"--dhcp-leasefile={tmp_path}/l")
    process = ("--keep-in-foreground", "--user=root", "--pid-file=", "--log-facility=-")
    command = site.centre.within("dnsmasq", *process, *alone, *leases)
    dhcp = Service("dhcp", command, tmp_path / "dhcp.log")
    site.here.ip("addr", "flush", "dev", way)
    try:
        assert subprocess.run(site.here.within(*ask), capture_output=True, check=False).returncode
        told = site.check()
        dhcp.start()
        until(lambda: "started" in dhcp.said(), 20, "dnsmasq")
        site.here.run(*ask)
        mended = site.check()
    finally:
        dhcp.discard()
        site.here.ip("addr", "flush", "dev", way)
        site.here.ip("addr", "add", "10.99.1.2/30", "dev", way)
        site.here.route("default", "10.99.1.1")
    assert told["codes"][0] == 211
    assert "DHCP" in failures(told)["address"][1]
    assert mended["codes"] == []


def test_an_address_without_a_router_is_told_from_none(site: Site) -> None:
    site.here.ip("route", "del", "default")
    try:
        told = site.check()
    finally:
        site.here.route("default", "10.99.1.1")
    assert told["codes"][0] == 212
    assert "gateway" in failures(told)["address"][1]


def test_a_dead_resolver_is_named_at_dns_and_at_the_brokers_name(site: Site) -> None:
    os.kill(site.dns.pid, signal.SIGSTOP)
    try:
        silent = site.check(mqtt=site.mqtt(url="mqtts://broker.lab:8883"))
    finally:
        os.kill(site.dns.pid, signal.SIGCONT)
    assert failures(silent)["dns"][0] == 311
    assert "DNS server" in failures(silent)["dns"][1]
    assert failures(silent)["broker_name"] == (501, "mend DNS first; else look at mqtt.url")
    assert status(silent, "domestic") == "pass"

    site.dns.stop()
    try:
        gone = site.check()
    finally:
        site.dns.start()
        until(lambda: "started" in site.dns.said(), 20, "dnsmasq")
    assert failures(gone)["dns"][0] == 314


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({"must_resolve": ["probe.lab"], "must_be_filtered": ["open.lab"]}, 321),
        ({"must_resolve": ["bad.lab"], "must_be_filtered": ["worse.lab"]}, 322),
    ],
)
def test_a_filter_that_is_open_or_stops_too_much_fails(
    site: Site, rules: dict[str, list[str]], code: int
) -> None:
    told = site.check(filter=rules)
    assert told["codes"] == [code]
    (row,) = [row for row in told["checks"] if row["name"] == "filter"]
    assert row["values"]["names"] in ("open.lab", "bad.lab")


def test_a_portal_in_between_is_told_from_a_failure(site: Site) -> None:
    port = site.web.rpartition(":")[2]
    site.centre.run("nft", "add table ip portal")
    chain = "{ type nat hook prerouting priority -100 ; }"
    site.centre.run("nft", f"add chain ip portal in {chain}")
    rule = f"tcp dport {port} dnat to {CENTRE}:{site.portal_port}"
    site.centre.run("nft", f"add rule ip portal in {rule}")
    try:
        told = site.check()
    finally:
        site.centre.run("nft", "delete table ip portal")
    assert told["codes"] == [331]
    assert "let this device pass the portal" in failures(told)["web"][1]


def test_a_clock_that_is_off_is_held_against_the_time_server(site: Site) -> None:
    site.clock_ahead_s = 3600.0
    try:
        told = site.check()
    finally:
        site.clock_ahead_s = 0.0
    assert told["codes"] == [122]
    assert "timesyncd" in failures(told)["clock"][1]
    (row,) = [row for row in told["checks"] if row["name"] == "clock"]
    assert row["values"]["seconds"] == 3600


# The disk


@pytest.mark.parametrize(("then", "code"), [("", 133), ("remount,ro", 134)])
def test_a_disk_that_takes_nothing_fails(site: Site, tmp_path: Path, then: str, code: int) -> None:
    sh("mount", "-t", "tmpfs", "-o", "size=3m", "pantau-test", str(tmp_path))
    try:
        if then:
            sh("mount", "-o", then, str(tmp_path))
        else:
            (tmp_path / "ballast").write_bytes(bytes(2 * 1024 * 1024))
        told = site.check(spool={"path": str(tmp_path)})
    finally:
        sh("umount", "--lazy", str(tmp_path))
    assert told["codes"] == [code]


# The identity


def _identity(site: Site, cert: Path, key: Path) -> dict[str, Any]:
    return site.mqtt(cert_file=str(cert), key_file=str(key))


def test_an_expired_certificate_is_named_by_us_and_by_the_broker(site: Site) -> None:
    own = site.authority.expired(SITE)
    told = site.check(mqtt=_identity(site, own.cert, own.key))
    assert told["codes"] == [111, 515]
    assert "renew" in failures(told)["identity"][1]


def test_a_certificate_that_another_authority_signed_is_refused_by_the_broker(
    site: Site, tmp_path: Path
) -> None:
    own = Authority(tmp_path, name="Another CA").client(SITE)
    told = site.check(mqtt=_identity(site, own.cert, own.key))
    assert told["codes"] == [516]
    assert "certificate is from elsewhere" in failures(told)["broker_tls"][1]


def test_a_certificate_of_another_site_is_named_and_never_used(site: Site) -> None:
    """Used, it would end the session of the other site."""
    own = site.authority.client(OTHER)
    before = site.city.broker.log.read_text().count(f"as {OTHER}")
    told = site.check(mqtt=_identity(site, own.cert, own.key))
    assert told["codes"] == [113]
    assert "another site's" in failures(told)["identity"][1]
    assert status(told, "broker") == "skipped"
    assert site.city.broker.log.read_text().count(f"as {OTHER}") == before


def test_no_certificate_at_all_is_told(site: Site) -> None:
    mqtt = {
        key: value for key, value in site.mqtt().items() if key not in ("cert_file", "key_file")
    }
    told = site.check(mqtt=mqtt)
    assert told["codes"] == [517]
    assert status(told, "identity") == "absent"


def test_a_broker_that_is_not_ours_is_not_trusted(site: Site, tmp_path: Path) -> None:
    told = site.check(mqtt=site.mqtt(ca_file=str(Authority(tmp_path, name="Another CA").ca)))
    assert told["codes"] == [511]
    assert "mqtt.ca_file" in failures(told)["broker_tls"][1]


def test_a_broker_of_another_name_is_told(site: Site) -> None:
    told = site.check(mqtt=site.mqtt(url="mqtts://broker.lab:8883"))
    assert told["codes"] == [514]


def test_a_certificate_file_that_is_missing_is_configuration(site: Site) -> None:
    done = site.run("--json", mqtt=site.mqtt(cert_file="/nowhere/site.crt"))
    told = json.loads(done.stdout)
    assert (done.returncode, told["codes"], told["site"]) == (2, [101], None)
    assert "mqtt.cert_file" in told["checks"][0]["detail"]
    assert len(done.stderr.splitlines()) == 1


# The broker and the centre


def test_a_port_where_nobody_listens_is_told_from_one_that_is_out_of_reach(site: Site) -> None:
    refused = site.check(mqtt=site.mqtt(url=f"mqtts://{CENTRE}:8884"))
    assert refused["codes"] == [502]
    assert "mqtt.url" in failures(refused)["broker_port"][1]
    site.centre.run("nft", "add table ip wall")
    site.centre.run("nft", "add chain ip wall in { type filter hook input priority 0 ; }")
    site.centre.run("nft", "add rule ip wall in tcp dport 8883 drop")
    try:
        told = site.check()
    finally:
        site.centre.run("nft", "delete table ip wall")
    assert told["codes"] == [503]
    assert "TCP port 8883" in failures(told)["broker_port"][1]


@contextlib.contextmanager
def _plain_broker(site: Site, folder: Path, *extra: str) -> Iterator[dict[str, Any]]:
    broker = Broker(folder, host=CENTRE, port=1883, prefix=site.centre.within(), extra=extra)
    with broker:
        yield {"url": broker.url, "keepalive_s": 2}


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_wrong_password_is_a_refused_login(site: Site, tmp_path: Path, version: str) -> None:
    passwords, secret = tmp_path / "passwords", tmp_path / "secret"
    passwords.touch(0o600)
    sh("mosquitto_passwd", "-b", str(passwords), SITE, "right")
    secret.write_text("wrong\n")
    with _plain_broker(site, tmp_path / "broker", f"password_file {passwords}") as mqtt:
        told = site.check(mqtt={**mqtt, "password_file": str(secret), "version": version})
    assert told["codes"] == [521]
    assert "mqtt.password_file" in failures(told)["broker"][1]


def test_a_refused_topic_is_told_with_and_without_the_service(site: Site, tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read pantau/#\npattern write pantau/v1/sites/%c/presence\n")
    with _plain_broker(site, tmp_path / "broker", f"acl_file {acl}") as mqtt:
        tables = site.tables
        told = site.check(mqtt=mqtt)
        assert told["codes"] == [531]
        assert "ACL" in failures(told)["topics"][1]
        site.tables = {**tables, "mqtt": mqtt}
        try:
            with _service(site) as service:
                service.wait_for("refuses what we publish")
                told = site.check()
        finally:
            site.tables = tables
    assert (told["codes"], told["service"]) == ([531], True)


def test_an_ingest_that_is_away_is_a_missing_echo_with_and_without_the_service(
    site: Site,
) -> None:
    site.city.ingest.stop()
    try:
        alone = site.check()
        with _service(site) as service:
            service.wait_for("connected to")
            asked = site.check()
    finally:
        site.city.ingest.start()
        site.city.at_work()
    for told in (alone, asked):
        assert told["codes"] == [541]
        assert "is ingest running" in failures(told)["echo"][1]


def test_the_service_tells_at_which_step_its_broker_is_lost(site: Site) -> None:
    own = site.authority.expired(SITE)
    tables = site.tables
    site.tables = {**tables, "mqtt": _identity(site, own.cert, own.key)}
    try:
        with _service(site) as service:
            service.wait_for("check the certificate")
            told = site.check()
    finally:
        site.tables = tables
    assert (told["service"], told["codes"]) == (True, [111, 515])
    assert status(told, "echo") == "skipped"
