"""sigmoid_cross_entropy: f = w z softplus(-x) + (1 - z) softplus(x), target z, pos_weight w or 1.

With t = exp(-|x|), A = 1 - z, C = w z and K = A + C, and s = sigmoid:

==========  ==========================  =====================================================
value       K log1p(t) + c abs(x)       c = A for x >= 0, C for x < 0
x           A s(x) - C s(-x)            = (A - C) / 2 + K tanh(x / 2) / 2, used for abs(x) < 1
z           w softplus(-x) - softplus(x)  = (w - 1) log1p(t) + (-x for x >= 0, w abs(x) for x < 0)
w           z softplus(-x)
xx          K s'(x)
xz          -(w s(-x) + s(x))
xw          -z s(-x)
zw          softplus(-x)
zz, ww      0
==========  ==========================  =====================================================

For 0 <= z <= 1 and w >= 0 nothing in the value cancels. The derivatives to x and z have zeros;
there the mathematics cancels, and the oracle raises its precision. At x = 0 the derivative to x is
(1 - z - w z) / 2.

Exact: K = 0 gives the value -w z x, the derivative A to x and 0 for xx; w = 1 gives -x for z and -1
for xz; x = 0 gives (A - C) / 2, K / 4, -(w + 1) / 2 and -z / 2 for x, xx, xz and xw. Everything
else is transcendental (see :mod:`reference.ops.elementwise`).

Limits, for 0 <= z <= 1 and w >= 0 (anything else beside an infinity is not judged). A term of
weight 0 contributes 0: with z = 0, w = +inf leaves softplus(x). With z > 0 it gives +inf for
x < +inf. Without w, xz is -1 whatever x is, and open beside NaN.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic._eft import two_sum
from ..arithmetic.bounds import Bound, BoundArithmetic
from . import intervals
from .base import UNDEFINED, ZERO, Batch, Op
from .elementwise import Part, Table, Terms, Textbook, derivatives, finite, values
from .intervals import Interval
from .logistic_loss import (
    INPUTS,
    SECOND,
    Book,
    Loss,
    added,
    exact_K,
    infinite_weight,
    leave_open,
    no_weight,
    sign_of_K,
    weights,
)
from .sigmoid import logistic

# ---------------------------------------------------------------- value


def define(mp: Any, x: Any, z: Any, w: Any) -> Any:
    return w * z * mp.log(1 + mp.exp(-x)) + (1 - z) * mp.log(1 + mp.exp(x))


def formula(a: Any, b: Batch) -> Any:
    loss = Loss(a, b)
    return loss.K * loss.log1p + a.where(loss.positive, loss.A, loss.C) * loss.size


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    """The worst of K softplus(-x) + (1 - z) x, K softplus(x) - w z x, and a term for each sign."""
    book = Book(a, b)
    up, down = book.softplus(), book.softplus(-1)
    right = book.K * down + book.loss.A * book.x
    left = book.K * up - book.loss.C * book.x
    return a.worse(a.worse(right, left), book.loss.C * down + book.loss.A * up)


def settle(table: Table, b: Batch) -> None:
    z, w = weights(b)
    top, bottom = b.x == np.inf, b.x == -np.inf
    table.exact(no_weight(b) & np.isfinite(b.x), -finite(w), finite(z), finite(b.x))
    table.put(top & (z == 1), ZERO)
    table.infinite(top & (z != 1))
    none = (w == 0) | (z == 0)
    table.put(bottom & none, ZERO)
    table.infinite(bottom & ~none)
    table.infinite(infinite_weight(b) & ~top)
    table.put(infinite_weight(b) & top & (z == 1), UNDEFINED)
    leave_open(table, b)


def between(b: Batch) -> Interval:
    """On the side of c |x| that the sign of K says."""
    (z, w), x = weights(b), finite(b.x)
    right = intervals.times(intervals.one_minus(z), np.maximum(x, 0.0))
    left = intervals.times(intervals.times(intervals.point(w), z), np.maximum(-x, 0.0))
    end = np.where(x >= 0, right[0], left[0]), np.where(x >= 0, right[1], left[1])
    return intervals.beside(end, sign_of_K(b))


VALUE = Part(INPUTS, define, formula, textbook, settle, between)


# ---------------------------------------------------------------- to x


def define_x(mp: Any, x: Any, z: Any, w: Any) -> Any:
    s = 1 / (1 + mp.exp(-x))
    return (1 - z) * s - w * z * (1 - s)


def textbook_x(a: BoundArithmetic, b: Batch) -> Bound:
    """The worst of K s(x) - w z, (1 - z) - K s(-x), and a term for each sign.

    The slope of softplus may be exp(x - softplus(x)).
    """
    book = Book(a, b)
    up, down = book.sigmoid_by_log(), book.sigmoid_by_log(-1)
    left, right = book.K * up - book.loss.C, book.loss.A - book.K * down
    return a.worse(a.worse(left, right), added(terms_x(a, b)))


def terms_x(a: BoundArithmetic, b: Batch) -> Terms:
    book = Book(a, b)
    return [(book.loss.A, book.sigmoid_by_log()), (-book.loss.C, book.sigmoid_by_log(-1))]


def settle_x(table: Table, b: Batch) -> None:
    z, w = (finite(v) for v in weights(b))
    top, bottom = b.x == np.inf, b.x == -np.inf
    rest, lost = two_sum(np.ones(z.shape), -z)
    constant = top | no_weight(b)
    table.exact(constant & (lost == 0), rest)
    table.each(constant & (lost != 0), lambda i: 1 - Fraction(float(z[i])))
    table.exact(bottom, -w, z)
    middle = (b.x == 0) & ~constant
    table.each(middle, lambda i: 1 - Fraction(float(z[i])) - exact_K(z[i], w[i]) / 2)
    table.infinite(infinite_weight(b) & ~top, -1.0)
    table.put(infinite_weight(b) & top, UNDEFINED)
    leave_open(table, b)


def between_x(b: Batch) -> Interval:
    """A weighted mean of A and -C, the former having the larger weight for x > 0.

    For A = C it is A tanh(x / 2), nearer to 0 than A x / 2.
    """
    (z, w), x = (finite(v) for v in weights(b)), finite(b.x)
    a, c = intervals.one_minus(z), intervals.times(intervals.point(-w), z)
    interval = intervals.weighted_mean(a, c, x)
    even = (a[0] == a[1]) & (c[0] == c[1]) & (a[0] == -c[0])
    slope = intervals.times(a, np.full(z.shape, 0.5))
    line = intervals.hull(intervals.point(np.zeros(z.shape)), intervals.times(slope, x))
    low, high = np.maximum(line[0], interval[0]), np.minimum(line[1], interval[1])
    return np.where(even, low, interval[0]), np.where(even, high, interval[1])


def polynomial_x(a: Any, b: Batch) -> list[Any]:
    loss = Loss(a, b)
    return [loss.A, -loss.C] if b.x[0, 0] >= 0 else [-loss.C, loss.A]


TO_X = Part(
    INPUTS,
    define_x,
    lambda a, b: Loss(a, b).gradient(),
    textbook_x,
    settle_x,
    between_x,
    polynomial_x,
    1,
    logistic,
    terms_x,
)


# ---------------------------------------------------------------- to the target and the weight


def define_z(mp: Any, x: Any, w: Any) -> Any:
    return w * mp.log(1 + mp.exp(-x)) - mp.log(1 + mp.exp(x))


def formula_z(a: Any, b: Batch) -> Any:
    loss = Loss(a, b)
    far = a.where(loss.positive, -loss.one, loss.w) * loss.size
    return loss.w_minus_1 * loss.log1p + far


def textbook_z(a: BoundArithmetic, b: Batch) -> Bound:
    """The worse of w softplus(-x) - softplus(x) and (w - 1) softplus(-x) - x."""
    book = Book(a, b)
    return a.worse(added(terms_z(a, b)), book.loss.w_minus_1 * book.softplus(-1) - book.x)


def terms_z(a: BoundArithmetic, b: Batch) -> Terms:
    book = Book(a, b)
    return [(book.loss.w, book.softplus(-1)), (-book.softplus(),)]


def settle_z(table: Table, b: Batch) -> None:
    _, w = weights(b)
    top, bottom = b.x == np.inf, b.x == -np.inf
    table.exact((w == 1) & np.isfinite(b.x), -finite(b.x))
    table.infinite(top, -1.0)
    table.put(bottom & (w == 0), ZERO)
    table.infinite(bottom & (w != 0))
    table.infinite((w == np.inf) & ~top)
    table.put((w == np.inf) & top, UNDEFINED)
    leave_open(table, b)


def between_z(b: Batch) -> Interval:
    w, x = finite(values(b, "pos_weight")), finite(b.x)
    left = intervals.times(intervals.point(w), -x)
    end = np.where(x >= 0, -x, left[0]), np.where(x >= 0, -x, left[1])
    return intervals.beside(end, w - 1)


TO_Z = Part(
    ("x", "pos_weight"), define_z, formula_z, textbook_z, settle_z, between_z, terms=terms_z
)


def settle_w(table: Table, b: Batch) -> None:
    z = values(b, "target")
    table.infinite(b.x == -np.inf)
    table.put((b.x == np.inf) | (z == 0), ZERO)
    leave_open(table, b)


def between_w(b: Batch) -> Interval:
    ends = np.maximum(-b.x, 0.0), np.full(b.x.shape, np.inf)
    return intervals.times(ends, finite(values(b, "target")))


TO_W = Part(
    ("x", "target"),
    lambda mp, x, z: z * mp.log(1 + mp.exp(-x)),
    lambda a, b: Loss(a, b).z * Loss(a, b).softplus(-1),
    lambda a, b: Book(a, b).loss.z * Textbook(a, b.x).softplus(-1),
    settle_w,
    between_w,
    terms=lambda a, b: [(Book(a, b).loss.z, Textbook(a, b.x).softplus(-1))],
)


OP = Op(
    name="sigmoid_cross_entropy",
    inputs=INPUTS,
    differentiable=INPUTS,
    per_row=False,
    maps={
        ("value", "-"): VALUE.map(),
        **derivatives({"x": TO_X, "target": TO_Z, "pos_weight": TO_W}, SECOND),
    },
    elementwise=True,
    optional=("pos_weight",),
)
