"""Where a test on booted machines fails, their journals are printed."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.deploy.town import Town


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each machine's journal to the report."""
    report = yield
    town = getattr(item, "funcargs", {}).get("town")
    if report.when == "call" and report.failed and isinstance(town, Town):
        for name, machine in town.machines.items():
            report.sections.append((f"journal of {name}", machine.journal()))
    return report
