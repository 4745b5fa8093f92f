"""invariance: batch, place, layout, threads, modes; shifts, permutations, mirror images, order."""

from __future__ import annotations

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.suite.verdicts import check

CONCERN = "invariance"


def test_invariance(cell: Cell, bench: Bench, request: pytest.FixtureRequest) -> None:
    """What a cell makes of a row depends on nothing else, up to the bounds."""
    check(cell, bench, request.node)
