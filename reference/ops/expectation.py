"""sum_j s_j c_j with c = l(x) - l(y), or l(x) alone: textbook derivatives, for the weak bounds.

The derivative of l meets s and cancels: sum_j s_j (v_j - <s, v>) = 0. Automatic differentiation
computes it nevertheless, and so do these forms: s - s sum(s) in the gradient, and its derivative.

A cotangent meets s first or the result last, as an implementation likes; g s can leave the normal
range where neither g nor s nor the result does, so the worse of both counts.
"""

from __future__ import annotations

from ..arithmetic.base import F64
from ..arithmetic.bounds import Bound
from .base import Textbook
from .deviation import textbook_deviation, textbook_product


def textbook_value(row: Textbook, c: Bound) -> Bound:
    return row.a.sum(row.s * c)


def textbook_gradient(row: Textbook, c: Bound, g: Bound) -> Bound:
    """g times s (c - sum(s c)) + (s - s sum(s))."""
    a, s = row.a, row.s

    def led_by(p: Bound) -> Bound:
        return textbook_product(row, p, c) + (p - p * a.sum(s))

    return a.worse(g * led_by(s), led_by(g * s))


def textbook_tangent(row: Textbook, c: Bound, v: F64) -> Bound:
    """sum(ds c) + sum(s dl), ds = s dl and dl = v - sum(s v)."""
    a, ds = row.a, textbook_product(row, row.s, row.a.exact(v))
    return a.sum(ds * c) + a.sum(ds)


def textbook_second(row: Textbook, c: Bound, v: F64, g: Bound) -> Bound:
    """g times the product rule on the gradient, dl being also the derivative of c."""
    a, s, dl = row.a, row.s, textbook_deviation(row, v)
    ds = textbook_product(row, s, a.exact(v))
    mean = a.sum(ds * c + ds)

    def led_by(p: Bound) -> Bound:
        dp = textbook_product(row, p, a.exact(v))
        rest = dp - dp * a.sum(s) - p * a.sum(ds)
        change = a.worse(p * (dl - mean), dp - p * mean)
        return textbook_product(row, dp, c) + change + rest

    return a.worse(g * led_by(s), led_by(g * s))
