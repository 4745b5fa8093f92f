"""Random situations: every combination of labels, targets, weights and options that is defined.

Shapes come from a short list, because eager JAX compiles every primitive for every shape.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from reference import formats
from reference.cases.base import generator
from reference.situations import Situation
from reference.situations.base import REDUCTIONS, Draft, completed, logits

SHAPES = ((4, 5), (3, 8))
SPARSE, SOFT = "sparse_softmax_cross_entropy", "softmax_cross_entropy"


def draw(
    seed: int,
    number: int,
    fmt_name: str,
    op: str,
    takes: frozenset[str],
    shapes: tuple[tuple[int, int], ...] = SHAPES,
) -> Situation:
    """One whose options are among those that a loss takes."""
    fmt = formats.get(fmt_name)
    rng = generator("random situations", seed, number, fmt_name, op)
    rows, classes = shapes[int(rng.integers(len(shapes)))]
    options: dict[str, Any] = {}
    if "reduction" in takes:
        options["reduction"] = str(rng.choice(REDUCTIONS))
    if "label_smoothing" in takes:
        options["label_smoothing"] = float(rng.choice([0.0, 0.1, 0.25, 1.0, rng.random()]))
    weight = None
    if "weight" in takes and rng.random() < 0.6:
        weight = rng.uniform(0.1, 4.0, classes)
        if rng.random() < 0.4:
            weight[rng.permutation(classes)[: int(rng.integers(1, classes + 1))]] = 0.0
    x = logits(rng, rows, classes) * float(rng.choice([0.1, 1.0, 3.0]))
    if op == SOFT:
        target = rng.uniform(-0.5, 1.0, (rows, classes)) * (rng.random((rows, classes)) < 0.7)
        draft = Draft(x, target=target, weight=weight, options=options)
    else:
        label = rng.integers(0, classes, rows)
        if "ignore_index" in takes and rng.random() < 0.7:
            options["ignore_index"] = int(rng.choice([-100, -1, 255, rng.integers(classes)]))
            ignored = rng.random(rows) < float(rng.choice([0.3, 0.6, 1.0]))
            label = np.where(ignored, options["ignore_index"], label)
        draft = Draft(x, label=label.astype(np.int64), weight=weight, options=options)
    return completed(f"{op}-{fmt_name}-random-{seed}-{number}", op, fmt, "random", draft, rng)
