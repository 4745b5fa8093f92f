"""``conformance run``: measure implementations and write a record."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conformance.cli.options import (
    absolute_plugins,
    json_option,
    limit_options,
    plugin_option,
    print_json,
    selection_options,
)

if TYPE_CHECKING:
    from conformance.plan import Plan
    from conformance.run import Outcome
    from conformance.settings import Settings

# Seconds per cell, rough, for the estimate of --dry-run: (start of the framework, per cell).
_COSTS = {
    ("numpy", "eager"): (1.0, 0.03),
    ("torch", "eager"): (4.0, 0.03),
    ("torch", "compiled"): (20.0, 0.5),
    ("tensorflow", "eager"): (7.0, 0.04),
    ("tensorflow", "graph"): (0.0, 0.05),
    ("tensorflow", "xla"): (1.0, 0.2),
    ("jax", "eager"): (2.0, 0.1),
    ("jax", "compiled"): (1.0, 0.2),
}


@click.command(name="run")
@selection_options
@plugin_option
@click.option(
    "--profile",
    default="quick",
    show_default=True,
    metavar="NAME",
    help="How much: quick, standard or exhaustive.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=None,
    help="Processes that measure side by side.  [default: 2, or 1 on one core]",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Of the cases."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Folder of the record.  [default: conformance-runs/TIME-PROFILE]",
)
@click.option("--max-failures", type=click.IntRange(1), default=None, metavar="N",
              help="Stop after N failing cells.")  # fmt: skip
@limit_options
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also where something fails.")
@click.option("--dry-run", is_flag=True, help="Show what would run; imports no framework.")
@json_option
def command(
    profile: str,
    workers: int | None,
    seed: int,
    out: Path | None,
    max_failures: int | None,
    timeout: float,
    memory_limit: int | None,
    exit_zero: bool,
    dry_run: bool,
    as_json: bool,
    plugins: tuple[str, ...],
    **selected: tuple[str, ...],
) -> int:
    """Measure implementations and write a record.

    Without options: every op, framework and dtype that profile quick plans, compiled modes
    included. Each option of the selection can be given several times.

    \b
    conformance run --framework torch --op softmax
    conformance run --dtype bfloat16 --derivative vjp --profile standard
    conformance run --plugin mylib/softmax.py --implementation 'mylib.*'

    Exit code 0: everything that was judged conforms, or deviates as documented. 1: something does
    not. 2: wrong usage. 3: the instrument is broken (a control is not bit-equal, a mutant was
    missed). 130: interrupted.
    """
    from conformance.executor import default_memory_limit
    from conformance.plan import Selection
    from conformance.settings import Settings

    settings = Settings(
        profile=profile,
        seed=seed,
        selection=Selection(**selected),
        plugins=absolute_plugins(plugins),
        # Written out also where they are the defaults: the record says what was allowed.
        deadline=timeout,
        memory_limit=default_memory_limit() if memory_limit is None else memory_limit,
    )
    plan = settings.plan()
    count = workers or min(2, os.cpu_count() or 1)
    if dry_run:
        _show_plan(plan, count, as_json)
        return 0
    started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = out or Path("conformance-runs") / f"{started}-{profile}"
    outcome = _measure(settings, plan, folder, count, max_failures)
    code = 0 if exit_zero and outcome.exit_code == 1 else outcome.exit_code
    if as_json:
        _print_document(plan, folder, outcome, code)
    else:
        _print_end(plan, folder, outcome)
    return code


def _measure(
    settings: Settings, plan: Plan, folder: Path, workers: int, max_failures: int | None
) -> Outcome:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from conformance.run import FAILING, run
    from conformance.text import printable

    console = Console(stderr=True)
    failing = 0
    with Progress(
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("cells", total=len(plan.cells), note="starting")

        def advance(row: dict[str, Any]) -> None:
            nonlocal failing
            failing += row["role"] == "subject" and row["verdict"] in FAILING
            what = printable(f"{row['framework']} {row['op']} {row['dtype']} {row['mode']}", 44)
            note = what + (f", {failing} failing" if failing else "")
            progress.update(task, advance=1, note=note)

        return run(
            settings,
            plan,
            folder,
            workers=workers,
            max_failures=max_failures,
            progress=advance,
        )


def _show_plan(plan: Plan, workers: int, as_json: bool) -> None:
    cells = [(plan.entry(cell).framework, cell) for cell in plan.cells]
    groups: dict[tuple[str, str], int] = {}
    for framework, cell in cells:
        groups[framework, cell.mode] = groups.get((framework, cell.mode), 0) + 1
    seconds = sum(
        start + each * groups[key]
        for key, (start, each) in _COSTS.items()
        if key in groups
    ) / workers  # fmt: skip
    if as_json:
        print_json(
            {
                "schema": 1,
                "profile": plan.profile.name,
                "cells": [cell.key for _, cell in cells],
                "counts": {f"{f}/{m}": n for (f, m), n in groups.items()},
                "estimate_seconds": round(seconds),
            }
        )
        return
    for (framework, mode), count in groups.items():
        click.echo(f"{framework:<12} {mode:<10} {count:>6} cells")
    click.echo(f"{'total':<23} {len(cells):>6} cells, about {max(1, round(seconds))} s")


def _print_document(plan: Plan, folder: Path, outcome: Outcome, code: int) -> None:
    print_json(
        {
            "schema": 1,
            "run": str(folder),
            "exit_code": code,
            "partial": outcome.partial,
            "counts": outcome.counts,
            "coverage": {"planned": outcome.planned, "measured": len(outcome.measurements)},
            "controls": outcome.controls,
            "mutants": outcome.mutants,
            "stale_deviations": list(outcome.stale),
            "harness_errors": outcome.harness_errors,
            "cells": outcome.measurements,
        }
    )


def _print_end(plan: Plan, folder: Path, outcome: Outcome) -> None:
    from rich.console import Console

    from conformance.report.terminal import print_summary
    from conformance.text import printable

    console = Console()
    print_summary(console, outcome.measurements, {"planned": outcome.planned})
    for error in outcome.harness_errors[:5]:
        click.echo(f"instrument: {printable(error, 1000)}", err=True)
    for entry in outcome.stale:
        click.echo(f"stale deviation: {entry}: its witnesses all met the contract", err=True)
    if outcome.partial:
        why = "interrupted" if outcome.interrupted else outcome.stopped or "ended early"
        cells = f"{len(outcome.measurements)} of {outcome.planned} cells"
        click.echo(f"partial record ({why}): {cells}", err=True)
    where = printable(folder)
    click.echo(f"record: {where}")
    click.echo(f"report: conformance report {where} --out {where}/report")
