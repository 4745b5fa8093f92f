"""``conformance exact``: ask the oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from conformance.cli.numbers import as_json as input_as_json
from conformance.cli.numbers import as_text
from conformance.cli.options import json_option, print_json

if TYPE_CHECKING:
    from conformance.cli.questions import Question


@click.command(name="exact", context_settings={"ignore_unknown_options": True})
@click.argument("op")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--digits", type=click.IntRange(1, 100_000), default=30, show_default=True,
              help="Significant digits.")  # fmt: skip
@click.option("--dtype", default="float64", show_default=True, metavar="F",
              help="The format that inputs are rounded to before anything else.")  # fmt: skip
@click.option("--derivative", default="value", show_default=True, metavar="D",
              help="value, vjp, jvp or hvp.")  # fmt: skip
@click.option("--argument", default=None, metavar="A",
              help="What a derivative is taken to; for an hvp a pair such as x.target, the row "
                   "of the Hessian and the argument that the tangent is in.  "
                   "[default: x, or x.x]")  # fmt: skip
@click.option("--cotangent", default=None, metavar="G",
              help="The cotangent of a vjp or hvp.  [default: ones]")  # fmt: skip
@click.option("--tangent", default=None, metavar="V",
              help="The tangent of a jvp or hvp.  [default: 1 for the first class and 0 for the "
                   "others, which gives the derivative to the first class; ones for elementwise "
                   "ops]")  # fmt: skip
@click.option("--reduction", type=click.Choice(["none", "sum", "mean"]), default="none",
              help="Over the rows, for ops with one result per row; over everything for "
                   "sigmoid_cross_entropy.")  # fmt: skip
@json_option
def command(
    op: str,
    inputs: tuple[str, ...],
    digits: int,
    dtype: str,
    derivative: str,
    argument: str | None,
    cotangent: str | None,
    tangent: str | None,
    reduction: str,
    as_json: bool,
) -> int:
    """Ask the oracle for the exact answer.

    INPUTs are the op's arguments in their order, each a row or a list of rows of numbers
    (decimal, hexadecimal, inf, nan); a label is a whole number, a mask is made of 1 and 0 or true
    and false. `conformance list ops` names the arguments.

    An answer with fewer digits than asked is exact; otherwise all digits are shown, the last one
    correctly rounded. The answers in DTYPE, float64 and float32 are correctly rounded, too.

    \b
    conformance exact softmax "[0.1, 0.3, 0.5, 0.9]" --digits 50
    conformance exact softmax_cross_entropy "[0.5, 1.5, 0.1]" "[0, 1, 0]"
    conformance exact log_softmax "[0, -0x1p24]" --dtype float32
    conformance exact masked_softmax "[1, 2, nan]" "[true, true, false]"
    conformance exact kl_divergence "[1, 2]" "[2, 1]" --derivative hvp --argument x.y
    """
    from conformance.cli.questions import ask
    from reference import formats, oracle

    question = ask(
        op, derivative, argument, dtype, inputs, cotangent=cotangent, tangent=tangent
    )  # fmt: skip
    key, batch = (op, derivative, question.argument), question.inputs
    total = _reduced(question, reduction, digits)
    texts = oracle.decimal(*key, batch, digits)
    rounded = {
        name: oracle.evaluate(*key, batch, formats.get(name)).rounded()
        for name in dict.fromkeys([dtype, "float64", "float32"])
        if all(formats.get(name).holds(v).all() for v in batch.values() if v.dtype.kind == "f")
    }
    document = {
        "schema": 1,
        "op": op,
        "derivative": derivative,
        "argument": question.argument,
        "dtype": dtype,
        "inputs": {name: input_as_json(array) for name, array in batch.items()},
        "exact": texts,
        "rounded": {name: values.tolist() for name, values in rounded.items()},
    }
    if total is not None:
        document[reduction] = total
    if as_json:
        print_json(document)
    else:
        _print(question, texts, rounded[dtype], dtype)
        if total is not None:
            click.echo(f"{reduction}: {total}")
    return 0


def _reduced(question: Question, reduction: str, digits: int) -> str | None:
    """The sum or mean of all results."""
    from reference import decimals

    if reduction == "none":
        return None
    definition = question.op
    losses = definition.per_row or (definition.elementwise and "target" in definition.inputs)
    if not losses or question.derivative != "value":
        raise click.UsageError(
            "--reduction is for values of ops with one result per row and of sigmoid_cross_entropy"
        )
    return decimals.reduced(definition.name, question.inputs, digits, mean=reduction == "mean")


def _print(question: Question, texts: list[list[str]], rounded: Any, dtype: str) -> None:
    for r, row in enumerate(texts):
        if len(texts) > 1:
            click.echo(f"row {r}")
        for line in as_text({name: array[r] for name, array in question.inputs.items()}):
            click.echo(line)
        for i, text in enumerate(row):
            value = float(rounded[r, i])
            click.echo(f"  [{i}] {text}")
            click.echo(f"       {dtype}: {value!r}  {value.hex()}")
