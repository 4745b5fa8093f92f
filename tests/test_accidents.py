"""The bench: what an executor's child that dies of something else does to the cells after it."""

from __future__ import annotations

from typing import Any

import pytest
from commandline import figures

from conformance.bench import Bench
from conformance.cells import Cell
from conformance.execution.executor import Executor
from conformance.execution.protocol import Answer, Crashed, Request, TimedOut
from conformance.plan import Plan, make_plan
from conformance.registry import load_builtin
from conformance.selection import Selection

KEYS = tuple(
    f"{concern}/conformance.numpy.softmax/value/-/float16/eager/cpu/default/{family}"
    for concern, family in (("accuracy", "realistic"), ("underflow", "gap_ladder"))
)


class Dying:
    """An executor of which one call is answered by an accident."""

    def __init__(self, framework: str, context: str, number: int, accident: Answer) -> None:
        self.framework, self.context = framework, context
        self.inner = Executor(framework, context)
        self.number = number
        self.accident = accident

    def call(self, request: Request) -> Answer:
        self.number -= 1
        return self.accident if self.number == 0 else self.inner.call(request)

    def close(self) -> None:
        self.inner.close()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(load_builtin(), selection=Selection(cell=KEYS))


def measured(
    plan: Plan, *, number: int = 0, accident: Answer | None = None
) -> list[dict[str, Any]]:
    killed = accident or Crashed("signal", "SIGKILL")
    bench = Bench(plan, executor=lambda name, context, _: Dying(name, context, number, killed))
    try:
        return [figures(bench.measure(Cell.from_key(key))) for key in KEYS]
    finally:
        bench.close()


@pytest.mark.parametrize(
    "accident",
    [
        Crashed("signal", "SIGKILL", phase="start"),
        TimedOut(30.0, phase="start"),
        Crashed("signal", "SIGKILL", phase="call"),
    ],
    ids=["killed at its start", "did not start", "killed in a call"],
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_child_that_dies_while_the_underflow_policy_is_measured_changes_no_figure(
    plan: Plan, number: int, accident: Answer
) -> None:
    clean = measured(plan)
    assert [row["underflow_policy"] for row in clean] == ["gradual", "gradual"]
    assert measured(plan, number=number, accident=accident) == clean


def test_a_child_that_dies_in_a_cell_is_that_cell_s_verdict_and_no_other_s(plan: Plan) -> None:
    clean = measured(plan)
    calls = 3  # of the ladder, which comes first
    rows = measured(plan, number=calls + 2)
    assert rows[0]["verdict"] == "crash"
    assert rows[0]["max_ulp"] == clean[0]["max_ulp"], "all rows came back in the second attempt"
    assert rows[1] == clean[1]
