"""What people write in NumPy and should not: measured, shown, and not judged.

Everything in the dtype of x, as such code is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from conformance.implementations.common import CLIP, antipatterns
from conformance.implementations.numpy.arrays import Array, Function, quiet
from conformance.implementations.numpy.softmaxes import softmax
from conformance.registry import implementation

__all__: list[str] = []


def _log_of_softmax(x: Array, target: Array, *, axis: int = -1) -> Array:
    """-sum t log(p), p the softmax rounded to the dtype of x."""
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
    log_of_softmax=quiet(_log_of_softmax),
    clipped_log_of_softmax=quiet(_clipped_log_of_softmax),
    log_of_softmax_vjp=quiet(_log_of_softmax_vjp),
    clipped_log_of_softmax_vjp=quiet(_clipped_log_of_softmax_vjp),
)


# --- values only ----------------------------------------------------------------------------


def _unsound(op: str, what: str, without: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        implementation(
            op=op,
            framework="numpy",
            name=f"antipattern.numpy.{what}",
            role="antipattern",
            variant="composition",
            derivatives=("value",),
            without=without,
        )(quiet(function))
        return function

    return register


def _like(array: Array, x: Array) -> Array:
    return np.asarray(array, x.dtype)


@_unsound("log_softmax", "log_of_softmax_values")
def log_of_softmax_values(x: Array, *, axis: int = -1) -> Array:
    """log(softmax(x)): -inf where a probability underflows, 0 or -u where it is all but 1."""
    return _like(np.log(softmax(x, axis=axis)), x)


@_unsound("log_softmax", "x_minus_logsumexp")
def x_minus_logsumexp(x: Array, *, axis: int = -1) -> Array:
    """x - lse with lse rounded: an error of an ulp of lse, however small the result is."""
    m = np.max(x, axis=axis, keepdims=True)
    return _like(x - (m + np.log(np.sum(np.exp(x - m), axis=axis, keepdims=True))), x)


@_unsound("logsumexp", "unshifted_logsumexp")
def unshifted_logsumexp(x: Array, *, axis: int = -1) -> Array:
    """log(sum(exp(x))): overflows as soon as a logit passes log(max), and -inf far below 0."""
    return _like(np.log(np.sum(np.exp(x), axis=axis)), x)


@_unsound("masked_softmax", "masked_by_minus_1e9")
def masked_by_minus_1e9(x: Array, mask: Array, *, axis: int = -1) -> Array:
    """softmax(x - 1e9 where dropped): uniform where nothing is kept, wrong beside large logits,
    and -1e9 is -inf in float16, which NaN and infinities in dropped entries survive."""
    penalty = np.where(mask, x.dtype.type(0), x.dtype.type(-1e9))
    return np.asarray(softmax(_like(x + penalty, x), axis=axis))


@_unsound("categorical_entropy", "p_log_p_entropy")
def p_log_p_entropy(x: Array, *, axis: int = -1) -> Array:
    """-sum p log(p): 0 * -inf where a probability underflows."""
    p = softmax(x, axis=axis)
    return _like(-np.sum(p * np.log(p), axis=axis), x)


@_unsound("log_sigmoid", "log_of_sigmoid")
def log_of_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(-x))): -inf where exp(-x) overflows, 0 where 1 + exp(-x) is 1."""
    one = x.dtype.type(1)
    return _like(np.log(one / (one + np.exp(-x))), x)


@_unsound("softplus", "log_of_one_plus_exp")
def log_of_one_plus_exp(x: Array) -> Array:
    """log(1 + exp(x)): +inf where exp(x) overflows, 0 where 1 + exp(x) is 1."""
    return _like(np.log(x.dtype.type(1) + np.exp(x)), x)


@_unsound("sigmoid_cross_entropy", "max_abs_bce", without=("pos_weight",))
def max_abs_bce(x: Array, target: Array) -> Array:
    """max(x, 0) - x z + log1p(exp(-|x|)): x - x z cancels near z = 1, and automatic derivatives of
    max and abs at 0 are wrong."""
    zero = x.dtype.type(0)
    return _like(np.maximum(x, zero) - x * target + np.log1p(np.exp(-np.abs(x))), x)
