"""The numbers of the logistic loss, its special elements, and its second derivatives.

Notation, formulas and limits: :mod:`reference.ops.sigmoid_cross_entropy`, whose parts these are.
"""

from __future__ import annotations

from fractions import Fraction
from math import prod
from typing import Any

import numpy as np

from ..arithmetic._eft import two_prod, two_sum
from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import intervals
from .base import UNDEFINED, ZERO, Batch
from .elementwise import Logistic, Part, Table, Terms, Textbook, finite, nothing, values
from .intervals import Interval
from .sigmoid import between_sigmoid, integers, logistic
from .softplus import log_part

INPUTS = ("x", "target", "pos_weight")


def weights(b: Batch) -> tuple[F64, F64]:
    """(z, w)."""
    return values(b, "target"), values(b, "pos_weight")


class Loss(Logistic):
    """The numbers of the table above."""

    def __init__(self, arithmetic: Any, b: Batch) -> None:
        super().__init__(arithmetic, b.x)
        z, w = (finite(v) for v in weights(b))
        weighted = "pos_weight" in b.inputs
        one, a = np.ones((1, 1)), arithmetic
        self.z, self.w = a.exact(z), a.exact(w)
        self.A = a.difference(one, z)
        self.C = self.w * self.z if weighted else self.z
        self.K = self.A + self.C if weighted else a.exact(np.ones(b.x.shape))
        self.w_minus_1 = a.difference(w, one)
        self.size = a.exact(np.abs(self.x))

    def gradient(self) -> Any:
        a = self.a
        terms = self.A * self.sigmoid() - self.C * self.sigmoid(-1)
        near = np.abs(self.x) < 1
        if not near.any():
            return terms
        half = a.exact(np.full((1, 1), 0.5))
        tanh = -(a.expm1(self.minus_D) / self.S)
        odd = self.K * a.where(self.positive, tanh, -tanh)
        return a.where(near, half * (self.A - self.C + odd), terms)


class Book(Textbook):
    """The numbers of the textbook: K = 1 + (w - 1) z."""

    def __init__(self, arithmetic: BoundArithmetic, b: Batch) -> None:
        super().__init__(arithmetic, b.x)
        self.loss = Loss(arithmetic, b)
        self.x = arithmetic.exact(self.row.x)
        if "pos_weight" in b.inputs:
            self.K: Bound = self.row.one + self.loss.w_minus_1 * self.loss.z
        else:
            self.K = self.loss.K


def added(terms: Terms) -> Bound:
    """The sum of products."""
    first, *others = (prod(rest, start=factor) for factor, *rest in terms)
    return sum(others, first)


# ---------------------------------------------------------------- which elements are special


def leave_open(table: Table, b: Batch) -> None:
    """Infinities beside z outside [0, 1] or w < 0 are not judged. To be called last."""
    z, w = weights(b)
    infinite = np.isinf(b.x) | np.isinf(z) | np.isinf(w)
    table.put(infinite & ((z < 0) | (z > 1) | (w < 0)), UNDEFINED)


def no_weight(b: Batch) -> Mask:
    """K = 1 - z + w z is exactly 0."""
    z, w = (finite(v) for v in weights(b))
    if "pos_weight" not in b.inputs:
        return np.zeros(z.shape, bool)
    with np.errstate(all="ignore"):
        product, lost = two_prod(w, z)
        rest, also_lost = two_sum(np.ones(z.shape), -z)
        sure = (lost == 0) & (also_lost == 0) & (np.abs(product) > 2.0**-900)
        zero = (product + rest == 0) & (sure | (w == 0) | (z == 0)) & (also_lost == 0)
        near = np.abs(product + rest) <= 1e-15 * (np.abs(product) + np.abs(rest))
    for r, i in np.argwhere(near & ~sure & ~zero).tolist():
        zero[r, i] = exact_K(z[r, i], w[r, i]) == 0
    return np.asarray(zero)


def exact_K(z: float, w: float) -> Fraction:
    return 1 - Fraction(float(z)) + Fraction(float(w)) * Fraction(float(z))


def sign_of_K(b: Batch) -> F64:
    """The sign of K where float64 can tell, else 0."""
    z, w = (finite(v) for v in weights(b))
    with np.errstate(all="ignore"):
        k, size = w * z + (1 - z), np.abs(w * z) + 1 + np.abs(z)
        return np.where((np.abs(k) > 1e-15 * size) & np.isfinite(size), np.sign(k), 0.0)


def infinite_weight(b: Batch) -> Mask:
    """w = inf and z > 0: the term of w is infinite unless its other factor is 0."""
    z, w = weights(b)
    return np.asarray((w == np.inf) & (z > 0))


# ---------------------------------------------------------------- second derivatives


def define_xx(mp: Any, x: Any, z: Any, w: Any) -> Any:
    return (1 - z + w * z) / ((1 + mp.exp(-x)) * (1 + mp.exp(x)))


def settle_xx(table: Table, b: Batch) -> None:
    z, w = (finite(v) for v in weights(b))
    table.each(b.x == 0, lambda i: exact_K(z[i], w[i]) / 4)
    table.put(no_weight(b) | np.isinf(b.x), ZERO)
    table.infinite(infinite_weight(b))
    table.put(infinite_weight(b) & np.isinf(b.x), UNDEFINED)
    leave_open(table, b)


def between_xx(b: Batch) -> Interval:
    """Between 0 and K / 4."""
    z, w = (finite(v) for v in weights(b))
    k = intervals.add(intervals.one_minus(z), intervals.times(intervals.point(w), z))
    quarter = intervals.times(k, np.full(z.shape, 0.25))
    low, high = intervals.hull(intervals.point(np.zeros(z.shape)), quarter)
    sign = sign_of_K(b)
    return np.where(sign > 0, 0.0, low), np.where(sign < 0, 0.0, high)


def textbook_xx(a: BoundArithmetic, b: Batch) -> Bound:
    """The worse of K s'(x) and a term for each sign; s may be exp(x - softplus(x))."""
    apart = added(terms_xx(a, b))
    return a.worse(Book(a, b).K * Textbook(a, b.x).slope_of_either(by_log=True), apart)


def terms_xx(a: BoundArithmetic, b: Batch) -> Terms:
    loss, slope = Book(a, b).loss, Textbook(a, b.x).slope_of_either(by_log=True)
    return [(loss.A, slope), (loss.C, slope)]


XX = Part(
    INPUTS,
    define_xx,
    lambda a, b: Loss(a, b).K * Logistic(a, b.x).slope,
    textbook_xx,
    settle_xx,
    between_xx,
    lambda a, b: [*integers(a, 0), Loss(a, b).K, *integers(a, 0)],
    2,
    logistic,
    terms_xx,
)


def define_xz(mp: Any, x: Any, w: Any) -> Any:
    s = 1 / (1 + mp.exp(-x))
    return -(w * (1 - s) + s)


def formula_xz(a: Any, b: Batch) -> Any:
    loss = Loss(a, b)
    return -(loss.w * loss.sigmoid(-1) + loss.sigmoid())


def textbook_xz(a: BoundArithmetic, b: Batch) -> Bound:
    """The worst of w s(-x) + s(x), 1 + (w - 1) s(-x) and w - (w - 1) s(x)."""
    book = Book(a, b)
    change = book.loss.w_minus_1
    right = book.row.one + change * book.sigmoid_by_log(-1)
    left = book.loss.w - change * book.sigmoid_by_log()
    return -a.worse(a.worse(right, left), added(terms_xz(a, b)))


def terms_xz(a: BoundArithmetic, b: Batch) -> Terms:
    book = Book(a, b)
    return [(book.loss.w, book.sigmoid_by_log(-1)), (book.sigmoid_by_log(),)]


def settle_xz(table: Table, b: Batch) -> None:
    _, w = weights(b)
    table.exact((b.x == np.inf) | ((w == 1) & ~np.isnan(b.x)), -1.0)
    table.exact(b.x == -np.inf, -finite(w))
    table.each((b.x == 0) & np.isfinite(w) & (w != 1), lambda i: -(Fraction(float(w[i])) + 1) / 2)
    table.infinite((w == np.inf) & (b.x < np.inf), -1.0)
    table.put((w == np.inf) & (b.x == np.inf), UNDEFINED)
    leave_open(table, b)


def between_xz(b: Batch) -> Interval:
    """A weighted mean of -1 and -w."""
    w = finite(values(b, "pos_weight"))
    return intervals.weighted_mean(
        intervals.point(-np.ones(w.shape)), intervals.point(-w), finite(b.x)
    )


def polynomial_xz(a: Any, b: Batch) -> list[Any]:
    w = -Loss(a, b).w
    return [*integers(a, -1), w] if b.x[0, 0] >= 0 else [w, *integers(a, -1)]


XZ = Part(
    ("x", "pos_weight"),
    define_xz,
    formula_xz,
    textbook_xz,
    settle_xz,
    between_xz,
    polynomial_xz,
    1,
    logistic,
    terms_xz,
    constant=lambda b: "pos_weight" not in b.inputs,
)


def settle_xw(table: Table, b: Batch) -> None:
    z = finite(values(b, "target"))
    table.exact(b.x == 0, -0.5, z)
    table.exact(b.x == -np.inf, -z)
    table.put((b.x == np.inf) | (values(b, "target") == 0), ZERO)
    leave_open(table, b)


def between_xw(b: Batch) -> Interval:
    return intervals.times(between_sigmoid(-finite(b.x)), -finite(values(b, "target")))


def polynomial_xw(a: Any, b: Batch) -> list[Any]:
    z = -Loss(a, b).z
    return [*integers(a, 0), z] if b.x[0, 0] >= 0 else [z, *integers(a, 0)]


XW = Part(
    ("x", "target"),
    lambda mp, x, z: -z / (1 + mp.exp(x)),
    lambda a, b: -(Loss(a, b).z * Loss(a, b).sigmoid(-1)),
    lambda a, b: -(Loss(a, b).z * Textbook(a, b.x).sigmoid_by_log(-1)),
    settle_xw,
    between_xw,
    polynomial_xw,
    1,
    logistic,
)

SECOND = {
    ("x", "x"): XX,
    ("x", "target"): XZ,
    ("x", "pos_weight"): XW,
    ("target", "x"): XZ,
    ("target", "target"): nothing(*INPUTS),
    ("target", "pos_weight"): log_part(-1),
    ("pos_weight", "x"): XW,
    ("pos_weight", "target"): log_part(-1),
    ("pos_weight", "pos_weight"): nothing(*INPUTS),
}
