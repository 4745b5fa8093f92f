"""sigmoid: s(x) = 1 / (1 + exp(-x)).

s' = s(x) s(-x), s'' = s' (s(-x) - s(x)), all of them rational in t = exp(-|x|) and free of
cancellation as :class:`reference.ops.elementwise.Logistic` has them.

Exact: s(0) = 1/2, s'(0) = 1/4, s''(0) = 0. Limits: s is 1 at +inf and 0 at -inf, the derivatives
are 0 at both.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..arithmetic.base import F64
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import intervals
from .base import ZERO, Batch, Op
from .elementwise import Logistic, Part, Table, Textbook, derivatives, finite, values
from .intervals import Interval


def logistic(a: Any, b: Batch) -> Logistic:
    return Logistic(a, b.x)


def integers(a: Any, *numbers: float) -> list[Any]:
    return [a.exact(np.full((1, 1), float(v))) for v in numbers]


def between_sigmoid(d: F64) -> Interval:
    """In (0, 1/2) for d < 0, in (1/2, 1) for d > 0."""
    return np.where(d < 0, 0.0, 0.5), np.where(d < 0, 0.5, 1.0)


# ---------------------------------------------------------------- value, and softplus'


def part_of(sign: int, by_log: bool = False) -> Part:
    """sigmoid(sign x) as a part; its textbook may take the way of exp(x - softplus(x))."""

    def textbook(a: BoundArithmetic, b: Batch) -> Bound:
        book = Textbook(a, b.x)
        return book.sigmoid_by_log(sign) if by_log else book.sigmoid(sign)

    def define(mp: Any, x: Any) -> Any:
        return 1 / (1 + mp.exp(-sign * x))

    def settle(table: Table, b: Batch) -> None:
        table.exact(b.x == 0, 0.5)
        table.exact(b.x == sign * np.inf, 1.0)
        table.put(b.x == -sign * np.inf, ZERO)

    def between(b: Batch) -> Interval:
        return between_sigmoid(sign * b.x)

    def polynomial(a: Any, b: Batch) -> list[Any]:
        return integers(a, 1) if sign * b.x[0, 0] >= 0 else integers(a, 0, 1)

    return Part(
        ("x",),
        define,
        lambda a, b: Logistic(a, b.x).sigmoid(sign),
        textbook,
        settle,
        between,
        polynomial,
        1,
        logistic,
    )


# ---------------------------------------------------------------- first derivative


def slope(negated: bool = False, by_log: bool = False) -> Part:
    """s'(x), or -s'(x), which is log_sigmoid''."""
    sign = -1 if negated else 1

    def define(mp: Any, x: Any) -> Any:
        s = 1 / (1 + mp.exp(-x))
        return sign * s * (1 - s)

    def signed(number: Any) -> Any:
        return -number if negated else number

    def settle(table: Table, b: Batch) -> None:
        table.exact(b.x == 0, sign * 0.25)
        table.put(np.isinf(b.x), ZERO)

    def between(b: Batch) -> Interval:
        zeros, quarter = np.zeros(b.x.shape), np.full(b.x.shape, 0.25)
        return (-quarter, zeros) if negated else (zeros, quarter)

    def textbook(a: BoundArithmetic, b: Batch) -> Bound:
        book = Textbook(a, b.x)
        bound: Bound = signed(book.slope_of_either(by_log) if negated else book.slope(by_log))
        return bound

    return Part(
        ("x",),
        define,
        lambda a, b: signed(Logistic(a, b.x).slope),
        textbook,
        settle,
        between,
        lambda a, b: integers(a, 0, sign),
        2,
        logistic,
    )


# ---------------------------------------------------------------- second derivative


def define_curvature(mp: Any, x: Any) -> Any:
    s = 1 / (1 + mp.exp(-x))
    return s * (1 - s) * (1 - 2 * s)


def textbook_curvature(a: BoundArithmetic, b: Batch) -> Bound:
    """The tangent of g s (1 - s): with ds = s (1 - s) v, g (ds (1 - s) - s ds)."""
    book = Textbook(a, b.x)
    s = book.sigmoid()
    other = book.complement(s)
    ds = s * other
    if "v_x" in b.inputs:
        ds = ds * a.exact(finite(values(b, "v_x")))
    return a.exact(finite(values(b, "g"))) * (ds * other - s * ds)


def settle_curvature(table: Table, b: Batch) -> None:
    table.put((b.x == 0) | np.isinf(b.x), ZERO)


def between_curvature(b: Batch) -> Interval:
    """s'' = -T (1 - T^2) / 4 with T = tanh(x / 2), so |s''| < |x| / 8."""
    with np.errstate(under="ignore"):
        end = intervals.times(intervals.point(-b.x), np.full(b.x.shape, 0.125))
    return intervals.hull(end, intervals.point(np.zeros(b.x.shape)))


CURVATURE = Part(
    ("x",),
    define_curvature,
    lambda a, b: Logistic(a, b.x).curvature,
    textbook_curvature,
    settle_curvature,
    between_curvature,
    lambda a, b: integers(a, 0, -1, 1) if b.x[0, 0] >= 0 else integers(a, 0, 1, -1),
    3,
    logistic,
)

MAPS = derivatives({"x": slope()}, {("x", "x"): CURVATURE})
# The textbook of the second derivative has the scale inside.
MAPS["hvp", "x.x"] = dataclasses.replace(MAPS["hvp", "x.x"], textbook=textbook_curvature)

OP = Op(
    name="sigmoid",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={("value", "-"): part_of(1).map(), **MAPS},
    elementwise=True,
)
