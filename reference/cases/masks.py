"""masks: entries pushed out of the way by -inf, the format's minimum, -1e9 or -1e4.

Partly masked at every density, all but one, a single entry at each end and in the middle, and
fully masked. Targets and labels sit on kept entries, except in every fifth row, where the label
sits on a masked one.
"""

from __future__ import annotations

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows, one_hot

_DENSITIES = (0.2, 0.5, 0.9)


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    infinity = [-np.inf] if fmt.has_infinity else []
    fills = [*infinity, -fmt.max_finite, *(-v for v in (1e9, 1e4) if v < fmt.max_finite)]
    x, masks = [], []
    for fill in formats.nearest(fmt, np.array(fills)):
        for mask in _masks(n, rng):
            row = formats.nearest(fmt, rng.standard_normal(n) * 3)
            x.append(np.where(mask, fill, row))
            masks.append(mask)
    masked = np.stack(masks)
    return Rows(np.stack(x), *_targets(fmt, masked, rng))


def _masks(n: int, rng: np.random.Generator) -> list[np.ndarray]:
    positions = [np.arange(n) == k for k in sorted({0, n // 2, n - 1})]
    random = [rng.random(n) < density for density in _DENSITIES]
    all_but_one = np.arange(n) != rng.integers(0, n)
    return [*positions, *random, all_but_one, np.ones(n, bool)]


def _targets(
    fmt: Format, masked: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    weights = (rng.exponential(size=masked.shape) + 1e-3) * ~masked
    total = weights.sum(axis=1, keepdims=True)
    target = formats.nearest(fmt, weights / np.where(total > 0, total, 1.0))
    noise = rng.random(masked.shape)
    label = np.argmax(np.where(masked, -1.0, noise), axis=1)
    odd = (np.arange(len(masked)) % 5 == 4) & masked.any(axis=1)
    label = np.where(odd, np.argmax(np.where(masked, noise, -1.0), axis=1), label)
    target[odd] = one_hot(label[odd], masked.shape[1])
    return target, label.astype(np.int64)


FAMILY = Family("masks", 1, generate)
