"""``conformance explain`` for an arrangement: rows, and the form in which a call gets them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import numpy as np

from conformance.bench import Bench
from conformance.concerns import arranged
from conformance.concerns.invariance import INVARIANCE, other
from conformance.registry import OPS, Implementation
from conformance.text import printable
from reference import cases, formats, ops, oracle
from reference.arrangements import Arrangement

__all__ = ["document", "show"]

_LONGEST = 2000
"""Characters of an array that are shown."""


def document(
    arrangement: Arrangement,
    bench: Bench,
    entries: Sequence[Implementation],
    derivatives: Sequence[str],
    modes: Sequence[str],
) -> dict[str, Any]:
    """What there is to say, for JSON.

    Parameters
    ----------
    arrangement : Arrangement
    bench : Bench
    entries : sequence of Implementation
        Who is asked, where they have its inputs.
    derivatives, modes : sequence of str
    """
    maps = []
    for derivative, argument in ops.get(arrangement.op).maps:
        named = set(argument.split(".")) <= arrangement.inputs.keys()
        if derivative not in derivatives or not (derivative == "value" or named):
            continue
        answers = []
        for entry, mode in ((entry, mode) for entry in entries for mode in modes):
            asked = (bench, arrangement, entry, derivative, argument, mode)
            answer = arranged.answer(*asked)
            if answer is None:
                continue
            if answer["result"] is not None and arrangement.family in INVARIANCE.versions:
                answer["other"] = other(*asked)
            answers.append(answer)
        maps.append(
            {
                "derivative": derivative,
                "argument": argument,
                "rounded": _rounded(arrangement, derivative, argument),
                "answers": answers,
            }
        )
    return {
        "schema": 1,
        "case_id": arrangement.case_id,
        "op": arrangement.op,
        "dtype": arrangement.format,
        "family": arrangement.family,
        "name": arrangement.name,
        "shape": list(arrangement.form.shape),
        "axis": None if ops.get(arrangement.op).elementwise else arrangement.form.axis,
        "inputs": {
            name: arrangement.arranged(np.asarray(array)).tolist()
            for name, array in arrangement.inputs.items()
        },
        "maps": maps,
    }


def _rounded(arrangement: Arrangement, derivative: str, argument: str) -> Any:
    """The right answers, in the shape of a result."""
    shape = arrangement.shape(per_row=OPS[arrangement.op].is_per_row(derivative))
    if arrangement.rows == 0 or arrangement.n == 0:
        return np.full(shape, -np.inf).tolist()
    refs = oracle.evaluate(
        arrangement.op, derivative, argument, cases.stack(list(arrangement.cases)),
        formats.get(arrangement.format),
    )  # fmt: skip
    rounded = refs.rounded()
    if shape == arrangement.form.batch and rounded.shape[1] == 1:
        return rounded.reshape(shape).tolist()
    return arrangement.arranged(rounded).tolist()


def show(made: dict[str, Any]) -> None:
    """The same for people."""
    along = "" if made["axis"] is None else f", axis {made['axis']}"
    shape = "x".join(map(str, made["shape"]))
    which = f"family {made['family']}, {made['name']}"
    click.echo(f"{made['op']} in {made['dtype']}, {which}: {shape}{along}")
    for name, values in made["inputs"].items():
        click.echo(f"  {name} {_short(values)}")
    for item in made["maps"]:
        to = "" if item["derivative"] == "value" else f" to {item['argument']}"
        click.echo(f"\n{item['derivative']}{to}")
        click.echo(f"  rounded {_short(item['rounded'])}")
        for answer in item["answers"]:
            name = f"{answer['implementation']} ({answer['mode']})"
            if answer["result"] is None:
                click.echo(f"  {name}: {printable(answer['message'], 200)}")
            else:
                click.echo(f"  {name}: {_short(answer['result'])}")
            if answer.get("other"):
                told, more = answer["other"], answer["other"].get("message", "")
                shown = printable(more, 200) if more else _short(told["result"])
                click.echo(f"    {made['name']}: {shown}")


def _short(values: Any) -> str:
    text = str(values)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... (--json has all)"
