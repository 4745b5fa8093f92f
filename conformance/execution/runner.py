"""One request, in the process that holds the framework: call, guard, watch.

Used by an executor's child and by the in-process executor. Whatever the implementation does
short of killing the process becomes a `Result` or a `Raised`.
"""

from __future__ import annotations

import itertools
import platform
import traceback
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import ml_dtypes
import numpy as np

from conformance.declarations import with_options
from conformance.execution.namespaces import PROCESS, Namespaces
from conformance.execution.protocol import (
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
from conformance.execution.state import State
from conformance.execution.wire import answer_limit
from conformance.frameworks.base import Framework, GarbageError, UnsupportedError, array_names
from conformance.frameworks.layouts import TRANSPOSED, stored
from conformance.registry import Implementation
from conformance.text import exact, type_name

__all__ = ["Runner", "raised"]

_SIGNATURES_KEPT = 4096
_REPLACED_KEPT = 20
NOT_FLOATING = frozenset({"label", "mask"})
"""Inputs that are not of the request's dtype."""


class Runner:
    """Runs requests on one loaded framework.

    Parameters
    ----------
    framework : Framework
        Already loaded.
    implementations : mapping
        By name.
    own_process : bool
        Whether the process is ours: its streams and what it starts are watched only then.
    """

    def __init__(
        self,
        framework: Framework,
        implementations: Mapping[str, Implementation],
        *,
        own_process: bool = True,
    ) -> None:
        self.framework = framework
        self.implementations = implementations
        self._own_process = own_process
        self._namespaces = Namespaces((*PROCESS, *framework.namespaces), framework.derived_names)
        self._replaced: list[str] = []
        self._prepared: dict[tuple[Any, ...], Any] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self.baseline = State.capture(framework, own_process)

    def observe(self) -> None:
        """Take the state as it is now for the one that calls must leave behind."""
        self._namespaces.observe()
        self.baseline = State.capture(self.framework, self._own_process)

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
        self._replaced.clear()
        try:
            implementation = self._implementation(request)
        except _Harness as error:
            return Raised("HarnessError", clean_text(exact(error)), kind="harness")
        reason = self.framework.unsupported_reason(
            implementation, request.derivative, request.argument, request.dtype, request.mode
        )
        if reason is not None:
            return Raised("Unsupported", clean_text(reason), kind="unsupported")
        try:
            inputs = {
                name: self.framework.to_framework(array, request.layout)
                for name, array in request.arrays.items()
            }
        except Exception as error:
            return raised(error, "harness")

        answer: Result | Raised
        try:
            answer = self._call(request, implementation, inputs)
        except GarbageError as error:
            answer = Raised("GarbageError", clean_text(exact(error)), kind="garbage")
        except UnsupportedError as error:
            answer = Raised("Unsupported", clean_text(exact(error)), kind="unsupported")
        # Also SystemExit, KeyboardInterrupt and whatever else derives from BaseException: in a
        # child no real Ctrl-C arrives, and in-process the caller tells them apart.
        except BaseException as error:
            answer = raised(error, "exception")
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
        names = array_names(implementation, request.derivative, request.argument)
        missing = [name for name in names if name not in request.arrays]
        if missing:
            raise _Harness(f"the request lacks the arrays {', '.join(missing)}")
        given = {*request.options, *request.keywords}
        if untaken := sorted(given - set(implementation.parameters)):
            raise _Harness(f"{implementation.name} takes no {', '.join(untaken)}")
        if request.layout and request.layout not in self.framework.layouts:
            raise _Harness(f"arrays of {self.framework.name} do not lie {request.layout}")
        if request.layout == TRANSPOSED and request.derivative != "value":
            raise _Harness("only the value is asked of transposed inputs")
        try:
            expected = numpy_dtype(request.dtype)
        except ProtocolError as error:
            raise _Harness(str(error)) from error
        for name, array in request.arrays.items():
            if name not in NOT_FLOATING and array.dtype != expected:
                raise _Harness(
                    f"the array {name} is {array.dtype.name} in a request for {request.dtype}"
                )
        return implementation

    def _call(
        self, request: Request, implementation: Implementation, inputs: Mapping[str, Any]
    ) -> Result:
        key = request.function
        function = self._prepared.get(key)
        if function is None:
            given = with_options(implementation, request.options, request.keywords)
            function = self.framework.prepare(
                given,
                request.derivative,
                request.argument,
                request.mode,
                request.axis,
                request.call_context,
                request.layout,
            )
            self._prepared[key] = function
        seconds, value = self._timed(function, inputs)
        out = self.framework.from_framework(value)
        if not is_exchanged(out.dtype):
            raise GarbageError(f"returned an array of dtype {out.dtype.name}")
        if out.nbytes > answer_limit(request):
            raise GarbageError(f"returned an array of {out.nbytes} bytes, of shape {out.shape}")
        out = np.array(out, order="C")  # the memory may be the framework's to reuse
        breaches = self._mutations(request, inputs)
        compile_seconds = 0.0
        signature = request.signature
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
        start = perf_counter()
        try:
            value = function(inputs)
            self.framework.wait(value)
            return perf_counter() - start, value
        finally:
            # At once: everything from here on may be in need of what was replaced.
            self._replaced += self._namespaces.restore()

    def _mutations(self, request: Request, inputs: Mapping[str, Any]) -> tuple[Breach, ...]:
        found = []
        for name, given in request.arrays.items():
            before = stored(given, request.layout)
            try:
                after = self.framework.from_framework(inputs[name])
            except Exception as error:
                found.append(
                    Breach("mutates_inputs", f"{name} cannot be read any more: {exact(error)}")
                )
                continue
            if after.dtype != before.dtype:  # a label in the framework's natural integer
                with np.errstate(all="ignore"):
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
        self._replaced += self._namespaces.restore()  # reading the answer ran code of its class
        leaks = tuple(f"{name}: replaced" for name in self._replaced[:_REPLACED_KEPT])
        try:
            after = State.capture(self.framework, self._own_process)
            leaks += self.baseline.changes(after)
        except BaseException as error:
            leaks += (clean_text(f"state that cannot be read any more: {_told(error)}", 400),)
        if leaks:
            return replace(answer, leaks=leaks)
        self.baseline = after
        return answer


class _Harness(Exception):
    """The request itself is wrong: our own fault."""


def _bits(array: Array) -> bytes:
    return array.tobytes()


def _told(error: BaseException) -> str:
    return f"{type_name(error)}: {exact(error)}"


def raised(error: BaseException, kind: str) -> Raised:
    """An exception as an answer, its traceback cut to its end."""
    try:
        # The innermost frames say where; a runaway recursion would fill megabytes.
        lines = traceback.format_exception(error, limit=-12)
        where = "".join(itertools.islice(lines, 200))
    except BaseException:
        where = ""
    return Raised(
        type=clean_text(type_name(error), 200),
        text=clean_text(exact(error)),
        kind=kind,
        traceback=clean_text(where, keep="tail"),
    )
