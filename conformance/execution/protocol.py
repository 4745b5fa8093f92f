"""What an executor is asked and what it answers.

A `Request`, and as its answer a `Result`, `Raised`, `Crashed` or `TimedOut`: values that
everybody uses. How they travel between two processes is in `conformance.execution.wire`.

Needs the standard library, NumPy and ml_dtypes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from conformance.text import exact, is_visible, type_name

__all__ = [
    "Answer",
    "Breach",
    "Crashed",
    "Hello",
    "ProtocolError",
    "Raised",
    "Request",
    "Result",
    "TimedOut",
    "clean_text",
    "is_exchanged",
    "numpy_dtype",
]

Array: TypeAlias = npt.NDArray[Any]

TEXT_LIMIT = 4000
"""Characters kept of a message, a traceback or captured output."""

_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        **{
            name: np.dtype(name)
            for name in (
                "float64",
                "float32",
                "float16",
                "int64",
                "int32",
                "int16",
                "int8",
                "uint64",
                "uint32",
                "uint16",
                "uint8",
                "bool",
                "complex64",
                "complex128",
            )
        },
        **{
            name: np.dtype(getattr(ml_dtypes, name))
            for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
        },
    }
)


class ProtocolError(Exception):
    """The other side sent something that is not a message of this protocol."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype (ml_dtypes for the narrow formats) of a dtype's name here.

    Raises
    ------
    ProtocolError
        If arrays of that dtype are not exchanged.
    """
    try:
        return _DTYPES[name]
    except KeyError:
        raise ProtocolError(f"arrays of dtype {name!r} are not exchanged") from None


def is_exchanged(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this dtype can travel."""
    return dtype.name in _DTYPES


def clean_text(text: object, limit: int = TEXT_LIMIT, *, keep: str = "head") -> str:
    """Make untrusted text safe to store and print: cut, valid UTF-8, nothing invisible in it.

    Each control character, bidirectional mark, zero-width character and lone surrogate becomes
    U+FFFD, so that a reader sees that something was there; line feeds and tabs stay.

    Parameters
    ----------
    text : str or bytes
        Anything else is described by its type.
    limit : int
        Characters kept.
    keep : {"head", "tail"}
        Which end survives the cut.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    elif not isinstance(text, str):
        return f"<{clean_text(type_name(text), 100)}>"
    text = exact(text)
    if len(text) > limit:
        text = text[:limit] + " [...]" if keep == "head" else "[...] " + text[-limit:]
    text = text.replace("\r\n", "\n")
    return "".join(c if c in "\n\t" or is_visible(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


@dataclass(frozen=True)
class Request:
    """One call of one implementation on a batch of rows."""

    implementation: str
    op: str
    derivative: str
    """``value``, ``vjp``, ``jvp`` or ``hvp``."""
    argument: str
    """The input that a derivative is taken with respect to, a pair ``x.target`` of them for an
    ``hvp``; ``-`` for the value."""
    dtype: str
    mode: str
    arrays: Mapping[str, Array] = field(repr=False)
    """The op's inputs by name, each with the batch as first axis and floating-point inputs
    already in `dtype` (`numpy_dtype`); ``g``, the cotangent of the output, for ``vjp`` and ``hvp``;
    ``v_x``, the tangent of x, and the like for ``jvp`` and ``hvp``; ``answer`` for a control."""
    axis: int = -1
    call_context: str = ""
    """Of `frameworks.base.CALL_CONTEXTS` what the call happens in, or empty."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the call that are no arrays: numbers, texts or None by name."""
    keywords: tuple[str, ...] = ()
    """Of the arrays, those that are keyword arguments and no inputs: ``weight``."""
    layout: str = ""
    """How the arrays are to lie in memory, of the framework's `layouts`; empty for contiguous."""

    @property
    def function(self) -> tuple[Any, ...]:
        """What is called, whatever it is called on."""
        return (self.implementation, self.derivative, self.argument, self.dtype, self.mode,
                self.axis, self.call_context, tuple(sorted(self.options.items())),
                self.keywords, self.layout)  # fmt: skip

    @property
    def signature(self) -> tuple[Any, ...]:
        """What a compiler compiles for: the function, the shapes and the dtypes."""
        return (*self.function, *((a.shape, a.dtype.name) for a in self.arrays.values()))

    @property
    def rows(self) -> int:
        """The height of the batch."""
        return int(next(iter(self.arrays.values())).shape[0])

    def part(self, start: int, stop: int) -> Request:
        """The same request on some of the rows."""
        return replace(
            self, arrays={name: array[start:stop] for name, array in self.arrays.items()}
        )


@dataclass(frozen=True)
class Breach:
    """Something the contract forbids that is seen only where the call is made."""

    kind: str
    """``mutates_inputs``."""
    detail: str
    rows: tuple[int, ...] = ()
    """The rows of the batch it was seen in, counted from 0."""


@dataclass(frozen=True)
class Result:
    """The implementation returned."""

    arrays: Mapping[str, Array] = field(repr=False)
    """``out``: the value or the derivative, with the dtype and shape that came back."""
    seconds: float = 0.0
    """In the implementation, framework conversions excluded."""
    compile_seconds: float = 0.0
    """What the first call of a signature took longer than its repetition."""
    breaches: tuple[Breach, ...] = ()
    leaks: tuple[str, ...] = ()
    """Process-wide state that the call changed, as ``what: before -> after``."""
    retried: str = ""
    """Why it was asked a second time: the first child died, after serving others too."""

    @property
    def out(self) -> Array:
        """The one array that a call returns."""
        return self.arrays["out"]


@dataclass(frozen=True)
class Raised:
    """The call ended in an exception, and the process lives."""

    type: str
    text: str
    kind: str = "exception"
    """``exception``: from the implementation or its framework. ``garbage``: it returned what is
    not an array of the framework. ``unsupported``: the framework or the implementation cannot do
    this, by declaration or by a known message. ``startup``: the framework could not be imported.
    ``harness``: our own fault, never the implementation's."""
    traceback: str = field(default="", repr=False)
    output: str = field(default="", repr=False)
    """The end of what the child printed meanwhile."""
    leaks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Crashed:
    """The process that made the call is gone."""

    reason: str
    """``signal``, ``exit``, ``memory`` (killed above the limit) or ``protocol`` (it closed or
    garbled its pipe)."""
    signal: str | None = None
    """Name of the signal, e.g. ``SIGSEGV``."""
    exit_code: int | None = None
    text: str = ""
    """One line that says what happened."""
    output: str = field(default="", repr=False)
    phase: str = "call"
    """``start`` or ``call``."""


@dataclass(frozen=True)
class TimedOut:
    """The call did not end within its deadline, and the process was killed."""

    seconds: float
    """The deadline."""
    output: str = field(default="", repr=False)
    """The end of what was printed, with the Python stack it was in, where there was one."""
    phase: str = "call"


Answer: TypeAlias = Result | Raised | Crashed | TimedOut


@dataclass(frozen=True)
class Hello:
    """What an executor says once its framework is loaded."""

    pid: int
    versions: Mapping[str, str]
    """Of Python, NumPy, ml_dtypes, the framework and what it computes with."""
    state: Mapping[str, str]
    """The state that is watched for leaks, in words."""
    implementations: tuple[str, ...] = ()
    declared: tuple[Mapping[str, Any], ...] = ()
    """What plug-ins declare (`declarations.declaration`), from a child without a framework."""
