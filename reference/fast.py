"""The oracle's vectorised tiers: whole batches in binary64 and double-double balls.

Each tier evaluates the formula once and keeps the elements that its balls decide: both ends round
to the same value of the format, the sign and the binade of the exact value are certain, and the
ball is narrower than 2^-20 ulp. The rest goes on to the next tier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
Interval = tuple[F64, F64]
Block = NDArray[np.intp] | slice

_TINY = 5e-324
_BLOCK = 1 << 17  # elements evaluated at a time: what bounds the memory


@dataclass(frozen=True, eq=False)
class Decided:
    """Elements that a tier decided, in arrays of the map's output shape."""

    mask: Mask
    hi: F64
    lo: F64
    exponent: I64

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All four."""
        return self.mask, self.hi, self.lo, self.exponent


def evaluate(
    map_: Map,
    inputs: Mapping[str, NDArray[Any]],
    rows: NDArray[np.intp],
    fmt: Format,
    arithmetic: Binary64 | DoubleDouble,
) -> Iterator[tuple[Block, Decided]]:
    """Evaluate the given rows in blocks; yields row numbers with what was decided of them."""
    n = max(1, np.shape(inputs["x"])[1])
    step = max(1, _BLOCK // n)
    for start in range(0, len(rows), step):
        block = _slice(rows[start : start + step])
        part = Batch({name: np.asarray(a)[block] for name, a in inputs.items()})
        ball: FloatBall = map_.formula(arithmetic, part)
        found = decide(ball, fmt)
        if map_.between is not None and not found.mask.all():
            _once_more(map_.between, part, ball, found, fmt)
        yield block, found


def _slice(rows: NDArray[np.intp]) -> Block:
    """Adjacent rows as a slice, which NumPy needs not copy."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def _once_more(
    between: Callable[[Batch], Interval], part: Batch, ball: FloatBall, found: Decided, fmt: Format
) -> None:
    """Try the rows that a ball leaves open with what is known about their results."""
    rows = np.flatnonzero(~found.mask.all(axis=1))
    rest = Batch({name: np.asarray(a)[rows] for name, a in part.inputs.items()})
    again = decide(ball[rows], fmt, between(rest))
    for old, new in zip(found.arrays, again.arrays, strict=True):
        old[rows] = new


def decide(ball: FloatBall, fmt: Format, between: Interval | None = None) -> Decided:
    """What a ball, and the numbers strictly between which its values lie, decide for a format."""
    narrow = len(ball.parts) == 1 or fmt.precision <= 24
    by = _by_ends if narrow and fmt.precision <= 24 else _by_words
    return by(ball, fmt, between)


def _by_ends(ball: FloatBall, fmt: Format, between: Interval | None) -> Decided:
    """Formats of at most 24 bits: round both float64 ends of the enclosure."""
    lower, upper = ball.enclosure()
    if between is not None:
        lower, upper = np.maximum(lower, between[0]), np.minimum(upper, between[1])
    with np.errstate(all="ignore"):
        below, above = round_to(fmt, lower), round_to(fmt, upper)
        same = (below == above) | (np.isnan(below) & np.isnan(above))
        same &= np.isfinite(lower) & np.isfinite(upper)
        middle = lower + (upper - lower) / 2
        tight = (upper - lower) <= np.ldexp(formats.ulp(fmt, middle), -TIGHT)
        signed = (lower > 0) | (upper < 0)
        sign = _sign(ball, between)
        one_binade = _binade(fmt, lower) == _binade(fmt, upper)
        lo = np.zeros_like(middle)
        if between is not None:
            # The values lie strictly inside: a power of two as the far end is not among them.
            inner, outer = np.minimum(np.abs(lower), np.abs(upper)), np.maximum(-lower, upper)
            one_binade = _binade(fmt, inner) == _binade(fmt, np.nextafter(outer, 0.0))
            lo = _TINY * ((middle == lower) * 1.0 - (middle == upper))
    hi, exponent = np.frexp(middle)
    exponent = exponent.astype(np.int64)
    vanished = ~signed | (hi == 0)
    hi = np.where(vanished, 0.5 * sign, hi)
    exponent = np.where(vanished, -FAR, exponent)
    mask = same & tight & (signed | (sign != 0)) & one_binade & (hi != 0)
    return Decided(mask, hi, np.where(vanished, 0.0, lo), exponent)


def _by_words(ball: FloatBall, fmt: Format, between: Interval | None) -> Decided:
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
        if between is not None:
            # No rest can be told from 0 beside an end, but its sign is known there.
            side = _at(between[0], hi, exponent) * 1.0 - _at(between[1], hi, exponent)
            lo = np.where((side != 0) & ~rest_signed, side * _TINY, lo)
            rest_signed |= side != 0
        tiny = np.full_like(hi, _TINY)
        same = formats.round_expansion(fmt, hi, tiny, exponent) == formats.round_expansion(
            fmt, hi, -tiny, exponent
        )
        leading = np.clip(exponent - 1, fmt.emin, fmt.emax) - fmt.precision + 1
        allowed = np.ldexp(1.0, np.clip(leading - TIGHT - exponent, -1000, 1000).astype(np.int32))
        tight = radius <= allowed
    mask = nearest & tight & (hi != 0) & (rest_signed | (same & ~at_power))
    sign = _sign(ball, between)
    gone = (radius < 2.0**100) & (exponent < fmt.emin - 300)
    vanished = (hi == 0) & gone & (sign != 0)
    hi = np.where(vanished, 0.5 * sign, hi)
    exponent = np.where(vanished, -FAR, exponent)
    return Decided(mask | vanished, hi, np.where(vanished, sign * _TINY, lo), exponent)


def _normalised(hi: F64, lo: F64) -> tuple[F64, F64]:
    """hi + lo with hi the rounded sum (Dekker's fast two-sum, |lo| < |hi|)."""
    total = hi + lo
    return total, lo - (total - hi)


def _sign(ball: FloatBall, between: Interval | None) -> F64:
    """The certain signs of the true values; 0 where none is certain."""
    known = 1.0 if ball.sign & NONNEGATIVE else (-1.0 if ball.sign & NONPOSITIVE else 0.0)
    if known or between is None:
        return np.full(ball.shape, known)
    return np.where(between[0] >= 0, 1.0, np.where(between[1] <= 0, -1.0, 0.0))


def _at(end: F64, hi: F64, exponent: I64) -> Mask:
    """Where hi * 2^exponent is this number."""
    end_hi, end_exponent = np.frexp(end)
    return np.asarray((hi == end_hi) & (exponent == end_exponent) & np.isfinite(end))


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
