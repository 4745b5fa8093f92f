"""The oracle's vectorised tiers: whole batches in binary64 and double-double balls.

Each tier evaluates the formula once and keeps the elements that its balls decide: both ends round
to the same value of the format, the sign and the binade of the exact value are certain, and the
ball is narrower than 2^-20 ulp. The rest goes on to the next tier.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats
from .arithmetic._ball import NONNEGATIVE, NONPOSITIVE, FloatBall
from .arithmetic.binary64 import Binary64
from .arithmetic.doubledouble import DoubleDouble
from .formats import F64, I64, Format
from .ops.base import Batch, Map
from .references import FAR, TIGHT

Mask = NDArray[np.bool_]

_BLOCK = 1 << 20  # elements evaluated at a time: what bounds the memory


@dataclass(frozen=True, eq=False)
class Decided:
    """Elements that a tier decided, in arrays of the map's output shape."""

    mask: Mask
    hi: F64
    lo: F64
    exponent: I64


def evaluate(
    map_: Map,
    inputs: Mapping[str, NDArray[Any]],
    rows: NDArray[np.intp],
    fmt: Format,
    arithmetic: Binary64 | DoubleDouble,
) -> Iterator[tuple[NDArray[np.intp], Decided]]:
    """Evaluate the given rows in blocks; yields row numbers with what was decided of them."""
    n = max(1, np.shape(inputs["x"])[1])
    step = max(1, _BLOCK // n)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        part = Batch({name: np.asarray(a)[block] for name, a in inputs.items()})
        ball: FloatBall = map_.formula(arithmetic, part)
        yield block, decide(ball, fmt)


def decide(ball: FloatBall, fmt: Format) -> Decided:
    """What a ball decides for a format."""
    narrow = len(ball.parts) == 1 or fmt.precision <= 24
    return _by_ends(ball, fmt) if narrow and fmt.precision <= 24 else _by_words(ball, fmt)


def _by_ends(ball: FloatBall, fmt: Format) -> Decided:
    """Formats of at most 24 bits: round both float64 ends of the enclosure."""
    lower, upper = ball.enclosure()
    with np.errstate(all="ignore"):
        below, above = round_to(fmt, lower), round_to(fmt, upper)
        same = (below == above) | (np.isnan(below) & np.isnan(above))
        same &= np.isfinite(lower) & np.isfinite(upper)
        middle = lower + (upper - lower) / 2
        tight = (upper - lower) <= np.ldexp(formats.ulp(fmt, middle), -TIGHT)
        signed = (lower > 0) | (upper < 0)
        certain = signed | bool(ball.sign)
        one_binade = _binade(fmt, lower) == _binade(fmt, upper)
    hi, exponent = np.frexp(middle)
    exponent = exponent.astype(np.int64)
    vanished = ~signed | (hi == 0)
    hi = np.where(vanished, 0.5 * _sign(ball), hi)
    exponent = np.where(vanished, -FAR, exponent)
    mask = same & tight & certain & one_binade & (hi != 0)
    return Decided(mask, hi, np.zeros_like(hi), exponent)


def _by_words(ball: FloatBall, fmt: Format) -> Decided:
    """float64 by two words: hi is the rounding to 53 bits, lo has the sign of the rest."""
    hi, lo, exponent, radius = ball.expand()
    with np.errstate(all="ignore"):
        hi, lo = _normalised(hi, lo)
        shift = np.where(np.abs(hi) == 1.0, 1, 0)
        hi, lo, radius = (np.ldexp(v, -shift) for v in (hi, lo, radius))
        exponent = exponent + shift
        at_power = np.abs(hi) == 0.5
        reach = np.where(at_power, 2.0**-55, 2.0**-54)
        nearest = np.abs(lo) + radius < reach
        rest_signed = np.abs(lo) > radius
        tiny = np.full_like(hi, 5e-324)
        same = formats.round_expansion(fmt, hi, tiny, exponent) == formats.round_expansion(
            fmt, hi, -tiny, exponent
        )
        leading = np.clip(exponent - 1, fmt.emin, fmt.emax) - fmt.precision + 1
        allowed = np.ldexp(1.0, np.clip(leading - TIGHT - exponent, -1000, 1000).astype(np.int32))
        tight = radius <= allowed
    mask = nearest & tight & (hi != 0) & (rest_signed | (same & ~at_power))
    vanished = (hi == 0) & (radius < 1) & (exponent < fmt.emin - 200) & bool(ball.sign)
    hi = np.where(vanished, 0.5 * _sign(ball), hi)
    exponent = np.where(vanished, -FAR, exponent)
    return Decided(mask | vanished, hi, np.where(vanished, 0.0, lo), exponent)


def _normalised(hi: F64, lo: F64) -> tuple[F64, F64]:
    """hi + lo with hi the rounded sum (Dekker's fast two-sum, |lo| < |hi|)."""
    total = hi + lo
    return total, lo - (total - hi)


def _sign(ball: FloatBall) -> float:
    """The certain sign of all true values of an array; 0 where it is not certain."""
    if ball.sign & NONNEGATIVE:
        return 1.0
    return -1.0 if ball.sign & NONPOSITIVE else 0.0


def _binade(fmt: Format, values: F64) -> I64:
    """The exponent that the ulp depends on: constant below the normal range."""
    _, exponent = np.frexp(values)
    return np.asarray(np.maximum(exponent.astype(np.int64) - 1, fmt.emin))


def round_to(fmt: Format, values: F64) -> F64:
    """float64 values rounded once to a format of at most 24 bits.

    NumPy's casts from float64 to float32 and float16 round correctly; the casts of ml_dtypes go
    through float32 and do not, so the other formats round on integers.
    """
    if fmt.name in ("float32", "float16"):
        return values.astype(fmt.dtype).astype(np.float64)
    return formats.nearest(fmt, values)
