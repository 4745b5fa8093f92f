"""Powers of e with the logits of a row for exponents: what decides zeros and rational results.

Everything that contains no logarithm is a quotient N / D of two sums

    sum_k c_k e^(E_k),   c_k and E_k dyadic rationals, products collected by the sum of exponents.

By Lindemann and Weierstrass powers of e with distinct algebraic exponents are linearly independent
over the algebraic numbers. Hence N is 0 if and only if all its coefficients are, and N / D is
algebraic if and only if N = q D coefficient by coefficient; q is then rational. Everything else is
transcendental, so it lies on no rounding boundary b, and the sign of N - b D tells its side: with
the largest exponential divided out, the leading coefficient is exact, and the others are as small
as their exponents say, be they e^-1e6 or e^-1e300 (:mod:`reference.ops.exponential_sums`).

Rows enter with the entries that are kept, groups of equal logits as one term. Whether a product
vanishes is decided for up to 512 distinct logits (``PRODUCTS``), and for any number of them where
one of the factors is a rational multiple of S.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from operator import mul

import numpy as np
from numpy.typing import NDArray

from ..arithmetic.base import F64, Mask
from ..arithmetic.multiprecision import Ball, Multiprecision
from .exponential_sums import PRODUCTS, ExpSum, bits_below

Exact = NDArray[np.object_]
"""An array of Fractions."""

PRIME, _BASE = 2**61 - 1, 37


def exact(values: F64) -> Exact:
    """Finite float64 values as Fractions."""
    out = np.empty(np.shape(values), dtype=object)
    for index, v in np.ndenumerate(values):
        out[index] = Fraction(float(v))
    return out


def residue(value: Fraction) -> int:
    """A rational modulo the prime."""
    return value.numerator * pow(value.denominator, -1, PRIME) % PRIME


class Powers:
    """e^(d_j) of one row, d = x - max x over the kept entries, for sums over them.

    Parameters
    ----------
    x : ndarray of float64 (n,)
    kept : ndarray of bool (n,)
        At least one; the others have e = 0.
    step : int, optional
        Exponents are multiples of 2^-step; two rows that meet in a product share one.
    """

    def __init__(self, x: F64, kept: Mask, step: int | None = None) -> None:
        self.indices = np.flatnonzero(kept)
        values = exact(x[self.indices])
        self.step = step_of(values) if step is None else step
        scaled = [v.numerator << (self.step - bits_below(v)) for v in values]
        top = max(scaled)
        self.exponents = dict(zip(self.indices.tolist(), (v - top for v in scaled), strict=True))
        self.distinct = len(set(scaled))

    def sum(self, values: Exact) -> ExpSum:
        """sum_j v_j e_j, for Fractions v of the whole row."""
        chosen = values[self.indices]
        unit = max(bits_below(v) for v in chosen)
        scaled = (v.numerator << (unit - bits_below(v)) for v in chosen)
        return ExpSum.collected(zip(self.exponents.values(), scaled, strict=True), unit, self.step)

    @cached_property
    def S(self) -> ExpSum:
        """sum_j e_j."""
        return ExpSum.collected(((e, 1) for e in self.exponents.values()), 0, self.step)

    @cached_property
    def S2(self) -> ExpSum:
        return self.S * self.S

    def e(self, i: int) -> ExpSum:
        """e_i of a kept entry, 0 of another."""
        items = [(self.exponents[i], 1)] if i in self.exponents else []
        return ExpSum(items, len(items), 0, self.step)

    def residues(self, values: Exact | None = None) -> list[int]:
        """e_j, or dyadic v_j, modulo a prime with a small integer in the place of e^(2^-step).

        A ring homomorphism: a sum of products whose residue is not 0 is not 0.
        """
        if values is None:
            return [pow(_BASE, e % (PRIME - 1), PRIME) for e in self.exponents.values()]
        return [residue(v) for v in values[self.indices]]

    @cached_property
    def largest(self) -> list[int]:
        """The entries that equal the maximum."""
        return [i for i, e in self.exponents.items() if e == 0]

    def within(self, degree: int) -> bool:
        """May products of so many sums be formed?"""
        return bool(self.distinct**degree <= PRODUCTS)


def step_of(*rows: Exact) -> int:
    """The step that the exact values of some rows have in common."""
    return max((bits_below(v) for row in rows for v in row), default=0)


@dataclass(frozen=True, eq=False)
class Quotient:
    """A result N / D exactly, both products of sums of exponentials, all factors of D positive."""

    numerator: tuple[ExpSum, ...]
    denominator: tuple[ExpSum, ...]

    def value(self, a: Multiprecision) -> Ball:
        """The result. Where its largest terms cancel, they do so exactly, within a factor."""
        numerator, denominator = (
            reduce(mul, [factor.value(a) for factor in factors])
            for factors in (self.numerator, self.denominator)
        )
        return numerator / denominator

    def excess(self, a: Multiprecision, boundary: Fraction) -> Ball:
        """A positive multiple of N / D - b, see :class:`reference.ops.base.Map`."""
        if boundary == 0:
            return reduce(mul, [factor.sign(a) for factor in self.numerator])
        numerator, denominator = expanded(self.numerator), expanded(self.denominator)
        p, q = Fraction(boundary.numerator), Fraction(boundary.denominator)
        return (numerator.times(q) - denominator.times(p)).sign(a)


def expanded(factors: Sequence[ExpSum]) -> ExpSum:
    """The product, whose terms are made when they are asked for."""
    return reduce(mul, factors)


def same(values: F64) -> bool:
    """Are all values of a row the same?"""
    return bool((values == values[:1]).all())


def common_mean(
    x: F64, values: F64, fractions: Callable[[], Exact] | None = None
) -> Fraction | None:
    """The mean of the values, if every group of equal logits has the same.

    That is when sum_j s_j v_j is rational: V = q S, coefficient by coefficient. Values that are no
    float64 numbers come as ``fractions``, and approximately.
    """
    if fractions is None and values.size and same(values):
        return Fraction(float(values[0]))
    keys, group = np.unique(x, return_inverse=True)
    counts = np.bincount(group, minlength=len(keys))
    if len(keys) > 1:
        scale = float(np.abs(values).max(initial=0.0)) or 1.0
        with np.errstate(under="ignore"):
            means = np.bincount(group, weights=values / scale, minlength=len(keys)) / counts
        if np.ptp(means) > 1e-9:
            return None
    sums = [Fraction(0)] * len(keys)
    for k, v in zip(
        group.tolist(), exact(values) if fractions is None else fractions(), strict=True
    ):
        sums[k] += v
    found = {total / int(count) for total, count in zip(sums, counts, strict=True)}
    return found.pop() if len(found) == 1 else None


def zero_products(x: F64, g: F64) -> NDArray[np.intp]:
    """Where sum_j e^(x_j) (g_i - g_j) is exactly 0, for one row with two or more distinct logits.

    That is where the groups of equal logits have one common mean cotangent, and g_i is that mean.
    """
    mean = common_mean(x, g)
    if mean is None:
        return np.empty(0, np.intp)
    candidates = np.flatnonzero(g == float(mean)).tolist()
    return np.array([i for i in candidates if Fraction(float(g[i])) == mean], np.intp)


def approximately_zero(value: F64, size: F64) -> Mask:
    """Where a float64 evaluation does not exclude that the exact value is 0."""
    with np.errstate(all="ignore"):
        return np.asarray(~(np.abs(value) > 1e-9 * size))


__all__ = [
    "PRODUCTS",
    "Exact",
    "ExpSum",
    "Powers",
    "Quotient",
    "approximately_zero",
    "common_mean",
    "exact",
    "expanded",
    "residue",
    "same",
    "step_of",
    "zero_products",
]
