"""A situation taken apart: who counts, with which weights, and the formulas of its results.

Notation and mathematics: :mod:`reference.reductions`. The formulas are written over the arithmetic
interface and free of cancellation that is not the mathematics' own; the oracle evaluates them, and
the strong error bound is that of evaluating them.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formats import F64
from .ops.base import Batch, Logits
from .situations.base import Situation

__all__ = ["Terms"]

Mask = NDArray[np.bool_]


class Terms:
    """A situation taken apart: who counts, with which weights, and what the sum is divided by."""

    def __init__(self, situation: Situation) -> None:
        self.situation = situation
        inputs = situation.inputs
        self.x: F64 = np.asarray(inputs["x"], np.float64)
        self.rows, self.n = self.x.shape
        self.soft = "target" in inputs
        self.smoothing = float(situation.options["label_smoothing"])
        self.reduction = situation.reduction
        labels = [] if self.soft else [int(k) for k in inputs["label"]]
        index = situation.options["ignore_index"]
        self.ignored: Mask = np.zeros(self.rows, bool)
        self.invalid: Mask = np.zeros(self.rows, bool)
        if not self.soft:
            self.ignored = np.array([index is not None and k == index for k in labels], bool)
            outside = np.array([not 0 <= k < self.n for k in labels], bool)
            self.invalid = outside & ~self.ignored
        self.counts: Mask = ~(self.ignored | self.invalid)
        self.labels = np.array([k if c else 0 for k, c in zip(labels, self.counts, strict=False)],
                               np.int64)  # fmt: skip
        self.weighted = "weight" in inputs
        self.weight: F64 = np.asarray(inputs.get("weight", np.ones(self.n)), np.float64)
        if self.soft:
            self.hot: F64 = np.asarray(inputs["target"], np.float64)
        else:
            hit = (np.arange(self.n) == self.labels[:, None]) & self.counts[:, None]
            self.hot = hit.astype(np.float64)
        """Targets, or the label's one-hot row; 0 in rows that do not count."""
        self.g: F64 = np.asarray(inputs["g"], np.float64)

    @cached_property
    def batch(self) -> Batch:
        """The logits of rows that count; zeros where others may hold anything."""
        return Batch({"x": np.where(self.counts[:, None] & ~np.isnan(self.x), self.x, 0.0)})

    @cached_property
    def has_nan(self) -> Mask:
        """Rows that count and hold a NaN."""
        return np.asarray(self.counts & np.isnan(self.x).any(axis=1))

    @cached_property
    def bears(self) -> Mask:
        """Where b can differ from 0."""
        some = (self.hot != 0) & (self.smoothing != 1.0)
        if self.smoothing:
            some |= self.counts[:, None]
        return np.asarray(some & (self.weight != 0))

    @cached_property
    def label_weights(self) -> F64:
        """What the mean's denominator adds up: one number a row."""
        if self.soft:
            return np.ones(self.rows)
        # A row whose label has no class counts as a row; what its weight would be, nobody knows.
        of_label = self.weight[self.labels] if self.n else np.zeros(self.rows)
        return np.where(self.counts, of_label, np.where(self.invalid, 1.0, 0.0))

    @cached_property
    def denominator(self) -> Fraction:
        """D, or 1 where nothing is divided."""
        if self.reduction != "mean":
            return Fraction(1)
        return sum((Fraction(w) for w in self.label_weights.tolist()), Fraction(0))

    @cached_property
    def of_nothing(self) -> bool:
        """A mean whose denominator is 0."""
        return self.denominator == 0

    def b_exactly(self, row: int) -> list[Fraction]:
        """b of one row."""
        a = Fraction(self.smoothing)
        share = a / self.n if self.counts[row] else Fraction(0)
        pairs = zip(self.hot[row].tolist(), self.weight.tolist(), strict=True)
        return [Fraction(w) * ((1 - a) * Fraction(t) + share) for t, w in pairs]

    def cotangent(self, row: int) -> Fraction:
        """G of one row."""
        g = self.g[row] if self.g.ndim else self.g
        return Fraction(float(g)) / self.denominator

    def flattened(self, per_row: Any) -> Any:
        """Numbers of shape (N, 1) as (1, N), in any arithmetic."""
        return per_row[np.zeros((1, self.rows), int) + np.arange(self.rows),
                       np.zeros((1, self.rows), int)]  # fmt: skip

    # ------------------------------------------------------------ formulas, in any arithmetic

    def b(self, a: Any) -> Any:
        """b (N, C)."""
        b = a.exact(self.hot)
        if self.smoothing:
            smoothing, one = (a.exact(np.full((1, 1), v)) for v in (self.smoothing, 1.0))
            share = smoothing / a.exact(np.full((1, 1), float(self.n)))
            b = b * (one - smoothing) + a.exact(self.counts[:, None] * np.ones((1, self.n))) * share
        return b * a.exact(self.weight[None, :]) if self.weighted else b

    def total_weight(self, a: Any) -> Any:
        """D (1, 1)."""
        return a.total(self.label_weights[None, :])

    def scale(self, a: Any) -> Any:
        """G (N, 1)."""
        g = a.exact(np.broadcast_to(self.g.reshape(-1, 1), (self.rows, 1)).copy())
        return g / self.total_weight(a) if self.reduction == "mean" else g

    def losses(self, a: Any) -> Any:
        """The rows' losses (N, 1): sum(b) log1p(t) - sum b d, every term >= 0 where b is."""
        row, b = Logits(a, self.batch), self.b(a)
        bears = self.bears & self.batch.kept
        spread = a.sum(a.where(bears, b * row.d, row.zero))
        return a.sum(b) * a.log1p(row.t) - spread

    def value(self, a: Any) -> Any:
        """The losses, their sum or their mean."""
        losses = self.losses(a)
        if self.reduction == "none":
            return losses
        total = a.sum(self.flattened(losses))
        return total / self.total_weight(a) if self.reduction == "mean" else total

    def vjp_x(self, a: Any) -> Any:
        """-G (b_i - s_i sum b), at the largest logit by what is left of it."""
        row, b = Logits(a, self.batch), self.b(a)
        total = a.sum(b)
        rest = a.sum(a.where(self.batch.top, row.zero, b))
        at_top = row.t / row.S * total - rest
        return -self.scale(a) * a.where(self.batch.top, at_top, b - row.s * total)

    def vjp_target(self, a: Any) -> Any:
        """-G (1 - a) w_i l_i."""
        row = Logits(a, self.batch)
        scale = self.scale(a)
        if self.smoothing:
            smoothing, one = (a.exact(np.full((1, 1), v)) for v in (self.smoothing, 1.0))
            scale = scale * (one - smoothing)
        return -scale * a.exact(self.weight[None, :]) * row.l

    def formula(self, argument: str) -> Any:
        """The formula of a map, by its argument."""
        return {"-": self.value, "x": self.vjp_x, "target": self.vjp_target}[argument]
