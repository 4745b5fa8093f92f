"""The executor without a process of its own, for assertions inside somebody else's tests."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType
from typing import Any

from conformance.execution.protocol import Answer, Hello, Raised, Request
from conformance.execution.runner import Runner
from conformance.execution.service import load_runner, startup_failure

__all__ = ["InProcessExecutor"]


class InProcessExecutor:
    """Runs implementations in this process: the interface of `Executor`, without its walls.

    It catches every exception that comes out of an implementation, and puts back the state that
    a call changed. It **cannot** survive a segfault, an ``os._exit`` or a hang, cannot end threads
    or processes that a call left behind, and neither watches memory nor changes thread counts.

    Parameters
    ----------
    framework, context, plugins
        As for `Executor`.
    """

    isolated = False

    def __init__(
        self, framework: str, context: str = "default", *, plugins: Sequence[str] = ()
    ) -> None:
        self.framework = framework
        self.context = context
        self.plugins = tuple(plugins)
        self.hello: Hello | None = None
        self._runner: Runner | None = None
        self._failure: Raised | None = None

    def __enter__(self) -> InProcessExecutor:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> Hello | Raised:
        """Import the framework, once; say what it is or why it cannot be."""
        if self.hello is not None:
            return self.hello
        if self._failure is not None:
            return self._failure
        try:
            self._runner = load_runner(
                self.framework, self.context, self.plugins, own_process=False
            )
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failure = startup_failure(error)
            return self._failure
        self.hello = Hello(
            pid=os.getpid(),
            versions=self._runner.versions(),
            state=self._runner.baseline.summary(),
            implementations=tuple(self._runner.implementations),
        )
        return self.hello

    def call(self, request: Request) -> Answer:
        """Run one request here.

        Raises
        ------
        KeyboardInterrupt
            Only for a real Ctrl-C; one that the implementation raises itself is a `Raised`.
        """
        started = self.start()
        if not isinstance(started, Hello):
            return started
        runner = self._runner
        assert runner is not None
        with _InterruptWatch() as interrupt, runner.framework.scope(self.context):
            runner.observe()  # the caller may have changed state between two calls, rightly
            answer = runner.run(request)
            if answer.leaks:
                runner.baseline.restore(runner.framework)
        if interrupt.happened:
            raise KeyboardInterrupt
        return answer

    def close(self) -> None:
        """Forget the framework; it stays imported."""
        self._runner = None
        self.hello = None


class _InterruptWatch:
    """Notes whether a KeyboardInterrupt came from the keyboard.

    Signal handlers belong to the main thread; elsewhere no Ctrl-C arrives anyway.
    """

    def __init__(self) -> None:
        self.happened = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> _InterruptWatch:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            if callable(self._previous):
                signal.signal(signal.SIGINT, self._note)
                self._installed = True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened = True
        self._previous(number, frame)
