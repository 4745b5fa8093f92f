"""logaddexp: f = log(exp(x) + exp(y)) = max(x, y) + log1p(exp(-|x - y|)).

With d = x - y: df/dx = sigmoid(d), df/dy = sigmoid(-d), and the second derivatives are sigmoid'(d)
for xx and yy, -sigmoid'(d) for xy and yx. Near f = 0 the two terms of f cancel: that is the
condition of the problem.

Exact: d = 0 gives derivatives of 1/2 and +-1/4; f of finite x and y never is. Limits: beside -inf
the other number is the result, beside +inf it is +inf; the derivatives depend on d alone, which two
equal infinities leave undefined.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.base import Mask
from ..arithmetic.bounds import Bound, BoundArithmetic
from .base import NEG_INF, UNDEFINED, ZERO, Batch, Op
from .elementwise import Logistic, Part, Table, Textbook, derivatives, values
from .intervals import Interval
from .sigmoid import between_sigmoid, integers

INPUTS = ("x", "y")


def logistic(a: Any, b: Batch) -> Logistic:
    return Logistic(a, b.x, values(b, "y"))


def textbook_of(a: BoundArithmetic, b: Batch) -> Textbook:
    return Textbook(a, b.x, values(b, "y"))


# ---------------------------------------------------------------- value


def define(mp: Any, x: Any, y: Any) -> Any:
    return mp.log(mp.exp(x) + mp.exp(y))


def formula(a: Any, b: Batch) -> Any:
    row = logistic(a, b)
    return a.exact(row.upper) + row.log1p


def settle(table: Table, b: Batch) -> None:
    x, y = b.x, values(b, "y")
    low, high = np.minimum(x, y), np.maximum(x, y)
    table.exact((low == -np.inf) & np.isfinite(high), high)
    table.put(high == -np.inf, NEG_INF)
    table.infinite(high == np.inf)


def between(b: Batch) -> Interval:
    return np.maximum(b.x, values(b, "y")), np.full(b.x.shape, np.inf)


VALUE = Part(INPUTS, define, formula, formula, settle, between)


# ---------------------------------------------------------------- derivatives


def _equal_infinities(b: Batch) -> Mask:
    return np.asarray(np.isinf(b.x) & (b.x == values(b, "y")))


def first(sign: int) -> Part:
    """sigmoid(sign d)."""

    def define_first(mp: Any, x: Any, y: Any) -> Any:
        return mp.exp(x if sign > 0 else y) / (mp.exp(x) + mp.exp(y))

    def settle_first(table: Table, b: Batch) -> None:
        x, y = (b.x, values(b, "y")) if sign > 0 else (values(b, "y"), b.x)
        far = (x != y) & (np.isinf(x) | np.isinf(y))
        table.exact((x == y) & np.isfinite(x), 0.5)
        table.exact(far & (x > y), 1.0)
        table.put(far & (x < y), ZERO)
        table.put(_equal_infinities(b), UNDEFINED)

    def polynomial(a: Any, b: Batch) -> list[Any]:
        return integers(a, 1) if logistic(a, b).positive[0, 0] == (sign > 0) else integers(a, 0, 1)

    def textbook(a: BoundArithmetic, b: Batch) -> Bound:
        return textbook_of(a, b).sigmoid(sign)

    return Part(
        INPUTS,
        define_first,
        lambda a, b: logistic(a, b).sigmoid(sign),
        textbook,
        settle_first,
        lambda b: between_sigmoid(np.where(b.x < values(b, "y"), -sign, sign) * 1.0),
        polynomial,
        1,
        logistic,
    )


def second(sign: int) -> Part:
    """sign sigmoid'(d)."""

    def define_second(mp: Any, x: Any, y: Any) -> Any:
        return sign * mp.exp(x) * mp.exp(y) / (mp.exp(x) + mp.exp(y)) ** 2

    def signed(number: Any) -> Any:
        return number if sign > 0 else -number

    def settle_second(table: Table, b: Batch) -> None:
        y = values(b, "y")
        table.exact((b.x == y) & np.isfinite(y), sign * 0.25)
        table.put((b.x != y) & (np.isinf(b.x) | np.isinf(y)), ZERO)
        table.put(_equal_infinities(b), UNDEFINED)

    def between_second(b: Batch) -> Interval:
        zeros, quarter = np.zeros(b.x.shape), np.full(b.x.shape, 0.25)
        return (zeros, quarter) if sign > 0 else (-quarter, zeros)

    return Part(
        INPUTS,
        define_second,
        lambda a, b: signed(logistic(a, b).slope),
        lambda a, b: signed(textbook_of(a, b).slope_of_either()),
        settle_second,
        between_second,
        lambda a, b: integers(a, 0, sign),
        2,
        logistic,
    )


OP = Op(
    name="logaddexp",
    inputs=INPUTS,
    differentiable=INPUTS,
    per_row=False,
    maps={
        ("value", "-"): VALUE.map(),
        **derivatives(
            {"x": first(1), "y": first(-1)},
            {
                ("x", "x"): second(1),
                ("x", "y"): second(-1),
                ("y", "x"): second(-1),
                ("y", "y"): second(1),
            },
        ),
    },
    elementwise=True,
)
