"""underflow: where results leave the normal range, what comes back, and whether it is premature."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "underflow"


def test_underflow(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """Nothing of a cell underflows before the format does."""
    check(cell, bench, request.node)
