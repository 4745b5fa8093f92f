"""Ends the long comparison with Arb (REFERENCE_LONG=1) with its table; it fails if it was short."""

from __future__ import annotations

import os
from typing import Any

import pytest


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
