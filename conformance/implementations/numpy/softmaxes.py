"""softmax = e / S, masked_softmax, log_softmax = d - log1p(t), logsumexp = m + log1p(t)."""

from __future__ import annotations

import numpy as np

from conformance.implementations.numpy.arrays import Array, inside, outside, quiet, reduced, total
from conformance.implementations.numpy.rows import (
    Rows,
    deviation,
    mean,
    residual,
    rows_of,
    scaled,
)
from conformance.registry import implementation

__all__ = ["BLANCHARD", "log_softmax", "logsumexp", "softmax"]

BLANCHARD = "https://doi.org/10.1093/imanum/draa038"  # Blanchard, Higham, Higham (2021)


# --- softmax: s = e / S ---------------------------------------------------------------------


def _second(rows: Rows, g: Array, v: Array) -> Array:
    """s (c w - <s, c w>) with c = g - <s, g> and w = v - <s, v>."""
    product = deviation(rows, g) * deviation(rows, v)
    return scaled(rows, product - total(rows.s * product))


def softmax_jvp(v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """s (v - <s, v>), to which vjp is equal: the Jacobian is symmetric."""
    rows = rows_of(inside(x, axis))
    return outside(scaled(rows, deviation(rows, inside(v, axis))), x, axis)


def softmax_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """s (g - <s, g>)."""
    return {"x": softmax_jvp(g, x, argument="x", axis=axis)}


def softmax_hvp(g: Array, v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """The derivative of s (g - <s, g>) along v."""
    return outside(_second(rows_of(inside(x, axis)), inside(g, axis), inside(v, axis)), x, axis)


@implementation(
    op="softmax",
    framework="numpy",
    name="conformance.numpy.softmax",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(softmax_vjp),
    jvp=quiet(softmax_jvp),
    hvp=quiet(softmax_hvp),
)
@quiet
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x - m) / (1 + t)."""
    return outside(rows_of(inside(x, axis)).s, x, axis)


# --- masked_softmax: True keeps -------------------------------------------------------------


def _masked(x: Array, mask: Array, axis: int) -> tuple[Rows, Array]:
    """Dropped logits, whatever they hold, as -inf; where every entry is kept."""
    keep = np.moveaxis(np.asarray(mask, np.bool_), axis, -1)
    logits = inside(x, axis)
    logits = np.where(keep, logits, logits.dtype.type(-np.inf))
    return rows_of(logits, np.sum(keep, axis=-1, keepdims=True)), keep


def _dropped(values: Array, keep: Array) -> Array:
    return np.where(keep, values, values.dtype.type(0))


def masked_softmax_jvp(v: Array, x: Array, mask: Array, *, argument: str, axis: int) -> Array:
    """softmax's over what is kept, 0 elsewhere; v may hold anything where x is dropped."""
    rows, keep = _masked(x, mask, axis)
    tangent = _dropped(inside(v, axis), keep)
    return outside(_dropped(scaled(rows, deviation(rows, tangent)), keep), x, axis)


def masked_softmax_vjp(g: Array, x: Array, mask: Array, *, axis: int) -> dict[str, Array]:
    """As the jvp: the Jacobian is symmetric."""
    return {"x": masked_softmax_jvp(g, x, mask, argument="x", axis=axis)}


def masked_softmax_hvp(
    g: Array, v: Array, x: Array, mask: Array, *, argument: str, axis: int
) -> Array:
    """softmax's over what is kept, 0 elsewhere."""
    rows, keep = _masked(x, mask, axis)
    g, v = (_dropped(inside(a, axis), keep) for a in (g, v))
    return outside(_dropped(_second(rows, g, v), keep), x, axis)


@implementation(
    op="masked_softmax",
    framework="numpy",
    name="conformance.numpy.masked_softmax",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(masked_softmax_vjp),
    jvp=quiet(masked_softmax_jvp),
    hvp=quiet(masked_softmax_hvp),
)
@quiet
def masked_softmax(x: Array, mask: Array, *, axis: int = -1) -> Array:
    """softmax over what is kept, 0 elsewhere; a row of zeros where nothing is."""
    rows, keep = _masked(x, mask, axis)
    return outside(_dropped(rows.s, keep), x, axis)


# --- log_softmax: l = d - log1p(t) ----------------------------------------------------------


def log_softmax_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """g - s sum(g)."""
    return {"x": outside(residual(rows_of(inside(x, axis)), inside(g, axis)), x, axis)}


def log_softmax_jvp(v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """v - <s, v>, not the same map as the vjp."""
    return outside(deviation(rows_of(inside(x, axis)), inside(v, axis)), x, axis)


def log_softmax_hvp(g: Array, v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """-sum(g) s (v - <s, v>)."""
    rows, cotangent = rows_of(inside(x, axis)), inside(g, axis)
    return outside(scaled(rows, deviation(rows, inside(v, axis)), -total(cotangent)), x, axis)


@implementation(
    op="log_softmax",
    framework="numpy",
    name="conformance.numpy.log_softmax",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(log_softmax_vjp),
    jvp=quiet(log_softmax_jvp),
    hvp=quiet(log_softmax_hvp),
)
@quiet
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """d - log1p(t)."""
    rows = rows_of(inside(x, axis))
    return outside(rows.d - rows.ell, x, axis)


# --- logsumexp: m + log1p(t) ----------------------------------------------------------------


def logsumexp_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """g s."""
    return {"x": outside(inside(g[..., None]) * rows_of(inside(x, axis)).s, x, axis)}


def logsumexp_jvp(v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """<s, v>."""
    return reduced(mean(rows_of(inside(x, axis)), inside(v, axis)), x)


def logsumexp_hvp(g: Array, v: Array, x: Array, *, argument: str, axis: int) -> Array:
    """g s (v - <s, v>)."""
    rows, cotangent = rows_of(inside(x, axis)), inside(g[..., None])
    return outside(scaled(rows, deviation(rows, inside(v, axis)), cotangent), x, axis)


@implementation(
    op="logsumexp",
    framework="numpy",
    name="conformance.numpy.logsumexp",
    variant="composition",
    url=BLANCHARD,
    vjp=quiet(logsumexp_vjp),
    jvp=quiet(logsumexp_jvp),
    hvp=quiet(logsumexp_hvp),
)
@quiet
def logsumexp(x: Array, *, axis: int = -1) -> Array:
    """m + log1p(t); m itself where it is infinite."""
    rows = rows_of(inside(x, axis))
    return reduced(np.where(np.isinf(rows.m), rows.m, rows.m + rows.ell), x)
