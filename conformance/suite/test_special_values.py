"""special_values: infinities and NaN, masked entries and rows without a limit (limits, not habits)."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.plan import Cell
from conformance.suite.verdicts import check

CONCERN = "special_values"


def test_special_values(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    check(cell, bench, request.node)
