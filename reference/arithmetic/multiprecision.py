"""Balls over mpmath: the last tier, whose precision can be raised until everything is decided.

A ball is a midpoint and a radius, both raw mpmath numbers (`mpmath.libmp` tuples), in object
arrays. With working precision P, every operation here adds at most ``2^-P |midpoint|`` of its own
rounding error:

* add, sub, mul that fit into P + 128 bits are exact; otherwise mpmath rounds them correctly;
* exp and log are computed with 16 guard bits. mpmath documents them as accurate to about one unit
  of the last place and is assumed to stay below 2^15 of them; the tests compare them with Arb.

Radii are rounded upwards (``'u'``, away from zero) at 64 bits throughout.

One-sided sums. An exact number a plus a tiny b of known sign lies strictly on one side of a,
although a + b needs millions of bits (x - lse(x) with a gap of 2^24 does). Such a sum becomes the
ball [a, a + 2h]: its near end is a itself, so a rounding boundary at a stays outside the open
ball, and the element is decided. A factor or a summand of the inputs' width moves the near end
exactly: hence the 128 bits beyond P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpmath import libmp
from numpy.typing import NDArray

from .base import F64, Mask

Raw = tuple[int, int, int, int]
ObjectArray = NDArray[np.object_]

_RADIUS_BITS = 64
_GUARD = 16
_SMALL_INTEGER = 30  # bits of what is raised as a power of e
_EXACT = 128  # bits beyond P up to which sums and products are not rounded
_add, _mul, _div = libmp.mpf_add, libmp.mpf_mul, libmp.mpf_div
_ZERO: Raw = libmp.fzero
_ONE: Raw = libmp.fone
_HALF: Raw = libmp.fhalf


class TooWide(ArithmeticError):
    """A ball is too wide for the operation (a divisor's ball holds 0): raise the precision."""


def _up_add(a: Raw, b: Raw) -> Raw:
    return _add(a, b, _RADIUS_BITS, "u")  # type: ignore[no-any-return]


def _up_mul(a: Raw, b: Raw) -> Raw:
    return _mul(a, b, _RADIUS_BITS, "u")  # type: ignore[no-any-return]


def _magnitude(a: Raw) -> Raw:
    """|a| rounded up to radius bits."""
    return libmp.mpf_abs(a, _RADIUS_BITS, "u")  # type: ignore[no-any-return]


def _leading(term: tuple[Raw, Raw]) -> float:
    """Sorting key: the exponent of the leading bit of |mid| + rad."""
    return max((p[2] + p[3] for p in term if p[1]), default=-math.inf)


def _power_of_e(a: Raw, bits: int) -> Raw:
    """e^a.

    Beyond 600 bits mpmath takes an integer as a power of e, by as many long products as it has
    bits: 40 ms for 1e300. e^(a + 1/2) e^(-1/2) costs two exponentials, whatever a is.
    """
    if bits <= 600 or a[2] < 0 or a[2] + a[3] <= _SMALL_INTEGER:
        return libmp.mpf_exp(a, bits, "n")  # type: ignore[no-any-return]
    inner, half = libmp.mpf_exp(_add(a, _HALF), bits, "n"), libmp.mpf_neg(_HALF)
    return _mul(inner, libmp.mpf_exp(half, bits, "n"), bits, "n")  # type: ignore[no-any-return]


def _raw(value: float) -> Raw:
    return libmp.from_float(value)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Ball:
    """Midpoints and radii; the true value of each element lies within ``rad`` of ``mid``."""

    mid: ObjectArray
    rad: ObjectArray
    arithmetic: Multiprecision

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    def __getitem__(self, index: Any) -> Ball:
        return Ball(self.mid[index], self.rad[index], self.arithmetic)

    def __add__(self, other: Ball) -> Ball:
        return self.arithmetic._apply2(self.arithmetic._sum2, self, other)

    def __sub__(self, other: Ball) -> Ball:
        return self + (-other)

    def __neg__(self) -> Ball:
        return Ball(_negate(self.mid), self.rad, self.arithmetic)

    def __mul__(self, other: Ball) -> Ball:
        return self.arithmetic._apply2(self.arithmetic._product, self, other)

    def __truediv__(self, other: Ball) -> Ball:
        return self.arithmetic._apply2(self.arithmetic._quotient, self, other)

    def widened(self, by: Ball) -> Ball:
        """The ball with a radius that is larger by the midpoints of another, which are >= 0."""
        rad = np.frompyfunc(lambda r, m: _up_add(r, _magnitude(m)), 2, 1)(self.rad, by.mid)
        return Ball(self.mid, _array(rad), self.arithmetic)


def _array(values: Any) -> ObjectArray:
    return np.asarray(values, dtype=object) if isinstance(values, np.ndarray) else _scalar(values)


def _scalar(value: Any) -> ObjectArray:
    out = np.empty((), dtype=object)
    out[()] = value
    return out


_negate_ufunc = np.frompyfunc(libmp.mpf_neg, 1, 1)
_exact_ufunc = np.frompyfunc(lambda v: libmp.from_float(float(v)), 1, 1)
_difference_ufunc = np.frompyfunc(
    lambda a, b: libmp.mpf_sub(libmp.from_float(float(a)), libmp.from_float(float(b))), 2, 1
)


def _negate(a: ObjectArray) -> ObjectArray:
    return _array(_negate_ufunc(a))


class Multiprecision:
    """Ball arithmetic with ``bits`` of working precision.

    Parameters
    ----------
    bits : int
        Working precision P; every operation's own relative rounding error is at most 2^-P.
    """

    def __init__(self, bits: int) -> None:
        self.bits = bits

    # ------------------------------------------------------------ the interface

    def exact(self, values: F64) -> Ball:
        mid = _array(_exact_ufunc(np.asarray(values, np.float64)))
        return Ball(mid, self._zeros(mid.shape), self)

    def dyadic(self, man: int, exp: int) -> Ball:
        """man * 2^exp, exactly, of shape (1, 1)."""
        mid = np.empty((1, 1), dtype=object)
        mid[0, 0] = libmp.from_man_exp(man, exp)
        return Ball(mid, self._zeros((1, 1)), self)

    def difference(self, a: F64, b: F64) -> Ball:
        mid = _array(_difference_ufunc(np.asarray(a, np.float64), np.asarray(b, np.float64)))
        return Ball(mid, self._zeros(mid.shape), self)

    def exp_difference(self, a: F64, b: F64) -> Ball:
        """e^(a - b)."""
        return self.exp(self.difference(a, b))

    def exp(self, a: Ball) -> Ball:
        return self._apply1(self._exp, a)

    def expm1(self, a: Ball) -> Ball:
        return self._apply1(self._expm1, a)

    def phi(self, a: Ball) -> Ball:
        return self._apply1(self._phi, a)

    def log(self, a: Ball) -> Ball:
        return self._apply1(self._log, a)

    def log1p(self, a: Ball) -> Ball:
        return self._apply1(self._log1p, a)

    def where(self, mask: Mask, a: Ball, b: Ball) -> Ball:
        mid = np.where(mask, a.mid, b.mid)
        rad = np.where(mask, a.rad, b.rad)
        return Ball(mid, rad, self)

    def sum(self, a: Ball) -> Ball:
        """Recursive sum from the smallest term up, each step with its own radius."""
        shape = a.shape[:-1]
        mid, rad = np.empty((*shape, 1), object), np.empty((*shape, 1), object)
        for index in np.ndindex(shape):
            terms = sorted(zip(a.mid[index], a.rad[index], strict=True), key=_leading)
            total, error = _ZERO, _ZERO
            for m, r in terms:
                total, error = self._sum2(m, r, total, error)
            mid[(*index, 0)], rad[(*index, 0)] = total, error
        return Ball(mid, rad, self)

    def total(self, values: F64) -> Ball:
        """Sum of float64 values along the class axis, exactly."""
        values = np.asarray(values, np.float64)
        mid = np.empty((*values.shape[:-1], 1), object)
        for index in np.ndindex(values.shape[:-1]):
            exact = _ZERO
            for v in values[index]:
                exact = _add(exact, _raw(float(v)))
            mid[(*index, 0)] = exact
        return Ball(mid, self._zeros(mid.shape), self)

    # ------------------------------------------------------------ elements

    def _zeros(self, shape: tuple[int, ...]) -> ObjectArray:
        out = np.empty(shape, dtype=object)
        for index in np.ndindex(shape):
            out[index] = _ZERO
        return out

    def _apply1(self, function: Any, a: Ball) -> Ball:
        mid, rad = np.frompyfunc(function, 2, 2)(a.mid, a.rad)
        return Ball(_array(mid), _array(rad), self)

    def _apply2(self, function: Any, a: Ball, b: Ball) -> Ball:
        mid, rad = np.frompyfunc(function, 4, 2)(a.mid, a.rad, b.mid, b.rad)
        return Ball(_array(mid), _array(rad), self)

    def _rounding(self, m: Raw) -> Raw:
        """2^-P |m|, upwards."""
        return libmp.mpf_shift(_magnitude(m), -self.bits)  # type: ignore[no-any-return]

    def _sum2(self, a: Raw, ra: Raw, b: Raw, rb: Raw) -> tuple[Raw, Raw]:
        if a == _ZERO and ra == _ZERO:
            return b, rb
        if b == _ZERO and rb == _ZERO:
            return a, ra
        spread = max(a[2] + a[3], b[2] + b[3]) - min(a[2], b[2])
        if spread <= self.bits + _EXACT:
            return _add(a, b), _up_add(ra, rb)
        for big, rbig, small, rsmall in ((a, ra, b, rb), (b, rb, a, ra)):
            if rbig == _ZERO and big != _ZERO and self._negligible(small, rsmall, big):
                half = (small[0], 1, big[2] + big[3] - self.bits - 4, 1)
                return _add(big, half), libmp.mpf_abs(half)
        m = _add(a, b, self.bits, "n")
        return m, _up_add(_up_add(ra, rb), self._rounding(m))

    def _negligible(self, small: Raw, rad: Raw, big: Raw) -> bool:
        """0 < |small +- rad| < 2^(exponent of big - P - 3), with a sign that is certain."""
        if not small[1] or not libmp.mpf_gt(libmp.mpf_abs(small), rad):
            return False
        return bool(small[2] + small[3] + 1 <= big[2] + big[3] - self.bits - 3)

    def _product(self, a: Raw, ra: Raw, b: Raw, rb: Raw) -> tuple[Raw, Raw]:
        """|ab - m| <= |a| rb + |b| ra + ra rb + rounding."""
        r = _ZERO
        if ra != _ZERO or rb != _ZERO:
            r = _up_mul(_magnitude(a), rb)
            r = _up_add(r, _up_mul(_up_add(_magnitude(b), rb), ra))
        if a[3] + b[3] <= self.bits + _EXACT:
            return _mul(a, b), r
        m = _mul(a, b, self.bits, "n")
        return m, _up_add(r, self._rounding(m))

    def _quotient(self, a: Raw, ra: Raw, b: Raw, rb: Raw) -> tuple[Raw, Raw]:
        """|a'/b' - a/b| <= (ra + |a/b| rb) / (|b| - rb)."""
        least = libmp.mpf_sub(libmp.mpf_abs(b), rb, _RADIUS_BITS, "d")
        if libmp.mpf_sign(least) <= 0:
            raise TooWide("division by a ball that holds 0")
        m = _div(a, b, self.bits, "n")
        rounding = self._rounding(m)
        quotient = _up_add(_magnitude(m), rounding)
        numerator = _up_add(ra, _up_mul(quotient, rb))
        return m, _up_add(_div(numerator, least, _RADIUS_BITS, "u"), rounding)

    def _exp(self, a: Raw, ra: Raw) -> tuple[Raw, Raw]:
        """e^a (e^r - 1) <= e^a 2 r for r <= 1."""
        if libmp.mpf_gt(ra, _ONE):
            raise TooWide("exp of a ball wider than 1")
        if a == _ZERO and ra == _ZERO:
            return _ONE, _ZERO
        m = _power_of_e(a, self.bits + _GUARD)
        rounding = self._rounding(m)
        spread = _up_mul(_up_add(_magnitude(m), rounding), libmp.mpf_shift(ra, 1))
        return m, _up_add(spread, rounding)

    def _expm1(self, a: Raw, ra: Raw) -> tuple[Raw, Raw]:
        """As exp; extra bits replace those that e^a - 1 cancels for small a."""
        if libmp.mpf_gt(ra, _ONE):
            raise TooWide("expm1 of a ball wider than 1")
        if a == _ZERO:
            return _ZERO, libmp.mpf_shift(ra, 1)
        size = a[2] + a[3]
        if size < -self.bits - _GUARD:
            # e^a - 1 = a + a^2/2 + ..., and the rest is below a^2.
            m, rounding = a, _up_mul(_magnitude(a), _magnitude(a))
        else:
            power = _power_of_e(a, self.bits + _GUARD + max(0, -size))
            m = libmp.mpf_sub(power, _ONE, self.bits + _GUARD, "n")
            rounding = self._rounding(m)
        slope = _up_add(_up_add(m, _ONE), rounding)  # e^a
        return m, _up_add(_up_mul(slope, libmp.mpf_shift(ra, 1)), rounding)

    def _phi(self, a: Raw, ra: Raw) -> tuple[Raw, Raw]:
        """phi' = expm1, so the ball's spread is at most (|expm1(a)| + 2 r e^max(a, 0)) r."""
        slope, slope_error = self._expm1(a, ra)
        size = a[2] + a[3] if a != _ZERO else 0
        if a == _ZERO:
            m, rounding = _ZERO, _ZERO
        elif size < -self.bits - _GUARD:
            # a^2/2 + a^3/6 + ..., and the rest is below |a|^3.
            square = _mul(a, a, self.bits + _GUARD, "n")
            m = libmp.mpf_shift(square, -1)
            rounding = _up_add(_up_mul(_magnitude(square), _magnitude(a)), self._rounding(m))
        else:
            bits = self.bits + _GUARD + 2 * max(0, -size) + 4
            power = _power_of_e(a, bits)
            # Rounded: e^-1e30 - 1 has more bits than there is memory.
            less = libmp.mpf_sub(power, _ONE, bits, "n")
            m = libmp.mpf_sub(less, a, self.bits + _GUARD, "n")
            rounding = self._rounding(m)
        spread = _up_mul(_up_add(_magnitude(slope), slope_error), ra)
        return m, _up_add(spread, rounding)

    def _log(self, a: Raw, ra: Raw) -> tuple[Raw, Raw]:
        """|log(a + r) - log a| <= r / (a - r)."""
        least = libmp.mpf_sub(a, ra, _RADIUS_BITS, "d")
        if libmp.mpf_sign(least) <= 0:
            raise TooWide("log of a ball that reaches 0")
        m = libmp.mpf_log(a, self.bits + _GUARD, "n")
        return m, _up_add(_div(ra, least, _RADIUS_BITS, "u"), self._rounding(m))

    def _log1p(self, a: Raw, ra: Raw) -> tuple[Raw, Raw]:
        """|log1p(a + r) - log1p(a)| <= r / (1 + a - r)."""
        if a == _ZERO:
            m, rounding = _ZERO, _ZERO
        elif a[2] + a[3] < -self.bits - _GUARD:
            # a - a^2/2 + ..., and the rest is below a^2.
            m, rounding = a, _up_mul(_magnitude(a), _magnitude(a))
        elif a[0] == 0 and a[2] + a[3] > self.bits + _EXACT:
            # log a + log(1 + 1/a): 1 + a can have more bits than there is memory.
            m = libmp.mpf_log(a, self.bits + _GUARD, "n")
            rounding = _up_add(self._rounding(m), _div(_ONE, a, _RADIUS_BITS, "u"))
        else:
            # Rounded, as e^1e30 has no room beside a 1: by 2^-P-16 of log1p(a) at most.
            total = _add(_ONE, a, 2 * (self.bits + _GUARD), "n")
            m = libmp.mpf_log(total, self.bits + _GUARD, "n")
            rounding = self._rounding(m)
        least = libmp.mpf_sub(_add(_ONE, a, _RADIUS_BITS, "d"), ra, _RADIUS_BITS, "d")
        if libmp.mpf_sign(least) <= 0:
            raise TooWide("log1p of a ball that reaches -1")
        return m, _up_add(_div(ra, least, _RADIUS_BITS, "u"), rounding)
