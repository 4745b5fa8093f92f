"""Batches of an executor, and arrays on their way: which row was it, and are its bits the same."""

from __future__ import annotations

import os

import numpy as np
import pytest
from faulty import (
    FAULTS,
    request,
)

from conformance.execution.executor import (
    Crashed,
    Executor,
    Raised,
    Request,
    Result,
    TimedOut,
)
from conformance.execution.protocol import Answer
from conformance.rows import call_rows

# --- batches --------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("segfault", Crashed), ("raises", Raised)])
@pytest.mark.parametrize("bad", [0, 5, 7])
def test_the_bad_row_is_named_and_its_neighbours_keep_their_bits(
    shared: Executor, name: str, kind: type, bad: int
) -> None:
    asked = request(name, bad, rows=8)
    answers = call_rows(shared, asked)
    (failure,) = answers.failures
    assert list(failure.rows) == [bad]
    assert isinstance(failure.answer, kind)
    covered = [row for part in answers.parts for row in part.rows]
    assert covered == list(range(8))
    for part, result in answers.results:
        expected = 2 * asked.arrays["x"][part.start : part.stop]
        assert result.out.tobytes() == expected.tobytes()
    assert answers.restarts == (4 if kind is Crashed else 0)
    assert answers.unreproduced == ()


def test_two_bad_rows_are_both_named(shared: Executor) -> None:
    answers = call_rows(shared, request("raises", 1, 6, rows=8))
    assert [list(part.rows) for part in answers.failures] == [[1], [6]]


def test_a_hanging_row_is_named(impatient: Executor) -> None:
    answers = call_rows(impatient, request("hang_with_gil", 2, rows=4))
    assert [list(part.rows) for part in answers.failures] == [[2]]
    assert isinstance(answers.answer(2), TimedOut)


def test_a_batch_that_raises_as_a_whole_is_not_divided_to_the_end(shared: Executor) -> None:
    asked = request("raises", *range(64), rows=64)
    answers = call_rows(shared, asked)
    assert [list(part.rows) for part in answers.parts] == [list(range(64))]


def test_restarts_are_bounded(shared: Executor) -> None:
    before = shared.starts
    answers = call_rows(shared, request("segfault", 1, 3, 5, 7, 9, 11, rows=16), restarts=5)
    assert answers.restarts <= 6
    assert shared.starts - before <= 7
    assert [row for part in answers.parts for row in part.rows] == list(range(16))


def test_what_is_unsupported_is_asked_once(shared: Executor) -> None:
    answers = call_rows(shared, request("no_derivative", derivative="vjp", rows=8))
    assert len(answers.parts) == 1
    assert answers.restarts == 0


class Flaky:
    """An executor that crashes on its first call only."""

    framework, context = "numpy", "default"

    def __init__(self) -> None:
        self.calls = 0

    def call(self, request: Request) -> Answer:
        self.calls += 1
        return Crashed("exit") if self.calls == 1 else Result({"out": request.arrays["x"]})

    def close(self) -> None:
        pass


def test_a_crash_that_no_row_repeats_is_not_forgotten() -> None:
    answers = call_rows(Flaky(), request("raises"))
    assert answers.failures == ()
    assert answers.unreproduced == (Crashed("exit"),)


def test_rows_of_breaches_count_in_the_whole_batch(shared: Executor) -> None:
    def mixed(asked: Request) -> Answer:
        from conformance.execution.protocol import Breach

        if asked.rows > 2:
            return Raised("ValueError", "too many")
        return Result({"out": asked.arrays["x"]}, breaches=(Breach("mutates_inputs", "x", (1,)),))

    caller = Flaky()
    caller.call = mixed  # type: ignore[method-assign]
    assert [b.rows for b in call_rows(caller, request("raises")).breaches] == [(1,), (3,)]


# --- arrays on their way --------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (3, 0), (0, 3), (2, 8191), (2, 8192), (4, 300_000)])
def test_arrays_of_every_size_arrive(shared: Executor, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if shape[1] == 0:  # the faults look at the first logit
        name, expected = "conformance.numpy.softmax", x
    else:
        name, expected = "fault.raises", 2 * x
    answer = shared.call(Request(name, "softmax", "value", "-", "float32", "eager", {"x": x}))
    assert isinstance(answer, Result)
    assert answer.out.shape == shape
    assert answer.out.tobytes() == expected.tobytes()


def test_everything_fits_through_the_pipe_where_there_is_no_shared_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    x = np.random.default_rng(0).normal(size=(4, 300_000)).astype(np.float32)
    with Executor("numpy", plugins=[FAULTS]) as executor:
        answer = executor.call(
            Request("fault.raises", "softmax", "value", "-", "float32", "eager", {"x": x})
        )
    assert isinstance(answer, Result)
    assert answer.out.tobytes() == (2 * x).tobytes()
