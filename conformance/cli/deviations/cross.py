"""``conformance deviations cross``: what every framework deviates in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from conformance.cli.options import json_option, print_json

if TYPE_CHECKING:
    from conformance.deviations.crossing import Suspect


@click.command(name="cross")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True,
                type=click.Path(path_type=Path))  # fmt: skip
@json_option
def command(runs: tuple[Path, ...], as_json: bool) -> int:
    """Name what every framework deviates in: a suspect contract.

    \b
    conformance deviations cross RUN              one run of several frameworks
    conformance deviations cross RUN RUN RUN      or several runs, a framework each

    A line is an op, a derivative, a family and a kind of breach that at least two frameworks ran,
    and of each of them at least one implementation shows, documented or not. First come those
    that no implementation is without. Either all have one weakness, or the contract asks for
    what nobody does (docs/contract.md): a person decides. The exit code is 0 either way.
    """
    from conformance.deviations.crossing import subjects, suspects
    from conformance.record import read_record
    from conformance.registry import FRAMEWORKS
    from conformance.text import printable

    rows = subjects(row for run in runs for row in read_record(run).measurements)
    ran = {row["framework"] for row in rows}
    names = [name for name in FRAMEWORKS if name in ran] + sorted(ran.difference(FRAMEWORKS))
    found = suspects(rows)
    if as_json:
        print_json({"schema": 1, "frameworks": names, "items": [s.row() for s in found]})
        return 0
    for suspect in found:
        _print(suspect)
    if len(names) < 2:
        click.echo("subjects of one framework at most: nothing to compare", err=True)
    else:
        of = printable(", ".join(names), 200)
        click.echo(f"{len(found)} suspects in {len(rows)} cells of {of}", err=True)
    return 0


def _print(suspect: Suspect) -> None:
    from conformance.text import printable

    where = f"{', '.join(sorted(suspect.dtypes))}; to {', '.join(sorted(suspect.arguments))}"
    told = [
        f"{suspect.op} {suspect.derivative}, {suspect.family}: {suspect.kind}"
        + (" (every implementation)" if suspect.unanimous else ""),
        f"    in {where if suspect.derivative != 'value' else where.partition(';')[0]}",
    ]
    for name, ran in sorted(suspect.ran.items()):
        shown = suspect.deviating[name]
        told.append(f"    {name}: {len(shown)} of {len(ran)} implementations: "
                    f"{', '.join(sorted(shown))}")  # fmt: skip
    told.append(f"    documented: {', '.join(sorted(suspect.documented)) or 'nowhere'}")
    for line in told:
        click.echo("    " * line.startswith(" ") + printable(line.strip(), 600))
