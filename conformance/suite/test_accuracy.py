"""accuracy: finite results against the exact ones, in units of their error bounds."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "accuracy"


def test_accuracy(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """The finite results of a cell are within their error bounds."""
    check(cell, bench, request.node)
