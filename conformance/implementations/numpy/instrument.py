"""NumPy's controls and mutants."""

from __future__ import annotations

import numpy as np

from conformance.implementations.common import control, mutants
from conformance.implementations.numpy.arrays import Array, inside, outside, quiet
from conformance.implementations.numpy.cross_entropies import (
    softmax_cross_entropy,
    softmax_cross_entropy_vjp,
    sparse_softmax_cross_entropy,
)
from conformance.implementations.numpy.rows import rows_of
from conformance.implementations.numpy.softmaxes import softmax

__all__: list[str] = []


def _answer(answer: Array, *, axis: int = -1) -> Array:
    return answer.copy()


control("numpy", _answer)


def _unshifted_softmax(x: Array, *, axis: int = -1) -> Array:
    e = np.exp(x)
    return np.asarray(e / np.sum(e, axis=axis, keepdims=True))


def _softmax_minus_target_vjp(g: Array, x: Array, target: Array, *, axis: int) -> dict[str, Array]:
    correct = softmax_cross_entropy_vjp(g, x, target, axis=axis)
    s, t = rows_of(inside(x, axis)).s, inside(target, axis)
    return {**correct, "x": outside(inside(g[..., None]) * (s - t), x, axis)}


def _mean_of_all(
    x: Array,
    label: Array,
    *,
    ignore_index: int | None = None,
    reduction: str = "none",
    axis: int = -1,
) -> Array:
    losses: Array = sparse_softmax_cross_entropy(x, label, ignore_index=ignore_index, axis=axis)
    if reduction == "none":
        return losses
    return np.asarray(np.mean(losses) if reduction == "mean" else np.sum(losses))


def _last_axis_softmax(x: Array, *, axis: int = -1) -> Array:
    values: Array = softmax(x, axis=axis if x.ndim <= 2 else -1)
    return values


def _shared_maximum_softmax(x: Array, *, axis: int = -1) -> Array:
    return _unshifted_softmax(x - np.max(x), axis=axis)


mutants(
    "numpy",
    unshifted_softmax=quiet(_unshifted_softmax),
    softmax_minus_target=softmax_cross_entropy,
    softmax_minus_target_vjp=quiet(_softmax_minus_target_vjp),
    mean_of_all=_mean_of_all,
    last_axis_softmax=_last_axis_softmax,
    shared_maximum_softmax=quiet(_shared_maximum_softmax),
)
