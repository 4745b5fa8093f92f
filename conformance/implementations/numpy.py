"""NumPy: the shifted, cancellation-free formulas with their derivatives, a control, mutants.

NumPy has none of these ops, so these are the textbook formulas, written as one should write them.
Notation of docs/contract.md: m = max x, d = x - m, e = exp(d), S = sum e, s = softmax(x),
l = log_softmax(x). Beside it t = S - 1, summed without the (first) maximum and never formed by
the subtraction, and q = t / S = 1 - s at the maximum: where one class dominates, log1p(t) and q
keep every digit that log(S) and 1 - s lose.

Everything is computed in the dtype of x, except in the half formats: bfloat16 and float16 are
computed in float32 inside and rounded once at the end.

Infinite logits follow the limits of docs/contract.md: at a single +inf d is 0, and -inf elsewhere.
What has no limit (two or more +inf, nothing but -inf, an infinite logit alone) is NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from conformance.implementations.common import CLIP, antipatterns, control, mutants
from conformance.registry import implementation

__all__: list[str] = []

Array: TypeAlias = npt.NDArray[Any]
Function: TypeAlias = Callable[..., Any]

_HALF = (np.dtype(ml_dtypes.bfloat16), np.dtype(np.float16))
_URL = "https://doi.org/10.1093/imanum/draa038"  # Blanchard, Higham, Higham (2021)


def _quiet(function: Function) -> Function:
    """Overflow to inf and inf - inf are part of the formulas, and nothing to warn about."""

    @functools.wraps(function)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return quiet


def _inside(array: Array, axis: int = -1) -> Array:
    """The axis last, half formats in float32."""
    moved = np.moveaxis(array, axis, -1)
    return np.ascontiguousarray(moved, np.float32 if array.dtype in _HALF else None)


def _outside(array: Array, like: Array, axis: int = -1) -> Array:
    """The axis back in its place, and one rounding to the dtype of the input."""
    return np.ascontiguousarray(np.moveaxis(array, -1, axis), like.dtype)


def _outside_reduced(array: Array, like: Array) -> Array:
    """The axis gone, and one rounding to the dtype of the input."""
    return np.asarray(array[..., 0], like.dtype, order="C")


@dataclass(frozen=True)
class _Rows:
    """What all five ops are made of; the classes are last, and kept as 1 where reduced."""

    x: Array
    m: Array
    d: Array
    t: Array
    s: Array
    q: Array
    top: Array
    """True at the first maximum."""
    no_limit: Array
    """Rows whose value at the infinities is undefined."""

    @property
    def ell(self) -> Array:
        """log S = log1p(t)."""
        return np.log1p(self.t)

    @property
    def dominated(self) -> Array:
        """The first maximum, where it holds more than half of the probability."""
        return self.top & (self.q < 0.5)


def _rows(x: Array) -> _Rows:
    n = x.shape[-1]
    zero, nan = x.dtype.type(0), x.dtype.type(np.nan)
    m = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    highest = x == m
    no_limit = np.isinf(m) & ((np.sum(highest, axis=-1, keepdims=True) > 1) | (n == 1))
    # A finite difference beyond the format is -inf, and its exponential 0, as it should be. In a
    # row with a NaN m is NaN and no entry equals it, so all of d is NaN.
    d = np.where(highest, np.where(no_limit, nan, zero), x - m)
    top = np.zeros(x.shape, np.bool_)
    if n:
        np.put_along_axis(top, np.argmax(x, axis=-1, keepdims=True), True, axis=-1)
    e = np.exp(d)
    # Rows without a limit: the entries beside the infinities have one, so t must not be NaN.
    t = np.sum(np.where(top | no_limit, zero, e), axis=-1, keepdims=True)
    big_s = 1 + t
    # A NaN logit alone is its own maximum, and t is an empty sum that knows nothing of it.
    q = np.where(no_limit | np.isnan(m), nan, t / big_s)
    return _Rows(x, m, d, t, e / big_s, q, top, no_limit)


def _sum(values: Array) -> Array:
    return np.asarray(np.sum(values, axis=-1, keepdims=True))


def _sum_of_others(values: Array, rows: _Rows) -> Array:
    """The sum without the entry at the maximum."""
    return _sum(np.where(rows.top, values.dtype.type(0), values))


def _half_log_softmax(rows: _Rows) -> Array:
    """l / 2, finite wherever x is: for rows whose span is beyond the format."""
    return (rows.x / 2 - rows.m / 2) - rows.ell / 2


def _too_wide(rows: _Rows) -> Array:
    """Rows of finite maximum in which a finite difference is beyond the format."""
    lost = np.isneginf(rows.d) & np.isfinite(rows.x)
    wide: Array = np.any(lost, axis=-1, keepdims=True) & np.isfinite(rows.m)
    return wide


def _times(weight: Array, value: Array) -> Array:
    """The product, in which a weight of exactly 0 silences an infinity (but no NaN)."""
    product = np.where((weight == 0) & np.isinf(value), weight, weight * value)
    return np.asarray(product)


# --- softmax: s = e / S ---------------------------------------------------------------------


def _softmax_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """s (g - <s,g>), the mean taken off twice.

    The second time removes what rounding left of the first; where all g that matter are nearly
    equal, the difference keeps its digits.
    """
    rows, c = _rows(_inside(x, axis)), _inside(g, axis)
    for _ in range(2):
        c = c - _sum(rows.s * c)
    # Beside two +inf s is 0, and so is the derivative, although the mean is undefined.
    gradient = np.where(rows.no_limit & (rows.s == 0), rows.s, rows.s * c)
    return {"x": _outside(gradient, x, axis)}


@implementation(
    op="softmax",
    framework="numpy",
    name="conformance.numpy.softmax",
    variant="composition",
    url=_URL,
    vjp=_quiet(_softmax_vjp),
)
@_quiet
def softmax(x: Array, *, axis: int = -1) -> Array:
    """exp(x - m) / (1 + t)."""
    return _outside(_rows(_inside(x, axis)).s, x, axis)


# --- log_softmax: l = d - log1p(t) ----------------------------------------------------------


def _log_softmax_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """g - s sum(g); at a dominant maximum q sum(g) - sum of the other g, which is the same
    without cancellation."""
    rows, inner = _rows(_inside(x, axis)), _inside(g, axis)
    total = _sum(inner)
    gradient = np.where(
        rows.dominated, rows.q * total - _sum_of_others(inner, rows), inner - rows.s * total
    )
    return {"x": _outside(gradient, x, axis)}


@implementation(
    op="log_softmax",
    framework="numpy",
    name="conformance.numpy.log_softmax",
    variant="composition",
    url=_URL,
    vjp=_quiet(_log_softmax_vjp),
)
@_quiet
def log_softmax(x: Array, *, axis: int = -1) -> Array:
    """d - log1p(t)."""
    rows = _rows(_inside(x, axis))
    return _outside(rows.d - rows.ell, x, axis)


# --- logsumexp: m + log1p(t) ----------------------------------------------------------------


def _logsumexp_vjp(g: Array, x: Array, *, axis: int) -> dict[str, Array]:
    """g s."""
    rows = _rows(_inside(x, axis))
    return {"x": _outside(_inside(g[..., None]) * rows.s, x, axis)}


@implementation(
    op="logsumexp",
    framework="numpy",
    name="conformance.numpy.logsumexp",
    variant="composition",
    url=_URL,
    vjp=_quiet(_logsumexp_vjp),
)
@_quiet
def logsumexp(x: Array, *, axis: int = -1) -> Array:
    """m + log1p(t); m itself where it is infinite."""
    rows = _rows(_inside(x, axis))
    return _outside_reduced(np.where(np.isinf(rows.m), rows.m, rows.m + rows.ell), x)


# --- cross-entropy: -sum t l ----------------------------------------------------------------


def _gradient_to_x(rows: _Rows, target: Array) -> Array:
    """s sum(t) - t; at a dominant maximum sum of the other t - q sum(t), which is the same
    without cancellation."""
    total = _sum(target)
    return np.where(
        rows.dominated,
        _sum_of_others(target, rows) - rows.q * total,
        rows.s * total - target,
    )


def _softmax_cross_entropy_vjp(g: Array, x: Array, target: Array, *, axis: int) -> dict[str, Array]:
    """To x: g (s sum(t) - t). To the target: -g l."""
    rows, t, inner = _rows(_inside(x, axis)), _inside(target, axis), _inside(g[..., None])
    to_target = np.where(
        _too_wide(rows),
        -_times(inner, _half_log_softmax(rows)) * 2,
        -_times(inner, rows.d - rows.ell),
    )
    return {
        "x": _outside(inner * _gradient_to_x(rows, t), x, axis),
        "target": _outside(to_target, target, axis),
    }


@implementation(
    op="softmax_cross_entropy",
    framework="numpy",
    name="conformance.numpy.softmax_cross_entropy",
    variant="composition",
    url=_URL,
    vjp=_quiet(_softmax_cross_entropy_vjp),
)
@_quiet
def softmax_cross_entropy(x: Array, target: Array, *, axis: int = -1) -> Array:
    """-sum t l, in which t = 0 contributes 0 even where l is -inf or has no limit."""
    rows, t = _rows(_inside(x, axis)), _inside(target, axis)
    l = rows.d - rows.ell  # noqa: E741 - the contract's name for it
    # m is NaN in a row with a NaN logit, which no target silences.
    loss = -_sum(np.where((t == 0) & ~np.isnan(rows.m), t, t * l))
    wide = _too_wide(rows)
    if np.any(wide):
        # l overflows although t l need not, and an overflow must not meet one of the other sign:
        # l is halved and t scaled so that no partial sum overflows.
        scale = t.shape[-1] * np.max(np.abs(t), axis=-1, keepdims=True, initial=1)
        scaled = -_sum(_times(t / scale, _half_log_softmax(rows)))
        loss = np.where(wide, scaled * 2 * scale, loss)
    # +inf whatever the undefined terms beside it are, since these cannot be -inf for t >= 0.
    certain = np.any((t > 0) & np.isneginf(l), axis=-1, keepdims=True) & rows.no_limit
    return _outside_reduced(np.where(certain, loss.dtype.type(np.inf), loss), x)


def _one_hot(rows: _Rows, label: Array) -> Array:
    n = rows.x.shape[-1]
    if np.any((label < 0) | (label >= n)):
        raise ValueError(f"a label lies outside [0, {n})")
    hot: Array = np.arange(n) == np.asarray(label)[..., None]
    return hot


def _sparse_softmax_cross_entropy_vjp(
    g: Array, x: Array, label: Array, *, axis: int
) -> dict[str, Array]:
    """g (s - 1 at the label); -g q where the label is the dominant maximum."""
    rows = _rows(_inside(x, axis))
    target = _one_hot(rows, label).astype(rows.x.dtype)
    return {"x": _outside(_inside(g[..., None]) * _gradient_to_x(rows, target), x, axis)}


@implementation(
    op="sparse_softmax_cross_entropy",
    framework="numpy",
    name="conformance.numpy.sparse_softmax_cross_entropy",
    variant="composition",
    url=_URL,
    vjp=_quiet(_sparse_softmax_cross_entropy_vjp),
)
@_quiet
def sparse_softmax_cross_entropy(x: Array, label: Array, *, axis: int = -1) -> Array:
    """log1p(t) - d at the label."""
    rows = _rows(_inside(x, axis))
    zero = rows.d.dtype.type(0)
    d_label = _sum(np.where(_one_hot(rows, label), rows.d, zero))
    return _outside_reduced(rows.ell - d_label, x)


# --- hand-written cross-entropies -----------------------------------------------------------


def _log_of_softmax(x: Array, target: Array, *, axis: int = -1) -> Array:
    """-sum t log(p) in the dtype of x, p the softmax rounded to it."""
    p = softmax(x, axis=axis)
    return np.asarray(-np.sum(target * np.log(p), axis=axis), x.dtype)


def _clipped_log_of_softmax(x: Array, target: Array, *, axis: int = -1) -> Array:
    p = softmax(x, axis=axis)
    clipped = np.clip(p, p.dtype.type(CLIP), p.dtype.type(1))
    return np.asarray(-np.sum(target * np.log(clipped), axis=axis), x.dtype)


def _through_softmax(g: Array, p: Array, slope: Array, axis: int) -> Array:
    """The chain rule as automatic differentiation applies it: p (c - <p, c>), c = -g slope."""
    c = -np.expand_dims(g, axis) * slope
    return np.asarray(p * (c - np.sum(p * c, axis=axis, keepdims=True)), p.dtype)


def _log_of_softmax_vjp(g: Array, x: Array, target: Array, *, axis: int) -> dict[str, Array]:
    p = softmax(x, axis=axis)
    return {
        "x": _through_softmax(g, p, target / p, axis),
        "target": np.asarray(-np.expand_dims(g, axis) * np.log(p), x.dtype),
    }


def _clipped_log_of_softmax_vjp(
    g: Array, x: Array, target: Array, *, axis: int
) -> dict[str, Array]:
    p = softmax(x, axis=axis)
    low = p.dtype.type(CLIP)
    clipped = np.clip(p, low, p.dtype.type(1))
    slope = np.where(p >= low, target / clipped, p.dtype.type(0))
    return {
        "x": _through_softmax(g, p, slope, axis),
        "target": np.asarray(-np.expand_dims(g, axis) * np.log(clipped), x.dtype),
    }


antipatterns(
    "numpy",
    log_of_softmax=_quiet(_log_of_softmax),
    clipped_log_of_softmax=_quiet(_clipped_log_of_softmax),
    log_of_softmax_vjp=_quiet(_log_of_softmax_vjp),
    clipped_log_of_softmax_vjp=_quiet(_clipped_log_of_softmax_vjp),
)


# --- control and mutants --------------------------------------------------------------------


def _answer(answer: Array, *, axis: int = -1) -> Array:
    return answer.copy()


control("numpy", _answer)


def _unshifted_softmax(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x)
    return np.asarray(e / np.sum(e, axis=axis, keepdims=True))


def _softmax_minus_target_vjp(g: Array, x: Array, target: Array, *, axis: int) -> dict[str, Array]:
    correct = _softmax_cross_entropy_vjp(g, x, target, axis=axis)
    rows, t = _rows(_inside(x, axis)), _inside(target, axis)
    return {**correct, "x": _outside(_inside(g[..., None]) * (rows.s - t), x, axis)}


mutants(
    "numpy",
    unshifted_softmax=_quiet(_unshifted_softmax),
    softmax_minus_target=softmax_cross_entropy,
    softmax_minus_target_vjp=_quiet(_softmax_minus_target_vjp),
)
