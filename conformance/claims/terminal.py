"""The verdicts as a reader of the article meets them, on a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from conformance.claims.article import CLAIMS, Claim
from conformance.claims.collect import Findings
from conformance.claims.tables import DTYPES, Text, example, further, rows_of
from conformance.claims.verdicts import VERDICTS, Item
from conformance.text import printable

__all__ = ["lines"]

WIDTH = 80
_NAME = 17
_CELL = 15
_ALONE = 24
"""The width of a name beside a single column."""
_MOST_CHANGES = 20


def _table(items: Sequence[Item], text: Text) -> Iterator[str]:
    rows = rows_of(items, text)
    dtypes = [d for d in DTYPES if any(d in cells for _, _, cells in rows)]
    several = len(dtypes) > 1
    if several:
        yield "   " + " " * _NAME + "".join(f"{d:<{_CELL}}" for d in dtypes).rstrip()
    for framework, modes, cells in rows:
        name = f"{framework} {', '.join(modes)}"
        width = _CELL - 1 if several else WIDTH
        texts = [printable(cells[d], width) if d in cells else "" for d in dtypes]
        row = "".join(f"{t:<{_CELL}}" for t in texts).rstrip() if several else texts[0]
        # A row for several modes has a line of its own for their names.
        room = _NAME if several else _ALONE
        if len(name) >= room:
            yield f"   {printable(name, WIDTH - 3)}"
            name = ""
        yield f"   {name:<{room}}{row}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="   ", subsequent_indent="   ")


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
    yield from _wrapped(f"Shown: {claim.figure}.")
    yield from _table(items, lambda item: item.short)
    for title in items[0].more:
        yield from _wrapped(f"{title}:")
        yield from _table(items, partial(further, title))
    told = example(items)
    if told is not None:
        text = f"e.g. {told.framework} {told.mode} {told.dtype}: "
        yield from _wrapped(text + printable(told.counter_example, 400))


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
    for change in findings.changes[:_MOST_CHANGES]:
        where = f"{change.claim} / {change.framework} {change.mode} {change.dtype}"
        yield f"changed: {where}"
        yield f"  expected {change.expected or 'nothing'}, found {change.found or 'nothing'}"
    if len(findings.changes) > _MOST_CHANGES:
        yield f"and {len(findings.changes) - _MOST_CHANGES} more changes (--json has all)"
    judged = len(findings.items)
    if findings.changes:
        yield f"{judged} verdicts, {len(findings.changes)} changed against the committed ones"
    elif len(findings.other_versions) < len(findings.versions):
        yield f"{judged} verdicts, none changed against the committed ones"
    else:
        yield f"{judged} verdicts"
