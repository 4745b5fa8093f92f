"""sum_j s_j c_j with c = l(x) - l(y), or l(x) alone: textbook derivatives, for the weak bounds.

The derivative of l meets s and cancels: sum_j s_j (v_j - <s, v>) = 0. Automatic differentiation
computes it nevertheless, and so do these forms: s - s sum(s) in the gradient, and its derivative.
"""

from __future__ import annotations

from ..arithmetic.base import F64
from ..arithmetic.bounds import Bound
from .base import Textbook
from .deviation import textbook_deviation


def textbook_value(row: Textbook, c: Bound) -> Bound:
    return row.a.sum(row.s * c)


def textbook_gradient(row: Textbook, c: Bound) -> Bound:
    """s (c - sum(s c)) + (s - s sum(s))."""
    a, s = row.a, row.s
    return s * (c - a.sum(s * c)) + (s - s * a.sum(s))


def textbook_tangent(row: Textbook, c: Bound, v: F64) -> Bound:
    """sum(ds c) + sum(s dl), ds = s dl and dl = v - sum(s v)."""
    a, s, dl = row.a, row.s, textbook_deviation(row, v)
    return a.sum(s * dl * c) + a.sum(s * dl)


def textbook_second(row: Textbook, c: Bound, v: F64) -> Bound:
    """The product rule on the gradient, dl being also the derivative of c."""
    a, s, dl = row.a, row.s, textbook_deviation(row, v)
    ds = s * dl
    change = dl - a.sum(ds * c + s * dl)
    rest = ds - ds * a.sum(s) - s * a.sum(ds)
    return ds * (c - a.sum(s * c)) + s * change + rest
