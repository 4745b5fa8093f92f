"""reduction: losses reduced over a batch, with labels, class weights, smoothing, ignored rows."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "reduction"


def test_reduction(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """What a cell makes of a batch, its labels and its options is what the contract says."""
    check(cell, bench, request.node)
