"""Runs implementations in a child process that may do whatever it likes.

An `Executor` holds one long-lived child per framework and context. The parent owns the deadline
and the memory limit: it watches the child from outside and kills its process group, because
nothing inside a process can end a call that holds the GIL. Whatever happens is an `Answer`, a
value like any other; `call_rows` halves a batch that died until the rows to blame are named.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from conformance.frameworks import get_framework
from conformance.protocol import (
    Answer,
    Breach,
    Crashed,
    Hello,
    ProtocolError,
    Raised,
    Request,
    Result,
    SharedMemory,
    TimedOut,
    answer_from,
    clean_text,
    decode,
    encode,
    numpy_dtype,
    read_frame,
    request_header,
)

__all__ = [
    "Answer",
    "Breach",
    "Caller",
    "Crashed",
    "Executor",
    "Hello",
    "Raised",
    "Request",
    "Result",
    "TimedOut",
    "default_memory_limit",
    "numpy_dtype",
]

DEADLINE = 30.0
"""Seconds for a call."""
COMPILE_DEADLINE = 240.0
"""Seconds for the first call of a signature in a mode that compiles."""
STARTUP_DEADLINE = 180.0
"""Seconds for the import of a framework (TensorFlow from a cold disk takes a minute)."""
_TAIL = 4096
_POLL_SECONDS = 0.02
_START_ATTEMPTS = 2

_CHILD = Path(__file__).resolve().with_name("executor_child.py")


class Caller(Protocol):
    """What every executor offers; `Executor` and `InProcessExecutor` are the two there are."""

    framework: str
    context: str

    def call(self, request: Request) -> Answer:
        """Run one request."""
        ...

    def close(self) -> None:
        """Give everything back; calling it twice is harmless."""
        ...


def default_memory_limit() -> int:
    """Half of the machine's memory, in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return 4 << 30


class Executor:
    """One child process with one framework in one context.

    Parameters
    ----------
    framework : str
        Its name.
    context : str
        ``default`` or a named set of switches that the framework knows, e.g. ``x64=on``.
    python : str, optional
        The interpreter of the child; it needs the framework, NumPy and ml_dtypes. Default: this
        one.
    plugins : sequence of str
        Modules or paths of ``.py`` files that register further implementations.
    deadline, compile_deadline, startup_deadline : float
        Seconds for a call, for the first call of a signature in a mode that compiles, and for
        the child to start and import its framework.
    memory_limit : int, optional
        Resident bytes above which the child is killed (Linux). Default: half of the machine's.

    Notes
    -----
    The child starts on first use and is replaced by itself after it died or leaked state. It is
    not for use from several threads at once.
    """

    def __init__(
        self,
        framework: str,
        context: str = "default",
        *,
        python: str | None = None,
        plugins: Sequence[str] = (),
        deadline: float = DEADLINE,
        compile_deadline: float = COMPILE_DEADLINE,
        startup_deadline: float = STARTUP_DEADLINE,
        memory_limit: int | None = None,
    ) -> None:
        self.framework = framework
        self.context = context
        self.python = sys.executable if python is None else python
        self.plugins = tuple(plugins)
        self.deadline = deadline
        self.compile_deadline = max(compile_deadline, deadline)
        self.startup_deadline = startup_deadline
        self.memory_limit = default_memory_limit() if memory_limit is None else memory_limit
        self.starts = 0
        """How many children have been started."""
        self.hello: Hello | None = None
        """What the last child said when its framework was loaded."""
        self._class = get_framework(framework)
        self._class.environment(context)  # an unknown context is the caller's mistake: say so now
        self._child: _Child | None = None
        self._seen: set[tuple[Any, ...]] = set()
        self._failures = 0
        self._failure: Raised | Crashed | TimedOut | None = None
        _open_executors.add(self)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._child is None else self._child.process.pid

    def start(self) -> Hello | Raised | Crashed | TimedOut:
        """Start the child if there is none, and say what it is or why it cannot be.

        After two failures in a row the reason is remembered and no further child is started:
        what cannot be imported now cannot be imported a thousand cells later.
        """
        if self._child is not None and self.hello is not None:
            return self.hello
        if self._failure is not None and self._failures >= _START_ATTEMPTS:
            return self._failure
        self.starts += 1
        self._seen.clear()
        self.hello = None
        try:
            self._child = _Child(
                self.python, self.framework, self.context, self.plugins,
                self._class.environment(self.context),
            )
        except OSError as error:
            self._failures += 1
            self._failure = Raised(
                type(error).__name__,
                clean_text(f"cannot start {self.python}: {error}"),
                kind="startup",
            )
            return self._failure
        answer = self._exchange(None, self.startup_deadline, "start")
        if isinstance(answer, Hello):
            self._failures, self._failure = 0, None
            self.hello = answer
            return answer
        self.discard()
        if isinstance(answer, Result):
            answer = Crashed("protocol", text="the child answered before it was asked")
        self._failures += 1
        self._failure = answer
        return answer

    def call(self, request: Request) -> Answer:
        """Run one request; whatever happens is the answer.

        A `Raised` of kind ``startup``, or a `Crashed` or `TimedOut` in phase ``start``, means
        that there is no child to ask.
        """
        started = self.start()
        if not isinstance(started, Hello):
            return started
        answer = self._exchange(request, self._deadline(request), "call")
        if isinstance(answer, Hello):
            answer = Crashed("protocol", text="the child said hello in place of an answer")
        if isinstance(answer, (Crashed, TimedOut)) or answer.leaks:
            self.discard()  # a process whose state was changed measures something else from now on
        return answer

    def discard(self) -> None:
        """Kill the child; the next call starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Kill the child and give back everything; the executor may be used again."""
        self.discard()

    def _deadline(self, request: Request) -> float:
        if request.mode not in self._class.compiling_modes:
            return self.deadline
        signature = (
            request.implementation, request.derivative, request.argument, request.dtype,
            request.mode, request.axis, *(array.shape for array in request.arrays.values()),
        )
        if signature in self._seen:
            return self.deadline
        self._seen.add(signature)
        return self.compile_deadline

    def _exchange(
        self, request: Request | None, seconds: float, phase: str
    ) -> Result | Raised | Hello | Crashed | TimedOut:
        child = self._child
        assert child is not None
        try:
            return child.exchange(request, seconds, self.memory_limit, phase)
        except BaseException:
            # Ctrl-C, say: the child is in the middle of a call and its pipes are out of step.
            self.discard()
            raise


class _Child:
    """A child process and the parent's ends of its pipes."""

    def __init__(
        self,
        python: str,
        framework: str,
        context: str,
        plugins: Sequence[str],
        environment: dict[str, str | None],
    ) -> None:
        self._owner = os.getpid()
        requests, self._to_child = os.pipe()
        self._from_child, answers = os.pipe()
        self._shared_out = SharedMemory.create()
        self._shared_in = SharedMemory.create() if self._shared_out is not None else None
        theirs = [requests, answers]
        shared = [-1, -1]
        if self._shared_out is not None and self._shared_in is not None:
            shared = [self._shared_out.fd, self._shared_in.fd]
            theirs += shared
        variables = dict(os.environ)
        for name, value in environment.items():
            if value is None:
                variables.pop(name, None)
            else:
                variables[name] = value
        command = [
            python, str(_CHILD), framework, context, str(os.getpid()),
            str(requests), str(answers), *map(str, shared), *plugins,
        ]
        try:
            self.process = _spawn(command, variables, theirs)
        except BaseException:
            for fd in (requests, answers):
                os.close(fd)
            self._close_fds()
            raise
        for fd in (requests, answers):
            os.close(fd)
        os.set_blocking(self._to_child, False)
        os.set_blocking(self._from_child, False)
        self._output = _Tail(self.process.stdout)
        self._readable = select.poll()
        self._readable.register(self._from_child, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._to_child, select.POLLOUT)

    def exchange(
        self, request: Request | None, seconds: float, memory_limit: int, phase: str
    ) -> Result | Raised | Hello | Crashed | TimedOut:
        """Send `request`, if any, and wait for the answer, the deadline or the end."""
        watch = _Watch(self.process, time.monotonic() + seconds, memory_limit)
        self._output.clear()
        try:
            if request is not None:
                self._write(encode(request_header(request), request.arrays, self._shared_out), watch)
            frame = read_frame(lambda size: self._read_exactly(size, watch))
            header, arrays = decode(*frame, self._shared_in)
            answer = answer_from(header, arrays)
        except _DeadlineError:
            return TimedOut(seconds, self._stack_and_output(), phase)
        except _MemoryError as error:
            self.kill()
            return Crashed("memory", text=str(error), output=self._output.text(), phase=phase)
        except (_GoneError, BrokenPipeError):
            return self._obituary(phase)
        except ProtocolError as error:
            self.kill()
            return Crashed(
                "protocol", text=f"it garbled its pipe: {error}", output=self._output.text(),
                phase=phase,
            )
        if isinstance(answer, Raised):
            return replace(answer, output=self._output.text())
        return answer

    def kill(self) -> None:
        """Kill the process group, reap the child and close everything; twice is harmless."""
        if os.getpid() != self._owner:  # a fork of the parent must not kill what is not its own
            self._close_fds()
            return
        if self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Also when the child is dead already: what it started shares its group, and until
            # the child is reaped the group's number cannot belong to anyone else.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._output.close()
        self._close_fds()

    def _close_fds(self) -> None:
        for name in ("_to_child", "_from_child"):
            fd = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)
        for shared in (self._shared_in, self._shared_out):
            if shared is not None:
                shared.close()
        self._shared_in = self._shared_out = None

    def _write(self, data: bytes, watch: _Watch) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._to_child, view) :]
            except BlockingIOError:
                watch.wait(self._writable)

    def _read_exactly(self, size: int, watch: _Watch) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = os.read(self._from_child, min(size - len(data), 1 << 20))
            except BlockingIOError:
                watch.wait(self._readable)
                continue
            if not chunk:
                raise _GoneError
            data += chunk
        return bytes(data)

    def _stack_and_output(self) -> str:
        """Ask for the Python stack it hangs in, then kill it."""
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGUSR1)
            time.sleep(0.1)  # faulthandler writes at once, or the process is not running at all
        self.kill()
        return self._output.text()

    def _obituary(self, phase: str) -> Crashed:
        """How a child ended whose pipe is closed."""
        patience = time.monotonic() + 5.0
        while not (ended := _has_ended(self.process)) and time.monotonic() < patience:
            time.sleep(0.002)
        self.kill()
        output = self._output.text()
        if not ended:
            return Crashed(
                "protocol", text="it closed its pipe and lived on", output=output, phase=phase
            )
        code = self.process.returncode
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return Crashed("signal", name, None, f"killed by {name}", output, phase)
        return Crashed("exit", None, code, f"exited with code {code}", output, phase)


class _DeadlineError(Exception):
    """The time is over."""


class _MemoryError(Exception):
    """The child holds too much memory."""


class _GoneError(Exception):
    """The child has closed its end."""


class _Watch:
    """Waits on a pipe and keeps an eye on the clock, the child's life and its memory."""

    def __init__(self, process: subprocess.Popen[bytes], until: float, memory_limit: int) -> None:
        self._process = process
        self._until = until
        self._limit = memory_limit
        self._statm = f"/proc/{process.pid}/statm"

    def wait(self, poll: select.poll) -> None:
        """Return when the pipe is ready; raise when something else has happened."""
        while True:
            remaining = self._until - time.monotonic()
            if remaining <= 0:
                raise _DeadlineError
            if poll.poll(min(remaining, _POLL_SECONDS) * 1000):
                return
            # A grandchild can hold the pipe open when the child itself is gone.
            if _has_ended(self._process) and not poll.poll(0):
                raise _GoneError
            resident = self._resident()
            if resident > self._limit:
                raise _MemoryError(
                    f"killed at {resident / 2**20:.0f} MiB of resident memory, "
                    f"above the limit of {self._limit / 2**20:.0f} MiB"
                )

    def _resident(self) -> int:
        try:
            with open(self._statm, "rb") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is dead; it stays unreaped, so that its process group keeps its number."""
    if process.returncode is not None:
        return True
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process.pid, options) is not None
    except ChildProcessError:
        return True


_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class _Tail:
    """Drains a pipe in a thread and keeps the end of it, so that no child blocks on printing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self._drain, name="conformance-output", daemon=True
        )
        self._thread.start()

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._stream.fileno(), 1 << 16):
                with self._lock:
                    self._kept += chunk
                    del self._kept[:-_TAIL]

    def clear(self) -> None:
        """Forget what came before."""
        with self._lock:
            self._kept.clear()

    def text(self) -> str:
        """What is kept."""
        with self._lock:
            kept = bytes(self._kept)
        return clean_text(kept, keep="tail")

    def close(self) -> None:
        """Read to the end of what a dead process left; a stray grandchild may keep it open."""
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._stream.close()


# --- starting children ----------------------------------------------------------------------

_spawner: ThreadPoolExecutor | None = None


def _spawn(
    command: list[str], variables: dict[str, str], fds: list[int]
) -> subprocess.Popen[bytes]:
    """Start a child from a thread that lives as long as this process.

    PR_SET_PDEATHSIG, by which a child dies with its parent, follows the *thread* that forked:
    a child started from a short-lived thread would be killed when that thread ends.
    """
    global _spawner
    if _spawner is None:
        _spawner = ThreadPoolExecutor(1, thread_name_prefix="conformance-spawner")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            env=variables,
            start_new_session=True,
        )

    return _spawner.submit(start).result()


def _forget_spawner() -> None:
    global _spawner
    _spawner = None  # a fork has no threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_spawner)

_open_executors: weakref.WeakSet[Executor] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for executor in list(_open_executors):
        executor.close()
