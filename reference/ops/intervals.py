"""Intervals (low, high) of float64 arrays: where results lie that no ball can tell from an end.

An interval stands for the numbers strictly between its ends, which is what results of
transcendental functions are: ends are kept as they are where float64 holds them, and move outwards
where it does not.
"""

from __future__ import annotations

import numpy as np

from ..arithmetic._eft import two_prod, two_sum
from ..arithmetic.base import F64

Interval = tuple[F64, F64]


def times(interval: Interval, factor: F64) -> Interval:
    """The interval times a number: ends that are not float64 numbers move outwards.

    An unknown end (inf) times 0 stays unknown.
    """
    with np.errstate(all="ignore"):
        ends = []
        for end in interval:
            p, rest = two_prod(end, factor)
            exact = ((rest == 0) & (np.abs(p) > 2.0**-900)) | (end == 0) | np.isinf(end)
            exact |= factor == 0
            ends.append((np.where(exact, p, np.nextafter(p, -np.inf)),
                         np.where(exact, p, np.nextafter(p, np.inf))))  # fmt: skip
        low = np.where(factor >= 0, ends[0][0], ends[1][0])
        high = np.where(factor >= 0, ends[1][1], ends[0][1])
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def beside(end: Interval, sign: F64) -> Interval:
    """Above an end where the sign is positive, below it where it is negative; else unknown."""
    low, high = end
    return np.where(sign > 0, low, -np.inf), np.where(sign < 0, high, np.inf)


def hull(a: Interval, b: Interval) -> Interval:
    """The smallest interval that holds both."""
    return np.minimum(a[0], b[0]), np.maximum(a[1], b[1])


def point(values_: F64) -> Interval:
    return values_, values_


def add(a: Interval, b: Interval) -> Interval:
    """The sum; ends that are not float64 numbers move outwards."""
    with np.errstate(all="ignore"):
        low, lost = two_sum(a[0], b[0])
        low = np.where(lost == 0, low, np.nextafter(low, -np.inf))
        high, lost = two_sum(a[1], b[1])
        high = np.where(lost == 0, high, np.nextafter(high, np.inf))
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def one_minus(z: F64) -> Interval:
    """1 - z, as a point where it is a float64 number."""
    return add(point(np.ones(z.shape)), point(-z))


def weighted_mean(a: Interval, b: Interval, x: F64) -> Interval:
    """sigmoid(x) a + sigmoid(-x) b: between the mean and a for x > 0, the mean and b for x < 0."""
    total = add(a, b)
    middle = times(total, np.full(x.shape, 0.5))
    end = np.where(x > 0, a[0], b[0]), np.where(x > 0, a[1], b[1])
    return hull(middle, end)
