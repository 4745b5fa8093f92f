"""An old record judged again: the same figures under the present rules, or under given ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.cells import Cell
from conformance.deviations import Named, Registry
from conformance.judge import Breach, Judgement
from conformance.policy import Policy
from conformance.record import Record
from conformance.ruling import ruled
from reference.formats import FORMATS, Format

JUDGED = frozenset({"pass", "fail", "error", "crash", "timeout", "deviation"})
"""Verdicts of cells in which the implementation ran."""

_NEEDED = ("nan_mismatches", "inf_mismatches", "normwise", "max_ulp", "ratio_weak", "ratio_strong")
_TOLD = ("verdict", "grade", "deviation")


@dataclass(frozen=True)
class Change:
    """A cell that comes out differently.

    Attributes
    ----------
    before, after : dict
        ``verdict``, ``grade`` and ``deviation``.
    """

    key: str
    role: str
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass
class Rejudged:
    """What became of a record's rows.

    Attributes
    ----------
    rows : list of dict
        All of them, with the new verdicts.
    changes : list of Change
    judged : int
        How many were judged again.
    kept : dict of str to str
        Of those that could not be, by key: why.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    judged: int = 0
    kept: dict[str, str] = field(default_factory=dict)


def rejudge(record: Record, rules: Policy, registry: Registry) -> Rejudged:
    """Judge the figures of a record, with the deviations that its environment accepts.

    Cells that did not run (`unsupported`, `not installed`, `not run`) stay as they are. A row of
    an older schema may lack a figure that the rules need; it keeps its verdict and is named.
    """
    out = Rejudged()
    registry = registry.under(record.run.get("environment"))
    for row in record.measurements:
        if row["verdict"] not in JUDGED:
            out.rows.append(row)
            continue
        why = _missing(row)
        if why:
            out.kept[row["key"]] = why
            out.rows.append(row)
            continue
        out.judged += 1
        new = row | _judged(row, rules, registry)
        out.rows.append(new)
        before, after = ({name: r[name] for name in _TOLD} for r in (row, new))
        if before != after:
            out.changes.append(Change(row["key"], row["role"], before, after))
    return out


def _missing(row: Mapping[str, Any]) -> str:
    """Why a row cannot be judged; empty if it can."""
    if row["dtype"] not in FORMATS:
        return f"the dtype {row['dtype']} is unknown"
    if row["cases"] is None:  # nothing came back: its breaches say all
        return ""
    lacks = [name for name in _NEEDED if row[name] is None]
    return f"the figure {lacks[0]} is missing" if lacks else ""


def _judged(row: Mapping[str, Any], rules: Policy, registry: Registry) -> dict[str, Any]:
    fmt = FORMATS[row["dtype"]]
    judgement = Judgement(breaches=_facts(row))
    if row["cases"] is not None:
        judgement.figures = {name: row[name] for name in _NEEDED}
        judgement.grade = rules.grade(fmt, judgement.figures)
        if rules.inaccurate(fmt, judgement.figures):
            # Where the judge puts it: behind what is wrong with special values.
            place = sum("@" in breach.kind for breach in judgement.breaches)
            judgement.breaches.insert(place, _accuracy(row, rules, fmt))
    entry = Named.of_row(row)
    return ruled(rules, registry, Cell.of_row(row), entry, row["framework_version"], judgement)


def _facts(row: Mapping[str, Any]) -> list[Breach]:
    """The breaches that no policy decides."""
    return [breach for b in row["breaches"] if (breach := Breach.of_row(b)).kind != "accuracy"]


def _accuracy(row: Mapping[str, Any], rules: Policy, fmt: Format) -> Breach:
    size = rules.size(fmt, row)
    for told in row["breaches"]:
        if told.get("kind") == "accuracy":
            return Breach("accuracy", told.get("case_id") or "", told.get("detail") or "", size)
    # Where special values are wrong, the worst case of the row is one of these.
    known = not row["nan_mismatches"] and not row["inf_mismatches"]
    detail = (
        f"{row['max_ulp']:.3g} ULP from the exact value, {row['ratio_weak']:.3g} times the bound; "
        f"normwise error {row['normwise']:.2g}"
    )
    return Breach("accuracy", (row["worst_case"] or "") if known else "", detail, size)
