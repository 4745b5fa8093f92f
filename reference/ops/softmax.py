"""softmax: s_i = exp(x_i) / sum_j exp(x_j).

vjp to x, cotangent g: s_i (g_i - <s, g>).

Cancellation-free: with the first maximum's cotangent subtracted from all others,
g_i - <s, g> = (g_i - g_top) - sum_j s_j (g_j - g_top); what still cancels there cancels in the
mathematics, and the oracle raises its precision for it.

Exact: all kept logits equal gives 1/k, and (g_i - mean g) / k. With two or more distinct logits the
value is transcendental, and the vjp is so or 0 (:func:`reference.ops.base.zero_products`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from ..arithmetic.bounds import Bound, BoundArithmetic
from . import base
from .base import NAN, UNDEFINED, ZERO, Batch, Logits, Map, Op, Settled, Textbook


def settle_limits(b: Batch) -> Settled:
    """Rows that no formula covers, with +inf entries left to the caller's rule.

    NaN anywhere: NaN row. No finite entry and no +inf: undefined. -inf: 0.
    """
    out = Settled.formula(b.x.shape)
    out.codes[(b.x == -np.inf)] = ZERO
    out.codes[b.infinities > 0] = ZERO
    out.codes[(b.infinities > 1)[:, None] & (b.x == np.inf)] = UNDEFINED
    out.codes[(b.count == 0) & (b.infinities == 0)] = UNDEFINED
    out.codes[b.has_nan] = NAN
    if b.n == 1:
        out.codes[np.isinf(b.x)] = UNDEFINED
    return out


def one_infinity(b: Batch) -> list[tuple[int, int]]:
    """(row, index) of the +inf entry of rows of two or more with exactly one, and no NaN."""
    if b.n < 2:
        return []
    rows = np.flatnonzero((b.infinities == 1) & ~b.has_nan)
    return [(int(r), int(np.flatnonzero(b.x[r] == np.inf)[0])) for r in rows]


# ---------------------------------------------------------------- value


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    e = [mp.exp(v) for v in base.mpf_row(mp, row["x"])]
    total = mp.fsum(e)
    return [v / total for v in e]


def formula(a: Any, b: Batch) -> Any:
    return Logits(a, b).s


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    return Textbook(a, b).quotient


def settle(b: Batch) -> Settled:
    out = settle_limits(b)
    for row, i in np.argwhere(b.equal[:, None] & b.kept).tolist():
        out.exact(row, i, Fraction(1, int(b.count[row])))
    for r, k in one_infinity(b):
        out.exact(r, k, Fraction(1))
    return out


def excess(a: Any, b: Batch, i: int, boundary: Any) -> Any:
    return base.linear_excess(a, b, i, -boundary, a.exact(-np.ones((1, 1))))


# ---------------------------------------------------------------- vjp


def define_vjp(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, g = define(mp, row), base.mpf_row(mp, row["g"])
    mean = mp.fsum(p * q for p, q in zip(s, g, strict=True))
    return [p * (q - mean) for p, q in zip(s, g, strict=True)]


def formula_vjp(a: Any, b: Batch) -> Any:
    row = Logits(a, b)
    c = a.difference(b.g, (b.g * b.top).sum(axis=1, keepdims=True))
    return row.s * (c - a.sum(row.s * c))


def textbook_vjp(a: BoundArithmetic, b: Batch) -> Bound:
    s, g = Textbook(a, b).s, a.exact(b.g)
    return s * (g - a.sum(s * g))


def settle_vjp(b: Batch) -> Settled:
    out = settle_limits(b)
    for r in np.flatnonzero(b.regular).tolist():
        kept = np.flatnonzero(b.kept[r])
        g = b.g[r][kept]
        if b.equal[r]:
            k = int(b.count[r])
            mean = base.fraction_total(g) / k
            base.settle_linear(out, r, kept, b.g[r], Fraction(1, k), -mean / k)
        else:
            out.codes[r, kept[base.zero_products(b.x[r][kept], g)]] = ZERO
    return out


def excess_vjp(a: Any, b: Batch, i: int, boundary: Any) -> Any:
    """S^2 (r_i - b) = e_i A - b S^2, A = sum_j e_j (g_i - g_j), where S = k + t and e_top = 1.

    Groups of equal logits have exact coefficients. At the top, the terms that are linear in e are
    collected: (k g_i - G - b k^2) + sum_groups e (c - 2 b k n) - b t^2, c = n g_i - (group's G).
    At b = 0 the sign is A's.
    """
    kept = b.kept[0]
    keys, group = np.unique(b.x[0, kept], return_inverse=True)
    g, own = b.g[0, kept], a.exact(b.g[:, i : i + 1])
    coefficients, powers, sizes = [], [], []
    for n, key in enumerate(keys):
        members = g[group == n]
        size = a.exact(np.full((1, 1), float(members.size)))
        coefficients.append(size * own - a.total(members[None, :]))
        powers.append(a.exp(a.difference(np.full((1, 1), key), b.m)))
        sizes.append(size)
    k, c = sizes.pop(), coefficients.pop()
    tail = Logits(a, b).zero
    t = tail
    at_top = b.x[0, i] == b.m[0, 0]
    shift = boundary * k + boundary * k if at_top else tail
    for size, coefficient, power in zip(sizes, coefficients, powers, strict=False):
        tail = tail + power * (coefficient - shift * size)
        t = t + power * size
    if at_top:
        return c - boundary * k * k + (tail - boundary * t * t)
    own_power = a.exp(a.difference(b.x[:, i : i + 1], b.m))
    if boundary.mid[0, 0][1] == 0:
        return c + tail
    return own_power * (c + tail) - boundary * (k + t) * (k + t)


OP = Op(
    name="softmax",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={
        ("value", "-"): Map(define, formula, textbook, settle, excess),
        ("vjp", "x"): Map(define_vjp, formula_vjp, textbook_vjp, settle_vjp, excess_vjp),
    },
)
