"""Executors of faulty implementations, both vectorised arithmetics, and the comparison with Arb.

That comparison, where it is long (REFERENCE_LONG=1), ends with its table and fails if too short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from faulty import FAULTS

from conformance.execution.executor import Executor
from reference.arithmetic.binary64 import Binary64
from reference.arithmetic.doubledouble import DoubleDouble


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


@pytest.fixture
def strict() -> Iterator[None]:
    """No floating-point warning may come from inside, and 300 bits judge."""
    with np.errstate(all="raise"), mpmath.workprec(300):
        yield


@pytest.fixture(params=[Binary64(), DoubleDouble()], ids=["binary64", "doubledouble"])
def a(request: pytest.FixtureRequest) -> Any:
    """Each of the two vectorised arithmetics."""
    return request.param
