"""A child process seen from its parent: its start, its pipes and its end.

The parent does everything from outside (`watch`). The process that it starts is the
child's guard (`guard`); the child and whatever that starts are below it, and killed
with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.execution import processes
from conformance.execution.guard import MARK, remove_folder
from conformance.execution.protocol import (
    Crashed,
    Hello,
    ProtocolError,
    Raised,
    Request,
    Result,
    TimedOut,
    clean_text,
)
from conformance.execution.watch import DeadlineError, GoneError, MemoryLimitError, Watch, has_ended
from conformance.execution.wire import (
    SharedMemory,
    answer_from,
    answer_limit,
    decode,
    encode,
    read_frame,
    request_header,
)

__all__ = ["Child"]

_SCRIPT = Path(__file__).resolve().with_name("child.py")
_TAIL = 4096
"""Bytes kept of what a child prints."""
_STACK = b"most recent call first"
_STACK_SECONDS = 0.5
_FAREWELL = 0.5
_PATIENCE = 5.0
"""Seconds that a process whose pipe is closed gets to be dead; freeing gigabytes takes time."""


class Child:
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
        self._mark = uuid.uuid4().hex
        self._number = 0
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
        self._folder = ""
        try:
            self._folder = tempfile.mkdtemp(prefix="conformance-")
            variables |= {MARK: self._mark, "TMPDIR": self._folder}
            numbers = (os.getpid(), requests, answers, *shared)
            command = [python, str(_SCRIPT), framework, context, self._folder,
                       *map(str, numbers), *plugins]  # fmt: skip
            self.process = _spawn(command, variables, theirs)
        except BaseException:
            for fd in (requests, answers):
                os.close(fd)
            self._close_fds()
            remove_folder(self._folder)
            raise
        for fd in (requests, answers):
            os.close(fd)
        os.set_blocking(self._to_child, False)
        os.set_blocking(self._from_child, False)
        self._watch = Watch(self.process)
        self._output = _Tail(self.process.stdout)
        self._readable = select.poll()
        self._readable.register(self._from_child, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._to_child, select.POLLOUT)

    def exchange(
        self, request: Request | None, seconds: float, memory_limit: int, phase: str
    ) -> Result | Raised | Hello | Crashed | TimedOut:
        """Send `request`, if any, and wait for the answer, the deadline or the end."""
        self._watch.begin(seconds, memory_limit)
        self._output.clear()
        try:
            if request is not None:
                self._number += 1
                header = {**request_header(request), "number": self._number}
                self._write(encode(header, request.arrays, self._shared_out))
            limit = answer_limit(request)
            frame = read_frame(self._read_exactly, limit)
            header, arrays = decode(*frame, self._shared_in, limit)
            if header.pop("number", None) != self._number:
                raise ProtocolError("it answered another question")
            answer = answer_from(header, arrays)
        except DeadlineError:
            return TimedOut(seconds, self._stack_and_output(), phase)
        except MemoryLimitError as error:
            self.kill()
            return Crashed("memory", text=str(error), output=self._output.text(), phase=phase)
        except (GoneError, BrokenPipeError):
            return self._obituary(phase)
        except ProtocolError as error:
            self.kill()
            return Crashed(
                "protocol",
                text=f"it garbled its pipe: {error}",
                output=self._output.text(),
                phase=phase,
            )
        if isinstance(answer, Raised):
            return replace(answer, output=self._output.text())
        return answer

    def kill(self) -> None:
        """Kill the child and everything it started, and give everything back; twice is harmless.

        What the child started is below its guard as long as that lives, and until the guard is
        reaped its number cannot belong to anyone else. If the guard was killed, its orphans are
        known by the mark in their environment.
        """
        if os.getpid() != self._owner:  # a fork of the parent must not kill what is not its own
            self._close_fds()
            return
        if self.process.returncode is not None:
            return
        by_itself = has_ended(self.process)
        processes.end_descendants(self.process.pid)
        until = time.monotonic() + _FAREWELL  # of the guard, which has nothing left to guard
        while not has_ended(self.process) and time.monotonic() < until:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if by_itself:
            processes.end_marked(MARK, self._mark)
        self._output.close()
        self._close_fds()
        remove_folder(self._folder)

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

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._to_child, view) :]
            except BlockingIOError:
                self._watch.wait(self._writable)

    def _read_exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = os.read(self._from_child, min(size - len(data), 1 << 20))
            except BlockingIOError:
                self._watch.wait(self._readable)
                continue
            if not chunk:
                raise GoneError
            data += chunk
        return bytes(data)

    def _stack_and_output(self) -> str:
        """Ask for the Python stack it hangs in, by way of its guard, then kill it."""
        if hasattr(signal, "SIGUSR1"):
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGUSR1)
            # faulthandler writes at once, or the process is not running at all.
            until = time.monotonic() + _STACK_SECONDS
            while not self._output.holds(_STACK) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.02)
        self.kill()
        return self._output.text()

    def _obituary(self, phase: str) -> Crashed:
        """How a child ended whose pipe is closed."""
        patience = time.monotonic() + _PATIENCE
        while not (ended := has_ended(self.process)) and time.monotonic() < patience:
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


class _Tail:
    """Drains a pipe in a thread and keeps the end of it, so that no child blocks on printing."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._drain, name="conformance-output", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._stream:
            while chunk := os.read(self._stream.fileno(), 1 << 16):
                with self._lock:
                    self._kept += chunk
                    del self._kept[:-_TAIL]

    def clear(self) -> None:
        """Forget what came before."""
        with self._lock:
            self._kept.clear()

    def holds(self, text: bytes) -> bool:
        """Whether this is in what is kept."""
        with self._lock:
            return text in self._kept

    def text(self) -> str:
        """What is kept."""
        with self._lock:
            kept = bytes(self._kept)
        return clean_text(kept, keep="tail")

    def close(self) -> None:
        """Read to the end of what a dead process left; a stray grandchild may keep it open."""
        self._thread.join(timeout=1.0)


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
