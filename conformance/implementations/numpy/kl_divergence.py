"""kl_divergence: sum s(x) (l(x) - l(y)), of logits both.

With c of `pairs` and w = v - <s, v>: to x g s c, to y g (s(y) - s(x)); along v <s, c w> and
<s(y) - s(x), v>; the blocks of the Hessian are g s ((1 + c) w - <s, c w>), -g s w for x.y and y.x,
and g s(y) (v - <s(y), v>).
"""

from __future__ import annotations

import numpy as np

from conformance.implementations.numpy.arrays import (
    Array,
    inside,
    outside,
    quiet,
    reduced,
    total,
)
from conformance.implementations.numpy.pairs import Pair
from conformance.implementations.numpy.rows import anchor, deviation, scaled
from conformance.implementations.numpy.softmaxes import BLANCHARD
from conformance.registry import implementation

__all__ = ["kl_divergence"]


def _pair(x: Array, y: Array, axis: int) -> Pair:
    return Pair(inside(x, axis), inside(y, axis))


def _clear(values: Array, pair: Pair) -> Array:
    """NaN in either row reaches everything."""
    return np.where(pair.nan, values.dtype.type(np.nan), values)


def _to_x(pair: Pair, g: Array) -> Array:
    """g s c; where y is infinite it tips the balance, as far as the sign is certain."""
    nan, inf = pair.zero + np.nan, pair.zero + np.inf
    gradient = scaled(pair.x, pair.c, g) * pair.unit
    slope = np.where(pair.bad, -pair.y.x * g, pair.zero)
    up, down = (np.sum(part, axis=-1, keepdims=True) for part in (slope > 0, slope < 0))
    others = np.where(up > 0, -inf, inf)
    single = np.where(up + down == 1, -others, nan)
    others = np.where((up > 0) & (down > 0), nan, others)
    tipped = np.where(slope != 0, single, np.where(pair.kept, others, pair.zero))
    alone = np.sum(pair.kept, axis=-1, keepdims=True) == 1
    gradient = np.where((up + down > 0) & ~alone & ~pair.x.no_limit, tipped, gradient)
    return _clear(np.where(g == 0, g * pair.x.s, gradient), pair)


def kl_divergence_vjp(g: Array, x: Array, y: Array, *, axis: int) -> dict[str, Array]:
    """To x: g s c. To y: g (s(y) - s(x))."""
    pair, cotangent = _pair(x, y, axis), inside(g[..., None])
    return {
        "x": outside(_to_x(pair, cotangent), x, axis),
        "y": outside(_clear(cotangent * pair.change, pair), y, axis),
    }


def _open(values: Array, pair: Pair) -> Array:
    """What needs delta where that is infinite is undefined, unless one class has it all."""
    several = np.sum(pair.kept, axis=-1, keepdims=True) > 1
    unknown = np.any(pair.bad, axis=-1, keepdims=True) & several
    return np.where(unknown, values.dtype.type(np.nan), values)


def kl_divergence_jvp(v: Array, x: Array, y: Array, *, argument: str, axis: int) -> Array:
    """Along v of x: <s, c w>. Of y: <s(y) - s(x), v>, taken of v - r."""
    pair, tangent = _pair(x, y, axis), inside(v, axis)
    if argument == "x":
        slope = total(pair.x.s * pair.c * deviation(pair.x, tangent)) * pair.unit
        return reduced(_clear(_open(slope, pair), pair), x)
    slope = total(pair.change * (tangent - anchor(pair.x, tangent)))
    return reduced(_clear(slope, pair), x)


def kl_divergence_hvp(g: Array, v: Array, x: Array, y: Array, *, argument: str, axis: int) -> Array:
    """g s ((1 + c) w - <s, c w>); the other blocks contain one softmax each."""
    pair, cotangent, tangent = _pair(x, y, axis), inside(g[..., None]), inside(v, axis)
    if argument == "y.y":
        block = scaled(pair.y, deviation(pair.y, tangent), cotangent)
    elif argument != "x.x":
        block = scaled(pair.x, deviation(pair.x, tangent), -cotangent)
    else:
        w, unit = deviation(pair.x, tangent), pair.unit
        second = (1 / unit + pair.c) * w - total(pair.x.s * pair.c * w)
        second = np.where(pair.kept, _open(second, pair), pair.zero)
        block = cotangent * scaled(pair.x, second) * unit
        block = _clear(np.where(cotangent == 0, cotangent * pair.x.s, block), pair)
    return outside(block, x, axis)


@implementation(
    op="kl_divergence",
    framework="numpy",
    name="conformance.numpy.kl_divergence",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(kl_divergence_vjp),
    jvp=quiet(kl_divergence_jvp),
    hvp=quiet(kl_divergence_hvp),
)
@quiet
def kl_divergence(x: Array, y: Array, *, axis: int = -1) -> Array:
    """log1p(A) + log1p(rho) below 1, the difference of two cross-entropies above."""
    pair = _pair(x, y, axis)
    value = np.where(pair.near, pair.near_value, pair.far_value)
    # One +inf in y and all of x's probability there.
    value = np.where(np.isposinf(pair.y.m), pair.zero, value)
    value = np.where(pair.undefined, pair.zero + np.nan, value)
    value = np.where(pair.infinite, pair.zero + np.inf, value)
    return reduced(_clear(value, pair), x)
