"""The bound arithmetic: evaluates a formula and the a-priori error of evaluating it.

Each number is a triple (v, e, y): the value v, and an error of at most ``u e + lambda y`` in a
computation of v in a format with unit roundoff u whose results below the underflow threshold may be
off by lambda. Fed with the textbook formula it gives the weak bound of an operator, fed with the
cancellation-free formula the strong one.

The rules are the standard model with underflow, ``fl(a op b) = (a op b)(1 + delta) + epsilon``,
``|delta| <= u``, ``|epsilon| <= lambda`` (Demmel, "Underflow and the reliability of numerical
software", 1984; Higham, ASNA, 2.2), first order in u:

==========  ==================================  =====================================
operation   error e                             underflow y
==========  ==================================  =====================================
a + b       ea + eb + |v|                       ya + yb + f
a b         |a| eb + |b| ea + |v|               |a| yb + |b| ya + w
a / b       ea / |b| + |v / b| eb + 2 |v|       ya / |b| + |v / b| yb + w
exp         v (ea + P + D |a|)                  v ya + w
log         ea / |a| + L |v|                    ya / |a|
log1p       ea / |1 + a| + L |v|                ya / |1 + a| + w
sum         sum ea + H sum |a|                  sum ya + (n - 1) f'
==========  ==================================  =====================================

w is 1 where the result, given its error, can lie below the smallest normal number, and 0 where it
cannot: a normal result that comes back as 0 is not excused by the underflow of others.

f is w where subnormal numbers are flushed, and 0 otherwise: with gradual underflow, additions are
exact there. Flushing takes inputs that are subnormal for 0, too: y = w. A partial sum can only lie
below the smallest normal number where terms differ in sign and all of them are below lambda / u:
there f' = 1.

D is 2 in the weak bound of float32 and float64, for ops with a class axis, and 0 elsewhere: kernels
take e^a for 2^(a log2 e), where the constant and the product are rounded once each, so that the
exponent is off by 2 u |a|.

In formats of at most 11 bits e^(u E) - 1 is not u E any more: there exp's error is
``v expm1(u (ea + P + D |a|)) / u``.

Values are held in ``np.longdouble`` for its exponent range only; where it is a plain double, a
bound can overflow to infinity, which accuses nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import F64, Mask

Wide = NDArray[np.longdouble]


@dataclass(frozen=True)
class Constants:
    """What is assumed of a sound implementation.

    Attributes
    ----------
    unit_roundoff : float
    smallest_normal : float
    exp, log : float
        P and L, the errors of exp and of log / log1p in units of u. Measured library errors reach
        3.34 u for exp and 4.31 u for log (NumPy, TensorFlow), hence 4 and 5.
    exponent : float
        D, the relative error of the exponent in units of u where another base is taken.
    recursive : bool
        H = n - 1 (recursive summation) instead of ceil(log2 n) (pairwise).
    exact_exp : bool
        Use expm1(u E) / u instead of E for the error that exp passes on.
    no_summation : bool
        H = 0.
    flushes : bool
        Subnormal numbers are taken for 0, as inputs and as results of additions too.
    """

    unit_roundoff: float
    smallest_normal: float
    exp: float = 4.0
    log: float = 5.0
    exponent: float = 0.0
    recursive: bool = False
    exact_exp: bool = False
    no_summation: bool = False
    flushes: bool = False

    def summation(self, n: int) -> float:
        """H, the error of a sum of n terms in units of u sum |a|."""
        if self.no_summation or n < 2:
            return 0.0
        return float(n - 1) if self.recursive else float(np.ceil(np.log2(n)))

    def underflows(self, v: Wide, e: Wide, y: Wide) -> Wide:
        """w: 1 where v can underflow; an exact 0 cannot."""
        error = self.unit_roundoff * e + (self.smallest_normal * y if self.flushes else 0)
        below = np.abs(v) - error < self.smallest_normal
        return np.where((v != 0) & below, np.longdouble(1), np.longdouble(0))

    def lost(self, v: Wide, e: Wide, y: Wide) -> Wide:
        """w, but no more than v itself: far below the threshold there is little to lose."""
        unit = self.smallest_normal * (1.0 if self.flushes else 2 * self.unit_roundoff)
        size = (np.abs(v) + self.unit_roundoff * e) / unit + (y if self.flushes else 0)
        lost: Wide = self.underflows(v, e, y) * np.minimum(size, 1)
        return lost

    def flushed(self, v: Wide, e: Wide, y: Wide) -> Wide:
        """f: w where subnormal numbers are flushed."""
        return self.underflows(v, e, y) if self.flushes else np.zeros_like(v)

    def flushed_partials(self, a: Wide) -> Wide:
        """(n - 1) f', of shape (..., 1)."""
        n = a.shape[-1]
        if not self.flushes or n < 2:
            return np.zeros((*a.shape[:-1], 1), np.longdouble)
        mixed = (a > 0).any(axis=-1, keepdims=True) & (a < 0).any(axis=-1, keepdims=True)
        size = np.abs(a).max(axis=-1, keepdims=True)
        small = self.unit_roundoff * size < self.smallest_normal
        return np.where(mixed & small, np.longdouble(n - 1), np.longdouble(0))

    def magnitude(self) -> Constants:
        """The constants whose bound is the size of what a formula adds up: P = L = 1, D = H = 0."""
        return replace(self, exp=1.0, log=1.0, exponent=0.0, no_summation=True)


@dataclass(frozen=True, eq=False)
class Bound:
    """Value, error in u and underflow error in lambda, as arrays."""

    v: Wide
    e: Wide
    y: Wide
    constants: Constants

    @property
    def shape(self) -> tuple[int, ...]:
        return self.v.shape

    def __getitem__(self, index: Any) -> Bound:
        return Bound(self.v[index], self.e[index], self.y[index], self.constants)

    def __add__(self, other: Bound) -> Bound:
        v = self.v + other.v
        e = self.e + other.e + np.abs(v)
        y = self.y + other.y
        return Bound(v, e, y + self.constants.flushed(v, e, y), self.constants)

    def __sub__(self, other: Bound) -> Bound:
        return self + (-other)

    def __neg__(self) -> Bound:
        return Bound(-self.v, self.e, self.y, self.constants)

    def __mul__(self, other: Bound) -> Bound:
        v = self.v * other.v
        a, b = np.abs(self.v), np.abs(other.v)
        e = a * other.e + b * self.e + np.abs(v)
        y = a * other.y + b * self.y
        y = y + self.constants.underflows(v, e, y)
        return Bound(v, e, y, self.constants)

    def __truediv__(self, other: Bound) -> Bound:
        v = self.v / other.v
        b, q = np.abs(other.v), np.abs(v / other.v)
        e = self.e / b + q * other.e + 2 * np.abs(v)
        y = self.y / b + q * other.y
        y = y + self.constants.underflows(v, e, y)
        return Bound(v, e, y, self.constants)


class BoundArithmetic:
    """The interface of formulas over :class:`Bound` numbers."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants

    def _bound(self, v: Wide, e: Wide, y: Wide) -> Bound:
        return Bound(v, e, y, self.constants)

    def exact(self, values: F64) -> Bound:
        v = np.asarray(values, np.longdouble)
        e = np.zeros_like(v)
        return self._bound(v, e, self.constants.flushed(v, e, e))

    def difference(self, a: F64, b: F64) -> Bound:
        """Rounded once: e = |v|. A subtraction of format values does not underflow gradually."""
        exact = self.exact(a) - self.exact(b)
        return self._bound(exact.v, np.abs(exact.v), exact.y)

    def total(self, values: F64) -> Bound:
        return self.sum(self.exact(values))

    def exp_difference(self, a: F64, b: F64) -> Bound:
        """e^(a - b)."""
        return self.exp(self.difference(a, b))

    def exp(self, a: Bound) -> Bound:
        v = np.exp(a.v)
        grown = a.e + self.constants.exp + self.constants.exponent * np.abs(a.v)
        if self.constants.exact_exp:
            u = self.constants.unit_roundoff
            grown = np.expm1(np.minimum(u * grown, 11000.0)) / u
        # 0 * inf: a result that is 0 in long double has no relative error to speak of
        e = np.where(v == 0, 0, v * np.where(v == 0, 0, grown))
        y = np.where(v == 0, 0, v * a.y)
        w = np.where(v == 0, 1, self.constants.underflows(v, e, y))
        return self._bound(v, e, w + y)

    def expm1(self, a: Bound) -> Bound:
        v = np.expm1(a.v)
        slope = np.exp(a.v)
        return self._bound(v, slope * a.e + self.constants.exp * np.abs(v), slope * a.y)

    def phi(self, a: Bound) -> Bound:
        v = np.expm1(a.v) - a.v
        small = np.abs(a.v) < 1e-4
        v = np.where(small, a.v * a.v / 2 * (1 + a.v / 3), v)
        slope = np.abs(np.expm1(a.v))
        return self._bound(v, slope * a.e + self.constants.exp * np.abs(v), slope * a.y)

    def log(self, a: Bound) -> Bound:
        v: Wide = np.log(a.v)
        size = np.abs(a.v)
        e: Wide = np.asarray(a.e / size + self.constants.log * np.abs(v), np.longdouble)
        return self._bound(v, e, a.y / size)

    def log1p(self, a: Bound) -> Bound:
        v: Wide = np.log1p(a.v)
        size: Wide = np.abs(1 + a.v)
        e: Wide = np.asarray(a.e / size + self.constants.log * np.abs(v), np.longdouble)
        y: Wide = a.y / size
        return self._bound(v, e, y + self.constants.underflows(v, e, y))

    def sum(self, a: Bound) -> Bound:
        h = self.constants.summation(a.shape[-1])
        v = a.v.sum(axis=-1, keepdims=True)
        e = a.e.sum(axis=-1, keepdims=True) + h * np.abs(a.v).sum(axis=-1, keepdims=True)
        y = a.y.sum(axis=-1, keepdims=True) + self.constants.flushed_partials(a.v)
        return self._bound(v, e, y)

    def where(self, mask: Mask, a: Bound, b: Bound) -> Bound:
        return self._bound(
            np.where(mask, a.v, b.v), np.where(mask, a.e, b.e), np.where(mask, a.y, b.y)
        )

    def multiplied_out(self, p: Bound, a: Bound, b: Bound) -> Bound:
        """p (a - b), or p a - p b, where either product may underflow and p be made twice.

        Their roundoff is not counted: where a and b cancel, that of computing them exceeds it.
        """
        whole = p * (a - b)
        y = (np.abs(a.v) + np.abs(b.v)) * p.y + np.abs(p.v) * (a.y + b.y)
        for x in (a, b):
            product = p * x
            y = y + self.constants.lost(product.v, product.e, product.y)
        y = y + self.constants.flushed(whole.v, whole.e, y)
        return self._bound(whole.v, whole.e, np.maximum(whole.y, y))

    def underflowing_as(self, whole: Bound, *routes: Bound) -> Bound:
        """``whole`` with the underflow of the route that has most, where all round alike."""
        y = whole.y
        for route in routes:
            y = np.maximum(y, route.y)
        return self._bound(whole.v, whole.e, y)

    def worse(self, a: Bound, b: Bound) -> Bound:
        """The same value by two routes: the larger error of the two."""
        return self._bound(a.v, np.maximum(a.e, b.e), np.maximum(a.y, b.y))
