"""Executors of faulty implementations, and the end of the long comparison with Arb.

That comparison (REFERENCE_LONG=1) ends with its table, and fails if it was short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from faulty import FAULTS

from conformance.execution.executor import Executor


def _lines(config: pytest.Config) -> dict[str, Any]:
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or not os.environ.get("REFERENCE_LONG"):
        return {}
    import arb_table  # needs python-flint, which not every test does

    reports = [r for found in terminal.stats.values() for r in found]
    return arb_table.collect(r for r in reports if getattr(r, "when", "") == "call")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if any(line.too_few for line in _lines(session.config).values()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    lines = _lines(config)
    if lines:
        import arb_table

        terminalreporter.section("against Arb")
        for line in arb_table.text(lines):
            terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def shared() -> Iterator[Executor]:
    """An executor of the implementations in `faults`."""
    with Executor("numpy", plugins=[FAULTS], deadline=20) as executor:
        yield executor


@pytest.fixture
def impatient() -> Iterator[Executor]:
    """The same, which waits half a second for an answer."""
    with Executor("numpy", plugins=[FAULTS], deadline=0.5) as executor:
        executor.start()
        yield executor
