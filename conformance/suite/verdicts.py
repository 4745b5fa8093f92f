"""From a measurement to a pytest outcome."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import pytest

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.columns import plain
from conformance.outcome import caught
from conformance.settings import VARIABLE
from conformance.text import printable

MEASUREMENT = "conformance_measurement"
ANSWERS = "conformance_answers"
_LONGEST = 1 << 20
"""Characters of answers that are handed over; those of a cell with more are asked for again."""


def check(cell: Cell, bench: Bench, node: pytest.Item) -> None:
    """Measure a cell, hand the measurement to whoever keeps the record, and pass or fail.

    A subject fails when it breaks the contract and no deviation documents it; a control when it
    is not bit-equal; a mutant when it was *not* caught. Antipatterns never fail.
    """
    row = bench.measure(cell)
    node.user_properties.append((MEASUREMENT, json.dumps(plain(row))))
    if bench.given and VARIABLE in os.environ:  # else nobody keeps a record
        answers = json.dumps(plain(bench.given), separators=(",", ":"))
        if len(answers) <= _LONGEST:
            node.user_properties.append((ANSWERS, answers))
    outcome(row, missed=row["role"] == "mutant" and not caught(row))


def outcome(row: Mapping[str, Any], *, missed: bool) -> None:
    """Raise pytest's outcome for a measurement."""
    verdict = row["verdict"]
    if verdict in ("not installed", "unsupported"):
        pytest.skip(f"{verdict}: {printable(row['message'], 1000)}")
    if row["role"] == "mutant":
        if missed:
            pytest.fail(f"this mutant must be caught here and was not: {verdict}", pytrace=False)
        return
    if row["role"] != "antipattern" and verdict not in ("pass", "deviation"):
        pytest.fail(f"{verdict}: {explain(row)}", pytrace=False)


def explain(row: Mapping[str, Any]) -> str:
    """What broke the contract, a line for each breach; no detail can begin a line of its own."""
    lines = [
        f"{b['kind']}: {printable(b['detail'], 1000)} (conformance explain {b['case_id']})"
        for b in row.get("breaches", [])
    ]
    return "\n".join(lines) or f"grade {row.get('grade')}"
