"""subnormals: results and inputs below the smallest normal number, signed zeros, results of -0.

Probabilities spread evenly over the subnormal range, logits that are themselves subnormal or
zeros of both signs, and a dominant class whose log-probability is a subnormal number or -0.
"""

from __future__ import annotations

import math

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows

_ROWS = 8


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    low, high = -fmt.emin * math.log(2), (fmt.precision + 1 - fmt.emin) * math.log(2)
    depth = np.linspace(low - 1, high, _ROWS)[:, None]
    results = -(depth + 0.5 * rng.random((_ROWS, n)))
    results[np.arange(_ROWS), rng.integers(0, n, _ROWS)] = 0.0
    if n > 2:
        results[np.arange(_ROWS), rng.integers(0, n, _ROWS)] = -1.0
    scale = fmt.smallest_normal * rng.uniform(-2, 2, (_ROWS, n))
    zeros = rng.choice([0.0, -0.0], (_ROWS // 2, n))
    return Rows(formats.nearest(fmt, np.concatenate([results, scale, zeros])))


FAMILY = Family("subnormals", 1, generate)
