"""gap_ladder: one class at 0, the others a gap g below, the label on the top class.

g runs over the powers of two of the format, and in fine steps around log 2^p (where the top
probability rounds to 1), log 2^-emin and log 2^-(emin - p) (where the others leave the normal and
the subnormal range). It shows dominance, the last non-zero result, the underflow policy and
internal thresholds.
"""

from __future__ import annotations

import math

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows, one_hot


def gaps(fmt: Format) -> list[float]:
    """The ladder, ascending."""
    powers = [math.ldexp(1.0, k) for k in range(-fmt.precision // 2, fmt.emax)]
    thresholds = [
        fmt.precision * math.log(2),
        -fmt.emin * math.log(2),
        (fmt.precision - fmt.emin) * math.log(2),
    ]
    fine = [t + step / 8 for t in thresholds for step in range(-6, 7)]
    rounded = formats.nearest(fmt, np.array(sorted({g for g in (*powers, *fine) if g > 0})))
    return sorted({float(g) for g in rounded if g < np.inf})


def _thin(ladder: list[float]) -> list[float]:
    """All steps where something happens, every other power of two beyond the thresholds."""
    return [g for k, g in enumerate(ladder) if g < 1500 or k % 4 == 0]


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    ladder = np.array(_thin(gaps(fmt)))
    # Wider rows spread the lower classes over up to 2 % of the gap.
    factor = 1 + 0.02 * rng.random((len(ladder), n)) * (n > 2)
    with np.errstate(over="ignore"):
        x = formats.nearest(fmt, -ladder[:, None] * factor)
    x = np.maximum(x, -fmt.max_finite)
    position = np.arange(len(ladder)) % n
    x[np.arange(len(ladder)), position] = 0.0
    label = position.astype(np.int64)
    return Rows(x, target=one_hot(position, n), label=label)


FAMILY = Family("gap_ladder", 1, generate)
