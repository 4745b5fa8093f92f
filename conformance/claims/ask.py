"""Questions to implementations in an executor, and the oracle's answers to the same questions."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conformance.claims.article import implementation_names
from conformance.execution.executor import Executor
from conformance.execution.protocol import Request, Result
from conformance.registry import load_builtin
from reference import formats, oracle
from reference.formats import F64, Format
from reference.oracle import References

__all__ = ["Ask", "Unanswered", "exact"]


class Unanswered(Exception):
    """The implementation raised, crashed or did not end: there is no figure to judge."""


class Ask:
    """One framework in one mode and dtype.

    Parameters
    ----------
    executor : Executor
        Of the framework, in the context that the dtype needs.
    mode, dtype : str
    """

    def __init__(self, executor: Executor, mode: str, dtype: str) -> None:
        self.executor = executor
        self.framework = executor.framework
        self.mode = mode
        self.dtype = dtype
        self.format: Format = formats.get(dtype)
        names, entries = implementation_names(executor.framework), load_builtin()
        self._entries = {part: entries[name] for part, name in names.items()}

    def value(self, part: str, **inputs: F64) -> F64:
        """The value of ``softmax``, ``log_softmax``, ``builtin``, ``manual`` or ``clipped``.

        Inputs are values of the format, held as float64; so is what comes back.
        """
        return self._floats(self.call(part, "value", inputs))

    def gradient(self, part: str, **inputs: F64) -> F64:
        """The gradient to x of the sum of the rows' losses."""
        rows = len(inputs["x"])
        return self._floats(self.call(part, "vjp", {**inputs, "g": np.ones(rows)}))

    def call(self, part: str, derivative: str, inputs: Mapping[str, F64]) -> Result:
        """Run one request; Unanswered if it does not come to a result."""
        entry = self._entries[part]
        answer = self.executor.call(
            Request(
                entry.name,
                entry.op,
                derivative,
                "-" if derivative == "value" else "x",
                self.dtype,
                self.mode,
                {name: self.format.cast(array) for name, array in inputs.items()},
            )
        )
        if isinstance(answer, Result):
            return answer
        raise Unanswered(f"{entry.name}: {_failure(answer)}")

    def _floats(self, result: Result) -> F64:
        if result.out.dtype != self.format.dtype:
            raise Unanswered(f"answered in {result.out.dtype.name}, asked in {self.dtype}")
        return np.asarray(result.out).astype(np.float64)


def _failure(answer: Any) -> str:
    text = getattr(answer, "text", "") or f"no answer within {getattr(answer, 'seconds', 0):g} s"
    return f"{getattr(answer, 'type', type(answer).__name__)}: {text}"


_lock = threading.Lock()
_known: dict[tuple[Any, ...], References] = {}


def exact(op: str, fmt: Format, **inputs: NDArray[Any]) -> References:
    """The oracle's answers; frameworks are asked the same, so they are kept."""
    key = (op, fmt.name, *((name, a.shape, a.tobytes()) for name, a in sorted(inputs.items())))
    with _lock:  # frameworks are asked from threads; the oracle is not made for that
        if key not in _known:
            _known[key] = oracle.evaluate(op, "value", "-", inputs, fmt)
        return _known[key]
