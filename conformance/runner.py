"""One request, in the process that holds the framework: call, guard, watch.

Used by an executor's child and by the in-process executor. Whatever the implementation does
short of killing the process becomes a `Result` or a `Raised`.
"""

from __future__ import annotations

import itertools
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from conformance.frameworks.base import Framework, GarbageError, UnsupportedError
from conformance.protocol import (
    Array,
    Breach,
    ProtocolError,
    Raised,
    Request,
    Result,
    clean_text,
    is_exchanged,
    numpy_dtype,
)
from conformance.registry import OPS, Implementation

__all__ = ["Runner", "State"]

_SIGNATURES_KEPT = 4096


@dataclass(frozen=True)
class State:
    """Process-wide state that an implementation could leave changed."""

    cwd: str
    environment: Mapping[str, str]
    errstate: Mapping[str, str]
    filters: tuple[Any, ...]
    others: Mapping[str, str]
    """The flush-to-zero canary, the standard streams, and the framework's own switches."""
    modules: int
    """How many modules were imported; not compared, see `changes`."""

    @staticmethod
    def capture(framework: Framework, streams: bool) -> State:
        """The state now."""
        others = {
            # A switched-on flush-to-zero bit makes this product 0.
            "subnormals": "kept" if _TINY * _ONE != 0 else "flushed to zero",
            **framework.state(),
        }
        if streams:
            others["stdout"], others["stderr"] = (_stream(sys.stdout, 1), _stream(sys.stderr, 2))
        try:
            cwd = os.getcwd()
        except OSError:
            cwd = "<deleted>"
        return State(
            cwd=cwd,
            environment=dict(os.environ),
            errstate={name: str(how) for name, how in np.geterr().items()},
            filters=tuple(warnings.filters),
            others=others,
            modules=len(sys.modules),
        )

    def changes(self, after: State) -> tuple[str, ...]:
        """What differs in `after`, one line each; empty if nothing leaked.

        Importing a module for the first time may add warnings filters and environment variables,
        and frameworks import parts of themselves late (torch on the first compilation). That
        happens once, whoever is called first, and is nobody's leak.
        """
        imported = after.modules > self.modules
        found = []
        if after.cwd != self.cwd:
            found.append(f"working directory: {self.cwd} -> {after.cwd}")
        for name in sorted(self.environment.keys() | after.environment.keys()):
            old, new = self.environment.get(name), after.environment.get(name)
            if old != new and not (imported and old is None):
                # Values stay out of records: an environment holds secrets.
                how = "removed" if new is None else "added" if old is None else "changed"
                found.append(f"environment variable {name}: {how}")
        for name, old in self.errstate.items():
            if after.errstate.get(name) != old:
                found.append(f"numpy errstate {name}: {old} -> {after.errstate.get(name)}")
        if after.filters != self.filters and not (imported and _contains(after, self)):
            found.append(f"warnings filters: {len(self.filters)} -> {len(after.filters)} entries")
        for name, old in self.others.items():
            if after.others.get(name) != old:
                found.append(f"{name}: {old} -> {after.others.get(name)}")
        return tuple(clean_text(line, 400) for line in found)

    def restore(self, framework: Framework) -> None:
        """Put back what can be put back."""
        os.chdir(self.cwd)
        for name in os.environ.keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update(self.environment)
        np.seterr(**dict(self.errstate))  # type: ignore[arg-type]
        warnings.filters[:] = list(self.filters)  # type: ignore[index]
        framework.restore(self.others)

    def summary(self) -> dict[str, str]:
        """In words, for `Hello` and the doctor."""
        return {
            "working directory": self.cwd,
            "numpy errstate": ", ".join(f"{name}={how}" for name, how in self.errstate.items()),
            "warnings filters": str(len(self.filters)),
            **self.others,
        }


_TINY = np.nextafter(np.float64(0), np.float64(1))
_ONE = np.float64(1)


def _contains(after: State, before: State) -> bool:
    return all(entry in after.filters for entry in before.filters)


def _stream(stream: Any, fd: int) -> str:
    try:
        os.fstat(fd)
        return "closed" if stream is None or stream.closed else "open"
    except (OSError, AttributeError, ValueError):
        return "closed"


class Runner:
    """Runs requests on one loaded framework.

    Parameters
    ----------
    framework : Framework
        Already loaded.
    implementations : mapping
        By name.
    watch_streams : bool
        Whether a closed stdout or stderr is a leak (only where they are the child's own).
    """

    def __init__(
        self,
        framework: Framework,
        implementations: Mapping[str, Implementation],
        *,
        watch_streams: bool = True,
    ) -> None:
        self.framework = framework
        self.implementations = implementations
        self._streams = watch_streams
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self.baseline = State.capture(framework, watch_streams)

    def observe(self) -> None:
        """Take the state as it is now for the one that calls must leave behind."""
        self.baseline = State.capture(self.framework, self._streams)

    def versions(self) -> dict[str, str]:
        """Of everything that computes here."""
        return {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "ml_dtypes": str(ml_dtypes.__version__),
            **self.framework.versions(),
        }

    def run(self, request: Request) -> Result | Raised:
        """Answer one request; only a real interrupt of this process gets out.

        An exception that comes out of the implementation, whatever its class, is a `Raised`.
        """
        try:
            implementation = self._implementation(request)
        except _Harness as error:
            return Raised("HarnessError", clean_text(str(error)), kind="harness")
        reason = self.framework.unsupported_reason(
            implementation, request.derivative, request.argument, request.dtype, request.mode
        )
        if reason is not None:
            return Raised("Unsupported", clean_text(reason), kind="unsupported")
        try:
            inputs = {
                name: self.framework.to_framework(array) for name, array in request.arrays.items()
            }
        except Exception as error:
            return _raised(error, "harness")

        answer: Result | Raised
        try:
            answer = self._call(request, implementation, inputs)
        except GarbageError as error:
            answer = Raised("GarbageError", clean_text(str(error)), kind="garbage")
        except UnsupportedError as error:
            answer = Raised("Unsupported", clean_text(str(error)), kind="unsupported")
        # Also SystemExit, KeyboardInterrupt and whatever else derives from BaseException: in a
        # child no real Ctrl-C arrives, and in-process the caller tells them apart.
        except BaseException as error:
            answer = _raised(error, "exception")
            if self.framework.means_unsupported(answer.type, answer.text):
                answer = Raised(answer.type, answer.text, "unsupported", answer.traceback)
        return self._with_leaks(answer)

    def _implementation(self, request: Request) -> Implementation:
        implementation = self.implementations.get(request.implementation)
        if implementation is None:
            raise _Harness(f"no implementation {request.implementation!r} is registered here")
        if implementation.framework != self.framework.name or implementation.op != request.op:
            raise _Harness(
                f"{implementation.name} is {implementation.op} in {implementation.framework}, not "
                f"{request.op} in {self.framework.name}"
            )
        names = ["answer"] if implementation.role == "control" else list(OPS[request.op].inputs)
        if request.derivative != "value" and implementation.role != "control":
            names.append("g")
        missing = [name for name in names if name not in request.arrays]
        if missing:
            raise _Harness(f"the request lacks the arrays {', '.join(missing)}")
        try:
            expected = numpy_dtype(request.dtype)
        except ProtocolError as error:
            raise _Harness(str(error)) from error
        for name, array in request.arrays.items():
            if name != "label" and array.dtype != expected:
                raise _Harness(
                    f"the array {name} is {array.dtype.name} in a request for {request.dtype}"
                )
        return implementation

    def _call(
        self, request: Request, implementation: Implementation, inputs: Mapping[str, Any]
    ) -> Result:
        key = (
            request.implementation,
            request.derivative,
            request.argument,
            request.dtype,
            request.mode,
            request.axis,
        )
        function = self._prepared.get(key)
        if function is None:
            function = self.framework.prepare(
                implementation, request.derivative, request.argument, request.mode, request.axis
            )
            self._prepared[key] = function
        seconds, value = self._timed(function, inputs)
        out = self.framework.from_framework(value)
        if not is_exchanged(out.dtype):
            raise GarbageError(f"returned an array of dtype {out.dtype.name}")
        out = np.array(out, order="C")  # the memory may be the framework's to reuse
        breaches = self._mutations(request, inputs)
        compile_seconds = 0.0
        signature = (*key, *(array.shape for array in request.arrays.values()))
        if request.mode in self.framework.compiling_modes and signature not in self._seen:
            if len(self._seen) >= _SIGNATURES_KEPT:
                self._seen.clear()
            self._seen.add(signature)
            # The first call of a signature compiles; what it took longer than the second one is
            # the compilation. The first result is the one that counts.
            again, _ = self._timed(function, inputs)
            compile_seconds, seconds = max(seconds - again, 0.0), again
        return Result({"out": out}, seconds, compile_seconds, breaches)

    def _timed(self, function: Any, inputs: Mapping[str, Any]) -> tuple[float, Any]:
        start = time.perf_counter()
        value = function(inputs)
        self.framework.wait(value)
        return time.perf_counter() - start, value

    def _mutations(self, request: Request, inputs: Mapping[str, Any]) -> tuple[Breach, ...]:
        found = []
        for name, before in request.arrays.items():
            try:
                after = self.framework.from_framework(inputs[name])
            except Exception as error:
                found.append(
                    Breach("mutates_inputs", f"{name} cannot be read any more: {_text(error)}")
                )
                continue
            if after.dtype != before.dtype:  # a label in the framework's natural integer
                before = before.astype(after.dtype)
            if after.shape != before.shape:
                found.append(
                    Breach("mutates_inputs", f"{name}: shape {before.shape} -> {after.shape}")
                )
                continue
            if _bits(after) != _bits(before):
                rows = tuple(
                    row
                    for row in range(before.shape[0] if before.ndim else 0)
                    if _bits(after[row]) != _bits(before[row])
                )
                found.append(Breach("mutates_inputs", f"{name} was modified", rows))
        return tuple(found)

    def _with_leaks(self, answer: Result | Raised) -> Result | Raised:
        after = State.capture(self.framework, self._streams)
        leaks = self.baseline.changes(after)
        if not leaks:
            self.baseline = after
            return answer
        if isinstance(answer, Result):
            return Result(
                answer.arrays, answer.seconds, answer.compile_seconds, answer.breaches, leaks
            )
        return Raised(answer.type, answer.text, answer.kind, answer.traceback, answer.output, leaks)


class _Harness(Exception):
    """The request itself is wrong: our own fault."""


def _bits(array: Array) -> bytes:
    return array.tobytes()


def _text(error: BaseException) -> str:
    """The message of an exception, even of one whose ``__str__`` fails."""
    try:
        return str(error)
    except BaseException:
        return "<its message cannot be printed>"


def _raised(error: BaseException, kind: str) -> Raised:
    try:
        # The innermost frames say where; a runaway recursion would fill megabytes.
        lines = traceback.format_exception(error, limit=-12)
        where = "".join(itertools.islice(lines, 200))
    except BaseException:
        where = ""
    return Raised(
        type=clean_text(type(error).__name__, 200),
        text=clean_text(_text(error)),
        kind=kind,
        traceback=clean_text(where, keep="tail"),
    )
