"""``conformance explain`` for a situation: a batch with its labels, weights and options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from conformance.bench import Bench
from conformance.concerns import reduction
from conformance.registry import Implementation
from conformance.text import printable
from reference.reductions import MAPS, evaluate
from reference.situations import Situation

__all__ = ["document", "show"]

_SHOWN = 12


def document(
    situation: Situation,
    bench: Bench,
    entries: Sequence[Implementation],
    derivatives: Sequence[str],
    modes: Sequence[str],
) -> dict[str, Any]:
    """What there is to say, for JSON.

    Parameters
    ----------
    situation : Situation
    bench : Bench
    entries : sequence of Implementation
        Who is asked, where the situation is for them.
    derivatives, modes : sequence of str
    """
    maps = []
    for derivative, argument in MAPS:
        if derivative in derivatives and argument in ("-", *situation.inputs):
            exact = evaluate(situation, derivative, argument)
            answers = [
                answer
                for entry in entries
                for mode in modes
                if (answer := reduction.answer(bench, situation, entry, derivative, argument, mode))
            ]
            maps.append(
                {
                    "derivative": derivative,
                    "argument": argument,
                    "rounded": exact.references.rounded().tolist(),
                    "kinds": exact.kinds.tolist(),
                    "may_raise": exact.may_raise,
                    "answers": answers,
                }
            )
    return {
        "schema": 1,
        "case_id": situation.case_id,
        "op": situation.op,
        "dtype": situation.format,
        "family": situation.family,
        "options": dict(situation.options),
        "inputs": {
            name: {"dtype": str(np.asarray(value).dtype), "values": np.asarray(value).tolist()}
            for name, value in situation.inputs.items()
        },
        "maps": maps,
    }


def show(made: dict[str, Any]) -> None:
    """The same for people."""
    options = ", ".join(f"{name}={value!r}" for name, value in made["options"].items())
    click.echo(f"{made['op']} in {made['dtype']}, family {made['family']}: {options}")
    for name, value in made["inputs"].items():
        rows = value["values"] if isinstance(value["values"], list) else [value["values"]]
        kind = f" ({value['dtype']})" if name == "label" else ""
        for k, row in enumerate(rows if name in ("x", "target") else [rows]):
            click.echo(f"  {name}{kind if not k else ''} {_row(row)}")
    for item in made["maps"]:
        to = "" if item["derivative"] == "value" else f" to {item['argument']}"
        click.echo(f"\n{item['derivative']}{to}")
        for row, kinds in zip(item["rounded"], item["kinds"], strict=True):
            click.echo(f"  rounded {_row(row)}  {kinds[0]}")
        for answer in item["answers"]:
            name = f"{answer['implementation']} ({answer['mode']})"
            if answer["result"] is None:
                click.echo(f"  {name}: {printable(answer['message'], 200)}")
                continue
            click.echo(f"  {name}:")
            for row in answer["result"]:
                click.echo(f"    {_row(row)}")


def _row(row: Sequence[Any]) -> str:
    cells = [repr(v) if isinstance(v, float) else str(v) for v in row[:_SHOWN]]
    more = f", ... ({len(row) - _SHOWN} more)" if len(row) > _SHOWN else ""
    return f"[{', '.join(cells)}{more}]"
