"""``conformance exact``: ask the oracle."""

from __future__ import annotations

from typing import Any

import click
import numpy as np

from conformance.cli.numbers import brief, brief_hex, parse
from conformance.cli.options import json_option, print_json


@click.command(name="exact", context_settings={"ignore_unknown_options": True})
@click.argument("op")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--digits", type=click.IntRange(1, 100_000), default=30, show_default=True,
              help="Significant digits.")  # fmt: skip
@click.option("--dtype", default="float64", show_default=True, metavar="F",
              help="The format that inputs are rounded to before anything else.")  # fmt: skip
@click.option("--derivative", default="value", show_default=True, metavar="D",
              help="value or vjp.")  # fmt: skip
@click.option("--argument", default=None, metavar="A",
              help="What a derivative is taken to.  [default: x]")  # fmt: skip
@click.option("--cotangent", default=None, metavar="G",
              help="The cotangent of a vjp.  [default: ones]")  # fmt: skip
@click.option("--reduction", type=click.Choice(["none", "sum", "mean"]), default="none",
              help="Over the rows, for ops with one result per row.")  # fmt: skip
@json_option
def command(
    op: str,
    inputs: tuple[str, ...],
    digits: int,
    dtype: str,
    derivative: str,
    argument: str | None,
    cotangent: str | None,
    reduction: str,
    as_json: bool,
) -> int:
    """Ask the oracle for the exact answer.

    INPUTs are the op's arguments in their order, each a row or a list of rows of numbers
    (decimal, hexadecimal, inf, nan); a label is a whole number.

    \b
    conformance exact softmax "[0.1, 0.3, 0.5, 0.9]" --digits 50
    conformance exact softmax_cross_entropy "[0.5, 1.5, 0.1]" "[0, 1, 0]"
    conformance exact log_softmax "[0, -0x1p24]" --dtype float32
    """
    from reference import formats, oracle

    definition, fmt = _checked(op, dtype)
    argument = "-" if derivative == "value" else argument or "x"
    if derivative not in ("value", "vjp"):
        raise click.UsageError(f"--derivative is value or vjp, not {derivative!r}")
    if (derivative, argument) not in definition.maps:
        known = ", ".join(f"{d} {a}".replace(" -", "") for d, a in definition.maps if d[0] == "v")
        raise click.UsageError(f"{op} has no {derivative} to {argument} (it has: {known})")
    batch = _batch(definition, inputs, cotangent if derivative != "value" else None, fmt)
    if derivative == "value":
        batch.pop("g", None)
    texts = oracle.decimal(op, derivative, argument, batch, digits)
    total = _reduced(definition, texts, reduction, derivative, digits)
    rounded = {
        name: oracle.evaluate(op, derivative, argument, batch, formats.get(name)).rounded()
        for name in dict.fromkeys([dtype, "float64", "float32"])
        if all(formats.get(name).holds(v).all() for k, v in batch.items() if k != "label")
    }
    document = {
        "schema": 1,
        "op": op,
        "derivative": derivative,
        "argument": argument,
        "dtype": dtype,
        "inputs": {k: {"decimal": v.tolist(), "hex": _hex(v)} for k, v in batch.items()},
        "exact": texts,
        "rounded": {name: values.tolist() for name, values in rounded.items()},
    }
    if total is not None:
        document[reduction] = total
    if as_json:
        print_json(document)
    else:
        _print(batch, texts, rounded[dtype], dtype, reduction, total)
    return 0


def _checked(op: str, dtype: str) -> Any:
    from conformance.plan import unknown
    from reference import formats, ops

    if op not in ops.OPS:
        raise click.UsageError(unknown("op", op, tuple(ops.OPS)))
    if dtype not in formats.FORMATS:
        raise click.UsageError(unknown("dtype", dtype, tuple(formats.FORMATS)))
    return ops.OPS[op], formats.get(dtype)


def _batch(
    definition: Any, inputs: tuple[str, ...], cotangent: str | None, fmt: Any
) -> dict[str, Any]:
    """Inputs as rows of one length, rounded to the format."""
    from reference import formats

    if len(inputs) != len(definition.inputs):
        raise click.UsageError(
            f"{definition.name} takes {len(definition.inputs)} inputs "
            f"({', '.join(definition.inputs)}); {len(inputs)} were given"
        )
    arrays = {name: parse(text) for name, text in zip(definition.inputs, inputs, strict=True)}
    x = np.atleast_2d(arrays["x"])
    if x.ndim != 2:
        raise click.UsageError("x is a row or a list of rows")
    count, n = x.shape
    batch: dict[str, Any] = {"x": formats.nearest(fmt, x)}
    for name, array in arrays.items():
        if name == "label":
            batch[name] = _labels(array, count, n)
        elif name != "x":
            batch[name] = formats.nearest(fmt, _fit(name, array, (count, n)))
    shape = (count,) if definition.per_row else (count, n)
    g = np.ones(shape) if cotangent is None else _fit("the cotangent", parse(cotangent), shape)
    batch["g"] = formats.nearest(fmt, g)
    return batch


def _labels(array: Any, count: int, n: int) -> Any:
    if array.ndim and array.shape != (count,):
        raise click.UsageError(f"label has shape {array.shape}, {(count,)} is needed")
    label = np.broadcast_to(array, (count,))
    if not np.array_equal(label, np.floor(label)) or (label < 0).any() or (label >= n).any():
        raise click.UsageError(f"a label is a whole number from 0 to {n - 1}")
    return label.astype(np.int64)


def _fit(name: str, array: Any, shape: tuple[int, ...]) -> Any:
    """The array in this shape: as it is, as the same row for all rows, or a single number."""
    if array.ndim and array.shape not in (shape, shape[-1:], (1, *shape[1:])):
        raise click.UsageError(f"{name} has shape {array.shape}, {shape} is needed")
    return np.broadcast_to(array, shape).astype(np.float64)


def _reduced(
    definition: Any, texts: Any, reduction: str, derivative: str, digits: int
) -> str | None:
    """Sum or mean of the rows, from their decimal strings."""
    if reduction == "none":
        return None
    if not definition.per_row or derivative != "value":
        raise click.UsageError("--reduction is for values of ops with one result per row")
    import mpmath

    with mpmath.workdps(digits + 10):
        if any(row[0] in ("undefined", "nan") for row in texts):
            return "nan"
        total = mpmath.fsum(mpmath.mpf(row[0]) for row in texts)
        value = total / len(texts) if reduction == "mean" else total
        # The rows are rounded to the asked digits, so the last ones of a reduction are not sure.
        return str(mpmath.nstr(value, max(1, digits - 2)))


def _hex(values: Any) -> Any:
    return [float(v).hex() for v in np.ravel(values)]


def _print(
    batch: dict[str, Any], texts: Any, rounded: Any, dtype: str, reduction: str, total: str | None
) -> None:
    for r, row in enumerate(texts):
        if len(texts) > 1:
            click.echo(f"row {r}")
        for name, array in batch.items():
            click.echo(f"  {name:<7}= {brief(array[r])}")
            if name != "label" and not (array[r] == np.floor(array[r])).all():
                click.echo(f"           {brief_hex(array[r])}")
        for i, text in enumerate(row):
            click.echo(f"  [{i}] {text}")
            click.echo(f"       {dtype}: {float(rounded[r, i])!r}  {float(rounded[r, i]).hex()}")
    if total is not None:
        click.echo(f"{reduction}: {total}")
