"""near_ties: equal logits, and logits a few ulps apart.

Exact 1/n, order and ties, the order of summation, half-precision sums that overflow or stall.
"""

from __future__ import annotations

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows

_BASES = (0.0, 1.0, -3.7, 12.5, 100.0, -200.0)
_STEPS = (0, 1, 3, 16)


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    rows = []
    for base in formats.nearest(fmt, np.array(_BASES)):
        for steps in _STEPS:
            offsets = rng.integers(-steps, steps + 1, n)
            rows.append(formats.step(fmt, np.full(n, base), offsets))
    return Rows(np.stack(rows))


FAMILY = Family("near_ties", 1, generate)
