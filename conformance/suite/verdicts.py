"""From a measurement to a pytest outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from conformance.bench import Bench, caught
from conformance.columns import plain
from conformance.plan import Cell
from conformance.text import printable

MEASUREMENT = "conformance_measurement"
WITNESSES = "conformance_witnesses"


def check(cell: Cell, bench: Bench, node: pytest.Item) -> None:
    """Measure a cell, hand the measurement to whoever keeps the record, and pass or fail.

    A subject fails when it breaks the contract and no deviation documents it; a control when it
    is not bit-equal; a mutant when it was *not* caught. Antipatterns never fail.
    """
    measured = bench.measure(cell)
    row = measured.row
    node.user_properties.append((MEASUREMENT, json.dumps(plain(row))))
    if measured.witnesses:
        node.user_properties.append((WITNESSES, json.dumps(measured.witnesses)))
    outcome(row, missed=row["role"] == "mutant" and not caught(bench.plan.entry(cell), row))


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
