"""What the oracle claims of each element, as intervals that the truth must lie in.

Of every result: the interval of the reals that round to it, its binade (and sign), and 2^-20 ulp
around (hi + lo) 2^exponent. Of the formula in each arithmetic, whichever decided the element: the
balls of binary64 and double-double, both as two float64 ends and as words with a radius, the balls
of mpmath at the oracle's first precision, and the numbers that ``Map.between`` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import arb as numbers
import numpy as np
from flint import arb
from mpmath import libmp

from reference.arithmetic.binary64 import Binary64
from reference.arithmetic.doubledouble import DoubleDouble
from reference.arithmetic.multiprecision import Multiprecision, TooWide
from reference.ops.base import Batch, Map
from reference.references import TIGHT, References

Interval = tuple[Any, Any]
"""The ends, exact arb numbers: made at ``EXACT`` bits."""
At = Callable[[int, int], Interval | None]
"""The interval of an element; None where there is none."""

EXACT = 1200
_BEYOND = 192  # bits beyond a midpoint's at which the ends of its ball are rounded outwards
_LARGEST = 1 << 12


# ---------------------------------------------------------------- of a result


def of_result(refs: References, r: int, i: int, value: float) -> Iterator[tuple[str, Interval]]:
    """The rounding, the binade and the closeness that a reference claims."""
    hi, lo = float(refs.hi[r, i]), float(refs.lo[r, i])
    fmt, scale = refs.format, numbers.power(int(refs.exponent[r, i]))
    precision, emin = numbers.FORMATS[fmt.name][:2]
    yield "rounding", numbers.rounding_interval(fmt.name, value, hi < 0)
    below = abs(hi) == 0.5 and lo != 0 and (lo < 0) != (hi < 0)
    leading = int(refs.exponent[r, i]) - 1 - below
    if leading > emin:
        size = numbers.power(leading), numbers.power(leading + 1)
    else:  # below, the ulp is the same on both sides of a power of two
        size = arb(0), numbers.power(emin + 1)
    yield "binade", size if hi > 0 else (-size[1], -size[0])
    reach = numbers.power(max(leading, emin) - precision + 1 - TIGHT)
    middle = (arb(hi) + arb(lo)) * scale
    yield "expansion", (middle - reach, middle + reach)


# ---------------------------------------------------------------- of the formula


def of_formula(map_: Map, batch: Batch, refs: References) -> dict[str, At]:
    """The enclosures that the arithmetics give, and ``between``."""
    found: dict[str, At] = {}
    for name, arithmetic in (("binary64", Binary64()), ("double-double", DoubleDouble())):
        ball = map_.formula(arithmetic, batch)
        found[f"{name} ends"] = _between_floats(*ball.enclosure(), refs.shape)
        found[f"{name} words"] = _words(*ball.expand(), refs.shape)
    bits = refs.format.precision + max(1, batch.n).bit_length() + 40
    found["mpmath"] = _balls(map_, batch, bits)
    if map_.between is not None:
        found["between"] = _between_floats(*map_.between(batch), refs.shape)
    return found


def _lists(shape: tuple[int, ...], *arrays: Any) -> list[list[list[Any]]]:
    return [np.broadcast_to(a, shape).tolist() for a in arrays]


def _between_floats(lower: Any, upper: Any, shape: tuple[int, ...]) -> At:
    low, high = _lists(shape, lower, upper)

    def at(r: int, i: int) -> Interval:
        return arb(low[r][i]), arb(high[r][i])

    return at


def _words(hi: Any, lo: Any, exponent: Any, radius: Any, shape: tuple[int, ...]) -> At:
    words = _lists(shape, hi, lo, exponent, radius)

    def at(r: int, i: int) -> Interval | None:
        h, l, e, reach = (w[r][i] for w in words)  # noqa: E741 - the low word
        if math.isinf(reach):
            return None
        middle, scale = arb(h) + arb(l), numbers.power(e)
        return (middle - arb(reach)) * scale, (middle + arb(reach)) * scale

    return at


def _balls(map_: Map, batch: Batch, bits: int) -> At:
    mids: list[Any] = [None] * batch.rows
    rads: list[Any] = [None] * batch.rows
    pieces = [(np.arange(batch.rows), bits)]
    while pieces:
        rows, precision = pieces.pop()
        part = Batch({name: np.asarray(a)[rows] for name, a in batch.inputs.items()})
        try:
            ball = map_.formula(Multiprecision(precision), part)
        except TooWide:
            # One row is enough to refuse them all.
            half = (len(rows) + 1) // 2
            if len(rows) > 1:
                pieces += [(rows[:half], precision), (rows[half:], precision)]
            elif precision < _LARGEST:
                pieces.append((rows, 2 * precision))
            continue
        for k, r in enumerate(rows.tolist()):
            mids[r], rads[r] = ball.mid[k], ball.rad[k]

    def at(r: int, i: int) -> Interval | None:
        if mids[r] is None:
            return None
        mid, rad = mids[r][i], rads[r][i]
        precise = mid[3] + _BEYOND
        lower = libmp.mpf_sub(mid, rad, precise, "f")
        return numbers.exactly(lower), numbers.exactly(libmp.mpf_add(mid, rad, precise, "c"))

    return at
