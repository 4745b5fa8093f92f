"""infinity_lattice: every pattern over {-inf, +inf, NaN, finite, max, -max} in short rows.

Rows of up to three entries hold all patterns; longer ones one special value at the first, middle
and last place, alone or together with -inf elsewhere.
"""

from __future__ import annotations

import itertools

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows

_ALL_PATTERNS_UP_TO = 3


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    infinities = (-np.inf, np.inf) if fmt.has_infinity else ()
    special = (*infinities, np.nan, fmt.max_finite, -fmt.max_finite)
    if n <= _ALL_PATTERNS_UP_TO:
        patterns = np.array(list(itertools.product((0.5, *special), repeat=n)))
        noise = formats.nearest(fmt, rng.standard_normal(patterns.shape))
        return Rows(np.where(patterns == 0.5, noise, patterns))
    lowest = -np.inf if fmt.has_infinity else -fmt.max_finite
    rows = []
    for value in special:
        for position in sorted({0, n // 2, n - 1}):
            for rest_masked in (False, True):
                row = rng.standard_normal(n)
                row[rng.random(n) < 0.5 * rest_masked] = lowest
                row[position] = value
                rows.append(row)
    return Rows(formats.nearest(fmt, np.stack(rows)))


FAMILY = Family("infinity_lattice", 1, generate)
