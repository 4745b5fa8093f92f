"""An executor turns whatever an implementation does into an answer, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from leftovers import nothing_left

import conformance
from conformance import processes
from conformance.executor import (
    Crashed,
    Executor,
    Hello,
    Raised,
    Request,
    Result,
    TimedOut,
)
from conformance.frameworks import installed_version
from conformance.inprocess import InProcessExecutor
from conformance.protocol import Answer
from conformance.registry import isolated_registry
from conformance.rows import call_rows

FAULTS = str(Path(__file__).with_name("faults.py"))
TRIGGER = 666.0
ROOT = Path(conformance.__file__).resolve().parent.parent

needs_torch = pytest.mark.skipif(
    installed_version("torch") is None, reason="torch is not installed"
)


def request(name: str, *bad: int, rows: int = 4, n: int = 3, derivative: str = "value") -> Request:
    """A batch for ``fault.NAME`` in which the rows `bad` trigger it."""
    x = np.arange(rows * n, dtype=np.float32).reshape(rows, n) / 7
    x[list(bad), 0] = TRIGGER
    arrays = {"x": x} if derivative == "value" else {"x": x, "g": np.ones_like(x)}
    argument = "-" if derivative == "value" else "x"
    return Request(f"fault.{name}", "softmax", derivative, argument, "float32", "eager", arrays)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_gone_soon(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


@pytest.fixture(scope="module")
def shared() -> Iterator[Executor]:
    with Executor("numpy", plugins=[FAULTS], deadline=20) as executor:
        yield executor


@pytest.fixture
def impatient() -> Iterator[Executor]:
    with Executor("numpy", plugins=[FAULTS], deadline=0.5) as executor:
        executor.start()
        yield executor


def works(executor: Executor) -> bool:
    """Whether a good call still comes back right."""
    asked = request("raises")
    answer = executor.call(asked)
    return isinstance(answer, Result) and np.array_equal(answer.out, 2 * asked.arrays["x"])


def raised(answer: Answer) -> Raised:
    assert isinstance(answer, Raised), answer
    return answer


def crashed(answer: Answer) -> Crashed:
    assert isinstance(answer, Crashed), answer
    return answer


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
    monkeypatch.setattr("conformance.process._PATIENCE", 0.5)
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
        from conformance.protocol import Breach

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


# --- starting and ending --------------------------------------------------------------------


def test_hello_says_what_is_there(shared: Executor) -> None:
    hello = shared.start()
    assert isinstance(hello, Hello)
    assert hello.pid == shared.pid
    assert hello.versions["numpy"] == np.__version__
    assert hello.state["subnormals"] == "kept"
    assert "fault.segfault" in hello.implementations


def test_no_child_is_left_after_close() -> None:
    executor = Executor("numpy", plugins=[FAULTS])
    executor.start()
    pid = executor.pid
    assert pid is not None
    assert is_alive(pid)
    before = len(os.listdir("/proc/self/fd"))
    executor.close()
    executor.close()
    assert executor.pid is None
    assert not is_alive(pid)
    assert len(os.listdir("/proc/self/fd")) < before
    assert works(executor)  # it may be used again
    executor.close()


def test_closing_and_restarting_leaks_no_descriptor() -> None:
    with Executor("numpy", plugins=[FAULTS]) as executor:
        executor.call(request("exit_at_once", 0))
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            executor.call(request("exit_at_once", 0))
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_outlives_the_thread_that_started_it() -> None:
    with Executor("numpy", plugins=[FAULTS]) as executor:
        thread = threading.Thread(target=executor.start)
        thread.start()
        thread.join()
        time.sleep(0.2)
        assert works(executor)
        assert executor.starts == 1


def test_nothing_is_left_when_the_parent_is_killed_in_the_middle_of_a_call(tmp_path: Path) -> None:
    """Not even an orphan of the implementation, nor a temporary file."""
    script = textwrap.dedent(f"""
        import numpy as np
        from conformance.executor import Executor, Request
        executor = Executor("numpy", plugins=[{FAULTS!r}])
        x = np.full((1, 2), {TRIGGER}, np.float32)
        executor.call(Request("fault.starts_a_daemon_and_hangs", "softmax", "value", "-",
                              "float32", "eager", {{"x": x}}))
    """)
    with nothing_left(tmp_path):
        parent = subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
        until = time.monotonic() + 30
        while time.monotonic() < until:
            below = processes.descendants(parent.pid)
            if len(below) >= 3:  # the guard, the child and the daemon
                break
            time.sleep(0.02)
        else:
            pytest.fail("the daemon did not start")
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        for process in below:
            assert is_gone_soon(process.pid)


@pytest.mark.parametrize("hanging", [False, True], ids=["idle", "hanging_with_gil"])
def test_no_child_is_left_when_the_parent_is_killed(hanging: bool) -> None:
    script = textwrap.dedent(f"""
        import sys, numpy as np
        from conformance.executor import Executor, Request
        executor = Executor("numpy", plugins=[{FAULTS!r}])
        executor.start()
        print(executor.pid, flush=True)
        if {hanging}:
            x = np.full((1, 2), {TRIGGER}, np.float32)
            executor.call(Request(
                "fault.hang_with_gil", "softmax", "value", "-", "float32", "eager", {{"x": x}}))
        sys.stdin.read()
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    assert is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    assert is_gone_soon(pid)


def test_an_interrupted_call_leaves_no_child() -> None:
    """Ctrl-C reaches the parent only; the child in the middle of a call must go."""
    script = textwrap.dedent(f"""
        import numpy as np
        from conformance.executor import Executor, Request
        executor = Executor("numpy", plugins=[{FAULTS!r}])
        executor.start()
        print(executor.pid, flush=True)
        x = np.full((1, 2), {TRIGGER}, np.float32)
        try:
            executor.call(Request(
                "fault.hang_with_gil", "softmax", "value", "-", "float32", "eager", {{"x": x}}))
        except KeyboardInterrupt:
            print(executor.pid, flush=True)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)
    parent.send_signal(signal.SIGINT)
    output, _ = parent.communicate(timeout=10)
    assert output.strip() == "None"
    assert is_gone_soon(pid)


def test_a_python_that_does_not_exist_is_an_answer() -> None:
    with Executor("numpy", python="/nonexistent/python") as executor:
        answer = raised(executor.call(request("raises")))
    assert answer.kind == "startup"
    assert "/nonexistent/python" in answer.text


def test_a_framework_that_fails_to_import_is_an_answer_and_not_tried_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libfoo.so is missing')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Executor("torch") as executor:
        for _ in range(4):
            answer = raised(executor.call(request("raises")))
            assert (answer.kind, answer.type) == ("startup", "ImportError")
            assert "libfoo.so is missing" in answer.text
        assert executor.starts == 2


def test_a_child_that_dies_while_starting_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Executor("torch") as executor:
        answer = crashed(executor.call(request("raises")))
    assert (answer.phase, answer.exit_code) == ("start", 9)


def test_a_broken_plugin_is_named() -> None:
    with Executor("numpy", plugins=["no.such.module"]) as executor:
        answer = raised(executor.call(request("raises")))
    assert (answer.kind, answer.type) == ("harness", "PluginError")
    assert "no.such.module" in answer.text


def test_an_unknown_context_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="x64=perhaps"):
        Executor("jax", "x64=perhaps")


def test_the_child_sees_the_package_and_not_its_folder(shared: Executor, tmp_path: Path) -> None:
    """Modules such as conformance/executor.py must not pass for top-level ones."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        textwrap.dedent("""
            import sys, importlib.util
            import numpy as np
            from conformance import implementation

            @implementation(op="softmax", framework="numpy", name="probe.path")
            def probe(x, *, axis):
                found = [importlib.util.find_spec(n) for n in ("executor", "rows", "registry")]
                assert found == [None] * 3, found
                assert "reference" not in sys.modules
                assert "pytest" not in sys.modules and "mpmath" not in sys.modules
                return x
        """)
    )
    with Executor("numpy", plugins=[str(plugin)]) as executor:
        x = np.zeros((1, 1), np.float32)
        answer = executor.call(
            Request("probe.path", "softmax", "value", "-", "float32", "eager", {"x": x})
        )
    assert isinstance(answer, Result), answer


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
