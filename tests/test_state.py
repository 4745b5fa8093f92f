"""State that a call changed is named, and in somebody else's process put back."""

from __future__ import annotations

import builtins
import gc
import json
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_matrix_state  # noqa: F401 - adds to the table
import numpy as np
import pytest
from fault_matrix import FAULTS

from conformance.execution.inprocess import InProcessExecutor
from conformance.execution.namespaces import Namespaces
from conformance.execution.protocol import Raised, Request, Result
from conformance.execution.state import State
from conformance.execution.switches import SWITCHES
from conformance.frameworks import get_framework
from conformance.registry import isolated_registry

PLUGIN = str(Path(__file__).with_name("fault_matrix_state.py"))
UNDONE = (
    "changes_directory",
    "changes_environment",
    "adds_to_the_environment",
    "ignores_warnings",
    "seeds_python",
    "seeds_numpy",
    "handles_a_signal",
    "sets_an_alarm",
    "changes_the_recursion_limit",
    "disables_the_garbage_collector",
    "traces",
    "changes_errstate",
    "sets_an_error_callback",
    "changes_the_buffer_size",
    "replaces_len",
    "replaces_isinstance",
    "replaces_every_builtin",
    "replaces_json_dumps",
    "replaces_environ",
    "replaces_numpy_exp",
)


@pytest.fixture(scope="module")
def inprocess() -> Iterator[InProcessExecutor]:
    with isolated_registry(), InProcessExecutor("numpy", plugins=[PLUGIN]) as executor:
        executor.start()
        yield executor


def shared_state() -> list[Any]:
    """Everything that the faults below change, read without the help of what is tested."""
    return [
        os.getcwd(), dict(os.environ), list(warnings.filters), random.getstate(),
        np.random.get_state()[1].tolist(), np.random.get_state()[2],  # noqa: NPY002
        [signal.getsignal(n) for n in signal.Signals], signal.getitimer(signal.ITIMER_REAL),
        sys.getrecursionlimit(), gc.isenabled(), sys.gettrace(), np.geterr(), np.geterrcall(),
        np.getbufsize(), list(vars(builtins).items()), json.dumps, os.environ, np.exp,
    ]  # fmt: skip


@pytest.mark.parametrize("name", UNDONE)
def test_in_process_what_a_call_changed_is_named_and_put_back(
    inprocess: InProcessExecutor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    x = np.full((1, 1000), 1.7e38, np.float32)
    asked = Request(f"matrix.numpy.{name}", "softmax", "value", "-", "float32", "eager", {"x": x})
    before = shared_state()
    answer = inprocess.call(asked)
    after = shared_state()
    assert isinstance(answer, Result | Raised)
    assert after == before
    expected = FAULTS[name]
    if expected.breach == "leak":
        assert expected.text in "; ".join(answer.leaks)
    else:
        assert isinstance(answer, Raised)
        assert expected.text == f"{answer.type}: {answer.text}"


def test_reading_the_state_changes_nothing() -> None:
    numpy = get_framework("numpy")()
    first = State.capture(numpy, own_process=False)
    assert first.changes(State.capture(numpy, own_process=False)) == ()
    first.restore(numpy)
    assert first.changes(State.capture(numpy, own_process=False)) == ()


def test_every_switch_has_a_name_of_its_own() -> None:
    names = [switch.name for switch in SWITCHES]
    assert len(names) == len(set(names))


def test_many_changes_are_named_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = get_framework("numpy")()
    before = State.capture(numpy, own_process=False)
    for k in range(1000):
        monkeypatch.setenv(f"MATRIX_{k}", "x" * 1000)
    told = before.changes(State.capture(numpy, own_process=False))
    assert 10 < len(told) < 100
    assert "more" in told[-1]
    assert max(map(len, told)) < 500


class Base:
    def inherited(self) -> int:
        return 1


class Watched(Base):
    number = 1

    def method(self) -> int:
        return 1


def test_a_replaced_removed_or_hidden_name_is_put_back() -> None:
    sys.modules["watched_for_test"] = module = type(sys)("watched_for_test")
    module.Watched, module.number = Watched, 1  # type: ignore[attr-defined]
    try:
        names = Namespaces(["watched_for_test", "watched_for_test.Watched", "no.such.module"])
        assert names.restore() == []
        module.number, module.new = 2, 3  # type: ignore[attr-defined]
        original = Watched.method
        Watched.method = lambda self: 2  # type: ignore[method-assign]
        Watched.inherited = lambda self: 2  # type: ignore[method-assign]
        Watched.extra = 1  # type: ignore[attr-defined]
        del Watched.number
        assert sorted(names.restore()) == [
            "watched_for_test.Watched.inherited",
            "watched_for_test.Watched.method",
            "watched_for_test.Watched.number",
            "watched_for_test.number",
        ]
        assert (module.number, Watched.number, Watched.method) == (1, 1, original)  # type: ignore[attr-defined]
        assert Watched().inherited() == 1
        assert names.restore() == []
    finally:
        del sys.modules["watched_for_test"]
