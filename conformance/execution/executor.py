"""Runs implementations in a child process that may do whatever it likes.

An `Executor` holds one long-lived child per framework and context. The parent owns the deadline
and the memory limit: it watches the child from outside and kills it with everything it started,
because nothing inside a process can end a call that holds the GIL. Whatever happens is an
`Answer`, a value like any other; `call_rows` halves a batch that died until the rows to blame are
named.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from conformance.execution.process import Child
from conformance.execution.protocol import (
    Answer,
    Breach,
    Crashed,
    Hello,
    Raised,
    Request,
    Result,
    TimedOut,
    clean_text,
    numpy_dtype,
)
from conformance.frameworks import get_framework

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
COMPILE_FACTOR = 8.0
"""How many times as long the first call of a signature gets in a mode that compiles."""
STARTUP_DEADLINE = 180.0
"""Seconds for the import of a framework (TensorFlow from a cold disk takes a minute)."""
_START_ATTEMPTS = 2


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
    """Half of the memory that this process may use, in bytes: the machine's or its container's."""
    found = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(ValueError, OSError):  # also where it says `max`
            found.append(int(Path(path).read_text(encoding="ascii")))
    return min(found, default=8 << 30) // 2


_CONTAINER_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


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
    deadline, startup_deadline : float
        Seconds for a call (`COMPILE_FACTOR` times as many for the first call of a signature in a
        mode that compiles), and for the child to start and import its framework.
    memory_limit : int, optional
        Resident bytes of the child and what it started above which they are killed (Linux).
        Default: `default_memory_limit`.

    Notes
    -----
    The child starts on first use and is replaced by itself after it died or leaked state. A death
    is held against an implementation only in a child that has served no other: elsewhere it can be
    the late effect of what ran before, and the request is asked again in a fresh child.

    It is not for use from several threads at once.
    """

    def __init__(
        self,
        framework: str,
        context: str = "default",
        *,
        python: str | None = None,
        plugins: Sequence[str] = (),
        deadline: float = DEADLINE,
        startup_deadline: float = STARTUP_DEADLINE,
        memory_limit: int | None = None,
    ) -> None:
        self.framework = framework
        self.context = context
        self.python = sys.executable if python is None else python
        self.plugins = tuple(plugins)
        self.deadline = deadline
        self.compile_deadline = COMPILE_FACTOR * deadline
        self.startup_deadline = startup_deadline
        self.memory_limit = default_memory_limit() if memory_limit is None else memory_limit
        self.starts = 0
        """How many children have been started."""
        self.hello: Hello | None = None
        """What the last child said when its framework was loaded."""
        self._class = get_framework(framework)
        self._class.environment(context)  # an unknown context is the caller's mistake: say so now
        self._child: Child | None = None
        self._seen: set[tuple[Any, ...]] = set()
        self._served: set[str] = set()
        self._failures = 0
        self._failure: Raised | Crashed | TimedOut | None = None
        _open_executors.add(self)

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # also of an executor that was never finished
            self.discard()

    @property
    def pid(self) -> int | None:
        """The process id of the child that is ready, while there is one."""
        return None if self._child is None or self.hello is None else self.hello.pid

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
        self._served.clear()
        self.hello = None
        try:
            self._child = Child(
                self.python,
                self.framework,
                self.context,
                self.plugins,
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
        answer, shared = self._ask(request)
        if not shared or not isinstance(answer, (Crashed, TimedOut)):
            return answer
        again, _ = self._ask(request)
        if isinstance(again, Result):
            told = answer.text if isinstance(answer, Crashed) else "no answer in time"
            return replace(again, retried=f"asked twice: {told} in a child that others had used")
        return again

    def _ask(self, request: Request) -> tuple[Answer, bool]:
        """The answer, and whether its child had served another implementation before."""
        started = self.start()
        if not isinstance(started, Hello):
            return started, False
        shared = bool(self._served - {request.implementation})
        self._served.add(request.implementation)
        answer = self._exchange(request, self._deadline(request), "call")
        if isinstance(answer, Hello):
            answer = Crashed("protocol", text="the child said hello in place of an answer")
        if isinstance(answer, (Crashed, TimedOut)) or answer.leaks:
            self.discard()  # a process whose state was changed measures something else from now on
        return answer, shared

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
        signature = request.signature
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


_open_executors: weakref.WeakSet[Executor] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for executor in list(_open_executors):
        executor.close()
