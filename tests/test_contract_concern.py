"""Cells of concern contract: right forms pass; wrong axes, shapes and dtypes are caught."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from commandline import conformance

from conformance import concerns
from conformance.bench import Bench
from conformance.cells import Cell, cells_of
from conformance.execution.protocol import Answer, Breach, Crashed, Raised, Request, Result
from conformance.plan import make_plan
from conformance.profiles import CONCERNS, PROFILES
from conformance.registry import FRAMEWORKS, load_builtin
from conformance.selection import Selection
from reference import arrangements
from reference.metrics import Underflow

KEY = "contract/conformance.numpy.%s/%s/float32/eager/cpu/default/%s"
SOFTMAX = KEY % ("softmax", "value/-", "axes")
LOGSUMEXP = KEY % ("logsumexp", "value/-", "axes")

Respond = Callable[[Request], Answer]


class Fake:
    """An executor that answers by a function."""

    framework, context = "numpy", "default"

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[Request] = []

    def call(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.respond(request)

    def close(self) -> None:
        pass


def measured(key: str, respond: Respond) -> tuple[dict[str, Any], Fake]:
    cell = Cell.from_key(key)
    plan = make_plan(load_builtin(), profile="standard", selection=Selection(cell=(key,)))
    fake = Fake(respond)
    bench = Bench(plan, executor=lambda name, context, plugins: fake)
    bench._policies[(cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
                     cell.context)] = Underflow("none", 0.0, float("inf"))  # fmt: skip
    return bench.measure(cell), fake


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x.astype(np.float64) - (x.max(axis=axis, keepdims=True) if x.size else 0))
    return np.asarray((e / e.sum(axis=axis, keepdims=True)).astype(x.dtype))


def logsumexp(x: np.ndarray, axis: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(x.astype(np.float64)).sum(axis=axis)).astype(x.dtype))


def by(function: Callable[[np.ndarray, int], np.ndarray]) -> Respond:
    return lambda request: Result({"out": function(request.arrays["x"], request.axis)})


def kinds(row: dict[str, Any]) -> set[str]:
    return {b["kind"] for b in row["breaches"]}


# --- what is planned ----------------------------------------------------------------------------


def test_the_families_of_the_concern_are_families_of_arrangements() -> None:
    assert set(CONCERNS["contract"]) == set(concerns.OWN["contract"].versions)
    assert set(CONCERNS["contract"]) <= set(arrangements.FAMILIES)


def test_quick_stays_small() -> None:
    plan = make_plan(load_builtin(), profile="quick")
    cells = [c for c in plan.cells if c.concern == "contract"]
    by_framework = [plan.entry(c).framework for c in cells]
    assert {f: by_framework.count(f) <= 14 for f in by_framework} == dict.fromkeys(FRAMEWORKS, True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_standard_asks_every_subject_for_values_and_gradients(framework: str) -> None:
    for entry in load_builtin().values():
        if entry.framework != framework or entry.role != "subject":
            continue
        cells = [c for c in cells_of(entry, PROFILES["standard"]) if c.concern == "contract"]
        asked = {(c.family, c.derivative) for c in cells if c.dtype == "float32"}
        assert ("axes", "value") in asked
        assert ("empty", "value") in asked
        assert {c.derivative for c in cells} <= {"value", "vjp"}


# --- how it is judged ---------------------------------------------------------------------------


def test_right_answers_pass_and_every_arrangement_is_one_call() -> None:
    row, fake = measured(SOFTMAX, by(softmax))
    assert (row["verdict"], row["breaches"], row["grade"]) == ("pass", [], "A+")
    assert row["cases"] == len(fake.requests) == 15
    assert {r.arrays["x"].ndim for r in fake.requests} == {1, 2, 3, 4}
    row, _ = measured(LOGSUMEXP, by(logsumexp))
    assert row["verdict"] == "pass"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, axis: softmax(x, -1),
        lambda x, axis: softmax(x, 0),
        lambda x, axis: softmax(x, axis if x.ndim <= 2 else -1),
        lambda x, axis: softmax(x, abs(axis) % x.ndim),
    ],
    ids=["last", "first", "last-of-three", "negative-from-the-front"],
)
def test_a_softmax_along_another_axis_is_caught_by_its_values(wrong: Any) -> None:
    row, _ = measured(SOFTMAX, by(wrong))
    assert row["verdict"] == "fail"
    assert kinds(row) == {"accuracy"}


def test_a_sum_along_another_axis_is_caught_by_its_shape_or_where_all_axes_are_equal() -> None:
    row, _ = measured(LOGSUMEXP, by(lambda x, axis: logsumexp(x, -1)))
    assert kinds(row) == {"shape", "accuracy"}


def test_an_axis_left_in_place_is_a_shape() -> None:
    row, _ = measured(LOGSUMEXP, by(lambda x, axis: np.expand_dims(logsumexp(x, axis), axis)))
    assert kinds(row) == {"shape"}


def test_a_result_that_lies_transposed_is_caught() -> None:
    row, _ = measured(SOFTMAX, by(lambda x, axis: np.moveaxis(softmax(x, axis), axis, -1)))
    assert kinds(row) == {"shape", "accuracy"}


def test_another_dtype_is_named_before_the_value() -> None:
    row, _ = measured(SOFTMAX, by(lambda x, axis: softmax(x, axis).astype(np.float64)))
    assert kinds(row) == {"dtype"}


def test_modified_inputs_are_a_breach() -> None:
    def respond(request: Request) -> Answer:
        out = softmax(request.arrays["x"], request.axis)
        return Result({"out": out}, breaches=(Breach("mutates_inputs", "x was modified"),))

    row, _ = measured(SOFTMAX, respond)
    assert kinds(row) == {"mutates_inputs"}


def test_one_that_raises_is_an_error_and_the_others_keep_their_figures() -> None:
    def respond(request: Request) -> Answer:
        if request.arrays["x"].ndim == 4:
            return Raised("ValueError", "too many axes")
        return by(softmax)(request)

    row, _ = measured(SOFTMAX, respond)
    assert row["verdict"] == "error"
    assert row["cases"] == 11
    assert row["max_ulp"] < 1


def test_what_is_refused_by_name_in_part_is_a_flag() -> None:
    def respond(request: Request) -> Answer:
        if request.arrays["x"].ndim == 4:
            return Raised("NotImplementedError", "four axes", kind="unsupported")
        return by(softmax)(request)

    row, _ = measured(SOFTMAX, respond)
    assert (row["verdict"], row["flags"]) == ("pass", ["unsupported_in_part"])
    row, _ = measured(SOFTMAX, lambda r: Raised("NotImplementedError", "no", kind="unsupported"))
    assert (row["verdict"], row["flags"]) == ("unsupported", [])


def test_a_crash_is_a_verdict_and_not_asked_for_again_and_again() -> None:
    row, fake = measured(SOFTMAX, lambda request: Crashed("signal", "SIGSEGV", text="killed"))
    assert row["verdict"] == "crash"
    assert "stopped_early" in row["flags"]
    assert len(fake.requests) < 10


def test_nothing_in_nothing_out() -> None:
    row, _ = measured(KEY % ("softmax", "value/-", "empty"), by(softmax))
    assert (row["verdict"], row["elements"], row["cases"]) == ("pass", 0, 6)
    row, _ = measured(KEY % ("logsumexp", "value/-", "empty"), by(logsumexp))
    assert (row["verdict"], row["elements"]) == ("pass", 12)


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, "nan@no_classes"), (0.0, "inf@no_classes"), (np.inf, None)]
)
def test_the_logarithm_of_an_empty_sum_is_minus_infinity(value: float, kind: str | None) -> None:
    def wrong(x: np.ndarray, axis: int) -> np.ndarray:
        return np.full_like(logsumexp(x, axis), value)

    row, _ = measured(KEY % ("logsumexp", "value/-", "empty"), by(wrong))
    assert row["verdict"] == "fail"
    if kind is not None:
        assert kinds(row) == {kind}


# --- end to end ---------------------------------------------------------------------------------


def test_numpy_passes_and_its_mutant_is_caught() -> None:
    plan = make_plan(load_builtin(), profile="quick",
                     selection=Selection(framework=("numpy",), concern=("contract",)))  # fmt: skip
    bench = Bench(plan)
    rows = [bench.measure(c) for c in plan.cells if c.concern == "contract"]
    bench.close()
    assert {r["verdict"] for r in rows if r["role"] == "subject"} == {"pass"}
    (mutant,) = (r for r in rows if r["role"] == "mutant")
    assert (mutant["implementation"], mutant["verdict"]) == (
        "mutant.numpy.last_axis_softmax", "fail")  # fmt: skip


def test_explain_recreates_an_arrangement() -> None:
    made = next(a for a in arrangements.make("axes", "logsumexp", "float32") if a.name == "2x7x3.1")
    ran = conformance("explain", made.case_id, "--framework", "numpy", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["shape"], told["axis"]) == ([2, 7, 3], 1)
    value, gradient = told["maps"]
    assert np.shape(value["rounded"]) == (2, 3)
    assert np.shape(gradient["rounded"]) == (2, 7, 3)
    for answer in value["answers"]:
        assert np.allclose(answer["result"], value["rounded"])
