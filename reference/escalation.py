"""The oracle's last tier: one element at a time, in mpmath balls of rising precision.

An element is decided when both ends of its ball round to the same value of the format and the ball
is narrower than 2^-20 ulp. A rounding boundary inside so narrow a ball is hardly there by chance.
Logits that are all but equal may have put the result beside it, at a distance of about their gap or
its square: a precision that resolves both (``patience``) decides such an element by its ball, for
less than a sign costs there. From that precision on, the result may as well be e^-1e9 away from the
boundary, where no precision reaches. Its side is asked for then, by a sign: ``Map.excess`` is a
positive multiple of result minus boundary whose coefficients are exact. Where the sign is not
certain either, the precision rises.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from mpmath import libmp
from numpy.typing import NDArray

from . import formats
from .arithmetic.multiprecision import Ball, Multiprecision, TooWide
from .formats import Format
from .ops.base import Batch, Map
from .references import FAR, TIGHT, Parts, expand, expand_mpf

MAX_BITS = 1 << 14
"""Where escalation stops and :class:`Undecided` is raised."""

_BESIDE = 40  # bits beyond the finest gaps' from which on signs are asked for
_BEYOND = 192  # bits beyond a midpoint's for the ends of its ball: a radius may be e^-1e23 of it

Mask = NDArray[np.bool_]


class Undecided(ArithmeticError):
    """An element could not be decided at the cap of the precision."""


def attempt(
    map_: Map,
    batch: Batch,
    rows: NDArray[np.intp],
    open_: Mask,
    bits: int,
    fmt: Format,
    max_bits: int = MAX_BITS,
) -> dict[tuple[int, int], Parts]:
    """Evaluate rows at one precision.

    Parameters
    ----------
    map_ : Map
    batch : Batch
    rows : ndarray of int
        Rows with open elements.
    open_ : ndarray of bool
        The open elements of the whole batch.
    bits : int
        Working precision.
    fmt : Format
    max_bits : int
        Where escalation stops: signs are asked for from half of it on in any case.

    Returns
    -------
    dict
        The expansions of the elements that were decided, by (row, index).
    """
    part = Batch({name: np.asarray(a)[rows] for name, a in batch.inputs.items()})
    try:
        ball: Ball = map_.formula(Multiprecision(bits), part)
    except TooWide:
        return {}
    found: dict[tuple[int, int], Parts] = {}
    for k, row in enumerate(rows.tolist()):
        ask = bits >= min(patience(part, k), max_bits // 2)
        sign = _SignTest(map_, part, k, bits, fmt) if ask else None
        for i in np.flatnonzero(open_[row]).tolist():
            parts = _element(ball.mid[k, i], ball.rad[k, i], i, sign, fmt)
            if parts is not None:
                found[row, i] = parts
    return found


def patience(batch: Batch, row: int) -> int:
    """The precision from which on signs are asked for in a row, at most 2188 bits.

    It resolves the square of the finest gap between logits (2^-1074 at least): where the gaps'
    first order cancels, results are that far from what equal logits give. Rows whose gaps are all 1
    or more do not wait.
    """
    finest = 1.0
    for x in (batch.x, *(np.asarray(a) for name, a in batch.inputs.items() if name == "y")):
        distinct = np.unique(x[row][np.isfinite(x[row])])
        with np.errstate(over="ignore"):
            finest = float(np.diff(distinct).min(initial=finest))
    return 2 * (1 - math.frexp(finest)[1]) + _BESIDE


def _element(mid: Any, rad: Any, index: int, sign: _SignTest | None, fmt: Format) -> Parts | None:
    """The expansion of an element, by its ball or by a sign; None where it stays undecided."""
    if not decided(fmt, mid, rad):
        return None if sign is None else sign.rounding(index, mid, rad)
    at = power_of_two(fmt, mid, rad)
    if at is None:
        return expand_mpf(mid)
    return None if sign is None else sign.beside(index, *at)


class _SignTest:
    """Decides elements of one row by the side of the rounding boundary that they lie on."""

    def __init__(self, map_: Map, batch: Batch, row: int, bits: int, fmt: Format) -> None:
        self.map, self.format, self.index = map_, fmt, row
        self.inputs = batch.inputs
        self.arithmetic = Multiprecision(bits)
        self.known: dict[Any, int] = {}

    @cached_property
    def row(self) -> Batch:
        """The row by itself; it keeps what its elements share."""
        return Batch({name: np.asarray(a)[[self.index]] for name, a in self.inputs.items()})

    def rounding(self, index: int, mid: Any, rad: Any) -> Parts | None:
        """(hi, lo, exponent) of an undecided element, or None where it stays so."""
        at = boundary(self.format, mid, rad)
        return None if at is None else self.beside(index, *at)

    def beside(self, index: int, man: int, exp: int) -> Parts | None:
        """The same of an element beside man * 2^exp; None where no sign tells on which side."""
        # Elements with the same inputs have the same result.
        like = man, exp, *self._inputs_of(index)
        if like not in self.known:
            at = Fraction(man) * Fraction(2) ** exp
            self.known[like] = side(self.map, self.arithmetic, self.row, index, at)
        sign = self.known[like]
        if not sign:
            return None
        return expand(man, exp, sign) if man else (0.5 * sign, 0.0, -FAR)

    def _inputs_of(self, index: int) -> Iterator[float]:
        for name, array in self.inputs.items():
            if name == "label":
                yield float(np.ravel(array[self.index])[0] == index)
            elif np.ndim(array) == 2 and np.shape(array)[1] > 1:
                yield float(array[self.index, index])


def side(map_: Map, a: Multiprecision, row: Batch, index: int, boundary: Fraction) -> int:
    """1 where an element of a row of its own is above a number, -1 where below, 0 if open."""
    try:
        excess = map_.side(a, row, index, boundary)
    except TooWide:
        return 0
    if excess is None or libmp.mpf_le(libmp.mpf_abs(excess.mid[0, 0]), excess.rad[0, 0]):
        return 0
    return int(libmp.mpf_sign(excess.mid[0, 0]))


def decided(fmt: Format, mid: Any, rad: Any) -> bool:
    """Do both ends of the ball round alike, is its sign known, is it below 2^-20 ulp wide?"""
    _, man, exp, bc = mid
    if not man:
        return False
    low = libmp.mpf_sub(libmp.mpf_abs(mid), rad, bc + _BEYOND, "d")
    if libmp.mpf_sign(low) < 0:
        return False
    if rad == libmp.fzero:
        return True
    leading = max(exp + bc - 1, fmt.emin)
    if rad[2] + rad[3] > leading - fmt.precision + 1 - TIGHT:
        return False
    high = libmp.mpf_add(libmp.mpf_abs(mid), rad, bc + _BEYOND, "u")
    # The truth is no dyadic rational, so it lies strictly between the ends.
    below = formats.round_integer(fmt, int(low[1]), int(low[2]), 1)
    above = formats.round_integer(fmt, int(high[1]), int(high[2]), -1)
    return below == above or (math.isnan(below) and math.isnan(above))


def boundary(fmt: Format, mid: Any, rad: Any) -> tuple[int, int] | None:
    """The one rounding boundary (or 0) in a ball narrower than 2^-20 ulp, as man * 2^exp."""
    _, man, exp, bc = mid
    leading = max(exp + bc - 1 if man else fmt.emin, fmt.emin)
    if rad[2] + rad[3] > leading - fmt.precision + 1 - TIGHT:
        return None
    if libmp.mpf_le(libmp.mpf_abs(mid), rad):
        return 0, 0
    # Boundaries are the odd multiples of half a quantum; powers of two, where it changes, are none.
    half = leading - fmt.precision
    scaled = libmp.mpf_shift(mid, -half)
    nearest = int(libmp.to_int(scaled, "n"))
    gap = libmp.mpf_abs(libmp.mpf_sub(scaled, libmp.from_int(nearest)))
    if nearest % 2 and libmp.mpf_le(gap, libmp.mpf_shift(rad, -half)):
        return nearest, half
    return None


def power_of_two(fmt: Format, mid: Any, rad: Any) -> tuple[int, int] | None:
    """The power of two in a ball, as man * 2^exp, where the ulp is another on its two sides."""
    sign = mid[0]
    high = libmp.mpf_add(libmp.mpf_abs(mid), rad, 64, "u")
    low = libmp.mpf_sub(libmp.mpf_abs(mid), rad, mid[3] + _BEYOND, "d")
    # The truth lies strictly inside: a power of two as the upper end is not among its values.
    leading = high[2] + high[3] - 1 - (high[1] == 1)
    if rad == libmp.fzero or leading <= fmt.emin or low[2] + low[3] - 1 == leading:
        return None
    return (-1 if sign else 1), leading
