"""How much of each op ran in each framework, and what was never asked, for the report.

From run.json's coverage and the rows; a record without that coverage tells what its rows tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance import coverage
from conformance.registry import DERIVATIVES
from conformance.report.rows import (
    OPS,
    SHORT_DTYPES,
    Measurement,
    framework_rank,
    rank,
)

_NOTES = {
    "unsupported": "unsupported",
    "not_installed": "not installed",
    "not_run": "not run",
    "deviating": "deviate",
    "failed": "fail",
}
_DECLARED = ("framework", "op", "implementation", "derivative", "reason")
_LISTS = ("arguments", "dtypes", "modes")


@dataclass(frozen=True)
class Part:
    """A derivative of an op in a framework, its subjects' cells.

    Attributes
    ----------
    derivative : str
    planned, run : int
    dtypes, modes : list of (name, run, planned)
    notes : list of str
        What else there is to count.
    none : str
        Why nothing was planned, if so.
    """

    derivative: str
    planned: int = 0
    run: int = 0
    dtypes: list[tuple[str, int, int]] = field(default_factory=list)
    modes: list[tuple[str, int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    none: str = ""


@dataclass(frozen=True)
class Extent:
    """The table of a run.

    Attributes
    ----------
    frameworks : list of str
    lines : list of (op, list of parts for each framework)
    declared : list of dict
        What was never planned, with the reason.
    """

    frameworks: list[str]
    lines: list[tuple[str, list[list[Part]]]]
    declared: list[dict[str, Any]]


def extent(told: Any, measurements: Sequence[Measurement]) -> Extent:
    """The table of a run.

    Parameters
    ----------
    told
        What run.json says of the coverage, whatever it is.
    measurements : sequence of rows
    """
    entries = told if isinstance(told, Mapping) else {}
    items = [
        i
        for i in coverage.table(_items(entries.get("table")), measurements)
        if i["role"] == "subject"
    ]
    declared = _declared(entries.get("declared"))
    frameworks = sorted({i["framework"] for i in [*items, *declared]}, key=framework_rank)
    ops = sorted({i["op"] for i in [*items, *declared]}, key=lambda op: rank(OPS, op))
    lines = []
    for op in ops:
        derivatives = {i["derivative"] for i in [*items, *declared] if i["op"] == op}
        ordered = sorted(derivatives, key=lambda d: rank(DERIVATIVES, d))
        parts = [[_part(items, declared, f, op, d) for d in ordered] for f in frameworks]
        lines.append((op, parts))
    return Extent(frameworks, lines, declared)


def _part(
    items: Sequence[Mapping[str, Any]],
    declared: Sequence[Mapping[str, Any]],
    framework: str,
    op: str,
    derivative: str,
) -> Part:
    def mine(item: Mapping[str, Any]) -> bool:
        return (item["framework"], item["op"], item["derivative"]) == (framework, op, derivative)

    here = [i for i in items if mine(i)]
    if not here:
        why = "unsupported by declaration" if any(map(mine, declared)) else "no implementation"
        return Part(derivative, none=why)
    sums = {name: sum(i[name] for i in here) for name in coverage.COUNTS}
    dtypes = [
        (SHORT_DTYPES.get(name, name), run, planned) for name, run, planned in _by(here, "dtype")
    ]
    return Part(
        derivative,
        sums["planned"],
        sums["run"],
        dtypes,
        _by(here, "mode"),
        [f"{sums[name]} {word}" for name, word in _NOTES.items() if sums[name]],
    )


def _by(items: Sequence[Mapping[str, Any]], name: str) -> list[tuple[str, int, int]]:
    found: dict[str, list[int]] = {}
    for item in items:
        counts = found.setdefault(item[name], [0, 0])
        counts[0] += item["run"]
        counts[1] += item["planned"]
    order = tuple(SHORT_DTYPES) if name == "dtype" else ("eager",)
    return [(k, found[k][0], found[k][1]) for k in sorted(found, key=lambda k: rank(order, k))]


def _items(value: Any) -> list[Mapping[str, Any]]:
    """The items of a table that are items."""
    return [
        item
        for item in (value if isinstance(value, list) else [])
        if isinstance(item, Mapping)
        and all(isinstance(item.get(name), str) for name in coverage.GROUP)
        and isinstance(item.get("planned"), int)
    ]


def _declared(value: Any) -> list[dict[str, Any]]:
    return [
        {
            **{name: item[name] for name in _DECLARED},
            **{
                name: ", ".join(str(v) for v in item[name] if v != "-")
                for name in _LISTS
                if isinstance(item.get(name), list)
            },
        }
        for item in (value if isinstance(value, list) else [])
        if isinstance(item, Mapping) and all(isinstance(item.get(n), str) for n in _DECLARED)
    ]
