"""sparse_softmax_cross_entropy: f = -l_k for the label k, one loss per row.

This is softmax_cross_entropy with the one-hot target of k (every formula, limit and bound of it
applies), differentiable to x only: g (s_i - [i = k]); jvp <s, v> - v_k; hvp g s_i (v_i - <s, v>).
"""

from __future__ import annotations

from .base import Op
from .softmax_cross_entropy import MAPS

OP = Op(
    name="sparse_softmax_cross_entropy",
    inputs=("x", "label"),
    differentiable=("x",),
    per_row=True,
    maps={key: value for key, value in MAPS.items() if "target" not in key[1]},
)
