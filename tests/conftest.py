"""What all tests share: who may run them, and that nothing is left out unseen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.lab.broker import Broker
from tests.lab.pki import Authority

REQUIRE_ALL = os.environ.get("PANTAU_REQUIRE_ALL") == "1"
"""Set by `make test` for root: a test that is left out makes the run fail."""

# Where Debian keeps mosquitto, nft and fping, though not in every user's PATH.
os.environ["PATH"] += ":/usr/sbin:/sbin"

# How fast an example runs says something about the machine, not about Pantau.
# Continuous integration tries the same examples each time, everybody else new ones.
hypothesis.settings.register_profile(
    "pantau", deadline=None, print_blob=True, derandomize=os.environ.get("CI") == "true"
)
hypothesis.settings.load_profile("pantau")

_LONGEST_FIRST = (
    *("deploy/test_upgrade.py", "deploy/test_technician.py", "deploy/test_install.py"),
    *("deploy/test_operator_machines.py", "deploy/test_certificates.py"),
    *("deploy/test_flash_arm64.py", "deploy/test_flash.py", "deploy/test_broker.py"),
    "deploy/test_flash_batch.py",
)
"""Of those who run beside each other none shall begin as the others end."""
_left_out: list[str] = []
_measured: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, and leave out what needs root when we are not."""
    items.sort(key=lambda item: _place(item.path))
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: run `make test` as root to include it")
    for item in items:
        if item.get_closest_marker("needs_root"):
            item.add_marker(skip)


def _place(file: Path) -> int:
    name = "/".join(file.parts[-2:])
    return _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember every test that was left out, and what one measured (`record_property`)."""
    if report.when == "teardown":
        _measured.extend(f"{name}: {value}" for name, value in report.user_properties)
    if report.skipped and not hasattr(report, "wasxfail"):
        _left_out.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Remember every file that was left out as a whole."""
    if report.skipped:
        _left_out.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a run red that left something out, when all was required."""
    if REQUIRE_ALL and _left_out and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured, and say why such a run is red."""
    if _measured:
        terminalreporter.section("measured")
        for line in _measured:
            terminalreporter.line(line)
    if REQUIRE_ALL and _left_out:
        terminalreporter.section("left out, and nothing may be left out here", red=True)
        for name in _left_out:
            terminalreporter.line(name)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One certificate authority for the whole run."""
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running mosquitto without TLS, for tests that are not about access."""
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def tls_broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    """A running mosquitto as it is deployed: mutual TLS and the shipped ACL."""
    with Broker(tmp_path / "broker", authority=authority) as running:
        yield running
