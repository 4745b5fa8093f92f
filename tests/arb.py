"""Arb as an oracle of its own: its balls, rounded to the formats without any code of ``reference``.

Not the ball arithmetic, not the rounding (exact fractions; Python rounds those half to even, or
comparisons with the ends of the interval that rounds to a value), not the table of formats. The
formulas are in :mod:`arb_rows` and :mod:`arb_elementwise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from flint import arb, ctx

# precision, exponent of the smallest and of the largest normal binade, largest value, infinity?
FORMATS = {
    "float64": (53, -1022, 1023, (2 - Fraction(1, 2**52)) * 2**1023, True),
    "float32": (24, -126, 127, (2 - Fraction(1, 2**23)) * 2**127, True),
    "bfloat16": (8, -126, 127, (2 - Fraction(1, 2**7)) * 2**127, True),
    "float16": (11, -14, 15, Fraction(65504), True),
    "float8_e4m3fn": (4, -6, 8, Fraction(448), False),
    "float8_e5m2": (3, -14, 15, Fraction(57344), True),
}

FIRST, LAST = 160, 6000
_FAR = 3000  # beyond 2^+-3000 every format has underflowed or overflowed
INFINITY = arb(math.inf)

Balls = Callable[[int], list[Any]]
"""The results of one row at a precision; None for one that is infinite."""


def floor_log2(value: Fraction) -> int:
    """floor(log2 |value|), exactly."""
    num, den = abs(value.numerator), value.denominator
    e = num.bit_length() - den.bit_length()
    return e if num << max(-e, 0) >= den << max(e, 0) else e - 1


def nearest(format_name: str, value: Fraction) -> float:
    """The format's value nearest to a fraction, ties to even; beyond its range inf or NaN."""
    precision, emin, _, largest, has_infinity = FORMATS[format_name]
    if value == 0:
        return 0.0
    quantum = Fraction(2) ** (max(floor_log2(value), emin) - precision + 1)
    rounded = round(value / quantum) * quantum
    sign = 1.0 if value > 0 else -1.0
    if abs(rounded) > largest:
        return sign * math.inf if has_infinity else math.nan
    return sign * float(abs(rounded))


# ---------------------------------------------------------------- a ball's own rounding


def _fraction(man: int, exp: int) -> Fraction:
    """man * 2^exp, but for numbers so far out that only their sign matters."""
    if man == 0:
        return Fraction(0)
    leading = exp + man.bit_length()
    if abs(leading) > _FAR:
        return Fraction((man > 0) - (man < 0)) * Fraction(2) ** (_FAR if leading > 0 else -_FAR)
    return man * Fraction(2) ** exp


def ends(ball: Any) -> tuple[Fraction, Fraction] | None:
    """The two ends of a ball; None where it is not finite."""
    if not ball.is_finite():
        return None
    (man, exp), (rad, rad_exp) = ball.mid().man_exp(), ball.rad().man_exp()
    middle, radius = _fraction(int(man), int(exp)), _fraction(int(rad), int(rad_exp))
    return middle - radius, middle + radius


def _round(format_name: str, ball: Any) -> float | None:
    both = ends(ball)
    if both is None:
        return None
    low, high = (nearest(format_name, end) for end in both)
    same = low == high or (math.isnan(low) and math.isnan(high))
    return low if same else None


def rounded(
    balls: Balls, format_name: str
) -> tuple[list[float | None], list[tuple[float, ...] | None]]:
    """Correctly rounded results of one row, and the two candidates where one is left open.

    None is an element that the last precision leaves open: a rounding boundary (an exact one, or
    one closer than the last precision can tell), or an infinite result, which has no candidates.
    """
    before, bits = ctx.prec, FIRST
    results: list[float | None] = []
    try:
        while True:
            ctx.prec = bits
            made = balls(bits)
            results = [
                (None if b is None else _round(format_name, b)) if r is None else r
                for b, r in zip(made, results or [None] * len(made), strict=True)
            ]
            missing = any(r is None and b is not None for b, r in zip(made, results, strict=True))
            if not missing or 2 * bits > LAST:
                break
            bits *= 2
        candidates: list[tuple[float, ...] | None] = []
        for b, r in zip(made, results, strict=True):
            both = None if r is not None or b is None else ends(b)
            pair = None if both is None else tuple(nearest(format_name, v) for v in both)
            candidates.append(pair)
        return results, candidates
    finally:
        ctx.prec = before


# ---------------------------------------------------------------- intervals to lie in


@lru_cache(maxsize=1 << 14)
def power(exponent: int) -> Any:
    """2^exponent, exactly."""
    return arb((1, exponent))


def exactly(raw: Any) -> Any:
    """A raw mpmath number."""
    sign, man, exp, _ = raw
    return arb((int(-man if sign else man), int(exp)))


def rounding_interval(format_name: str, value: float, negative: bool) -> tuple[Any, Any]:
    """The ends of the reals that round to a value of the format, exactly.

    ``negative`` is the side of an overflow that the value does not tell (NaN).
    """
    precision, emin, emax, largest, _ = FORMATS[format_name]
    if not math.isfinite(value):
        limit = arb(float(largest)) + power(emax - precision)
        return (-INFINITY, -limit) if negative else (limit, INFINITY)
    if value == 0:
        return -power(emin - precision), power(emin - precision)
    fraction, exponent = math.frexp(abs(value))
    e = max(exponent - 1, emin)
    assert math.ldexp(fraction, exponent - e + precision - 1).is_integer(), value
    assert abs(value) <= largest, value
    inward = e - precision - (fraction == 0.5 and e > emin)
    low, high = arb(abs(value)) - power(inward), arb(abs(value)) + power(e - precision)
    return (-high, -low) if value < 0 else (low, high)
