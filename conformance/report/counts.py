"""How much ran, and what became of it: counts that add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.columns import VERDICTS
from conformance.report.rows import (
    FAILING,
    MEASURED,
    Measurement,
    framework_rank,
    framework_version,
)

_TITLES = {"antipattern": "antipatterns", "control": "controls", "mutant": "mutants"}
# Names of the tallies that are not about subjects.
OTHERS = frozenset(_TITLES.values())


@dataclass(frozen=True)
class Tally:
    """How many cells of a group were planned, and what became of them; the counts add up.

    Attributes
    ----------
    name
        The group: a framework's subjects, all controls, ...
    version
        The framework's version; empty for other groups.
    counts
        Cells per verdict, every verdict present.
    """

    name: str
    version: str
    counts: Mapping[str, int]

    @property
    def planned(self) -> int:
        """All cells of the group: the sum of the counts."""
        return sum(self.counts.values())

    @property
    def failing(self) -> int:
        """Cells with a failing verdict."""
        return sum(self.counts[v] for v in FAILING)

    @property
    def measured(self) -> int:
        """Cells in which the implementation ran."""
        return sum(self.counts[v] for v in MEASURED)


def _tally(name: str, version: str, rows: Iterable[Measurement], missing: int = 0) -> Tally:
    found = Counter(row["verdict"] for row in rows)
    found["not run"] += missing
    return Tally(name, version, {v: found[v] for v in VERDICTS})


def planned_cells(coverage: Mapping[str, Any] | None, measured: int) -> int:
    """Return how many cells the run planned; never fewer than were measured."""
    planned = (coverage or {}).get("planned")
    return max(planned, measured) if isinstance(planned, int) else measured


def tallies(measurements: Sequence[Measurement], planned: int) -> list[Tally]:
    """Return the counts per framework's subjects, then per other role, then what was never reached.

    Their `planned` add up to `planned`.
    """
    answer = []
    frameworks = sorted({r["framework"] for r in measurements}, key=framework_rank)
    for name in frameworks:
        rows = [r for r in measurements if r["framework"] == name and r["role"] == "subject"]
        if rows:
            answer.append(_tally(name, framework_version(rows), rows))
    for role, title in _TITLES.items():
        rows = [r for r in measurements if r["role"] == role]
        if rows:
            answer.append(_tally(title, "", rows))
    missing = planned - len(measurements)
    if missing:
        answer.append(_tally("never reached", "", [], missing))
    return answer


def total(parts: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    parts = list(parts)
    return Tally("all cells", "", {v: sum(t.counts[v] for t in parts) for v in VERDICTS})
