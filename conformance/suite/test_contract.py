"""contract: dtype and shape of results, every rank and axis, empty arrays."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "contract"


def test_contract(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """What a cell makes of arrays of any rank, along any axis, has the right form and values."""
    check(cell, bench, request.node)
