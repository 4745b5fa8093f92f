"""special_values: infinities and NaN, masked entries, rows without a limit."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "special_values"


def test_special_values(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """The infinities and NaN of a cell are those of the contract."""
    check(cell, bench, request.node)
