"""log_sigmoid: f = -log(1 + exp(-x)) = -softplus(-x) = min(x, 0) - log1p(exp(-|x|)).

f' = sigmoid(-x), f'' = -sigmoid'(x): the parts of :mod:`reference.ops.softplus` and
:mod:`reference.ops.sigmoid`.

Exact: f'(0) = 1/2, f''(0) = -1/4; f itself never is. Limits: 0 (from below) at +inf with slope 0,
-inf at -inf with slope 1.
"""

from __future__ import annotations

from .base import Op
from .elementwise import derivatives
from .sigmoid import part_of, slope
from .softplus import log_part

OP = Op(
    name="log_sigmoid",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={
        ("value", "-"): log_part(-1, negated=True).map(),
        **derivatives(
            {"x": part_of(-1, by_log=True)}, {("x", "x"): slope(negated=True, by_log=True)}
        ),
    },
    elementwise=True,
)
