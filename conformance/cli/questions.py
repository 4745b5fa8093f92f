"""What somebody asks the oracle: an op, one of its maps, and inputs as they are typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from conformance.cli.numbers import parse, parse_mask
from reference import formats, ops
from reference.formats import Format
from reference.ops.base import Op
from reference.ops.elementwise import OPTIONAL


@dataclass(frozen=True, eq=False)
class Question:
    """A map of an op, and rows to ask it about.

    Attributes
    ----------
    op : Op
    derivative, argument : str
        A key of the op's maps.
    inputs : dict of str to ndarray
        What the map needs, in the order of the signature, with a leading axis of rows; values of
        the format.
    """

    op: Op
    derivative: str
    argument: str
    inputs: dict[str, NDArray[Any]]


def ask(
    op: str,
    derivative: str,
    argument: str | None,
    dtype: str,
    texts: Sequence[str],
    *,
    cotangent: str | None = None,
    tangent: str | None = None,
) -> Question:
    """Understand a question.

    Raises
    ------
    click.UsageError
        One line that says what is wrong.
    """
    from conformance.selection import unknown

    if op not in ops.OPS:
        raise click.UsageError(unknown("op", op, tuple(ops.OPS)))
    if dtype not in formats.FORMATS:
        raise click.UsageError(unknown("dtype", dtype, tuple(formats.FORMATS)))
    definition = ops.get(op)
    argument = _argument(definition, derivative, argument)
    for name, text, uses in (
        ("cotangent", cotangent, ("vjp", "hvp")), ("tangent", tangent, ("jvp", "hvp")),
    ):  # fmt: skip
        if text is not None and derivative not in uses:
            raise click.UsageError(f"a {derivative} takes no --{name}")
    inputs = _inputs(definition, texts)
    needed = definition.needs(derivative, argument)
    count, n = inputs["x"].shape
    for name in needed:
        if name == "g":
            shape = (count,) if definition.per_row else (count, n)
            g = np.ones(()) if cotangent is None else parse(cotangent)
            inputs[name] = _fit("the cotangent", g, shape)
        elif name.startswith("v_"):
            v = _unit(definition, n) if tangent is None else parse(tangent)
            inputs[name] = _fit("the tangent", v, (count, n))
    fmt = formats.get(dtype)
    batch = {name: _rounded(name, array, fmt) for name, array in inputs.items()}
    return Question(definition, derivative, argument, batch)


def _argument(definition: Op, derivative: str, argument: str | None) -> str:
    """The argument of a map; by default the first one that is differentiable."""
    derivatives = list(dict.fromkeys(d for d, _ in definition.maps))
    if derivative not in derivatives:
        known = ", ".join(derivatives)
        raise click.UsageError(f"--derivative is one of {known}, not {derivative!r}")
    if derivative == "value":
        if argument not in (None, "-"):
            raise click.UsageError("--argument is for derivatives; the value has none")
        return "-"
    chosen = argument or definition.differentiable[0]
    if derivative == "hvp" and "." not in chosen:
        chosen = f"{chosen}.{chosen}"
    if (derivative, chosen) not in definition.maps:
        known = ", ".join(a for d, a in definition.maps if d == derivative)
        raise click.UsageError(
            f"{definition.name} has no {derivative} to {chosen!r} (it has: {known})"
        )
    return chosen


def _inputs(definition: Op, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The op's own inputs as rows of one length."""
    names = definition.inputs
    least = sum(name not in OPTIONAL for name in names)
    if not least <= len(texts) <= len(names):
        many = f"{least}" if least == len(names) else f"{least} or {len(names)}"
        shown = ", ".join(f"[{name}]" if name in OPTIONAL else name for name in names)
        raise click.UsageError(
            f"{definition.name} takes {many} input{'s' * (many != '1')} ({shown}); "
            f"{len(texts)} were given"
        )
    given = dict(zip(names, texts, strict=False))
    x = np.atleast_2d(parse(given.pop("x")))
    if x.ndim != 2:
        raise click.UsageError("x is a row or a list of rows")
    inputs: dict[str, NDArray[Any]] = {"x": x}
    for name, text in given.items():
        if name == "label":
            inputs[name] = _labels(parse(text), *x.shape)
        else:
            array = parse_mask(text) if name == "mask" else parse(text)
            inputs[name] = _fit(name, array, x.shape)
    return inputs


def _labels(array: NDArray[np.float64], count: int, n: int) -> NDArray[np.int64]:
    if array.ndim and array.shape != (count,):
        raise click.UsageError(f"label has shape {array.shape}, {(count,)} is needed")
    label = np.broadcast_to(array, (count,))
    if not np.array_equal(label, np.floor(label)) or (label < 0).any() or (label >= n).any():
        raise click.UsageError(f"a label is a whole number from 0 to {n - 1}")
    return label.astype(np.int64)


def _fit(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The array in this shape: as it is, as the same row for all rows, or a single number."""
    if array.ndim and array.shape not in (shape, shape[-1:], (1, *shape[1:])):
        raise click.UsageError(f"{name} has shape {array.shape}, {shape} is needed")
    return np.broadcast_to(array, shape)


def _unit(definition: Op, n: int) -> NDArray[np.float64]:
    """The direction of a derivative if nobody says another one.

    Not ones where the elements of a row meet: softmax does not change when all logits move alike.
    """
    return np.ones(n) if definition.elementwise else (np.arange(n) == 0).astype(np.float64)


def _rounded(name: str, array: NDArray[Any], fmt: Format) -> NDArray[Any]:
    if array.dtype.kind != "f":
        return array
    rounded = formats.nearest(fmt, array)
    beyond = np.isfinite(array) & ~np.isfinite(rounded)
    if beyond.any():
        raise click.UsageError(f"{float(array[beyond][0])!r} in {name} is too large for {fmt.name}")
    return rounded
