"""The bench: what every cell asks, and what a hopeless implementation may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance import concerns
from conformance.bench import DEATHS, Bench
from conformance.cells import Cell
from conformance.execution.protocol import (
    Answer,
    Breach,
    Crashed,
    Raised,
    Request,
    Result,
    TimedOut,
)
from conformance.plan import Plan, make_plan
from conformance.registry import load_builtin
from conformance.selection import Selection
from conformance.trial import batches, height

CELL = "accuracy/conformance.numpy.softmax/value/-/float32/eager/cpu/default/shift_ladder"
OTHER = CELL.replace("shift_ladder", "near_ties")


def softmax(x: Any) -> Any:
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def right(request: Request) -> Answer:
    return Result({"out": softmax(request.arrays["x"])})


class Scripted:
    """An executor that answers by a function, and counts."""

    framework, context = "numpy", "default"

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.calls = 0

    def call(self, request: Request) -> Answer:
        self.calls += 1
        return self.answer(request)

    def close(self) -> None:
        pass


def plan(*keys: str) -> Plan:
    return make_plan(load_builtin(), selection=Selection(cell=keys))


def bench(answer: Callable[[Request], Answer], *keys: str) -> tuple[Bench, Scripted]:
    caller = Scripted(answer)
    return Bench(plan(*keys or (CELL,)), executor=lambda *_: caller), caller


def measured(answer: Callable[[Request], Answer]) -> dict[str, Any]:
    made, _ = bench(answer)
    return made.measure(made.plan.cells[0])


# --- underflow policies that the ladder does not show -----------------------------------------


def _lost_below(limit: float) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        x = request.arrays["x"]
        s = softmax(x)
        if request.op == "softmax":
            return Result({"out": np.where(s < limit, 0, s).astype(x.dtype)})
        m = x.max(axis=-1)
        return Result({"out": m + np.log(np.exp(x - m[:, None]).sum(axis=-1))})

    return answer


@pytest.mark.parametrize(
    ("limit", "policy"), [(0.0, "none"), (2.0**-126, "flush"), (2.0**-120, "flush")]
)
def test_what_is_never_small_flushes_if_its_frameworks_softmax_does(
    limit: float, policy: str
) -> None:
    key = CELL.replace("conformance.numpy.softmax", "conformance.numpy.logsumexp")
    made, _ = bench(_lost_below(limit), key)
    assert made.policy(made.plan.cells[0]).policy == policy


def test_what_does_not_answer_on_the_ladder_asks_no_softmax() -> None:
    key = CELL.replace("conformance.numpy.softmax", "conformance.numpy.logsumexp")
    asked = set()

    def answer(request: Request) -> Answer:
        asked.add(request.implementation)
        return Raised("ValueError", "no")

    made, _ = bench(answer, key)
    assert made.policy(made.plan.cells[0]).policy == "none"
    assert asked == {"conformance.numpy.logsumexp"}


# --- two batches of one shape ---------------------------------------------------------------


def test_every_cell_sends_two_different_batches_of_one_shape() -> None:
    made = Bench(make_plan(load_builtin()))
    seen = set()
    for cell in made.plan.cells:
        if cell.concern in concerns.OWN:
            continue
        entry = made.plan.entry(cell)
        kind = (entry.op, cell.dtype, cell.family, entry.framework == "jax", cell.mode == "eager")
        if kind in seen:
            continue
        seen.add(kind)
        rows = made.cases(cell)
        sent = list(batches(rows))
        assert sorted(c.case_id for b in sent for c in b.rows) == sorted(c.case_id for c in rows)
        assert all(len(b.rows) <= b.height == height(b.rows[0].n) for b in sent)
        lengths = [batch.rows[0].n for batch in sent]
        assert max(map(lengths.count, lengths)) >= 2, cell.key
    assert len(seen) > 100


def test_a_single_row_is_a_single_batch() -> None:
    made, _ = bench(right)
    (case, *_) = made.cases(made.plan.cells[0])
    assert [batch.rows for batch in batches([case])] == [[case]]


def test_an_answer_kept_for_its_shape_is_named() -> None:
    kept: dict[Any, Any] = {}

    def cached(request: Request) -> Answer:
        x = request.arrays["x"]
        return Result({"out": kept.setdefault(x.shape, softmax(x))})

    row = measured(cached)
    assert row["verdict"] == "fail"
    assert {"accuracy", "reused"} <= {b["kind"] for b in row["breaches"]}


def test_an_honest_answer_is_not_called_reused() -> None:
    row = measured(right)
    assert (row["verdict"], row["breaches"]) == ("pass", [])


def test_a_constant_is_wrong_and_not_called_reused() -> None:
    row = measured(lambda request: Result({"out": np.zeros_like(request.arrays["x"])}))
    assert {b["kind"] for b in row["breaches"]} == {"accuracy"}


# --- what a hopeless implementation may cost ------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Crashed("signal", "SIGSEGV", text="killed by SIGSEGV"), "crash"),
        (TimedOut(30.0), "timeout"),
    ],
)
def test_what_never_answers_costs_a_bounded_number_of_children(
    answer: Answer, verdict: str
) -> None:
    made, caller = bench(lambda request: answer, CELL, OTHER)
    first, second = made.plan.cells
    row = made.measure(first)
    assert row["verdict"] == verdict
    assert "stopped_early" in row["flags"]
    assert caller.calls <= 2 * DEATHS  # the cell itself, and before it the underflow policy
    before = caller.calls
    assert made.measure(second)["verdict"] == verdict
    assert caller.calls == before + 1


def test_an_implementation_that_answers_again_is_asked_in_full_again() -> None:
    dead = True

    def answer(request: Request) -> Answer:
        return Crashed("exit", text="exited with code 1") if dead else right(request)

    made, _ = bench(answer, CELL, OTHER)
    made.measure(made.plan.cells[0])
    dead = False
    row = made.measure(made.plan.cells[1])
    assert row["verdict"] == "pass"
    assert "stopped_early" not in row["flags"]


def test_exceptions_cost_no_children_and_end_nothing_early() -> None:
    row = measured(lambda request: Raised("ValueError", "no"))
    assert row["verdict"] == "error"
    assert "stopped_early" not in row["flags"]


# --- what is told about an answer -----------------------------------------------------------


def test_an_answer_that_took_two_children_carries_a_flag() -> None:
    row = measured(lambda request: replace(right(request), retried="asked twice"))  # type: ignore[type-var]
    assert row["verdict"] == "pass"
    assert row["flags"] == ["retried"]


HOSTILE = "\x1b[2J<script>\r\n::error::\u202e\x00 " + "x" * 10_000


def test_details_are_one_line_of_bounded_length() -> None:
    def answer(request: Request) -> Answer:
        out = softmax(request.arrays["x"])
        return Result({"out": out}, breaches=(Breach(HOSTILE, HOSTILE),), leaks=(HOSTILE,))

    for row in (measured(answer), measured(lambda request: Raised(HOSTILE, HOSTILE))):
        assert row["breaches"]
        for breach in row["breaches"]:
            assert breach["kind"].isprintable()
            assert breach["detail"].isprintable()
            assert len(breach["detail"]) <= 600


def test_plugins_and_built_in_implementations_have_executors_of_their_own() -> None:
    loaded: list[tuple[str, ...]] = []

    def make(framework: str, context: str, plugins: tuple[str, ...]) -> Scripted:
        loaded.append(plugins)
        return Scripted(right)

    cell = Cell.from_key(CELL)
    registry = load_builtin()
    mine = replace(registry[cell.implementation], name="mine.softmax", module="mine")
    made = Bench(
        make_plan({**registry, mine.name: mine}, selection=Selection(framework=("numpy",))),
        plugins=("mine",),
        executor=make,
    )
    own = made.executor(registry[cell.implementation], "default")
    assert made.executor(mine, "default") is not own
    assert made.executor(registry["mutant.numpy.unshifted_softmax"], "default") is own
    assert loaded == [(), ("mine",)]
