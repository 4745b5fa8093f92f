"""softmax_cross_entropy with soft targets: f = -sum_i t_i l_i; the targets need not sum to 1.

Value and gradients, with their exact cases and limits: :mod:`reference.ops.cross_entropy`. Forward
and second derivatives: :mod:`reference.ops.cross_entropy_second`.
"""

from __future__ import annotations

from . import cross_entropy, cross_entropy_second
from .base import Op

MAPS = {**cross_entropy.MAPS, **cross_entropy_second.MAPS}

OP = Op(
    name="softmax_cross_entropy",
    inputs=("x", "target"),
    differentiable=("x", "target"),
    per_row=True,
    maps=MAPS,
)
