"""An executor turns whatever an implementation does into an answer, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from faulty import (
    FAULTS,
    crashed,
    is_alive,
    is_gone_soon,
    needs_torch,
    raised,
    request,
    works,
)

from conformance.execution import processes
from conformance.execution.executor import (
    Crashed,
    Executor,
    Request,
    Result,
    TimedOut,
)
from conformance.execution.inprocess import InProcessExecutor
from conformance.registry import isolated_registry

# --- the child lives ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "type_name", "text"),
    [
        ("raises", "exception", "ValueError", "no such luck"),
        ("sys_exit", "exception", "SystemExit", "leaving"),
        ("keyboard_interrupt", "exception", "KeyboardInterrupt", ""),
        ("raises_unprintable", "exception", "Unprintable", "cannot be printed"),
        ("endless_recursion", "exception", "RecursionError", "recursion"),
        ("returns_none", "garbage", "GarbageError", "Nothing"),
        ("returns_a_list", "garbage", "GarbageError", "list"),
        ("returns_objects", "garbage", "GarbageError", "object"),
    ],
)
def test_an_exception_is_an_answer_and_the_child_lives(
    shared: Executor, name: str, kind: str, type_name: str, text: str
) -> None:
    shared.start()
    pid = shared.pid
    answer = raised(shared.call(request(name, 0)))
    assert (answer.kind, answer.type) == (kind, type_name)
    assert text in answer.text
    assert works(shared)
    assert shared.pid == pid


def test_a_traceback_points_into_the_implementation(shared: Executor) -> None:
    assert "faults.py" in raised(shared.call(request("raises", 0))).traceback


def test_a_message_is_cut_and_cannot_reach_a_terminal(shared: Executor) -> None:
    text = raised(shared.call(request("raises_at_length", 0))).text
    assert 3000 < len(text) < 4100
    assert "\x1b" not in text
    text.encode("utf-8")


def test_dtype_and_shape_are_reported_as_they_came(shared: Executor) -> None:
    wider = shared.call(request("returns_a_wider_dtype", 0))
    assert isinstance(wider, Result)
    assert wider.out.dtype == np.float64
    other = shared.call(request("returns_another_shape", 0))
    assert isinstance(other, Result)
    assert other.out.shape == ()


def test_a_modified_input_is_named_with_its_rows(shared: Executor) -> None:
    asked = request("mutates_inputs", 1, 3)
    before = asked.arrays["x"].copy()
    answer = shared.call(asked)
    assert isinstance(answer, Result)
    (breach,) = answer.breaches
    assert (breach.kind, breach.rows) == ("mutates_inputs", (1, 3))
    assert np.array_equal(answer.out, before)
    assert np.array_equal(asked.arrays["x"], before)


def test_printing_megabytes_blocks_nobody_and_keeps_the_end(shared: Executor) -> None:
    assert isinstance(shared.call(request("prints_megabytes", 0)), Result)
    assert works(shared)


def test_a_missing_derivative_is_unsupported_and_says_so(shared: Executor) -> None:
    answer = raised(shared.call(request("no_derivative", derivative="vjp")))
    assert answer.kind == "unsupported"
    assert "fault.no_derivative" in answer.text


def test_a_vjp_that_returns_no_dict_is_garbage(shared: Executor) -> None:
    assert raised(shared.call(request("vjp_without_names", derivative="vjp"))).kind == "garbage"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"implementation": "fault.unheard_of"}, "fault.unheard_of"),
        ({"op": "logsumexp"}, "logsumexp"),
        ({"arrays": {"g": np.zeros((1, 1), np.float32)}}, "x"),
        ({"arrays": {"x": np.zeros((1, 1), np.float64)}}, "float64"),
    ],
)
def test_a_wrong_request_is_our_own_fault(
    shared: Executor, changes: dict[str, object], text: str
) -> None:
    from dataclasses import replace

    answer = raised(shared.call(replace(request("raises"), **changes)))  # type: ignore[arg-type]
    assert answer.kind == "harness"
    assert text in answer.text


# --- the child dies -------------------------------------------------------------------------


def test_a_segfault_is_named_with_the_stack_it_happened_in(shared: Executor) -> None:
    answer = crashed(shared.call(request("segfault", 0)))
    assert (answer.reason, answer.signal, answer.phase) == ("signal", "SIGSEGV", "call")
    assert "string_at" in answer.output
    assert works(shared)


def test_last_words_are_kept(shared: Executor) -> None:
    assert "famous last words" in crashed(shared.call(request("prints_and_crashes", 0))).output


def test_an_exit_is_named_with_its_code(shared: Executor) -> None:
    answer = crashed(shared.call(request("exit_at_once", 0)))
    assert (answer.reason, answer.exit_code, answer.signal) == ("exit", 3, None)
    assert works(shared)


@pytest.mark.parametrize("name", ["hang_with_gil", "hang_in_python", "hang_and_ignore_signals"])
def test_a_hang_ends_at_its_deadline(impatient: Executor, name: str) -> None:
    pid = impatient.pid
    assert pid is not None
    start = time.monotonic()
    answer = impatient.call(request(name, 0))
    assert 0.4 < time.monotonic() - start < 3
    assert isinstance(answer, TimedOut)
    assert answer.seconds == 0.5
    assert "faults.py" in answer.output  # the stack it hung in
    assert not is_alive(pid)
    assert works(impatient)


def test_a_memory_hog_is_killed_from_outside() -> None:
    with Executor("numpy", plugins=[FAULTS], deadline=20, memory_limit=400 << 20) as executor:
        answer = crashed(executor.call(request("hogs_memory", 0)))
        assert answer.reason == "memory"
        assert "400 MiB" in answer.text
        assert works(executor)


@pytest.mark.parametrize("name", ["closes_every_pipe", "writes_into_the_pipe"])
def test_a_garbled_pipe_is_a_crash_and_not_an_error_of_ours(
    impatient: Executor, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conformance.execution.process._PATIENCE", 0.5)
    answer = impatient.call(request(name, 0))
    assert isinstance(answer, Crashed)
    assert answer.reason == "protocol"
    assert works(impatient)


def test_what_a_crashed_child_started_dies_with_it(shared: Executor) -> None:
    output = crashed(shared.call(request("leaves_a_grandchild", 0))).output
    pid = int(output.split("grandchild ")[1].split()[0])
    assert is_gone_soon(pid)


def daemon_of(output: str) -> tuple[int, Path]:
    """What a fault printed: the process it left, and its folder for temporary files."""
    _, number, folder = output[output.index("daemon ") :].splitlines()[0].split()
    return int(number), Path(folder)


def test_an_orphan_in_a_session_of_its_own_dies_with_its_executor(shared: Executor) -> None:
    pid, folder = daemon_of(crashed(shared.call(request("leaves_a_daemon", 0))).output)
    assert not is_alive(pid)
    assert not folder.exists()


def test_an_orphan_dies_with_the_child_that_hangs(impatient: Executor) -> None:
    impatient.deadline = 2.0
    answer = impatient.call(request("starts_a_daemon_and_hangs", 0))
    assert isinstance(answer, TimedOut)
    pid, folder = daemon_of(answer.output)
    assert not is_alive(pid)
    assert not folder.exists()


def test_what_a_killed_guard_leaves_is_found_by_its_mark(impatient: Executor) -> None:
    """The guard is a process like any other, and somebody may kill it."""
    impatient.deadline = 20.0
    impatient.start()
    child = impatient._child
    assert child is not None
    guard = child.process.pid

    def kill_it() -> None:
        while len(processes.descendants(guard)) < 2:
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(guard, signal.SIGKILL)

    threading.Thread(target=kill_it, daemon=True).start()
    answer = crashed(impatient.call(request("leaves_a_marked_process_and_sleeps", 0)))
    assert answer.signal == "SIGKILL"
    pid, folder = daemon_of(answer.output)
    assert not is_alive(pid)
    assert not folder.exists()


def test_a_death_in_a_child_that_others_have_used_is_asked_again() -> None:
    """A late effect of another implementation is not held against this one."""
    with Executor("numpy", plugins=[FAULTS], deadline=20) as executor:
        assert isinstance(executor.call(request("plants_a_bomb", 0)), Result)
        answer = executor.call(request("takes_its_time", 0))
        assert isinstance(answer, Result)
        assert "child that others had used" in answer.retried
        assert executor.starts == 2


def test_a_death_in_a_child_of_its_own_counts() -> None:
    with Executor("numpy", plugins=[FAULTS], deadline=20) as executor:
        crashed(executor.call(request("segfault", 0)))
        assert executor.starts == 1


# --- leaked state ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("leaks_errstate", "numpy errstate over: warn -> raise"),
        ("leaks_directory", "working directory"),
        ("leaks_environment", "environment variable OMP_NUM_THREADS: changed"),
        ("leaks_filters", "warnings filters"),
        ("closes_stdout", "stdout: open -> closed"),
    ],
)
def test_leaked_state_is_named_and_the_child_replaced(
    shared: Executor, name: str, text: str
) -> None:
    shared.start()
    pid = shared.pid
    answer = shared.call(request(name, 0))
    assert isinstance(answer, Result)
    assert text in "; ".join(answer.leaks)
    assert works(shared)
    assert shared.pid != pid


def test_state_leaked_by_a_call_that_raised_is_named_too(shared: Executor) -> None:
    assert raised(shared.call(request("leaks_and_raises", 0))).leaks


def test_an_honest_call_leaks_nothing(shared: Executor) -> None:
    answer = shared.call(request("raises"))
    assert isinstance(answer, Result)
    assert answer.leaks == ()
    assert answer.breaches == ()


# --- torch ----------------------------------------------------------------------------------


@needs_torch
def test_a_torch_child_is_watched_like_any_other() -> None:
    with Executor("torch", plugins=[FAULTS]) as executor:
        leaking = executor.call(request("leaks_default_dtype", 0))
        assert isinstance(leaking, Result)
        assert leaking.leaks == ("torch default dtype: torch.float32 -> torch.float64",)
        mutating = executor.call(request("torch_mutates_inputs", 2))
        assert isinstance(mutating, Result)
        assert mutating.breaches[0].kind == "mutates_inputs"
        assert raised(executor.call(request("torch_returns_numpy", 0))).kind == "garbage"
        assert executor.starts == 2
        flushing = executor.call(request("flushes_subnormals", 0))
        assert isinstance(flushing, Result)
        assert "subnormals: kept -> flushed to zero" in flushing.leaks


# --- in this process ------------------------------------------------------------------------


@pytest.fixture
def inprocess() -> Iterator[InProcessExecutor]:
    with isolated_registry(), InProcessExecutor("numpy", plugins=[FAULTS]) as executor:
        yield executor


@pytest.mark.parametrize("name", ["raises", "sys_exit", "keyboard_interrupt"])
def test_in_process_an_exception_is_an_answer_too(inprocess: InProcessExecutor, name: str) -> None:
    assert raised(inprocess.call(request(name, 0))).kind == "exception"


def test_in_process_a_real_interrupt_gets_out(
    inprocess: InProcessExecutor,
) -> None:
    inprocess.start()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        inprocess.call(request("hang_in_python", 0))


def test_in_process_leaked_state_is_named_and_put_back(inprocess: InProcessExecutor) -> None:
    before = os.getcwd(), dict(np.geterr()), os.environ.get("OMP_NUM_THREADS")
    for name in ("leaks_directory", "leaks_errstate", "leaks_environment"):
        answer = inprocess.call(request(name, 0))
        assert isinstance(answer, Result)
        assert answer.leaks
    assert (os.getcwd(), dict(np.geterr()), os.environ.get("OMP_NUM_THREADS")) == before


def test_in_process_and_in_a_child_the_bits_are_the_same(
    shared: Executor, inprocess: InProcessExecutor
) -> None:
    x = np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32)
    asked = Request(
        "conformance.numpy.softmax", "softmax", "value", "-", "float32", "eager", {"x": x}
    )
    here, there = inprocess.call(asked), shared.call(asked)
    assert isinstance(here, Result)
    assert isinstance(there, Result)
    assert here.out.tobytes() == there.out.tobytes()
