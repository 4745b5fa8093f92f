"""``conformance deviations list``: what is documented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from conformance.cli.options import folder_option, json_option, print_json

_SHOWN = ("reason", "upstream", "versions", "facts", "match", "allows", "witnesses", "since",
          "review_by", "standing", "seen")  # fmt: skip


@click.command(name="list")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--framework", multiple=True, metavar="NAME", help="About this framework.")
@click.option("--op", multiple=True, metavar="NAME", help="About this op.")
@click.option("--reason", multiple=True, metavar="NAME",
              help="upstream-bug, wont-fix, ambiguous-contract or platform.")  # fmt: skip
@click.option("--run", "run", type=click.Path(path_type=Path), default=None, metavar="RUN",
              help="A record: how each entry stands in it.")  # fmt: skip
@folder_option
@json_option
def command(
    ids: tuple[str, ...],
    framework: tuple[str, ...],
    op: tuple[str, ...],
    reason: tuple[str, ...],
    run: Path | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """List documented deviations; those that are named, in full.

    With --run, also how each stands in a record: shown, worse, stale, not exercised or unmatched
    (docs/deviations.md). The record is judged again by the present rules and these entries.
    """
    from conformance.deviations import REASONS
    from conformance.deviations.reading import entries_in, packaged
    from conformance.registry import FRAMEWORKS, OPS, load_builtin
    from conformance.selection import unknown

    for option, given, known in (
        ("framework", framework, FRAMEWORKS), ("op", op, tuple(OPS)), ("reason", reason, REASONS)
    ):  # fmt: skip
        for name in given:
            if name not in known:
                raise click.UsageError(unknown(option, name, known))
    entries = entries_in(folder or packaged())
    _check_ids(ids, [d.id for _, d in entries])
    seen = _seen(run, [d for _, d in entries]) if run else {}
    implementations = load_builtin().values()
    items = []
    for file, entry in entries:
        about = [e for e in implementations if entry.is_about(e)]
        if (
            (not ids or entry.id in ids)
            and (not framework or not {e.framework for e in about}.isdisjoint(framework))
            and (not op or not {e.op for e in about}.isdisjoint(op))
            and (not reason or entry.reason in reason)
        ):
            items.append(_item(file, entry) | seen.get(entry.id, {}))
    if as_json:
        print_json({"schema": 1, "items": items})
        return 0
    for line in _entries(items) if ids else _table(items):
        click.echo(line)
    return 0


def _check_ids(ids: tuple[str, ...], known: list[str]) -> None:
    import difflib

    for name in ids:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            told = f"unknown deviation {name!r}{hint} (`conformance deviations list` shows them)"
            raise click.UsageError(told)


def _seen(run: Path, entries: list[Any]) -> dict[str, dict[str, Any]]:
    from conformance import policy
    from conformance.deviations import Registry
    from conformance.deviations.standing import of_record
    from conformance.record import read_record

    found = of_record(Registry(tuple(entries)), read_record(run), policy.load())
    return {
        id_: {
            "standing": own.standing,
            "seen": {
                "extent": own.extent,
                "cells": own.cells,
                "versions": sorted(own.versions),
                "excused": own.excused,
                "exceeded": own.exceeded,
                "witnesses": len(own.witnesses),
                "met": list(own.dead),
            },
        }
        for id_, own in found.items()
    }


def _item(file: str, entry: Any) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC, datetime

    return {"file": file, **asdict(entry), "overdue": entry.overdue(datetime.now(UTC).date())}


def _table(items: list[dict[str, Any]]) -> Iterator[str]:
    from conformance.text import printable

    names = ("id", "reason", "versions", "standing", "upstream")
    lines = [[printable(str(i[name]), 100) for name in names if name in i] for i in items]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()
    overdue = sum(item["overdue"] for item in items)
    yield f"{len(items)} entries" + (f"; the review of {overdue} is overdue" if overdue else "")


def _entries(items: list[dict[str, Any]]) -> Iterator[str]:
    from conformance.text import printable

    for item in items:
        yield printable(f"{item['id']} ({item['file']})", 200)
        yield "  " + printable(" ".join(item["summary"].split()), 4000)
        for name in _SHOWN:
            for line in _lines(item.get(name)):
                yield f"  {name}: {printable(line, 400)}"
        if item["overdue"]:
            yield "  its review is overdue"


def _lines(value: Any) -> Iterator[str]:
    """A value of an entry, a line for each part of it."""
    if isinstance(value, dict):
        yield from (f"{part} {line}" for part, of in value.items() for line in _lines(of))
    elif isinstance(value, (list, tuple)):
        yield from (line for of in value for line in _lines(of))
    elif isinstance(value, float):
        yield f"{value:.3g}"
    elif value is not None:
        yield str(value)
