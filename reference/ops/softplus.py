"""softplus: f = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), both terms >= 0.

f' = sigmoid(x), f'' = sigmoid'(x): the parts of :mod:`reference.ops.sigmoid`.

Exact: f'(0) = 1/2, f''(0) = 1/4; f itself never is. Limits: +inf at +inf with slope 1, 0 at -inf
with slope 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import ZERO, Batch, Op
from .elementwise import Logistic, Part, Table, Textbook, derivatives, finite
from .intervals import Interval
from .sigmoid import part_of, slope


def log_part(sign: int, negated: bool = False) -> Part:
    """softplus(sign x), or minus that, as a part."""

    def define(mp: Any, x: Any) -> Any:
        value = mp.log(1 + mp.exp(sign * x))
        return -value if negated else value

    def signed(number: Any) -> Any:
        return -number if negated else number

    def settle(table: Table, b: Batch) -> None:
        table.infinite(b.x == sign * np.inf, -1.0 if negated else 1.0)
        table.put(b.x == -sign * np.inf, ZERO)

    def between(b: Batch) -> Interval:
        """Above max(sign x, 0)."""
        end, infinity = np.maximum(sign * b.x, 0.0), np.full(b.x.shape, np.inf)
        return (-infinity, -end) if negated else (end, infinity)

    return Part(
        ("x",),
        define,
        lambda a, b: signed(Logistic(a, b.x).softplus(sign)),
        lambda a, b: signed(Textbook(a, b.x).softplus(sign)),
        settle,
        between,
        terms=lambda a, b: [
            (signed(a.exact(np.maximum(sign * finite(b.x), 0.0))),),
            (signed(Logistic(a, b.x).log1p),),
        ],
    )


OP = Op(
    name="softplus",
    inputs=("x",),
    differentiable=("x",),
    per_row=False,
    maps={
        ("value", "-"): log_part(1).map(),
        **derivatives({"x": part_of(1, by_log=True)}, {("x", "x"): slope(by_log=True)}),
    },
    elementwise=True,
)
