"""kl_divergence of two rows of logits: sum_j s(x)_j (l(x)_j - l(y)_j), one per row.

Cancellation-free, with c, A and rho of :mod:`reference.ops.pairs`:

    KL = log1p(A) + log1p(rho)                                      below 1,
    KL = [lse(y) - <s, y>] - [lse(x) - <s, x>], s = s(x)            otherwise.

All terms of the first form are >= 0. In the second one the brackets are a cross-entropy of KL + H
and the entropy H <= log n, so with KL >= 1 little cancels. Where one class of x dominates, its y is
subtracted exactly, so that the rest is as small as the other classes.

Exact: s(x) = s(y), which is x - y constant on the entries that are kept, gives 0. Not covered: the
value mixes exp and log, and no theorem says that it is not rational otherwise.

Limits: an entry with s(x)_i = 0 contributes 0 whatever y_i is, unless it is NaN; s(x)_i > 0 with
l(y)_i = -inf gives +inf. x with one +inf at k: -l(y)_k. Undefined: x without anything finite or
with several +inf; y likewise. Unless something with s(x)_i > 0 is certainly at l(y)_i = -inf, as it
is where all several +inf of x meet that.

Derivatives: :mod:`reference.ops.kl_gradients` and :mod:`reference.ops.kl_second`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arithmetic.bounds import Bound, BoundArithmetic
from . import expectation, kl_gradients, kl_second, log_softmax
from .base import FORMULA, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO, Batch, Map, Op, Settled, Textbook
from .pairs import Pair, PairRow
from .softmax import define as softmax


def define(mp: Any, row: Mapping[str, Any]) -> list[Any]:
    s, l = softmax(mp, row), log_softmax.define(mp, row)  # noqa: E741 - the contract's name
    other = log_softmax.define(mp, {"x": row["y"]})
    terms = zip(s, l, other, strict=True)
    return [mp.fsum(p * (q - u) for p, q, u in terms if p != 0)]


def formula(a: Any, b: Batch) -> Any:
    row = PairRow(a, Pair(b))
    near = row.pair.near
    if near.all():
        return _below_one(row)
    return a.where(near, _below_one(row), _above_one(row)) if near.any() else _above_one(row)


def _below_one(row: PairRow) -> Any:
    return row.a.log1p(row.A) + row.a.log1p(row.rho)


def _above_one(row: PairRow) -> Any:
    a, pair = row.a, row.pair
    start = np.where(pair.dominated, pair.top_y, pair.y.m)
    gaps = row.x.d - a.difference(pair.usable_y, start)
    rest = a.log1p(row.y.t) - a.log1p(row.x.t) + a.sum(row.x.s * gaps)
    return a.difference(pair.y.m, start) + rest


def textbook(a: BoundArithmetic, b: Batch) -> Bound:
    pair = Pair(b)
    row = Textbook(a, pair.x)
    return expectation.textbook_value(row, row.l - Textbook(a, pair.y).l)


def settle(b: Batch) -> Settled:
    pair = Pair(b)
    out = Settled.formula((b.rows, 1))
    logs = log_softmax.settle(Batch({"x": pair.raw_y})).codes
    gone = pair.kept & (logs == NEG_INF)
    open_ = ~pair.both | pair.open_x.any(axis=1) | (pair.kept & (logs == UNDEFINED)).any(axis=1)
    out.codes[open_, 0] = UNDEFINED
    # With several +inf in x it is not known where its probability is, but for that it is there.
    certain = np.where(pair.open_x.any(axis=1), (gone == pair.kept).all(axis=1), gone.any(axis=1))
    out.codes[certain & pair.x.regular, 0] = POS_INF
    out.codes[pair.nan, 0] = NAN
    for r in map(int, np.flatnonzero(pair.both & pair.alike & (out.codes[:, 0] == FORMULA))):
        if pair.same(r):
            out.codes[r, 0] = ZERO
    return out


OP = Op(
    name="kl_divergence",
    inputs=("x", "y"),
    differentiable=("x", "y"),
    per_row=True,
    maps={
        ("value", "-"): Map(define, formula, textbook, settle),
        **kl_gradients.MAPS,
        **kl_second.MAPS,
    },
)
