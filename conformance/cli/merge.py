"""``conformance merge``: the shards of a run to one record."""

from __future__ import annotations

from pathlib import Path

import click

from conformance.cli.ending import print_document, print_end
from conformance.cli.options import json_option


@click.command(name="merge")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the merged record.",
)
@click.option("--partial", is_flag=True, help="Accept that shards, or cells of them, are missing.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also where something fails.")
@json_option
def command(
    runs: tuple[Path, ...], out: Path, partial: bool, exit_zero: bool, as_json: bool
) -> int:
    """Put the shards of a run together: the record of one run of the whole plan.

    \b
    conformance run --shard 1/2 --out one
    conformance run --shard 2/2 --out two
    conformance merge one two --out whole

    The shards may come from several machines, but figures that are not comparable are not mixed:
    other cases, rules, versions or CPU capability are refused, and so are cells that occur twice
    and shards that are missing. What only the whole can tell is decided here: whether a documented
    deviation is stale, and whether all controls and mutants proved the instrument. The exit codes
    are those of `conformance run`.
    """
    from conformance.merge import merge
    from conformance.record import read_record

    records = [read_record(run) for run in runs]
    outcome = merge(records, out, partial=partial)
    code = 0 if exit_zero and outcome.exit_code == 1 else outcome.exit_code
    if as_json:
        print_document(out, outcome, code)
    else:
        print_end(out, outcome, records[0].run)
    return code
