"""sigmoid_cross_entropy: f = w z softplus(-x) + (1 - z) softplus(x), target z, pos_weight w.

With t = exp(-|x|), A = 1 - z, C = w z and K = A + C:

=====  ===============================================================================
value  K log1p(t) + c abs(x), c = A for x >= 0, C for x < 0
x      A sigmoid(x) - C sigmoid(-x); (A - C) / 2 + K tanh(x / 2) / 2 for abs(x) < 1
z      (w - 1) log1p(t) + (-x for x >= 0, w abs(x) for x < 0)
w      z softplus(-x)
xx     K sigmoid'(x)
xz     -(w sigmoid(-x) + sigmoid(x))
xw     -z sigmoid(-x)
zw     softplus(-x)
=====  ===============================================================================

and zz = ww = 0. For 0 <= z <= 1 and w >= 0 nothing in the value cancels. A weight of 0 silences an
infinite logit, and z = 0 an infinite weight; an infinite weight that counts outweighs everything.
"""

from __future__ import annotations

import numpy as np

from conformance.implementations.numpy.arrays import Array, inside, outside, quiet, times
from conformance.implementations.numpy.elementwise import (
    MAECHLER,
    derivatives,
    log1p_exp,
    sigmoid_of,
    slope_of,
)
from conformance.registry import implementation

__all__: list[str] = []


def _beyond(part: Array, x: Array, z: Array | int, w: Array, sign: int = 1) -> Array:
    """An infinite weight that counts: z > 0, and x < +inf, where the other factor is not 0."""
    infinite = np.isposinf(w) & (z > 0) & (x < np.inf)
    return np.where(infinite, part.dtype.type(sign * np.inf), part)


def _value(x: Array, z: Array, w: Array) -> Array:
    a, c = 1 - z, times(z, w)
    near = times(np.log1p(np.exp(-np.abs(x))), a + c)
    return _beyond(near + times(np.where(x >= 0, a, c), np.abs(x)), x, z, w)


def _to_x(x: Array, z: Array, w: Array) -> Array:
    a, c = 1 - z, times(z, w)
    terms = a * sigmoid_of(x) - c * sigmoid_of(-x)
    half = x.dtype.type(0.5)
    centred = half * ((a - c) + (a + c) * np.tanh(half * x))
    return _beyond(np.where(np.abs(x) < 1, centred, terms), x, z, w, -1)


def _to_target(x: Array, z: Array, w: Array) -> tuple[tuple[Array, Array], ...]:
    near = _beyond(np.log1p(np.exp(-np.abs(x))), x, 1, w)
    return (near, w - 1), (np.where(x >= 0, x.dtype.type(-1), w), np.abs(x))


def _to_weight(x: Array, z: Array, w: Array) -> tuple[tuple[Array, Array]]:
    return ((z, log1p_exp(-x)),)


def _x_x(x: Array, z: Array, w: Array) -> tuple[tuple[Array, Array]]:
    # sigmoid'(x) underflows where a large weight times it does not: its root, twice.
    root = np.exp(-np.abs(x) / 2) / (1 + np.exp(-np.abs(x)))
    root = np.where(np.isposinf(w) & (z > 0) & np.isfinite(x), x.dtype.type(1), root)
    return ((((1 - z) + times(z, w)) * root, root),)


def _x_target(x: Array, z: Array, w: Array) -> Array:
    return _beyond(-(w * sigmoid_of(-x) + sigmoid_of(x)), x, 1, w, -1)


def _x_weight(x: Array, z: Array, w: Array) -> Array:
    return -(z * sigmoid_of(-x))


def _target_weight(x: Array, z: Array, w: Array) -> Array:
    return log1p_exp(-x)


def _nothing(x: Array, *others: Array) -> Array:
    """Linear in it: no second derivative."""
    return np.zeros_like(x)


@implementation(
    op="sigmoid_cross_entropy",
    framework="numpy",
    name="conformance.numpy.sigmoid_cross_entropy",
    variant="composition",
    url=MAECHLER,
    **derivatives(
        {"x": _to_x, "target": _to_target, "pos_weight": _to_weight},
        {
            "x.x": _x_x,
            "x.target": _x_target,
            "x.pos_weight": _x_weight,
            "target.x": _x_target,
            "target.target": _nothing,
            "target.pos_weight": _target_weight,
            "pos_weight.x": _x_weight,
            "pos_weight.target": _target_weight,
            "pos_weight.pos_weight": _nothing,
        },
    ),
)
@quiet
def sigmoid_cross_entropy(x: Array, target: Array, pos_weight: Array) -> Array:
    """K log1p(t) + c abs(x)."""
    return outside(_value(inside(x), inside(target), inside(pos_weight)), x)


# --- without a weight: K = 1, and the gradient to the target is -x ----------------------------


def _plain_value(x: Array, z: Array) -> Array:
    return np.asarray(np.log1p(np.exp(-np.abs(x))) + times(np.where(x >= 0, 1 - z, z), np.abs(x)))


def _plain_to_x(x: Array, z: Array) -> Array:
    terms = (1 - z) * sigmoid_of(x) - z * sigmoid_of(-x)
    half = x.dtype.type(0.5)
    centred = half * (((1 - z) - z) + np.tanh(half * x))
    return np.asarray(np.where(np.abs(x) < 1, centred, terms))


def _minus_one(x: Array, z: Array) -> Array:
    return np.where(np.isnan(x), x, x.dtype.type(-1))


@implementation(
    op="sigmoid_cross_entropy",
    framework="numpy",
    name="conformance.numpy.sigmoid_cross_entropy_unweighted",
    variant="composition",
    url=MAECHLER,
    without=("pos_weight",),
    **derivatives(
        {"x": _plain_to_x, "target": lambda x, z: -x},
        {
            "x.x": lambda x, z: slope_of(x),
            "x.target": _minus_one,
            "target.x": _minus_one,
            "target.target": _nothing,
        },
    ),
)
@quiet
def sigmoid_cross_entropy_unweighted(x: Array, target: Array) -> Array:
    """log1p(t) + c abs(x), c = 1 - z for x >= 0, z for x < 0."""
    return outside(_plain_value(inside(x), inside(target)), x)
