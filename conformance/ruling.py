"""From a judgement to the verdict that a record holds, with the documented deviations asked.

The one way, whether a cell has just been measured or its figures come from an old record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.cells import Cell
from conformance.deviations import Judged, Registry
from conformance.judge import Judgement
from conformance.policy import Policy
from reference.formats import Format


def ruled(
    rules: Policy,
    registry: Registry,
    cell: Cell,
    entry: Judged,
    version: str | None,
    judgement: Judgement,
) -> dict[str, Any]:
    """Grade, verdict, breaches, message and deviation of a measurement.

    A breach of any kind makes a passing grade an F. Only a subject's breaches can be documented.
    """
    breaches = judgement.breaches
    grade = judgement.grade
    if breaches and grade in rules.passes:
        grade = "F"
    row: dict[str, Any] = {
        "grade": grade,
        "verdict": rules.verdict(grade, (b.kind for b in breaches)),
        "breaches": [b.row() for b in breaches],
        "message": breaches[0].detail if breaches else "",
        "deviation": None,
    }
    if entry.role == "subject" and row["verdict"] != "pass":
        ruling = registry.rule(cell, entry, version, breaches)
        if ruling.id is not None:
            row |= {"verdict": "deviation", "deviation": ruling.id}
        elif ruling.worse:
            row["message"] = f"worse than documented in {', '.join(ruling.worse)}: {row['message']}"
    return row


def met(rules: Policy, fmt: Format, evidence: Mapping[str, Any]) -> bool:
    """Did a witness of a deviation meet the contract?

    Parameters
    ----------
    evidence : mapping
        Its ``ratio``, ``normwise`` and ``broken``, as in `conformance.judge.Judgement`.
    """
    ratio, normwise = evidence.get("ratio"), evidence.get("normwise")
    if evidence.get("broken") != 0 or ratio is None or normwise is None:
        return False
    return rules.accurate(fmt, ratio, normwise)
