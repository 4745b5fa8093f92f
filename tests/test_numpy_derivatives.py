"""Every derivative that NumPy's implementations bring, against the oracle on hard rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conformance.execution.executor import numpy_dtype
from conformance.frameworks import get_framework
from conformance.frameworks.base import array_names
from conformance.judge import Answered, Judgement, judge
from conformance.registry import Implementation, load_builtin
from reference import bounds, cases, formats, ops, oracle
from reference.metrics import Underflow

OURS = [
    entry
    for entry in load_builtin().values()
    if entry.framework == "numpy" and entry.name.startswith("conformance.numpy.")
]
MAPS = [
    pytest.param(entry, derivative, argument, id=f"{entry.name}-{derivative}-{argument}")
    for entry in OURS
    for derivative, argument in ops.get(entry.op).maps
    if not set(argument.split(".")) & set(entry.without)
]
ROWS = (("gap_ladder", 2), ("gap_ladder", 7), ("infinity_lattice", 3), ("masks", 7),
        ("shift_ladder", 3), ("near_ties", 17))  # fmt: skip
GRADUAL = Underflow("gradual", 0.0, 0.0)


def judged(
    entry: Implementation, derivative: str, argument: str, dtype: str, shift: bool = False
) -> Judgement:
    """What the judge says of an implementation's answers; all of one unit more if `shift`."""
    fmt, numpy = formats.get(dtype), get_framework("numpy")()
    call = numpy.prepare(entry, derivative, argument, "eager")
    answered = []
    for family, n in ROWS:
        rows = cases.make(family, entry.op, dtype, n, limit=24, without=entry.lacks)
        inputs = cases.stack(rows)
        arrays = {
            name: inputs[name] if inputs[name].dtype.kind in "ib" else fmt.cast(inputs[name])
            for name in array_names(entry, derivative, argument)
        }
        out = np.asarray(call(arrays))
        assert out.dtype == numpy_dtype(dtype)
        references = oracle.evaluate(entry.op, derivative, argument, inputs, fmt)
        result = np.asarray(out, np.float64).reshape(references.shape)
        bound = bounds.evaluate(entry.op, derivative, argument, inputs, fmt)
        answered.append(Answered(rows, references, bound, result + 1 if shift else result))
    with np.errstate(invalid="ignore"):  # infinite answers times signs of 0
        return judge(fmt, answered, GRADUAL)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize(("entry", "derivative", "argument"), MAPS)
def test_every_map_meets_the_strong_bound(
    entry: Implementation, derivative: str, argument: str, dtype: str
) -> None:
    found = judged(entry, derivative, argument, dtype)
    assert [b for b in found.breaches if b.kind != "accuracy"] == []
    assert found.figures["ratio_weak"] <= 1.01
    assert found.figures["ratio_strong"] <= 1.01


def test_an_answer_that_is_off_is_told() -> None:
    found = judged(load_builtin()["conformance.numpy.sigmoid"], "value", "-", "float32", shift=True)
    assert found.figures["ratio_strong"] > 1000


def call(name: str, derivative: str, argument: str, **inputs: Any) -> Any:
    entry = load_builtin()[f"conformance.numpy.{name}"]
    prepared = get_framework("numpy")().prepare(entry, derivative, argument, "eager")
    return prepared({k: np.asarray(v, np.float32) for k, v in inputs.items()})


def test_every_implementation_brings_every_derivative() -> None:
    numpy = get_framework("numpy")
    assert {entry.op for entry in OURS} == set(ops.OPS)
    for entry in OURS:
        for derivative, argument in ops.get(entry.op).maps:
            reason = numpy.unsupported_reason(entry, derivative, argument, "float32", "eager")
            assert (reason is not None) == bool(set(argument.split(".")) & set(entry.without))


def test_a_dropped_entry_may_hold_anything() -> None:
    x, mask = [[0.0, np.nan, 1.0], [np.inf, 2.0, 2.0]], [[1, 0, 1], [0, 1, 1]]
    kept = call("masked_softmax", "value", "-", x=x, mask=mask)
    np.testing.assert_allclose(kept, [[0.268941, 0, 0.731059], [0, 0.5, 0.5]], rtol=1e-5)
    v = [[0.0, np.nan, 1.0], [np.inf, 1.0, 0.0]]
    gradient = call("masked_softmax", "jvp", "x", x=x, mask=mask, v_x=v)
    np.testing.assert_allclose(gradient, [[-0.196612, 0, 0.196612], [0, 0.25, -0.25]], rtol=1e-5)


def test_nothing_kept_gives_zeros() -> None:
    x, mask = [[1.0, np.inf]], [[0, 0]]
    assert not call("masked_softmax", "value", "-", x=x, mask=mask).any()
    assert not call("masked_softmax", "vjp", "x", x=x, mask=mask, g=x).any()


def test_a_divergence_of_two_ulps_keeps_its_digits() -> None:
    """s(y) - s(x) and the divergence itself cancel in the textbook, here by 1e-7 and 1e-14."""
    x = np.array([[0.0, 1.0]])
    y = x + np.array([[0.0, 2.0**-22]])
    exact = oracle.evaluate("kl_divergence", "value", "-", {"x": x, "y": y}, formats.get("float64"))
    value = call("kl_divergence", "value", "-", x=x, y=y)
    np.testing.assert_allclose(value, exact.approximate()[0], rtol=1e-6)
    assert 0 < value[0] < 1e-13


def test_a_gradient_that_g_makes_small_does_not_overflow() -> None:
    """w |x| is beyond the format, g w |x| is not."""
    inputs = {"x": [-100.0], "target": [0.5], "pos_weight": [2.0**127], "g": [2.0**-20]}
    gradient = call("sigmoid_cross_entropy", "vjp", "target", **inputs)
    np.testing.assert_allclose(gradient, [100 * 2.0**107], rtol=1e-6)


def test_a_large_weight_meets_a_slope_that_underflows() -> None:
    inputs = {"x": [100.0], "target": [1.0], "pos_weight": [2.0**100], "g": [1.0], "v_x": [1.0]}
    second = call("sigmoid_cross_entropy", "hvp", "x.x", **inputs)
    np.testing.assert_allclose(second, [2.0**100 * np.exp(-100.0)], rtol=1e-5)
