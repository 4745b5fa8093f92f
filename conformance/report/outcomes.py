"""What failed, what is documented, and whether the instrument proved itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.report.rows import (
    FAILING,
    MEASURED,
    OPS,
    Measurement,
    framework_rank,
    https,
    largest,
    rank,
    sort_key,
)


def failures(measurements: Iterable[Measurement]) -> list[Measurement]:
    """Return the subjects' failing rows, in order."""
    rows = [r for r in measurements if r["role"] == "subject" and r["verdict"] in FAILING]
    return sorted(rows, key=sort_key)


@dataclass(frozen=True)
class DeviationSummary:
    """A documented deviation and the cells that showed it.

    Attributes
    ----------
    reason
        Its class: upstream-bug, wont-fix, ambiguous-contract, platform; empty when the record
        does not say.
    upstream
        Address of the upstream issue; empty unless it is https.
    summary
        What the registry says of it.
    rows
        The measurements, in order.
    """

    id: str
    reason: str
    upstream: str
    summary: str
    rows: tuple[Measurement, ...]

    @property
    def frameworks(self) -> list[str]:
        """The frameworks that show it."""
        return sorted({r["framework"] for r in self.rows}, key=framework_rank)

    @property
    def ops(self) -> list[str]:
        """The ops that show it."""
        return sorted({r["op"] for r in self.rows}, key=lambda o: rank(OPS, o))

    @property
    def max_ulp(self) -> float | None:
        """Its worst error."""
        return largest(r["max_ulp"] for r in self.rows)


def deviations(
    measurements: Iterable[Measurement], registry: Mapping[str, Mapping[str, Any]]
) -> list[DeviationSummary]:
    """Return the deviations that occurred, by reason and then by id.

    Parameters
    ----------
    measurements
        Rows; those with a `deviation` count, of whatever verdict.
    registry
        What the run knew of each id: `reason`, `upstream`, `summary`.
    """
    groups: dict[str, list[Measurement]] = {}
    for row in measurements:
        if row["deviation"]:
            groups.setdefault(row["deviation"], []).append(row)
    answer = []
    for name, rows in groups.items():
        entry = registry.get(name, {})
        answer.append(
            DeviationSummary(
                id=name,
                reason=str(entry.get("reason") or ""),
                upstream=https(entry.get("upstream")),
                summary=str(entry.get("summary") or ""),
                rows=tuple(sorted(rows, key=sort_key)),
            )
        )
    return sorted(answer, key=lambda d: (d.reason == "", d.reason, d.id))


@dataclass(frozen=True)
class Instrument:
    """A control or a mutant, and whether it proved that the instrument works.

    Attributes
    ----------
    proven
        Of a control: bit-equal in every cell. Of a mutant: caught in the cell that must catch it.
    cells, failing
        How many cells ran, and in how many it failed.
    where
        Key of the first cell that decided.
    """

    name: str
    role: str
    op: str
    framework: str
    proven: bool
    cells: int
    failing: int
    where: str


def instruments(
    measurements: Iterable[Measurement], run: Mapping[str, Any] | None = None
) -> list[Instrument]:
    """Return controls and mutants of one run.

    The run's own word on which mutants were missed and which controls failed (`mutants.missed`,
    `controls.failed` in run.json) counts; where it says nothing, a mutant is caught when any of
    its cells failed.
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for row in measurements:
        if row["role"] in ("control", "mutant") and row["verdict"] in MEASURED:
            groups.setdefault((row["role"], row["implementation"]), []).append(row)
    told: Mapping[str, Any] = run or {}
    missed = _names(told.get("mutants"), "missed")
    failed = _names(told.get("controls"), "failed")
    answer = []
    for (role, name), rows in groups.items():
        rows.sort(key=sort_key)
        bad = [r for r in rows if r["verdict"] in FAILING]
        if role == "control":
            proven = not bad and (failed is None or not _mentioned(name, rows, failed))
        else:
            proven = bool(bad) if missed is None else not _mentioned(name, rows, missed)
        first = bad[0] if bad else rows[0]
        answer.append(
            Instrument(
                name,
                role,
                rows[0]["op"],
                rows[0]["framework"],
                proven,
                len(rows),
                len(bad),
                first["key"],
            )
        )
    return sorted(
        answer, key=lambda i: (i.proven, i.role, framework_rank(i.framework), i.op, i.name)
    )


def _names(told: object, list_name: str) -> set[str] | None:
    """Return the names or keys in a list of run.json; None where there is no such list."""
    if not isinstance(told, Mapping) or not isinstance(told.get(list_name), list):
        return None
    return {str(t) for t in told[list_name]}


def _mentioned(name: str, rows: Sequence[Measurement], listed: set[str]) -> bool:
    return name in listed or any(r["key"] in listed for r in rows)
