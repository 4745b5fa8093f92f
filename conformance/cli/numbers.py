"""Numbers and rows of numbers as people type them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

_TOKEN = re.compile(r"\s*([\[\],]|[^\s\[\],]+)")
_NUMBER = re.compile(
    r"[-+]?(?:inf(?:inity)?|nan|0x[0-9a-f]*\.?[0-9a-f]*(?:p[-+]?\d+)?"
    r"|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)",
    re.IGNORECASE,
)
_DEPTH = 3


def parse(text: str) -> NDArray[np.float64]:
    """An array from ``[0.1, 2]``, ``[[1, 2], [3, 4]]`` or ``3``.

    Decimals, hexadecimal floats (``0x1.8p3``), ``inf`` and ``nan``; commas or spaces.

    Raises
    ------
    click.UsageError
        One line that shows what could not be read.
    """
    tokens = [t for t in _TOKEN.findall(text) if t != ","]
    if not tokens:
        raise click.UsageError("an input is empty; write a row such as [0.1, 0.3]")
    value, rest = _value(tokens, text, 0)
    if rest:
        raise click.UsageError(f"cannot read {_shown(text)}: {rest[0]!r} comes after its end")
    try:
        return np.array(value, np.float64)
    except ValueError:
        raise click.UsageError(f"the rows of {_shown(text)} have different lengths") from None


def _value(tokens: list[str], text: str, depth: int) -> tuple[Any, list[str]]:
    head, *rest = tokens
    if head != "[":
        return _number(head, text), rest
    if depth >= _DEPTH:
        raise click.UsageError(f"{_shown(text)} is nested too deeply")
    items = []
    while rest and rest[0] != "]":
        item, rest = _value(rest, text, depth + 1)
        items.append(item)
    if not rest:
        raise click.UsageError(f"cannot read {_shown(text)}: a ] is missing")
    return items, rest[1:]


def _number(token: str, text: str) -> float:
    if not _NUMBER.fullmatch(token):
        raise click.UsageError(f"cannot read {_shown(text)}: {_shown(token)} is not a number")
    if "0x" in token.lower():
        try:
            return float.fromhex(token)
        except (ValueError, OverflowError):
            raise click.UsageError(f"{_shown(token)} is not a hexadecimal number") from None
    value = float(token)
    if math.isinf(value) and "inf" not in token.lower():
        raise click.UsageError(f"{_shown(token)} does not fit into float64")
    return value


def _shown(text: str) -> str:
    from conformance.text import printable

    return repr(printable(text, 60))


def parse_mask(text: str) -> NDArray[np.bool_]:
    """A mask from numbers 0 and 1, or from ``false`` and ``true``."""
    mask = parse(re.sub("true", "1", re.sub("false", "0", text, flags=re.I), flags=re.I))
    if not np.isin(mask, (0, 1)).all():
        raise click.UsageError(f"{_shown(text)} is no mask: 1 or true keeps, 0 or false drops")
    return np.asarray(mask != 0)


# ---------------------------------------------------------------- inputs, shown


def brief(values: Any, limit: int = 16) -> str:
    """A row as decimals, the middle of a long one left out; labels and masks as whole numbers."""
    return _brief(values, repr, limit)


def brief_hex(values: Any, limit: int = 16) -> str:
    """A row as hexadecimal floats."""
    return _brief(values, float.hex, limit)


def _brief(values: Any, text: Callable[[Any], str], limit: int) -> str:
    flat = [text(v) for v in np.ravel(_plain(values)).tolist()]
    if len(flat) > limit:
        flat = [*flat[: limit - 4], f"... ({len(flat) - limit} more) ...", *flat[-4:]]
    return "[" + ", ".join(flat) + "]"


def _plain(values: Any) -> NDArray[Any]:
    """The values as float64, or as whole numbers for labels and masks."""
    array = np.asarray(values)
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else np.int64)


def as_json(values: Any) -> dict[str, Any]:
    """An input as decimals and hexadecimal floats; labels and masks as whole numbers alone."""
    values = _plain(values)
    document = {"decimal": values.tolist()}
    if values.dtype.kind == "f":
        hexadecimal = [v.hex() for v in values.ravel().tolist()]
        document["hex"] = np.array(hexadecimal, object).reshape(values.shape).tolist()
    return document


def as_text(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Lines that show the inputs of one row; in hexadecimal, too, where not all are integers."""
    width = max([6, *map(len, inputs)]) + 1
    for name, values in inputs.items():
        yield f"  {name:<{width}}= {brief(values)}"
        values = _plain(values)
        if values.dtype.kind == "f" and not (values == np.floor(values)).all():
            yield f"  {'':<{width}}  {brief_hex(values)}"
