"""softmax_cross_entropy = -sum t l, T = sum t, of soft targets and of labels.

To x: g (s T - t), and its derivatives g T s (v - <s, v>) and, along v of the targets,
g (s sum(v) - v). To the targets: -g l and -g (v - <s, v>). With weights, smoothing and a reduction
b of `reductions` takes the place of t.
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
from conformance.implementations.numpy.reductions import hard, soft
from conformance.implementations.numpy.rows import (
    Rows,
    anchor,
    deviation,
    half_log_softmax,
    residual,
    rows_of,
    scaled,
    too_wide,
)
from conformance.implementations.numpy.softmaxes import BLANCHARD
from conformance.registry import implementation

__all__ = ["softmax_cross_entropy", "softmax_cross_entropy_vjp"]


def _loss(rows: Rows, t: Array) -> Array:
    """-sum t l, in which t = 0 contributes 0 even where l is -inf or has no limit."""
    log_p = rows.d - rows.ell
    # m is NaN in a row with a NaN logit, which no target silences.
    loss = -total(np.where((t == 0) & ~np.isnan(rows.m), t, t * log_p))
    wide = np.isfinite(rows.m) & (too_wide(rows) | ~np.isfinite(loss))
    if np.any(wide):
        # l, t l or a partial sum overflows although the loss need not, and an overflow must not
        # meet one of the other sign: l is halved and t scaled so that no partial sum overflows.
        scale = t.shape[-1] * np.max(np.abs(t), axis=-1, keepdims=True, initial=1)
        scaled_loss = -total(times(t / scale, half_log_softmax(rows)))
        loss = np.where(wide, scaled_loss * 2 * scale, loss)
    # Beside several +inf: what is undefined there lies in [-inf, 0], so that an infinity stays
    # one if no weight has the other sign.
    open_ = (t != 0) & (np.isneginf(log_p) | np.isnan(log_p))
    some, plus, minus = (
        np.any(part, axis=-1, keepdims=True)
        for part in ((t != 0) & np.isneginf(log_p), open_ & (t > 0), open_ & (t < 0))
    )
    infinity = np.where(plus, loss.dtype.type(np.inf), loss.dtype.type(-np.inf))
    return np.where(rows.no_limit & some & (plus != minus), infinity, loss)


def _tangent(rows: Rows, t: Array, v: Array) -> Array:
    """Along v of x: T <s, c> - sum t c, c = v - r."""
    c = v - anchor(rows, v)
    return total(t) * total(rows.s * c) - total(t * c)


# --- soft targets ---------------------------------------------------------------------------


def softmax_cross_entropy_vjp(
    g: Array,
    x: Array,
    target: Array,
    *,
    weight: Array | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int,
) -> dict[str, Array]:
    """To x: g (s T - t). To the target: -g l."""
    batch = soft(x, target, axis, weight, label_smoothing, reduction)
    rows, cotangent = rows_of(batch.x), batch.cotangent(g)
    factor = cotangent * batch.target_factor
    to_target = np.where(
        too_wide(rows),
        -times(factor, half_log_softmax(rows)) * 2,
        -times(factor, rows.d - rows.ell),
    )
    return {
        "x": outside(-cotangent * residual(rows, batch.b), x, axis),
        "target": outside(to_target, target, axis),
    }


def softmax_cross_entropy_jvp(
    v: Array, x: Array, target: Array, *, argument: str, axis: int
) -> Array:
    """To x: -sum t (v - <s, v>). To the target, in which the loss is linear: -sum v l."""
    rows, tangent = rows_of(inside(x, axis)), inside(v, axis)
    if argument == "target":
        return reduced(_loss(rows, tangent), x)
    return reduced(_tangent(rows, inside(target, axis), tangent), x)


def softmax_cross_entropy_hvp(
    g: Array, v: Array, x: Array, target: Array, *, argument: str, axis: int
) -> Array:
    """The four blocks of the Hessian; that of the targets alone is 0."""
    rows, cotangent, tangent = rows_of(inside(x, axis)), inside(g[..., None]), inside(v, axis)
    if argument == "x.x":
        factor = cotangent * total(inside(target, axis))
        block = scaled(rows, deviation(rows, tangent), factor)
    elif argument == "x.target":
        block = -cotangent * residual(rows, tangent)
    elif argument == "target.x":
        block = -cotangent * deviation(rows, tangent)
    else:
        block = np.zeros_like(rows.x)
    return outside(block, x, axis)


@implementation(
    op="softmax_cross_entropy",
    framework="numpy",
    name="conformance.numpy.softmax_cross_entropy",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(softmax_cross_entropy_vjp),
    jvp=quiet(softmax_cross_entropy_jvp),
    hvp=quiet(softmax_cross_entropy_hvp),
    parameters=("reduction", "weight", "label_smoothing"),
)
@quiet
def softmax_cross_entropy(
    x: Array,
    target: Array,
    *,
    weight: Array | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Array:
    """-sum t l."""
    batch = soft(x, target, axis, weight, label_smoothing, reduction)
    return reduced(batch.reduce(_loss(rows_of(batch.x), batch.b)), x)


# --- labels ---------------------------------------------------------------------------------


def _one_hot(rows: Rows, label: Array) -> Array:
    n = rows.x.shape[-1]
    if np.any((label < 0) | (label >= n)):
        raise ValueError(f"a label lies outside [0, {n})")
    hot: Array = np.arange(n) == np.asarray(label)[..., None]
    return hot.astype(rows.x.dtype)


def sparse_softmax_cross_entropy_vjp(
    g: Array,
    x: Array,
    label: Array,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int,
) -> dict[str, Array]:
    """g s, g (s - 1) at the label: -g q where that is the dominant maximum."""
    batch = hard(x, label, axis, weight, ignore_index, label_smoothing, reduction)
    gradient = -batch.cotangent(g) * residual(rows_of(batch.x), batch.b)
    return {"x": outside(np.where(batch.counts, gradient, gradient.dtype.type(0)), x, axis)}


def sparse_softmax_cross_entropy_jvp(
    v: Array, x: Array, label: Array, *, argument: str, axis: int
) -> Array:
    """<s, v> - v at the label."""
    rows = rows_of(inside(x, axis))
    return reduced(_tangent(rows, _one_hot(rows, label), inside(v, axis)), x)


def sparse_softmax_cross_entropy_hvp(
    g: Array, v: Array, x: Array, label: Array, *, argument: str, axis: int
) -> Array:
    """g s (v - <s, v>), whatever the label is."""
    rows, cotangent = rows_of(inside(x, axis)), inside(g[..., None])
    return outside(scaled(rows, deviation(rows, inside(v, axis)), cotangent), x, axis)


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="numpy",
    name="conformance.numpy.sparse_softmax_cross_entropy",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(sparse_softmax_cross_entropy_vjp),
    jvp=quiet(sparse_softmax_cross_entropy_jvp),
    hvp=quiet(sparse_softmax_cross_entropy_hvp),
    parameters=("reduction", "weight", "ignore_index", "label_smoothing"),
)
@quiet
def sparse_softmax_cross_entropy(
    x: Array,
    label: Array,
    *,
    weight: Array | None = None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "none",
    axis: int = -1,
) -> Array:
    """log1p(t) - d at the label; with smoothing -sum b l."""
    batch = hard(x, label, axis, weight, ignore_index, label_smoothing, reduction)
    rows = rows_of(batch.x)
    if label_smoothing:
        losses = _loss(rows, batch.b)
    else:
        at_label = total(np.where(batch.b != 0, rows.d, rows.d.dtype.type(0)))
        losses = times(total(batch.b), rows.ell - at_label)
    return reduced(batch.reduce(losses), x)
