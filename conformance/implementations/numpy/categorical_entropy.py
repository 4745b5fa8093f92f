"""categorical_entropy: H = -sum s l = log1p(t) - sum s d, both terms >= 0.

With a = x - <s, x> (which is l + H) and w = v - <s, v>: to x -g s a, along v -<s, a w>, and the
second derivative -g s ((1 + a) w - <s, a w>).
"""

from __future__ import annotations

import numpy as np

from conformance.implementations.numpy.arrays import (
    Array,
    inside,
    outside,
    quiet,
    reduced,
    times,
    total,
)
from conformance.implementations.numpy.rows import centred_logits, deviation, rows_of, scaled
from conformance.implementations.numpy.softmaxes import BLANCHARD
from conformance.registry import implementation

__all__ = ["categorical_entropy"]


def categorical_entropy_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """-g s a."""
    rows = rows_of(inside(x, axis))
    gradient = scaled(rows, centred_logits(rows), -inside(g[..., None]))
    return {"x": outside(gradient, x, axis)}


def categorical_entropy_jvp(v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """-<s, a w>."""
    rows = rows_of(inside(x, axis))
    a, w = centred_logits(rows), deviation(rows, inside(v, axis))
    return reduced(-total(rows.s * a * w), x)


def categorical_entropy_hvp(g: Array, v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """-g s ((1 + a) w - <s, a w>)."""
    rows, cotangent = rows_of(inside(x, axis)), inside(g[..., None])
    a, w = centred_logits(rows), deviation(rows, inside(v, axis))
    second = (1 + a) * w - total(rows.s * a * w)
    return outside(-cotangent * scaled(rows, second), x, axis)


@implementation(
    op="categorical_entropy",
    framework="numpy",
    name="conformance.numpy.categorical_entropy",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(categorical_entropy_vjp),
    jvp=quiet(categorical_entropy_jvp),
    hvp=quiet(categorical_entropy_hvp),
)
@quiet
def categorical_entropy(x: Array, *, axis: int = -1) -> Array:
    """log1p(t) - sum s d, in which s = 0 contributes 0."""
    rows = rows_of(inside(x, axis))
    open_ = np.where(rows.no_limit, rows.x.dtype.type(np.nan), rows.ell)
    return reduced(open_ - total(times(rows.s, rows.d)), x)
