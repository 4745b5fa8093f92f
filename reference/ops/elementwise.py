"""What the elementwise ops share: sigmoid and softplus of one number d, and maps made of them.

D = |d|, t = exp(-D) <= 1, so nothing overflows and nothing cancels in

    sigmoid(d)   = 1 / (1 + t)  for d >= 0,  t / (1 + t)  for d < 0
    softplus(d)  = max(d, 0) + log1p(t)
    sigmoid'(d)  = t / (1 + t)^2
    sigmoid''(d) = -sign(d) t (1 - t) / (1 + t)^3,    1 - t = -expm1(-D)

A derivative is a :class:`Part`, a function of the op's inputs, times a scale: g for a vjp, v for a
jvp, g v for the block of a Hessian. Parts are of two kinds.

Rational in t
    p = N(t) / (1 + t)^k with rational coefficients. At d = 0 it is rational. For rational d != 0,
    t is transcendental (Lindemann), hence so is p, unless it does not depend on t at all. A scaled
    part comes within e^-D of a rational number R that may be a rounding boundary; then
    (r - b)(1 + t)^k is a polynomial in t with exact coefficients, which tells the side of b on
    which r lies: its first coefficient that is not 0 decides (:func:`excess`).
Linear in log1p(t)
    p = R + K log1p(t) with rational R and K. log(1 + e^d) is transcendental for every rational d:
    for d = 0 it is log 2; for d != 0, y = log(1 + e^d) gives e^y = 1 + e^d, and were y algebraic,
    the exponents y, 0 and d were distinct, against Lindemann and Weierstrass. So p is rational only
    if K = 0. Where K log1p(t) is exponentially small, the one-sided sums of
    :mod:`reference.arithmetic.multiprecision` keep R outside the ball. Multiplying by the scale
    moves that end exactly as long as the scale has at most 64 significant bits; with more, a
    product with R has more than 64 too, and is no boundary.

The vectorised tiers have neither one-sided sums nor polynomials. They are told instead between
which numbers a part lies (``Part.between``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import comb, prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..arithmetic._eft import two_prod
from ..arithmetic.base import F64, Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base, intervals
from .base import EXACT, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Settled
from .intervals import Interval

OPTIONAL = {"pos_weight": 1.0}
"""Inputs that need not be given, and what they are then."""


def values(b: Batch, name: str) -> F64:
    """An input of the batch; KeyError where one is missing that has no default."""
    if name in OPTIONAL and name not in b.inputs:
        return np.full(b.x.shape, OPTIONAL[name])
    return np.asarray(b.inputs[name], np.float64)


def finite(array: F64) -> F64:
    """The array with 0 for whatever is not finite: what a formula may see."""
    good = np.isfinite(array)
    return array if good.all() else np.where(good, array, 0.0)


# ---------------------------------------------------------------- numbers


class Logistic:
    """d = x - y (y = 0 if not given) in an arithmetic: t, sigmoid, softplus and derivatives."""

    def __init__(self, arithmetic: Any, x: F64, y: F64 | None = None) -> None:
        x, y = finite(x), np.zeros((1, 1)) if y is None else finite(y)
        self.a, self.upper, self.lower = arithmetic, np.maximum(x, y), np.minimum(x, y)
        self.positive: Mask = np.asarray(x >= y)
        self.plain = y.size == 1 and not y.any()
        self.x = x

    @cached_property
    def zero(self) -> Any:
        return self.a.exact(np.zeros((1, 1)))

    @cached_property
    def one(self) -> Any:
        return self.a.exact(np.ones((1, 1)))

    @cached_property
    def minus_D(self) -> Any:
        if self.plain:
            return self.a.exact(-np.abs(self.x))
        return self.a.difference(self.lower, self.upper)

    @cached_property
    def t(self) -> Any:
        return self.a.exp(self.minus_D)

    @cached_property
    def log1p(self) -> Any:
        """log1p(t) = softplus(-D)."""
        return self.a.log1p(self.t)

    @cached_property
    def S(self) -> Any:
        return self.one + self.t

    def sigmoid(self, sign: int = 1) -> Any:
        """sigmoid(sign d)."""
        return self.a.where(self.positive == (sign > 0), self.one, self.t) / self.S

    def softplus(self, sign: int = 1) -> Any:
        """softplus(sign d), for y = 0."""
        return self.a.exact(np.maximum(sign * self.x, 0.0)) + self.log1p

    @cached_property
    def slope(self) -> Any:
        """sigmoid'(d)."""
        return self.t / self.S * (self.one / self.S)

    @cached_property
    def curvature(self) -> Any:
        """sigmoid''(d)."""
        change = self.a.expm1(self.minus_D) / self.S
        return self.slope * self.a.where(self.positive, change, -change)


class Textbook:
    """sigmoid and softplus as sound implementations compute them, in the bound arithmetic."""

    def __init__(self, arithmetic: BoundArithmetic, x: F64, y: F64 | None = None) -> None:
        self.a = arithmetic
        self.row = Logistic(arithmetic, x, y)

    def sigmoid(self, sign: int = 1) -> Bound:
        """The worse of the branch by the sign of d and 1 / (1 + exp(-d))."""
        row, a = self.row, self.a
        branch: Bound = row.sigmoid(sign)
        # A relative error E of exp(-d), which has that of t, is E (1 - s) of the quotient.
        t, s = row.t, branch.v
        e = s * ((1 - s) * (t.e / np.where(t.v == 0, 1, t.v)) + 3)
        return a.worse(branch, Bound(s, np.where(t.v == 0, 0, e), branch.y, a.constants))

    def sigmoid_by_log(self, sign: int = 1) -> Bound:
        """Inside a derivative, for y = 0: the worse of :meth:`sigmoid` and exp(x - softplus(x)).

        Adding log1p(t) to x is off by u |x| at most, but never by more than log1p(t).
        """
        a, s, rest = self.a, self.sigmoid(sign), self.row.log1p
        logarithm = -self.row.softplus(-sign)
        added = np.minimum(np.maximum(sign * self.row.x, 0), rest.v / a.constants.unit_roundoff)
        e = rest.e + added + np.abs(logarithm.v)
        by_log = a.exp(Bound(logarithm.v, e, rest.y, a.constants))
        return a.worse(s, Bound(s.v, by_log.e, by_log.y, a.constants))

    def softplus(self, sign: int = 1) -> Bound:
        """The worse of max(x, 0) + log1p(exp(-|x|)) and, up to 600, log1p(exp(x))."""
        row, a = self.row, self.a
        shifted: Bound = row.softplus(sign)
        direct = a.log1p(a.exp(a.exact(np.minimum(sign * row.x, 600.0))))
        return a.where(sign * row.x > 600, shifted, a.worse(shifted, direct))

    def slope(self, by_log: bool = False) -> Bound:
        """s (1 - s)."""
        return self._slope(by_log, 1)

    def slope_of_either(self, by_log: bool = False) -> Bound:
        """The worse of that and s(-d) (1 - s(-d)): each is the derivative of a first one."""
        return self.a.worse(self._slope(by_log, 1), self._slope(by_log, -1))

    def _slope(self, by_log: bool, sign: int) -> Bound:
        s = self.sigmoid_by_log(sign) if by_log else self.sigmoid(sign)
        return s * self.complement(s, sign)

    def complement(self, s: Bound, sign: int = 1) -> Bound:
        """1 - s, rounded once; its value is not computed by cancellation."""
        v = self.row.sigmoid(-sign).v
        return Bound(v, s.e + v, s.y, self.a.constants)


# ---------------------------------------------------------------- settling


class Table:
    """Settles the elements of a scaled part, all of them at once.

    Parameters
    ----------
    b : Batch
    scale : tuple of str
        Inputs whose product the part is multiplied by.
    """

    def __init__(self, b: Batch, scale: Sequence[str]) -> None:
        self.b = b
        self.given = [values(b, name) for name in scale]
        self.scale = [finite(factor) for factor in self.given]
        self.settled = Settled.formula((b.rows, b.n))
        self.codes = self.settled.codes
        self.sign: Any = np.ones(b.x.shape)
        for factor in self.scale:
            self.sign = self.sign * np.sign(factor)

    def put(self, mask: Mask, code: int) -> None:
        self.codes[mask] = code

    def infinite(self, mask: Mask, sign: float | F64 = 1.0) -> None:
        """Infinities of the sign of the scale times this one."""
        signs = np.broadcast_to(self.sign * sign, mask.shape)
        self.codes[mask & (signs > 0)] = POS_INF
        self.codes[mask & (signs < 0)] = NEG_INF

    def exact(self, mask: Mask, *factors: F64 | float) -> None:
        """The product of float64 factors (times the scale)."""
        where = np.nonzero(mask)
        if not where[0].size:
            return
        chosen = [
            np.broadcast_to(np.asarray(f, np.float64), mask.shape)[where]
            for f in (*self.scale, *factors)
        ]
        hi, lo, exponent, safe = _product(chosen)
        self.codes[where] = np.where(hi == 0, ZERO, EXACT)
        if self.settled.words is None:
            zeros = np.zeros(mask.shape)
            self.settled.words = zeros, zeros.copy(), np.zeros(mask.shape, np.int64)
        for word, part in zip(self.settled.words, (hi, lo, exponent), strict=True):
            word[where] = part
        for k in np.flatnonzero(~safe & (hi != 0)).tolist():
            value = Fraction(1)
            for factor in chosen:
                value *= Fraction(float(factor[k]))
            self.settled.exact(int(where[0][k]), int(where[1][k]), value)

    def each(self, mask: Mask, rational: Callable[[tuple[int, int]], Fraction]) -> None:
        """A rational (times the scale) for each element: for cases that are rare."""
        for row, i in np.argwhere(mask).tolist():
            value = rational((row, i))
            for factor in self.scale:
                value *= Fraction(float(factor[row, i]))
            self.settled.exact(row, i, value)

    def finish(self, *inputs: str) -> Settled:
        """A scale of 0 gives 0, NaN in what the part takes NaN; the scale has to be finite."""
        decided = np.isin(self.codes, (NAN, UNDEFINED))
        self.codes[(self.sign == 0) & ~decided] = ZERO
        for factor in self.given:
            self.codes[np.isinf(factor)] = UNDEFINED
        for array in [*(values(self.b, name) for name in inputs), *self.given]:
            self.codes[np.isnan(array)] = NAN
        return self.settled


def _product(factors: Sequence[F64]) -> tuple[F64, F64, NDArray[np.int64], Mask]:
    """(hi, lo, exponent) of products, and where they are exact: while two words hold them."""
    hi, shift = np.frexp(factors[0])
    lo, exponent = np.zeros_like(hi), shift.astype(np.int64)
    safe: Mask = np.ones(hi.shape, bool)
    for factor in factors[1:]:
        safe &= lo == 0
        mantissa, shift = np.frexp(factor)
        exponent = exponent + shift
        product, rest = two_prod(hi, mantissa)
        hi, shift = np.frexp(product)
        lo, exponent = np.ldexp(rest, -shift), exponent + shift
    return hi, lo, np.where(hi == 0, 0, exponent), safe


# ---------------------------------------------------------------- parts and their maps


Terms: TypeAlias = list[tuple[Bound, ...]]


@dataclass(frozen=True)
class Part:
    """A function of an op's inputs, which a cotangent and tangents are multiplied by.

    Attributes
    ----------
    inputs : tuple of str
        The inputs that it depends on.
    define : callable (mp, number for each input) -> number
    formula, textbook
        As in :class:`reference.ops.base.Map`.
    settle : callable (Table, batch)
        Settles rational values and limits, but for scales of 0 and NaN.
    between : callable (batch) -> Interval
    polynomial : callable (arithmetic, batch) -> list of numbers, optional
        N(0), N'(0), ...: coefficients of p (1 + t)^k, for parts that are rational in t.
    power : int
        k.
    logistic : callable (arithmetic, batch) -> Logistic, optional
        Where t comes from.
    terms : callable (bound arithmetic, batch) -> list of tuples of Bound, optional
        Products that the part is the sum of, where a cotangent may meet each before they are added.
    constant : callable (batch) -> bool, optional
        Does it depend on none of the inputs after all, in this batch? It is open beside NaN then.
    """

    inputs: tuple[str, ...]
    define: Callable[..., Any]
    formula: Callable[[Any, Batch], Any]
    textbook: Callable[[BoundArithmetic, Batch], Bound]
    settle: Callable[[Table, Batch], None]
    between: Callable[[Batch], Interval]
    polynomial: Callable[[Any, Batch], list[Any]] | None = None
    power: int = 1
    logistic: Callable[[Any, Batch], Logistic] | None = None
    terms: Callable[[BoundArithmetic, Batch], Terms] | None = None
    constant: Callable[[Batch], bool] | None = None

    def map(self, *scale: str) -> Map:
        """The map that is this part times the product of these inputs."""

        def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
            n = len(row["x"])
            given = {name: [default] * n for name, default in OPTIONAL.items()} | dict(row)
            columns = [base.mpf_row(mp, given[name]) for name in self.inputs]
            factors = [base.mpf_row(mp, row[name]) for name in scale]
            parts = [self.define(mp, *v) for v in _rows(columns, n)]
            return [mp.fprod([p, *f]) for p, f in zip(parts, _rows(factors, n), strict=True)]

        def scaled(a: Any, b: Batch, part: Any) -> Any:
            for name in reversed(scale):
                part = a.exact(finite(values(b, name))) * part
            return part

        def textbook(a: BoundArithmetic, b: Batch) -> Bound:
            """Factors meet the part in one order or another, or all together, or its terms."""
            part = self.textbook(a, b)
            made: Bound = scaled(a, b, part)
            if len(scale) > 1:
                factors = [a.exact(finite(values(b, name))) for name in scale]
                first, *others = factors
                made = a.underflowing_as(
                    made, prod(factors, start=part), prod(others, start=first) * part
                )
            if self.terms is not None and scale:
                one, *rest = (in_any_order(a, b, term) for term in self.terms(a, b))
                made = a.worse(made, sum(rest, one))
            return made

        def in_any_order(a: BoundArithmetic, b: Batch, term: tuple[Bound, ...]) -> Bound:
            first, *others = term
            routes = [
                prod((*term[:k], *term[k + 1 :]), start=scaled(a, b, factor))
                for k, factor in enumerate(term)
            ]
            return a.underflowing_as(scaled(a, b, prod(others, start=first)), *routes)

        def settle(b: Batch) -> Settled:
            table = Table(b, scale)
            self.settle(table, b)
            if self.constant is None or not self.constant(b):
                return table.finish(*self.inputs)
            for name in self.inputs:
                table.put(np.isnan(values(b, name)), UNDEFINED)
            return table.finish()

        def between(b: Batch) -> Interval:
            interval = self.between(b)
            for name in scale:
                interval = intervals.times(interval, values(b, name))
            return interval

        def side(a: Any, b: Batch, i: int, boundary: Fraction) -> Any:
            return excess(self, a, b, boundary, scale)

        return Map(
            define,
            lambda a, b: scaled(a, b, self.formula(a, b)),
            textbook,
            settle,
            excess=None if self.polynomial is None else side,
            between=between,
        )


def _rows(columns: Sequence[Sequence[Any]], n: int) -> list[list[Any]]:
    return [[column[i] for column in columns] for i in range(n)]


def excess(part: Part, a: Any, b: Batch, boundary: Fraction, scale: Sequence[str]) -> Any:
    """(scale p - n / d) (1 + t)^k d, by Horner's rule from the highest power of t."""
    assert part.polynomial is not None
    assert part.logistic is not None
    factor, beta = a.dyadic(boundary.denominator, 0), a.dyadic(boundary.numerator, 0)
    for name in scale:
        factor = factor * a.exact(values(b, name))
    numerator = part.polynomial(a, b)
    degree = max(len(numerator) - 1, part.power)
    t, total = part.logistic(a, b).t, a.exact(np.zeros((1, 1)))
    for j in range(degree, -1, -1):
        coefficient = -beta * a.dyadic(comb(part.power, j), 0)
        if j < len(numerator):
            coefficient = factor * numerator[j] + coefficient
        total = coefficient + t * total
    return total


def derivatives(first: Mapping[str, Part], second: Mapping[tuple[str, str], Part]) -> Any:
    """The maps of all derivatives from the partial derivatives by argument, and by two."""
    maps: dict[tuple[str, str], Map] = {}
    for argument, part in first.items():
        maps["vjp", argument] = part.map("g")
        maps["jvp", argument] = part.map(f"v_{argument}")
    for (argument, other), part in second.items():
        maps["hvp", f"{argument}.{other}"] = part.map("g", f"v_{other}")
    return maps


def nothing(*inputs: str) -> Part:
    """The second derivative of what is linear: 0, also at infinity; beside NaN it is open."""

    def settle(table: Table, b: Batch) -> None:
        table.put(np.ones(b.x.shape, bool), ZERO)
        for name in inputs:
            table.put(np.isnan(values(b, name)), UNDEFINED)

    def zeros(a: Any, b: Batch) -> Any:
        return a.exact(np.zeros(b.x.shape))

    return Part(
        (),
        lambda mp, *_: mp.zero,
        zeros,
        zeros,
        settle,
        lambda b: intervals.point(np.zeros(b.x.shape)),
    )
