"""shift_ladder: a small row plus an offset, from 0 up to the format's largest value, both signs.

Softmax does not change when all logits move together (up to the rounding of the inputs
themselves, which is done here); an implementation that forgets the shift overflows, and one that
subtracts log-sum-exp loses the digits that the offset took.
"""

from __future__ import annotations

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows

OFFSETS = (0.0, 16.0, 88.0, 100.0, 710.0, 1e4, 1e6, 1e7)
_REPEATS = 2


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    limit = fmt.max_finite
    steps = [o for o in OFFSETS if o < limit / 2] + [limit / 1e3, limit / 2]
    offsets = np.array([sign * o for o in steps for sign in (1, -1)] * _REPEATS)
    rows = rng.standard_normal((len(offsets), n)) * rng.choice([1.0, 5.0], (len(offsets), 1))
    return Rows(formats.nearest(fmt, rows + offsets[:, None]))


FAMILY = Family("shift_ladder", 1, generate)
