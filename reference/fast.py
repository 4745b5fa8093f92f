"""The oracle's vectorised tiers: whole batches in binary64 and double-double balls.

Each tier evaluates the formula once and keeps the elements that its balls decide: both ends round
to the same value of the format, the sign and the binade of the exact value are certain, and the
ball is narrower than 2^-20 ulp. The rest goes on to the next tier.

Most batches are balls with a relative radius only, far from the ends of every range involved; they
are decided on the bits of float64, in pieces that stay in cache (``_near_ends``, ``_near_words``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import formats
from .arithmetic._ball import NONNEGATIVE, NONPOSITIVE, UP, FloatBall
from .arithmetic._eft import blocked
from .arithmetic.binary64 import Binary64
from .arithmetic.doubledouble import DoubleDouble
from .formats import F64, I64, Format
from .ops.base import Batch, Map
from .references import FAR, TIGHT

Mask = NDArray[np.bool_]
Interval = tuple[F64, F64]

_TINY = 5e-324


@dataclass(eq=False)
class Decided:
    """Elements that a tier decided, in arrays of the map's output shape.

    Where no low word is known, ``lo`` is a single 0 in that shape.
    """

    mask: Mask
    hi: F64
    lo: F64
    exponent: I64

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All four."""
        return self.mask, self.hi, self.lo, self.exponent


def attempt(map_: Map, batch: Batch, fmt: Format, arithmetic: Binary64 | DoubleDouble) -> Decided:
    """Evaluate the rows of a batch once, and say what that decides."""
    ball: FloatBall = map_.formula(arithmetic, batch)
    found = decide(ball, fmt)
    if map_.between is not None and not found.mask.all():
        _once_more(map_.between, batch, ball, found, fmt)
    return found


def _once_more(
    between: Callable[[Batch], Interval], batch: Batch, ball: FloatBall, found: Decided, fmt: Format
) -> None:
    """Try the elements that a ball leaves open with what is known about their results."""
    rows = np.flatnonzero(~found.mask.all(axis=1))
    among, columns = np.nonzero(~found.mask[rows])
    lower, upper = (end[among, columns] for end in between(batch.take(rows)))
    index = rows[among], columns
    again = decide(ball[index], fmt, (lower, upper))
    if not found.lo.flags.writeable:
        found.lo = found.lo.copy()
    for old, new in zip(found.arrays, again.arrays, strict=True):
        old[index] = new


def decide(ball: FloatBall, fmt: Format, between: Interval | None = None) -> Decided:
    """What a ball, and the numbers strictly between which its values lie, decide for a format."""
    by_words = fmt.precision > 24
    if between is None and ball.absolute is None and ball.exponent is None:
        near = _near_words if by_words else _near_ends
        found = near(ball, fmt)
        if found is not None:
            return found
    return (_by_words if by_words else _by_ends)(ball, fmt, between)


# ---------------------------------------------------------------- on the bits of float64

_MANTISSA = (1 << 52) - 1
_HALF = 1022 << 52  # the exponent field of [1/2, 1)


def _near_ends(ball: FloatBall, fmt: Format) -> Decided | None:
    """Formats of at most 24 bits, one word; None where the ball is not what this is for."""
    reach = (ball.relative + 2.0**-51) * UP  # the rounding of the ends included
    # The ball is 2 reach |mid| wide and |mid| < 2^(e + 1), an ulp is at least 2^(e - p + 1).
    tight = reach <= 2.0 ** (-fmt.precision - 1 - TIGHT)
    if len(ball.parts) > 1 or not tight or ball.low < -900 or ball.high > fmt.emax:
        return None
    dropped, emin = 53 - fmt.precision, fmt.emin + 1023

    def kernel(mid: F64) -> tuple[NDArray[Any], ...]:
        spread = np.abs(mid) * reach
        bits = mid.view(np.int64)
        hi = ((bits & ~(0x7FF << 52)) | _HALF).view(np.float64)
        if fmt.name == "float32":
            # NumPy's cast is correct, and faster than integers. What rounds to v, which is no power
            # of two, lies in its binade; where v is 0 no binade matters.
            ends = [(mid - spread).astype(np.float32), (mid + spread).astype(np.float32)]
            v = ends[0].view(np.uint32)
            same = (ends[0] == ends[1]) & (((v & 0x7FFFFF) != 0) | (ends[0] == 0))
            field = (bits >> 52) & 0x7FF
            return same & (field != 0), hi, field - 1022
        lower, upper = (mid - spread).view(np.int64), (mid + spread).view(np.int64)
        one_binade = ((lower ^ upper) >> 52) == 0
        field = (lower >> 52) & 0x7FF
        # Half of the last place that is kept is added, and what lies below is cut off: RN but for
        # ties, which go up. No result is one, so neither end may be.
        shift = np.minimum(dropped + np.maximum(emin - field, 0), 60)
        half = np.int64(1) << (shift - 1)
        ends = [(end & _MANTISSA) + ((1 << 52) + half) for end in (lower, upper)]
        same = (ends[0] >> shift) == (ends[1] >> shift)
        for end in ends:
            same &= (end & (2 * half - 1)) != 0
        return one_binade & same & (field != 0), hi, field - 1022

    with np.errstate(all="ignore"):  # subnormal ends in a cast
        mask, hi, exponent = blocked(kernel, ball.mid)
    return Decided(mask, hi, np.broadcast_to(0.0, ball.shape), exponent)


def _near_words(ball: FloatBall, fmt: Format) -> Decided | None:
    """float64 by two words; None where the ball is not what this is for."""
    radius = (ball.relative + 2.0**-1000) * UP  # of |hi| < 1
    # An ulp of [1/2, 1) is 2^-p.
    tight = radius <= 2.0 ** (-fmt.precision - TIGHT)
    if len(ball.parts) < 2 or not tight or ball.low < -900 or ball.high > 900:
        return None

    def kernel(high: F64, low: F64) -> tuple[NDArray[Any], ...]:
        total, rest = _normalised(high, low)
        bits = total.view(np.int64)
        field = (bits >> 52) & 0x7FF
        hi = ((bits & ~(0x7FF << 52)) | _HALF).view(np.float64)
        lo = rest * ((2045 - field) << 52).view(np.float64)
        size, at_power = np.abs(lo), (bits & _MANTISSA) == 0
        # Below a power of two the grid is twice as fine, and another binade begins.
        mask = size + radius < np.where(at_power, 2.0**-55, 2.0**-54)
        mask &= (size > radius) | ~at_power
        return mask & (field != 0), hi, lo, field - 1022

    return Decided(*blocked(kernel, *ball.parts))


# ---------------------------------------------------------------- whatever the ball


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
    exponent = np.where(values == 0, fmt.emin, exponent.astype(np.int64) - 1)
    return np.asarray(np.maximum(exponent, fmt.emin))


def round_to(fmt: Format, values: F64) -> F64:
    """float64 values rounded once to a format of at most 24 bits.

    NumPy's casts from float64 to float32 and float16 round correctly; the casts of ml_dtypes go
    through float32 and do not, so the other formats round on integers.
    """
    if fmt.name in ("float32", "float16"):
        return values.astype(fmt.dtype).astype(np.float64)
    return formats.nearest(fmt, values)
