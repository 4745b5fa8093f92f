"""A-priori error bounds of reduced, weighted and smoothed losses, see :mod:`reference.bounds`.

The weak bound is that of the textbook in the orders in which frameworks evaluate it, the worst of
them where they differ:

* a row's loss from smoothed targets, sum of w ((1 - a) t + a / C) l, or as (1 - a) w_k l_k plus
  a / C times sum w l;
* the mean as the sum divided by D, the sum times 1 / D, rows scaled by N / D and summed and divided
  by N (Keras), or the two parts of the smoothed loss reduced apart and added (PyTorch);
* the gradient as G (s sum(b) - b), or as s sum(G b) - G b.

Rows are few, and summed one after the other in every format: H = N - 1. Smoothing is a number of
the format by then: an error of one u.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from . import formats
from .arithmetic.bounds import Bound, BoundArithmetic, Wide
from .bounds import Bounds, constants
from .ops.base import Textbook
from .reduction_terms import Terms
from .situations.base import Situation

__all__ = ["evaluate"]


def evaluate(
    situation: Situation, derivative: str, argument: str, *, flushes: bool = False
) -> Bounds:
    """Bounds for every element of a map, of the shape of its references.

    Parameters
    ----------
    situation, derivative, argument
        As for :func:`reference.reductions.evaluate`.
    flushes : bool
        The implementation flushes (some) subnormal results.
    """
    terms, fmt = Terms(situation), formats.get(situation.format)
    chosen = constants(fmt, flushes=flushes)
    threshold = np.longdouble(fmt.smallest_normal if flushes else fmt.smallest_subnormal)
    eta, u = np.longdouble(fmt.smallest_subnormal), fmt.unit_roundoff

    def absolute(bound: Bound, unit: float) -> Wide:
        return np.longdouble(unit) * bound.e + threshold * bound.y + eta

    def textbook(name: str) -> Bound:
        book = _Book(BoundArithmetic(chosen[name]), terms)
        return {"-": book.value, "x": book.vjp_x, "target": book.vjp_target}[argument]()

    with np.errstate(all="ignore"):
        pairwise = textbook("pairwise")
        weak = textbook("weak") if chosen["weak"] != chosen["pairwise"] else pairwise
        arithmetic = BoundArithmetic(chosen["strong"])
        strong = terms.formula(argument)(arithmetic)
        strong_bound = absolute(strong, chosen["strong"].unit_roundoff)
        if fmt.is_narrow:
            strong_bound = strong_bound + np.longdouble(u) * np.abs(strong.v)
        found = Bounds(
            absolute(weak, u),
            absolute(pairwise, u),
            strong_bound,
            textbook("magnitude").e,
            np.longdouble(u) * weak.e,
        )
    return _of_nothing(found, eta) if terms.of_nothing else found


def _of_nothing(bounds: Bounds, eta: Any) -> Bounds:
    """A mean of nothing: what is judged at all (gradients of ignored rows) is exactly 0."""
    names = ("weak", "pairwise", "strong", "magnitude", "roundoff")
    return Bounds(**{name: np.full_like(getattr(bounds, name), eta) for name in names})


class _Book:
    """The textbook, in the bound arithmetic."""

    def __init__(self, a: BoundArithmetic, terms: Terms) -> None:
        self.a, self.terms = a, terms
        self.row = Textbook(a, terms.batch)
        self.one = self._number(1.0)
        self.kept = terms.batch.kept

    def _number(self, value: float) -> Bound:
        return self.a.exact(np.full((1, 1), value))

    def _rounded(self, value: Bound) -> Bound:
        """A number of the format in place of an exact one."""
        return Bound(value.v, value.e + np.abs(value.v), value.y, value.constants)

    @cached_property
    def smoothing(self) -> Bound:
        return self._rounded(self._number(self.terms.smoothing))

    @cached_property
    def share(self) -> Bound:
        """a / C."""
        return self.smoothing / self._number(float(self.terms.n))

    @cached_property
    def weight(self) -> Bound:
        return self.a.exact(self.terms.weight[None, :])

    @cached_property
    def b(self) -> Bound:
        """Smoothed targets times weights."""
        a, terms = self.a, self.terms
        b = a.exact(terms.hot)
        if terms.smoothing:
            counting = a.exact(terms.counts[:, None] * np.ones((1, terms.n)))
            b = b * (self.one - self.smoothing) + counting * self.share
        return b * self.weight

    def _summed(self, rows: Bound) -> Bound:
        """The rows (N, 1) one after the other, (1, 1)."""
        flat = self.terms.flattened(rows)
        h = 0.0 if self.a.constants.no_summation else max(self.terms.rows - 1, 0)
        v = flat.v.sum(axis=-1, keepdims=True)
        e = flat.e.sum(axis=-1, keepdims=True) + h * np.abs(flat.v).sum(axis=-1, keepdims=True)
        return Bound(v, e, flat.y.sum(axis=-1, keepdims=True), self.a.constants)

    @cached_property
    def denominator(self) -> Bound:
        """D, summed one after the other; a number of rows is exact."""
        terms = self.terms
        weights = self.a.exact(terms.label_weights[:, None])
        if terms.weighted and not terms.soft:
            return self._summed(weights)
        return self.a.exact(terms.label_weights.sum().reshape(1, 1))

    def _masked(self, terms: Bound) -> Bound:
        """What has a weight and a finite logarithm; elsewhere a term is 0 or the row is settled."""
        return self.a.where(self.terms.bears & self.kept, terms, self.row.zero)

    @cached_property
    def losses(self) -> Bound:
        """-sum b l."""
        return -self.a.sum(self._masked(self.b * self.row.l))

    @cached_property
    def parts(self) -> tuple[Bound, Bound]:
        """-sum w t l and -sum w l of rows that count."""
        a, terms = self.a, self.terms
        weighted = self.weight * self.row.l
        hard = a.where((terms.hot != 0) & self.kept, a.exact(terms.hot) * weighted, self.row.zero)
        soft = a.where(terms.counts[:, None] & self.kept, weighted, self.row.zero)
        return -a.sum(hard), -a.sum(soft)

    def _joined(self, hard: Bound, soft: Bound) -> Bound:
        return (self.one - self.smoothing) * hard + self.share * soft

    def _divided(self, rows: Bound) -> Bound:
        """The mean of rows, the worse of two orders."""
        total = self._summed(rows)
        by_inverse = total * (self.one / self.denominator)
        count = self._number(float(self.terms.rows))
        first = self._summed(rows * (count / self.denominator)) / count
        return self.a.worse(by_inverse, first)

    def value(self) -> Bound:
        """The losses, their sum or their mean."""
        a, reduction = self.a, self.terms.reduction
        reduce = {"none": lambda rows: rows, "sum": self._summed, "mean": self._divided}[reduction]
        whole: Bound = reduce(self.losses)
        if not self.terms.smoothing:
            return whole
        hard, soft = self.parts
        apart = self._joined(reduce(hard), reduce(soft))
        return a.worse(whole, a.worse(apart, reduce(self._joined(hard, soft))))

    @cached_property
    def scale(self) -> Bound:
        """G of each row."""
        terms = self.terms
        g = self.a.exact(np.broadcast_to(terms.g.reshape(-1, 1), (terms.rows, 1)).copy())
        if terms.reduction != "mean":
            return g
        count = self._number(float(terms.rows))
        return g * (self.one / count) * (count / self.denominator)

    def vjp_x(self) -> Bound:
        """G (s sum(b) - b), the worse of two orders."""
        a = self.a
        b = self._rounded(self._rounded(self.b))
        outside = self.scale * (self.row.s * a.sum(b) - b)
        inside = self.scale * b
        return a.worse(outside, self.row.s * a.sum(inside) - inside)

    def vjp_target(self) -> Bound:
        """-G (1 - a) w l."""
        terms = self.terms
        scale = self.scale
        if terms.smoothing:
            scale = scale * (self.one - self.smoothing)
        kept: Any = self.kept
        return -self.a.where(kept, scale * self.weight * self.row.l, self.row.zero)
