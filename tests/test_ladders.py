"""The underflow policy of an implementation: where it is looked for, and whose it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from test_bench import CELL, bench, right, softmax

from conformance import ladders
from conformance.execution.protocol import Answer, Request, Result
from reference import formats, ops

DTYPES = ("float64", "float32", "bfloat16", "float16")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["sigmoid", "log_sigmoid", "logaddexp"])
def test_an_elementwise_op_is_asked_on_both_sides_of_the_subnormal_range(
    op: str, dtype: str
) -> None:
    fmt = formats.get(dtype)
    x = np.concatenate([case.inputs["x"] for case in ladders.rungs(op, dtype)])
    low, high = -fmt.emin * math.log(2), (fmt.precision - fmt.emin) * math.log(2)
    for side in (x, -x):
        within = (side > low) & (side < high)
        assert np.unique(side[within]).size >= 8


def test_rows_of_classes_are_not_mirrored_and_every_id_is_one_row() -> None:
    for op in ops.OPS:
        made = ladders.rungs(op, "float32")
        assert len({case.case_id for case in made}) == len(made)
        mirrored = any(case.case_id.endswith("mirrored") for case in made)
        assert mirrored == ops.get(op).elementwise


def flushed(values: Any) -> Any:
    tiny = np.abs(values) < np.finfo(values.dtype).tiny
    return np.where(tiny, values.dtype.type(0), values)


def flushing(request: Request) -> Answer:
    """Softmax that flushes its exponentials, and a jvp made of it."""
    s = flushed(softmax(request.arrays["x"]))
    if request.derivative == "value":
        return Result({"out": s})
    v = request.arrays["v_x"]
    return Result({"out": v - np.sum(s * v, axis=-1, keepdims=True)})


def test_a_derivative_that_is_never_small_inherits_the_policy_of_its_value() -> None:
    key = CELL.replace("/value/-/", "/jvp/x/")
    made, _ = bench(flushing, key)
    assert made.policy(made.plan.cells[0]).policy == "flush"
    made, _ = bench(right, CELL)
    assert made.policy(made.plan.cells[0]).policy == "gradual"
