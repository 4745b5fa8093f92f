"""limit_table: every row of the table of limits, its special entry first, in the middle and last.

The table is that of docs/contract.md, Infinite logits and NaN: -inf, +inf and NaN among finite
logits, +inf and NaN among -inf, two +inf, and nothing but -inf. Losses get each row twice: with the
label on the special entry, all weight on it, and with the label beside it, some weight everywhere.
The targets of a row of nothing but -inf are 0 once.

Rows of 2, 9 and 300 entries, all of them in every profile that has the family: a pair, a vector and
what is left over of one, and whole blocks.
"""

from __future__ import annotations

import itertools

import numpy as np

from .. import formats, ops
from ..formats import F64, Format
from .base import Family, Rows, one_hot

LENGTHS = (2, 9, 300)


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    x, place = _table(fmt, n, rng)
    definition = ops.get(op)
    if definition.elementwise or not {"target", "label"} & set(definition.inputs):
        return Rows(x)
    everywhere = np.full(x.shape, 1.0 / n)
    beside = (place + 1) % n
    there, elsewhere = one_hot(place, n), (one_hot(beside, n) + everywhere) / 2
    there[-1] = 0.0
    return Rows(
        np.concatenate([x, x]),
        formats.nearest(fmt, np.concatenate([there, elsewhere])),
        np.concatenate([place, beside]),
    )


def _table(fmt: Format, n: int, rng: np.random.Generator) -> tuple[F64, np.ndarray]:
    """The rows, and the place of a special entry of each; the last is nothing but -inf."""
    lowest, highest = (-np.inf, np.inf) if fmt.has_infinity else (-fmt.max_finite, fmt.max_finite)
    places = sorted({0, n // 2, n - 1})
    kinds: list[tuple[float, tuple[int, ...], bool]]
    kinds = [(value, (place,), False) for value in (lowest, highest, np.nan) for place in places]
    kinds += [(value, (place,), True) for value in (highest, np.nan) for place in places]
    kinds += [(highest, pair, False) for pair in itertools.combinations(places, 2)]
    kinds += [(lowest, (0,), True)]
    rows = np.full((len(kinds), n), lowest)
    for row, (value, special, masked) in zip(rows, kinds, strict=True):
        if not masked:
            row[:] = rng.standard_normal(n) * 3
        row[list(special)] = value
    return formats.nearest(fmt, rows), np.array([special[0] for _, special, _ in kinds])


FAMILY = Family("limit_table", 1, generate, LENGTHS)
