"""The contract's formulas once more, in Arb balls: an oracle that shares nothing with the other.

Not the ball arithmetic, not the formulas (these are the contract's, with the maximum taken out and
nothing done against cancellation but more bits), not the rounding (exact fractions; Python rounds
those half to even), not the table of formats.

Values come back as floats of the format. ``None`` is an element that the last precision leaves
open: a rounding boundary (an exact one, or one closer than the last precision can tell).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
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


# ---------------------------------------------------------------- the contract's formulas


def _row(x: Any) -> tuple[list[Any], list[Any], Any]:
    """(s, l, lse) of logits that are finite or -inf."""
    top = max(v for v in x if v != -math.inf)
    masked = [v == -math.inf for v in x]
    d = [arb(0) if gone else arb(v) - arb(top) for v, gone in zip(x, masked, strict=True)]
    e = [arb(0) if gone else v.exp() for v, gone in zip(d, masked, strict=True)]
    total = sum(e, arb(0))
    log_total = total.log()
    s = [v / total for v in e]
    l = [None if gone else v - log_total for v, gone in zip(d, masked, strict=True)]  # noqa: E741
    return s, l, arb(top) + log_total


def _dot(a: Any, b: Any) -> Any:
    return sum((p * q for p, q in zip(a, b, strict=True)), arb(0))


def balls(
    op: str, derivative: str, argument: str, row: Mapping[str, Any], bits: int
) -> list[Any | None]:
    """One row at one precision; None for an element that is infinite."""
    ctx.prec = bits
    x = [float(v) for v in row["x"]]
    s, l, lse = _row(x)  # noqa: E741
    if "label" in row:
        t = [arb(float(i == int(row["label"]))) for i in range(len(x))]
    elif "target" in row:
        t = [arb(float(v)) for v in row["target"]]
    if derivative == "vjp":
        g = [arb(float(v)) for v in np.ravel(row["g"])]
    match op, derivative, argument:
        case "softmax", "value", "-":
            return s
        case "softmax", "vjp", "x":
            mean = _dot(s, g)
            return [p * (q - mean) for p, q in zip(s, g, strict=True)]
        case "log_softmax", "value", "-":
            return l
        case "log_softmax", "vjp", "x":
            total = sum(g, arb(0))
            return [q - p * total for p, q in zip(s, g, strict=True)]
        case "logsumexp", "value", "-":
            return [lse]
        case "logsumexp", "vjp", "x":
            return [g[0] * p for p in s]
        case (("softmax_cross_entropy" | "sparse_softmax_cross_entropy"), "value", "-"):
            weighted = [(p, q) for p, q in zip(t, l, strict=True) if p != 0]
            if any(q is None for _, q in weighted):
                return [None]
            return [-sum((p * q for p, q in weighted), arb(0))]
        case (("softmax_cross_entropy" | "sparse_softmax_cross_entropy"), "vjp", "x"):
            total = sum(t, arb(0))
            return [g[0] * (p * total - q) for p, q in zip(s, t, strict=True)]
        case "softmax_cross_entropy", "vjp", "target":
            return [None if q is None else -g[0] * q for q in l]
    raise KeyError((op, derivative, argument))


def rounded(
    op: str, derivative: str, argument: str, row: Mapping[str, Any], format_name: str
) -> tuple[list[float | None], list[tuple[float, float] | None]]:
    """Correctly rounded results of one row, and the two candidates where one is left open.

    A result that is infinite (a finite row has none but by overflow) is left open without
    candidates.
    """
    before, bits = ctx.prec, FIRST
    results: list[float | None] = []
    try:
        while True:
            made = balls(op, derivative, argument, row, bits)
            results = [
                (None if b is None else _round(format_name, b)) if bits == FIRST or r is None else r
                for b, r in zip(made, results or [None] * len(made), strict=True)
            ]
            open_ = [b for b, r in zip(made, results, strict=True) if r is None and b is not None]
            if not open_ or 2 * bits > LAST:
                break
            bits *= 2
        candidates: list[tuple[float, float] | None] = []
        for b, r in zip(made, results, strict=True):
            both = None if r is not None or b is None else ends(b)
            low_high = None if both is None else tuple(nearest(format_name, v) for v in both)
            candidates.append(low_high)  # type: ignore[arg-type]
        return results, candidates
    finally:
        ctx.prec = before
