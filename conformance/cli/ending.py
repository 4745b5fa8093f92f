"""What a run says when it has ended: a table for people, a document for machines."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conformance.cli.options import print_json

if TYPE_CHECKING:
    from conformance.outcome import Outcome


def print_document(folder: Path, outcome: Outcome, code: int) -> None:
    """One JSON document."""
    print_json(
        {
            "schema": 1,
            "run": str(folder),
            "exit_code": code,
            "partial": outcome.partial,
            "counts": outcome.counts,
            "coverage": {
                **outcome.coverage,
                "planned": outcome.planned,
                "measured": len(outcome.measurements),
            },
            "witnesses": _witnesses(folder),
            "controls": outcome.controls,
            "mutants": outcome.mutants,
            "stale_deviations": list(outcome.stale),
            "deviations": outcome.deviations,
            "harness_errors": outcome.harness_errors,
            "cells": outcome.measurements,
        }
    )


def _witnesses(folder: Path) -> dict[str, Any] | None:
    """Where the witnesses are, and how many; None for a record without them."""
    from conformance.record import WITNESSES_FILE, read_run

    told = read_run(folder).get("witnesses")
    if told is None:
        return None
    return {"file": WITNESSES_FILE, "count": told["count"], "answers": told["answers"]}


def print_end(
    folder: Path, outcome: Outcome, run: Mapping[str, Any], *, whole: int | None = None
) -> None:
    """The table, what is wrong with the instrument, and what to do next.

    Parameters
    ----------
    run : mapping
        ``profile`` and ``seed``, for commands to paste.
    whole : int, optional
        Of a shard: how many cells all shards have.
    """
    from rich.console import Console

    from conformance.deviations.standing import STANDINGS
    from conformance.report.terminal import print_summary
    from conformance.text import printable

    console = Console()
    coverage = {**outcome.coverage, "planned": outcome.planned}
    print_summary(console, outcome.measurements, coverage, run)
    for line in outcome.below:
        click.echo(f"below the floor: {printable(line, 300)}", err=True)
    for error in outcome.harness_errors[:5]:
        click.echo(f"instrument: {printable(error, 1000)}", err=True)
    for entry in outcome.stale:
        click.echo(
            f"stale deviation: {printable(entry, 100)}: its witnesses all met the contract",
            err=True,
        )
    for entry in outcome.unmatched:
        click.echo(
            f"instrument: deviation {printable(entry, 100)} matches no cell of the full matrix",
            err=True,
        )
    if outcome.deviations:
        counts = Counter(outcome.deviations.values())
        told = ", ".join(f"{counts[name]} {name}" for name in STANDINGS if counts[name])
        click.echo(f"documented deviations: {told}")
    if outcome.partial:
        why = "interrupted" if outcome.interrupted else outcome.stopped or "ended early"
        why = "as asked" if outcome.incomplete else why
        cells = f"{len(outcome.measurements)} of {outcome.planned} cells"
        click.echo(f"partial record ({why}): {cells}", err=True)
    where = shlex.quote(printable(folder, 1000))
    if outcome.partial:
        click.echo(f"to go on: conformance run --resume {where}", err=True)
    if whole:
        shares = f"{outcome.planned} of {whole} cells"
        click.echo(f"one shard: {shares}; `conformance merge` joins it with the others")
    click.echo(f"record: {where}")
    click.echo(f"report: conformance report {where} --out {where}/report")
