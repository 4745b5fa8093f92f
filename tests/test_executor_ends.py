"""Starts and ends of an executor: leaks of processes, pipes and folders, plug-ins, paths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faulty import (
    FAULTS,
    ROOT,
    TRIGGER,
    crashed,
    is_alive,
    is_gone_soon,
    raised,
    request,
    works,
)
from leftovers import nothing_left

from conformance.execution import processes
from conformance.execution.executor import (
    Executor,
    Hello,
    Request,
    Result,
)

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
        from conformance.execution.executor import Executor, Request
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
        from conformance.execution.executor import Executor, Request
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
        from conformance.execution.executor import Executor, Request
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
    """Modules such as conformance/execution/executor.py must not pass for top-level ones."""
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
