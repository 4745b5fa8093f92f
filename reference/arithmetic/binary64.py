"""Binary64 balls: one float64 per midpoint, vectorised; decides roundings to narrower formats.

Sums, products and quotients obey the standard model (IEEE 754: |RN(x) - x| <= u |RN(x)|). The
exponential, logarithm and their relatives are computed here, from tables of integer arithmetic, and
each kernel derives its bound: nothing is assumed of a libm. ``np.log1p`` gives the first guess of a
Newton step, whose residual shows how good the guess was.

A difference of inputs keeps its second word until something consumes it, so that e^d does not
suffer |d| u from rounding d.
"""

from __future__ import annotations

import numpy as np

from . import _double_word as dw
from ._ball import FloatBall, Parts
from ._eft import Array, IntArray, blocked, two_sum
from ._functions import EASY, FloatArithmetic
from ._tables import LN2_HIGH, PER_STEP, STEP_1, STEP_2, STEP_3, STEPS, tables
from .base import Mask

U = dw.U
_STEP_23 = STEP_2 + STEP_3
_SHORT = 128
_LONG = 64
"""Rows from this length on are worth a look at their extremes."""


class Binary64(FloatArithmetic):
    """Ball arithmetic with one float64 word per midpoint, u = 2^-53.

    Examples
    --------
    >>> import numpy as np
    >>> a = Binary64()
    >>> e = a.exp(a.difference(np.array([1.0, 3.0]), np.array(3.0)))
    >>> e.relative < 3 * 2.0**-53
    True
    """

    words = 1

    ADD = U
    MUL = U
    DIV = U
    EXP = 2.1 * U
    """Derived in :func:`exponential`."""
    EXPM1 = 8.5 * U
    """Derived in :func:`exponential_minus_one`."""
    PHI = U + 2 * dw.PHI
    """Double-double, then rounded."""
    LOG = 18 * U
    """Derived in :func:`logarithm`."""

    def total_bound(self, levels: int) -> float:
        """H roundings on the way of every term: (1 + u)^H - 1 <= H u / (1 - H u)."""
        return levels * U / (1 - levels * U) * (1 + 2.0**-40)

    def _two_words(self, a: Array, b: Array) -> Parts:
        exact = True

        def total_alone(a: Array, b: Array) -> tuple[Array]:
            nonlocal exact
            total, rest = two_sum(a, b)
            exact = exact and not rest.any()
            return (total,)

        alone: Parts = blocked(total_alone, a, b)
        return alone if exact else blocked(two_sum, a, b)

    def _add(self, a: Parts, b: Parts) -> Parts:
        return (np.asarray(a[0] + b[0]),)

    def _mul(self, a: Parts, b: Parts) -> Parts:
        return (np.asarray(a[0] * b[0]),)

    def _div(self, a: Parts, b: Parts) -> Parts:
        return (np.asarray(a[0] / b[0]),)

    def _total(self, a: Parts) -> Parts:
        values = np.moveaxis(a[0], -1, 0)
        if len(values) <= _SHORT:
            values = np.ascontiguousarray(values)
        while (count := len(values)) > 1:
            half = (count + 1) // 2
            rest = count - half
            pairs = values[:rest] + values[half:]
            values = pairs if rest == half else np.concatenate((pairs, values[rest:half]))
        return (np.moveaxis(values, 0, -1),)

    def _exp(self, a: Parts) -> tuple[Parts, IntArray]:
        h, k = blocked(_exp_far, a[0], a[1] if len(a) > 1 else np.zeros(()))
        return (h,), k

    def _exp_easy(self, a: Parts) -> Parts:
        return blocked(exponential, *a)

    def exp_difference(self, a: Array, b: Array) -> FloatBall:
        """e^(a - b), both steps in one pass where b has one value a row and nothing is extreme.

        The difference of two words is exact, as in :meth:`difference`; subtraction is monotone, so
        the extremes of a row are those of its differences.
        """
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.size and a.shape[-1] >= _LONG and b.shape == (*a.shape[:-1], 1):
            least, most = (end(a, axis=-1, keepdims=True) for end in (np.min, np.max))
            if max(-float(least.min()), float(most.max()), float(np.abs(b).max())) < 2.0**900:
                bottom, top = float((least - b).min(initial=0)), float((most - b).max(initial=0))
                if bottom >= -EASY and top <= EASY:
                    return self._exponential(blocked(_exponential_of_difference, a, b), bottom, top)
        return super().exp_difference(a, b)

    def _expm1(self, a: Parts) -> Parts:
        return blocked(exponential_minus_one, *a)

    def _phi(self, a: Parts) -> Parts:
        return blocked(_phi, a[0])

    def _log(self, a: Parts, k: Array | None) -> tuple[Parts, Mask]:
        high, confirmed = blocked(_log_scaled, a[0], np.zeros(()) if k is None else k)
        return (high,), confirmed

    def _log1p(self, a: Parts) -> tuple[Parts, Mask]:
        high, confirmed = blocked(_log1p, a[0])
        return (high,), confirmed


def _reduced(d: Array) -> tuple[Array, IntArray]:
    """Return (r, bits): d = N L + r with |r| < 2^-15.5, and N as bits of ``ORIGIN + N``.

    As :func:`._double_word.reduce`, for |d| <= 709: d - N L1 is exact. N L2', with L2' the rest of
    L to 53 bits, is below 2^-19.5 and rounded once, and so is r: within 2^-72.5 + 2^-68.5, and
    exactly d for N = 0. As |N L2'| <= |N| 2^-43.5, the first error is below 2^-82 |d|.
    """
    shifted = d * PER_STEP + dw.ORIGIN
    n = shifted - dw.ORIGIN
    return (d - n * STEP_1) - n * _STEP_23, shifted.view(np.int64)


def exponential(d: Array, tail: Array | None = None) -> tuple[Array]:
    """Return e^(d + tail) within 2.1 u, for |d| <= 600 and |tail| <= u |d|.

    2^k T (1 + p), p = r + r^2/2 + r^3/6: the series is cut at 2^-66; p <= 2^-15.5 is within 3 u of
    itself, 2^-13.9 u; r costs 2^-68 (twice with a tail); T is within u (its low word is left out),
    T p rounded 2^-15 u, and the sum u. Together (2 + 2^-12) u; 2^k is exact.
    """
    r, bits = _reduced(d)
    if tail is not None:
        r = r + tail
    t = tables().octave_high.take(bits & (STEPS - 1))
    p = r + r * r * (0.5 + r * (1 / 6))
    return ((t + t * p) * dw.power_of_two(bits),)


def _exponential_of_difference(a: Array, b: Array) -> tuple[Array]:
    return exponential(*two_sum(a, -b))


def _exp_far(d: Array, tail: Array) -> tuple[Array, IntArray]:
    """Return (h, k) with e^(d + tail) = h 2^k within EXP: double-double, then rounded (u)."""
    h, _, k = dw.exp(d, tail + np.zeros_like(d))
    return h, k


def _phi(d: Array) -> tuple[Array]:
    """Double-double, then rounded; the second word in full, as the kernel picks elements of it."""
    return (dw.phi(d, np.zeros_like(d))[0],)


def _minus_one_near(d: Array) -> Array:
    """Return e^d - 1 for |d| <= 0.35, within 8 u.

    M + T p as in :func:`._double_word.expm1_small`; p = r + r^2 (1/2 + r/6 + r^2/24) within 1.01 u.
    For N = 0 nothing else is rounded (M = 0, T = 1). Otherwise |M| >= 2^-14.53, |T p| <= 0.52 |M|
    and the result is at least 0.47 |M|. r is within 2^-68.4, which is 0.55 u |M|; T p within
    3.02 u; M within u; the sum u: (0.55 + 3.02 * 0.52 + 1) / 0.47 u + u < 7.8 u.
    """
    r, bits = _reduced(d)
    index = bits - dw.FIRST
    table = tables()
    p = r + r * r * (0.5 + r * (1 / 6 + r * (1 / 24)))
    return table.minus_one_high.take(index) + table.power_high.take(index) * p


def exponential_minus_one(d: Array, tail: Array | None = None) -> tuple[Array]:
    """Return e^d - 1 for |d| <= 602, within 8.5 u.

    Up to 0.35: 8 u. Beyond, e^d - 1 magnifies 2.1 u by e^d / |e^d - 1| <= 3.4, and rounds: 8.2 u.
    """
    near = np.abs(d) <= dw.SMALL_LIMIT
    if near.all():
        return (_minus_one_near(d),)
    (result,) = exponential(d)
    result -= 1.0
    if near.any():
        result[near] = _minus_one_near(d[near])
    return (result,)


def logarithm(t: Array, k: Array | None) -> tuple[Array, Mask]:
    """Return log(1 + t) + k ln 2 within 18 u, and where that is confirmed; -0.293 <= t <= 0.4143.

    A Newton step from y = np.log1p(t), as in :func:`._double_word.log`: z = t + E + t E with
    E = e^-y - 1 within 8 u. t + E is exact by Sterbenz' lemma (-E / t is near 1 / (1 + t), between
    0.7 and 1.42). As |E| (1 + t) is |t|, z is within 8 u |t|, and 0.42 u |t| for t E rounded, and
    u |z|. Confirmed where |z| <= 2^-44 |t|: there log1p(z) = z within 2^-88 |t|. With
    |t| <= 1.2 |log(1 + t)|, y + z is within (1.2 * 8.43 + 1) u < 11.2 u.
    Where k != 0, |log(1 + t)| <= |k ln 2| / 2, so it costs 11.2 u of the result at most, k ln 2
    (2 u) twice that, a rounding of t before the call 1.2 u, the sum u: 17.4 u.
    """
    y = np.log1p(t)
    e = _minus_one_near(-y)
    z = (t + e) + t * e
    confirmed = np.abs(z) <= 2.0**-44 * np.abs(t)
    result = y + z
    if k is not None:
        result = k * LN2_HIGH + result
    return result, confirmed


def _log_scaled(a: Array, k: Array) -> tuple[Array, Mask]:
    t, _, e = dw.log_argument(a, np.zeros_like(a))
    return logarithm(t, e + k)


def _log1p(t: Array) -> tuple[Array, Mask]:
    inner = (t >= -0.29) & (t <= 0.41)
    if inner.all():
        return logarithm(t, None)
    ah, al = dw.add(np.ones_like(t), np.zeros_like(t), np.where(inner, 0.0, t), np.zeros_like(t))
    uh, ul, k = dw.log_argument(ah, al)
    return logarithm(np.where(inner, t, uh + ul), np.where(inner, 0.0, k))


__all__ = ["Binary64", "FloatBall"]
