"""``conformance run``: measure implementations and write a record."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conformance.cli.ending import print_document, print_end
from conformance.cli.options import (
    absolute_plugins,
    json_option,
    limit_options,
    plugin_option,
    print_json,
    selection_options,
)

if TYPE_CHECKING:
    from conformance.cells import Cell
    from conformance.outcome import Outcome
    from conformance.plan import Plan
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
@click.option("--shard", default="", metavar="K/N",
              help="Run part K of N of the plan; `conformance merge` joins the parts.")  # fmt: skip
@click.option("--resume", "resumed", type=click.Path(path_type=Path), default=None, metavar="RUN",
              help="Measure what is missing in this record, as its run would have.")  # fmt: skip
@click.option("--retry", default="", metavar="VERDICT,...",
              help="With --resume: measure these again too, e.g. crash,timeout.")  # fmt: skip
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
    shard: str,
    resumed: Path | None,
    retry: str,
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
    conformance run --profile standard --shard 2/4 --out shard2
    conformance run --resume conformance-runs/20261124T090000Z-standard

    A run that was interrupted, killed, or stopped by a full disk loses the cells that were being
    measured and nothing else. --resume takes profile, seed, selection and limits from the record
    and ends with the figures that an uninterrupted run would have given. It refuses, and says why,
    where versions, rules or the processor's capability are no longer the same. Plug-ins are named
    again with --plugin: no code is loaded because a record says so.

    Exit code 0: everything that was judged conforms, or deviates as documented. 1: something does
    not. 2: wrong usage. 3: the instrument is broken (a control is not bit-equal, a mutant was
    missed). 130: interrupted.
    """
    count = workers or min(2, os.cpu_count() or 1)
    if resumed is None:
        if retry:
            raise click.UsageError("--retry goes with --resume RUN")
        settings, plan = _planned(
            profile=profile, seed=seed, selected=selected, plugins=plugins, timeout=timeout,
            memory_limit=memory_limit, shard=shard,
        )  # fmt: skip
        if dry_run:
            _show_plan(plan, plan.cells, count, as_json)
            return 0
        started = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        folder = out or Path("conformance-runs") / f"{started}-{profile}"
        outcome = _started(settings, plan, folder, count, max_failures)
    else:
        _refuse_what_the_record_says(click.get_current_context())
        verdicts = _verdicts(retry)
        plugins = absolute_plugins(plugins)
        if dry_run:
            from conformance.record import read_record
            from conformance.resume import rest

            left = rest(read_record(resumed), plugins=plugins, retry=verdicts)
            _show_plan(left.plan, left.cells, count, as_json)
            return 0
        folder = resumed
        plan, outcome = _resumed(folder, plugins, verdicts, count, max_failures)
    code = 0 if exit_zero and outcome.exit_code == 1 else outcome.exit_code
    if as_json:
        print_document(folder, outcome, code)
    else:
        told = {"profile": plan.profile.name, "seed": plan.seed}
        print_end(folder, outcome, told, whole=len(plan.whole) or None)
    return code


def _planned(
    *,
    profile: str,
    seed: int,
    selected: dict[str, tuple[str, ...]],
    plugins: tuple[str, ...],
    timeout: float,
    memory_limit: int | None,
    shard: str,
) -> tuple[Settings, Plan]:
    from conformance.execution.executor import default_memory_limit
    from conformance.selection import Selection
    from conformance.settings import Settings

    settings = Settings(
        profile=profile,
        seed=seed,
        selection=Selection(**selected),
        plugins=absolute_plugins(plugins),
        # Written out also where they are the defaults: the record says what was allowed.
        deadline=timeout,
        memory_limit=default_memory_limit() if memory_limit is None else memory_limit,
        shard=shard,
    )
    return settings, settings.plan()


_WITH_RESUME = frozenset(
    {"resumed", "retry", "plugins", "workers", "max_failures", "exit_zero", "dry_run", "as_json"}
)


def _refuse_what_the_record_says(context: click.Context) -> None:
    """Options that a record decides are a mistake beside --resume, also with the same value."""
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name)
        if name not in _WITH_RESUME and given is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} comes from the record with --resume; leave it out"
            )


def _verdicts(retry: str) -> tuple[str, ...]:
    from conformance.columns import VERDICTS
    from conformance.selection import unknown

    names = tuple(name.strip() for name in retry.split(",") if name.strip())
    for name in names:
        if name not in VERDICTS:
            raise click.UsageError(unknown("verdict", name, VERDICTS))
    return names


def _started(
    settings: Settings, plan: Plan, folder: Path, workers: int, max_failures: int | None
) -> Outcome:
    from conformance.run import run

    with _progress(len(plan.cells)) as (advance, stage):
        return run(
            settings,
            plan,
            folder,
            workers=workers,
            max_failures=max_failures,
            progress=advance,
            stage=stage,
        )


def _resumed(
    folder: Path,
    plugins: tuple[str, ...],
    retry: tuple[str, ...],
    workers: int,
    max_failures: int | None,
) -> tuple[Plan, Outcome]:
    from conformance.run import resume

    with _progress(None) as (advance, stage):
        return resume(
            folder,
            plugins=plugins,
            retry=retry,
            workers=workers,
            max_failures=max_failures,
            progress=advance,
            stage=stage,
        )


@contextlib.contextmanager
def _progress(
    total: int | None,
) -> Iterator[tuple[Callable[[dict[str, Any], int], None], Callable[[str, int, int], None]]]:
    """A bar on stderr, where that is a terminal: for cells, and for what follows them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from conformance.outcome import FAILING
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
        task = progress.add_task("cells", total=total, note="starting")

        def advance(row: dict[str, Any], cells: int) -> None:
            nonlocal failing
            failing += row["role"] == "subject" and row["verdict"] in FAILING
            what = printable(f"{row['framework']} {row['op']} {row['dtype']} {row['mode']}", 44)
            note = what + (f", {failing} failing" if failing else "")
            progress.update(task, advance=1, total=cells, note=note)

        def stage(framework: str, asked: int, questions: int) -> None:
            note = f"witnesses, {framework}"
            progress.update(task, completed=asked, total=questions, note=note)

        yield advance, stage


def _show_plan(plan: Plan, chosen: Sequence[Cell], workers: int, as_json: bool) -> None:
    from conformance import coverage

    cells = [(plan.entry(cell).framework, cell) for cell in chosen]
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
                "coverage": {
                    "table": coverage.planned(replace(plan, cells=tuple(chosen))),
                    "declared": coverage.declared(plan),
                },
            }
        )
        return
    for (framework, mode), count in groups.items():
        click.echo(f"{framework:<12} {mode:<10} {count:>6} cells")
    click.echo(f"{'total':<23} {len(cells):>6} cells, about {max(1, round(seconds))} s")
