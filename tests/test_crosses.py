"""Labels, weights, smoothing, ignored rows and reductions, crossed at random in every framework.

Each loss that takes the parameters is asked for random situations, its value and its gradients, and
held against plain mpmath within the error bounds. Documented deviations do not come up here: rows
that are ignored are finite, and every label is a class or ignored.

A hundred situations per framework; with ``CROSSES_LONG`` (``tox run -e crosses``) more than two
thousand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import mpmath
import numpy as np
import pytest
from losses_by_definition import DIGITS, expected
from random_situations import SHAPES, SOFT, SPARSE, draw

from conformance.cells import Cell
from conformance.concerns.reduction import request
from conformance.execution.executor import Executor
from conformance.execution.protocol import Result
from conformance.frameworks import get_framework
from conformance.registry import Implementation, load_builtin
from reference import formats, reduction_bounds
from reference.situations import Situation

LONG = bool(os.environ.get("CROSSES_LONG"))
SITUATIONS = 2600 if LONG else 100
"""Per framework, shared among its losses."""
LOSSES = {
    "numpy": ("conformance.numpy.sparse_softmax_cross_entropy",
              "conformance.numpy.softmax_cross_entropy"),
    "torch": ("torch.nn.functional.cross_entropy.indices",
              "torch.nn.functional.cross_entropy.probabilities",
              "torch.nn.functional.nll_loss"),
    "tensorflow": ("keras.losses.SparseCategoricalCrossentropy",
                   "keras.losses.CategoricalCrossentropy",
                   "tensorflow.nn.log_softmax.gather"),
    "jax": ("jax.nn.log_softmax.gather", "jax.nn.log_softmax.weighted_sum",
            "optax.losses.softmax_cross_entropy_with_integer_labels",
            "optax.losses.softmax_cross_entropy"),
}  # fmt: skip
MINUS_TARGET = frozenset({"keras.losses.CategoricalCrossentropy"})
"""Whose gradient to the logits is s - t (tensorflow-cross-entropy-gradient): not asked here."""
SHIFTED = frozenset({"optax.losses.softmax_cross_entropy_with_integer_labels"})
"""Whose value is off by an ulp of the logits (optax-integer-labels-shift)."""
ZERO_MEAN = frozenset({"keras.losses.SparseCategoricalCrossentropy"})
"""Whose mean of nothing is 0 (keras-mean-of-nothing)."""

FLUSHING = frozenset({"jax", "tensorflow"})
"""Whose kernels on the CPU return no subnormal numbers (flag `flush`)."""


@pytest.fixture(scope="module", params=tuple(LOSSES))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = Executor(request.param, get_framework(request.param).context_for("float32"))
    yield made
    made.close()


def _maps(entry: Implementation) -> list[tuple[str, str]]:
    maps = [("value", "-")] if entry.name in MINUS_TARGET else [("value", "-"), ("vjp", "x")]
    return [*maps, ("vjp", "target")] if entry.op == SOFT else maps


def _answer(
    executor: Executor, entry: Implementation, situation: Situation, derivative: str, argument: str
) -> np.ndarray:
    cell = Cell("reduction", entry.name, derivative, argument, situation.format, "eager", "cpu",
                "default", "random")  # fmt: skip
    sent = request(cell, entry, situation, formats.get(situation.format))
    answer = executor.call(sent)
    assert isinstance(answer, Result), (situation.case_id, dict(situation.options), answer)
    return answer.out.astype(np.float64).ravel()


def _check(
    found: np.ndarray,
    situation: Situation,
    derivative: str,
    argument: str,
    *,
    flushes: bool,
    slack: float,
) -> bool:
    """Compare; whether there was something to compare."""
    exact = expected(situation.inputs, situation.options, argument)
    if exact is None:
        return False
    limits = reduction_bounds.evaluate(situation, derivative, argument, flushes=flushes)
    bounds = limits.weak.ravel()
    assert len(found) == len(exact) == len(bounds)
    with mpmath.workdps(DIGITS):
        for k, (got, right) in enumerate(zip(found.tolist(), exact, strict=True)):
            assert np.isfinite(got), (situation.case_id, dict(situation.options), k)
            error = abs(mpmath.mpf(got) - right)
            bound = mpmath.mpf(str(bounds[k])) * mpmath.mpf("1.01") + slack
            assert error <= bound, (situation.case_id, dict(situation.options), k, got, right)
    return True


def test_every_cross_of_the_parameters_agrees_with_the_definition(executor: Executor) -> None:
    names = LOSSES[executor.framework]
    registry = load_builtin()
    compared = undefined = 0
    for number in range(SITUATIONS):
        entry = registry[names[number % len(names)]]
        assert entry.op in (SPARSE, SOFT)
        takes = frozenset(entry.parameters)
        situation = draw(0, number, "float32", entry.op, takes, SHAPES if LONG else SHAPES[:1])
        maps = _maps(entry)
        derivative, argument = maps[number // len(names) % len(maps)]
        found = _answer(executor, entry, situation, derivative, argument)
        slack = 0.0
        if entry.name in SHIFTED and argument == "-":
            slack = 4 * 2.0**-24 * situation.rows * float(np.abs(situation.inputs["x"]).max())
        flushes = executor.framework in FLUSHING
        if _check(found, situation, derivative, argument, flushes=flushes, slack=slack):
            compared += 1
        elif argument == "-":
            undefined += 1
            allowed = [0.0] if entry.name in ZERO_MEAN else []
            assert not np.isfinite(found).any() or found.tolist() == allowed
    # The rest are means of nothing, of which only the value says something.
    assert compared > 0.8 * SITUATIONS
    assert undefined > 0 or not LONG
