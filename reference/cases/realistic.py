"""realistic: rows as they come out of models.

Language-model rows (a broad bulk with a heavy upper tail), small classifiers, causal attention
scores and router logits, in turn.
"""

from __future__ import annotations

import numpy as np

from .. import formats
from ..formats import Format
from .base import Family, Rows

_ROWS = 24


def generate(op: str, fmt: Format, n: int, rng: np.random.Generator) -> Rows:
    normal = rng.standard_normal((_ROWS, n))
    language_model = -2.0 + 2.5 * normal + 3.0 * rng.pareto(3.0, (_ROWS, n))
    classifier = 4.0 * normal + 6.0 * (np.arange(n) == rng.integers(0, n, (_ROWS, 1)))
    attention = normal * rng.uniform(0.5, 8.0, (_ROWS, 1))
    router = 0.1 * normal
    kinds = np.stack([language_model, classifier, attention, router])
    chosen = kinds[np.arange(_ROWS) % len(kinds), np.arange(_ROWS)]
    return Rows(formats.nearest(fmt, np.clip(chosen, -fmt.max_finite, fmt.max_finite)))


FAMILY = Family("realistic", 1, generate)
