"""The verdicts as a reader of the article meets them, on a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from conformance.claims.article import CLAIMS, Claim
from conformance.claims.collect import Findings
from conformance.claims.verdicts import DOES_NOT_HOLD, VERDICTS, Item
from conformance.text import printable

__all__ = ["lines", "rows_of"]

WIDTH = 80
_NAME = 21
_CELL = 14
DTYPES = ("float64", "float32", "bfloat16", "float16")
_MARKS = {DOES_NOT_HOLD: "no"}


def rows_of(items: Sequence[Item]) -> list[tuple[str, list[str], dict[str, Item]]]:
    """A claim's items as rows: framework, modes with the same cells, and the items by dtype."""
    by_mode: dict[tuple[str, str], dict[str, Item]] = {}
    for item in items:
        by_mode.setdefault((item.framework, item.mode), {})[item.dtype] = item
    rows: list[tuple[str, list[str], dict[str, Item]]] = []
    for (framework, mode), cells in by_mode.items():
        for name, modes, known in rows:
            if name == framework and _cells(known) == _cells(cells):
                modes.append(mode)
                break
        else:
            rows.append((framework, [mode], cells))
    return rows


def _cells(cells: dict[str, Item]) -> dict[str, tuple[str, str]]:
    return {dtype: (item.verdict, item.short) for dtype, item in cells.items()}


def lines(findings: Findings) -> Iterator[str]:
    """Everything that `conformance claims` prints."""
    for number, claim in enumerate(CLAIMS.values(), 1):
        mine = [item for item in findings.items if item.claim == claim.name]
        if mine:
            yield from _claim(number, claim, mine)
            yield ""
    yield from _end(findings)


def _claim(number: int, claim: Claim, items: Sequence[Item]) -> Iterator[str]:
    yield from textwrap.wrap(
        f"{number}. {claim.says}", WIDTH, subsequent_indent=" " * len(f"{number}. ")
    )
    counts = {v: sum(item.verdict == v for item in items) for v in VERDICTS}
    yield "   " + ", ".join(f"{v}: {n}" for v, n in counts.items() if n)
    rows = rows_of(items)
    dtypes = [d for d in DTYPES if any(d in cells for _, _, cells in rows)]
    if len(dtypes) > 1:
        yield "   " + " " * _NAME + "".join(f"{d:<{_CELL}}" for d in dtypes).rstrip()
    for framework, modes, cells in rows:
        name = f"{framework} {', '.join(modes)}"
        if len(dtypes) > 1:
            texts = [printable(cells[d].short, _CELL - 1) if d in cells else "" for d in dtypes]
            row = "".join(f"{t:<{_CELL}}" for t in texts).rstrip()
        else:
            row = printable(cells[dtypes[0]].short, WIDTH)
        # A long name, or one row for several modes, has a line of its own.
        if len(name) >= _NAME:
            yield f"   {printable(name, WIDTH - 3)}"
            yield f"   {'':<{_NAME}}{row}"
        else:
            yield f"   {name:<{_NAME}}{row}"
    told = f"Shown: {claim.figure}."
    yield from textwrap.wrap(told, WIDTH, initial_indent="   ", subsequent_indent="   ")
    example = next(
        (i for d in ("float32", *DTYPES) for i in items if i.dtype == d and i.counter_example),
        None,
    )
    if example is not None:
        text = f"e.g. {example.framework} {example.mode} {example.dtype}: "
        yield from textwrap.wrap(
            text + printable(example.counter_example, 400),
            WIDTH, initial_indent="   ", subsequent_indent="   ",
        )  # fmt: skip


def _end(findings: Findings) -> Iterator[str]:
    for name, found in findings.versions.items():
        yield f"{name}: {', '.join(f'{k} {v}' for k, v in found.items())}"
    for name in findings.not_installed:
        yield f"{name}: not installed"
    for name, other in findings.other_versions.items():
        told = ", ".join(f"{k} {a} (here {b or 'none'})" for k, (a, b) in other.items())
        yield from textwrap.wrap(
            f"{name}: no verdict is expected of these versions; the committed ones are for {told}",
            WIDTH, subsequent_indent="  ",
        )  # fmt: skip
    for change in findings.changes:
        where = f"{change.claim} / {change.framework} {change.mode} {change.dtype}"
        yield f"changed: {where}"
        yield f"  expected {change.expected or 'nothing'}, found {change.found or 'nothing'}"
    judged = len(findings.items)
    if findings.changes:
        yield f"{judged} verdicts, {len(findings.changes)} changed against the committed ones"
    elif len(findings.other_versions) < len(findings.versions):
        yield f"{judged} verdicts, none changed against the committed ones"
    else:
        yield f"{judged} verdicts"
