"""The loop of an executor's child: read a request, run it, send the answer."""

from __future__ import annotations

import os
import random
from os import getpid
from typing import Any

import numpy as np

from conformance.declarations import Implementation, RegistryError, declaration
from conformance.execution.namespaces import PROCESS, Namespaces
from conformance.execution.protocol import Hello, Raised, Request, Result
from conformance.execution.runner import Runner, raised
from conformance.execution.state import State
from conformance.execution.wire import (
    SharedMemory,
    answer_header,
    decode,
    encode,
    read_frame,
    request_from,
)
from conformance.frameworks import Framework, get_framework
from conformance.registry import PluginError, load_builtin, load_plugin, registered

__all__ = ["NO_FRAMEWORK", "Service"]

NO_FRAMEWORK = "-"
"""In place of a framework: the child is only to say what its plug-ins declare."""


class Service:
    """One end of the pipes, in the process that holds the framework."""

    def __init__(
        self,
        requests: int,
        answers: int,
        shared_in: SharedMemory | None,
        shared_out: SharedMemory | None,
    ) -> None:
        self._requests = requests
        self._answers = answers
        self._shared_in = shared_in
        self._shared_out = shared_out
        self._pid = getpid()
        self._number = 0

    def serve(self, framework: str, context: str, plugins: list[str]) -> None:
        """Load, say hello, and answer until the parent closes the pipe or dies."""
        if framework == NO_FRAMEWORK:
            self._declare(plugins)
            return
        try:
            runner = load_runner(framework, context, plugins)
        except BaseException as error:
            self._send(startup_failure(error))
            return
        self._send(
            Hello(
                pid=os.getpid(),
                versions=runner.versions(),
                state=runner.baseline.summary(),
                implementations=tuple(runner.implementations),
            )
        )
        while True:
            try:
                request = self._receive()
            except EOFError:
                return
            self._send(runner.run(request))

    def _declare(self, plugins: list[str]) -> None:
        """Say what plug-ins declare, and nothing else."""
        try:
            load_builtin()
            nothing = get_framework("numpy")()  # which has no switches of its own
            loaded = [load_undisturbed(plugin, nothing) for plugin in plugins]
        except BaseException as error:
            self._send(startup_failure(error))
            return
        told = tuple(declaration(e) for entries in loaded for e in entries.values())
        self._send(Hello(pid=os.getpid(), versions={}, state={}, declared=told))

    def _receive(self) -> Request:
        header, arrays = decode(*read_frame(self._read_exactly), self._shared_in)
        self._number = int(header["number"])
        return request_from(header, arrays)

    def _send(self, answer: Result | Raised | Hello) -> None:
        if getpid() != self._pid:
            os._exit(0)  # an implementation forked, and this is the copy: one answer is enough
        arrays = answer.arrays if isinstance(answer, Result) else {}
        header = {**answer_header(answer), "number": self._number}
        data: Any = memoryview(encode(header, arrays, self._shared_out))
        while data:
            data = data[os.write(self._answers, data) :]

    def _read_exactly(self, size: int) -> bytes:
        chunks = []
        while size:
            chunk = os.read(self._requests, min(size, 1 << 20))
            if not chunk:
                raise EOFError
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)


def load_runner(
    framework: str, context: str, plugins: list[str] | tuple[str, ...], *, own_process: bool = True
) -> Runner:
    """Import the framework, register its implementations, and be ready to run.

    Raises
    ------
    PluginError
        If a plug-in cannot be loaded.
    BaseException
        Whatever the import of the framework raised.
    """
    loaded = get_framework(framework)()
    if own_process:
        # The same figures in every run: what draws at random draws the same.
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the one that implementations may share
    loaded.load(context, own_process=own_process)
    load_builtin()
    for plugin in plugins:
        if own_process:
            load_undisturbed(plugin, loaded)
        else:
            load_plugin(plugin)
    mine = {name: entry for name, entry in registered().items() if entry.framework == framework}
    return Runner(loaded, mine, own_process=own_process)


def load_undisturbed(plugin: str, framework: Framework) -> dict[str, Implementation]:
    """Load a plug-in, and undo what its import did to the state that others share.

    Raises
    ------
    PluginError
        If it cannot be loaded, or what it did cannot be undone (a library that was compiled to
        flush subnormals, for one).
    """
    names = Namespaces((*PROCESS, *framework.namespaces), framework.derived_names)
    before = State.capture(framework, own_process=False)
    entries = load_plugin(plugin)
    names.restore()
    before.restore(framework)
    left = before.switched(State.capture(framework, own_process=False))
    if left:
        raise PluginError(
            f"plug-in {plugin} changes, when it is imported, what others compute with: "
            f"{'; '.join(left)}"
        )
    return entries


def startup_failure(error: BaseException) -> Raised:
    """Why a framework or a plug-in could not be loaded."""
    return raised(error, "harness" if isinstance(error, RegistryError) else "startup")
