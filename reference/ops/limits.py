"""Rows with infinite logits and NaN: what the settling of several ops has in common."""

from __future__ import annotations

import numpy as np

from .base import NAN, UNDEFINED, ZERO, Batch, Settled


def settle_limits(b: Batch) -> Settled:
    """Rows that no formula covers, with +inf entries left to the caller's rule.

    NaN anywhere: NaN row. No finite entry and no +inf: undefined. -inf: 0.
    """
    out = Settled.formula(b.x.shape)
    if b.whole and b.n:
        return out
    out.codes[(b.x == -np.inf)] = ZERO
    out.codes[b.infinities > 0] = ZERO
    out.codes[(b.infinities > 1)[:, None] & (b.x == np.inf)] = UNDEFINED
    out.codes[(b.count == 0) & (b.infinities == 0)] = UNDEFINED
    out.codes[b.has_nan] = NAN
    if b.n == 1:
        out.codes[np.isinf(b.x)] = UNDEFINED
    return out


def one_infinity(b: Batch) -> list[tuple[int, int]]:
    """(row, index) of the +inf entry of rows of two or more with exactly one, and no NaN."""
    if b.n < 2:
        return []
    rows = np.flatnonzero((b.infinities == 1) & ~b.has_nan)
    return [(int(r), int(np.flatnonzero(b.x[r] == np.inf)[0])) for r in rows]


def settle_unless_regular(b: Batch, columns: int) -> Settled:
    """Nothing is known of rows without infinities; the others are undefined, or NaN."""
    out = Settled.formula((b.rows, columns))
    out.codes[~b.regular] = UNDEFINED
    out.codes[b.has_nan] = NAN
    return out
