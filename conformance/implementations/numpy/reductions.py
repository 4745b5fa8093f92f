"""Class weights, smoothing, ignored rows and reductions of cross-entropies in NumPy.

With label k or targets t, weights w and smoothing a over C classes b = w ((1 - a) t + a / C), and a
row's loss is -sum b l. The mean divides by the sum of w_k over the rows that count; of soft targets
by the number of rows. Ignored rows are taken out before anything is computed from them, so that
whatever they hold reaches nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from conformance.implementations.numpy.arrays import Array, inside, total

__all__ = ["Batch", "hard", "soft"]


@dataclass(frozen=True)
class Batch:
    """What losses and gradients are computed from, the classes last, half formats in float32."""

    x: Array
    """Logits; zeros in ignored rows."""
    b: Array
    """What each class's log-probability is weighted with; zeros in ignored rows."""
    counts: Array
    """Rows that are not ignored, (..., 1)."""
    denominator: Array
    """Of the mean."""
    target_factor: Array
    """The derivative of b to the targets."""
    reduction: str

    def reduce(self, losses: Array) -> Array:
        """The losses (..., 1), their sum or their mean, with an axis of length 1 at the end."""
        losses = np.where(self.counts, losses, losses.dtype.type(0))
        if self.reduction == "none":
            return losses
        summed = np.sum(losses, keepdims=True).reshape(1)
        return summed / self.denominator if self.reduction == "mean" else summed

    def cotangent(self, g: Array) -> Array:
        """That of each row's loss, (..., 1) or (1,)."""
        scale = inside(np.asarray(g)[..., None])
        return scale / self.denominator if self.reduction == "mean" else scale


def hard(
    x: Array,
    label: Array,
    axis: int,
    weight: Array | None,
    ignore_index: int | None,
    label_smoothing: float,
    reduction: str,
) -> Batch:
    """Of labels.

    Raises
    ------
    ValueError
        If a label names no class and is not ignored.
    """
    rows = inside(x, axis)
    n, dtype = rows.shape[-1], rows.dtype
    counts = np.ones(label.shape, bool) if ignore_index is None else label != ignore_index
    if np.any(counts & ((label < 0) | (label >= n))):
        raise ValueError(f"a label lies outside [0, {n})")
    counts = counts[..., None]
    hot = (np.arange(n) == label[..., None]) & counts
    classes = np.ones(n, dtype) if weight is None else inside(weight)
    of_labels = np.where(hot, classes, dtype.type(0))
    a = dtype.type(label_smoothing)
    b = (1 - a) * of_labels
    if label_smoothing:
        b = b + np.where(counts, a / n * classes, dtype.type(0))
    denominator = np.sum(of_labels, dtype=dtype)
    return Batch(np.where(counts, rows, dtype.type(0)), b, counts, denominator, b, reduction)


def soft(
    x: Array,
    target: Array,
    axis: int,
    weight: Array | None,
    label_smoothing: float,
    reduction: str,
) -> Batch:
    """Of targets, whatever they sum to."""
    rows, t = inside(x, axis), inside(target, axis)
    dtype, n = rows.dtype, rows.shape[-1]
    classes = np.ones(n, dtype) if weight is None else inside(weight)
    a = dtype.type(label_smoothing)
    factor = (1 - a) * classes
    b = (classes * ((1 - a) * t + a / n)) if label_smoothing else classes * t
    count = dtype.type(total(np.ones_like(rows))[..., 0].size)
    return Batch(rows, b, np.ones((*rows.shape[:-1], 1), bool), count, factor, reduction)
