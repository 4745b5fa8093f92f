"""What an executor is asked and what it answers, and how both travel between two processes.

The value types are what everybody uses: a `Request`, and as its answer a `Result`, `Raised`,
`Crashed` or `TimedOut`. The wire format is a length-prefixed JSON header followed by the raw
little-endian bytes of the arrays; large arrays go through an anonymous shared memory file and
leave only their offset in the header. Nothing that is read is ever executed, and everything a
child sends is treated as untrusted: lengths are checked and texts are cut and cleaned.

Needs the standard library, NumPy and ml_dtypes only.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

__all__ = [
    "Answer",
    "Breach",
    "Crashed",
    "Hello",
    "ProtocolError",
    "Raised",
    "Request",
    "Result",
    "SharedMemory",
    "TimedOut",
    "clean_text",
    "decode",
    "encode",
    "numpy_dtype",
    "read_frame",
]

Array: TypeAlias = npt.NDArray[Any]

TEXT_LIMIT = 4000
"""Characters kept of a message, a traceback or captured output."""
SHARED_FROM = 1 << 16
"""Arrays of at least this many bytes go through shared memory."""

_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        **{
            name: np.dtype(name)
            for name in (
                "float64", "float32", "float16", "int64", "int32", "int16", "int8",
                "uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128",
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


def clean_text(text: object, limit: int = TEXT_LIMIT, *, keep: str = "head") -> str:
    """Make untrusted text safe to store and print: cut, valid UTF-8, no control characters.

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
        text = f"<{type(text).__name__}>"
    if len(text) > limit:
        text = text[:limit] + " [...]" if keep == "head" else "[...] " + text[-limit:]
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    # Terminal escapes and the like from an implementation must not reach anyone's terminal.
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Request:
    """One call of one implementation on a batch of rows."""

    implementation: str
    op: str
    derivative: str
    """``value`` or ``vjp``."""
    argument: str
    """The input that a derivative is taken with respect to; ``-`` for the value."""
    dtype: str
    mode: str
    arrays: Mapping[str, Array] = field(repr=False)
    """The op's inputs by name, each with the batch as first axis and floating-point inputs
    already in `dtype` (`numpy_dtype`); ``g``, the cotangent of the output, for ``vjp``;
    ``answer`` for a control."""
    axis: int = -1

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
    """Something the contract forbids that is seen only where the call is made (CONTRACT 6)."""

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


# --- the wire -------------------------------------------------------------------------------

_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"LGC1"
_HEADER_LIMIT = 1 << 26
_PAYLOAD_LIMIT = 1 << 40


class SharedMemory:
    """An anonymous memory file that both processes hold open; one direction, one message.

    It has no name, so nothing is left behind however the processes end. It is read and written
    by position instead of being mapped: the cost is the same single copy, and a process that
    truncates the file under the other cannot raise SIGBUS there.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @staticmethod
    def create() -> SharedMemory | None:
        """A new one, or None where the platform has no ``memfd_create``."""
        if not hasattr(os, "memfd_create"):
            return None
        try:
            return SharedMemory(os.memfd_create("conformance", os.MFD_CLOEXEC))
        except OSError:
            return None

    def resize(self, size: int) -> None:
        """Hold exactly `size` bytes; what a larger earlier message used is given back."""
        os.ftruncate(self.fd, size)

    def write(self, offset: int, data: memoryview) -> None:
        """Write all of `data` at `offset`."""
        while data:
            written = os.pwrite(self.fd, data, offset)
            data = data[written:]
            offset += written

    def read(self, offset: int, into: memoryview) -> None:
        """Fill `into` from `offset`.

        Raises
        ------
        ProtocolError
            If the file is shorter than that.
        """
        while into:
            count = os.preadv(self.fd, [into], offset)
            if count == 0:
                raise ProtocolError("an array reaches beyond the end of the shared memory")
            into = into[count:]
            offset += count

    def close(self) -> None:
        """Close this process's end."""
        os.close(self.fd)


def encode(
    header: Mapping[str, Any], arrays: Mapping[str, Array], shared: SharedMemory | None
) -> bytes:
    """One message as bytes for the pipe; large arrays are put into `shared` on the way."""
    entries: list[dict[str, Any]] = []
    inline: list[bytes] = []
    large: list[tuple[int, Array]] = []
    inline_size = shared_size = 0
    for name, value in arrays.items():
        array = np.asarray(value, order="C")
        if array.dtype.name not in _DTYPES:
            raise ProtocolError(f"arrays of dtype {array.dtype.name!r} are not exchanged")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        entry: dict[str, Any] = {
            "name": name, "dtype": array.dtype.name, "shape": list(array.shape)
        }
        if shared is not None and array.nbytes >= SHARED_FROM:
            entry["shared"] = shared_size
            large.append((shared_size, array))
            shared_size += -(-array.nbytes // 64) * 64
        else:
            entry["inline"] = inline_size
            inline.append(array.tobytes())
            inline_size += array.nbytes
        entries.append(entry)
    if shared is not None and large:
        shared.resize(shared_size)
        for offset, array in large:
            # A bytes view also of dtypes that the buffer protocol does not know.
            shared.write(offset, memoryview(array.reshape(-1).view(np.uint8)))
    text = json.dumps({**header, "arrays": entries}).encode("ascii")
    return b"".join((_PREFIX.pack(_MAGIC, len(text), inline_size), text, *inline))


def read_frame(read_exactly: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """Read one message: the text of its header and its inline bytes.

    Parameters
    ----------
    read_exactly : callable
        Returns exactly as many bytes as it is asked for, or raises.
    """
    magic, header_size, payload_size = _PREFIX.unpack(read_exactly(_PREFIX.size))
    if magic != _MAGIC or header_size > _HEADER_LIMIT or payload_size > _PAYLOAD_LIMIT:
        raise ProtocolError("what arrived is not the start of a message")
    return read_exactly(header_size), read_exactly(payload_size)


def decode(
    text: bytes, payload: bytes, shared: SharedMemory | None
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a message; each array owns its memory and is writable.

    Raises
    ------
    ProtocolError
        If anything in it does not fit the rest.
    """
    try:
        header = json.loads(text)
        arrays = {}
        for entry in header.pop("arrays"):
            shape = tuple(int(size) for size in entry["shape"])
            if any(size < 0 for size in shape):
                raise ProtocolError("an array with a negative size")
            dtype = numpy_dtype(entry["dtype"])
            count = 1
            for size in shape:
                count *= size
            nbytes = count * dtype.itemsize
            if nbytes > _PAYLOAD_LIMIT:
                raise ProtocolError("an array of absurd size")
            if "shared" in entry:
                offset = int(entry["shared"])
                if shared is None or not 0 <= offset <= _PAYLOAD_LIMIT:
                    raise ProtocolError("an array in a shared memory that does not exist")
                if offset + nbytes > os.fstat(shared.fd).st_size:
                    raise ProtocolError("an array reaches beyond the end of the shared memory")
                raw = np.empty(nbytes, np.uint8)
                shared.read(offset, memoryview(raw))
            else:
                offset = int(entry["inline"])
                if not 0 <= offset <= len(payload) - nbytes:
                    raise ProtocolError("an array reaches beyond the end of its message")
                raw = np.frombuffer(payload, np.uint8, nbytes, offset).copy()
            arrays[str(entry["name"])] = raw.view(dtype).reshape(shape)
    except ProtocolError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ProtocolError(f"an unreadable message: {error}") from error
    return header, arrays


def request_header(request: Request) -> dict[str, Any]:
    """A request without its arrays, for JSON."""
    return {
        "kind": "request",
        "implementation": request.implementation,
        "op": request.op,
        "derivative": request.derivative,
        "argument": request.argument,
        "dtype": request.dtype,
        "mode": request.mode,
        "axis": request.axis,
    }


def request_from(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Request:
    """The inverse of `request_header`."""
    return Request(
        implementation=header["implementation"],
        op=header["op"],
        derivative=header["derivative"],
        argument=header["argument"],
        dtype=header["dtype"],
        mode=header["mode"],
        axis=header["axis"],
        arrays=arrays,
    )


def answer_header(answer: Result | Raised | Hello) -> dict[str, Any]:
    """An answer of the child without its arrays, for JSON."""
    if isinstance(answer, Hello):
        return {
            "kind": "hello",
            "pid": answer.pid,
            "versions": dict(answer.versions),
            "state": dict(answer.state),
            "implementations": list(answer.implementations),
        }
    if isinstance(answer, Raised):
        return {
            "kind": "raised",
            "type": answer.type,
            "text": answer.text,
            "raised_kind": answer.kind,
            "traceback": answer.traceback,
            "leaks": list(answer.leaks),
        }
    return {
        "kind": "result",
        "seconds": answer.seconds,
        "compile_seconds": answer.compile_seconds,
        "breaches": [
            {"kind": breach.kind, "detail": breach.detail, "rows": list(breach.rows)}
            for breach in answer.breaches
        ],
        "leaks": list(answer.leaks),
    }


def answer_from(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Result | Raised | Hello:
    """The inverse of `answer_header`; texts are cut and cleaned.

    Raises
    ------
    ProtocolError
        If it is not an answer.
    """
    try:
        match header["kind"]:
            case "hello":
                return Hello(
                    pid=int(header["pid"]),
                    versions=_texts(header["versions"]),
                    state=_texts(header["state"]),
                    implementations=tuple(clean_text(n) for n in header["implementations"]),
                )
            case "raised":
                return Raised(
                    type=clean_text(header["type"], 200),
                    text=clean_text(header["text"]),
                    kind=clean_text(header["raised_kind"], 20),
                    traceback=clean_text(header["traceback"], keep="tail"),
                    leaks=tuple(clean_text(leak, 400) for leak in header["leaks"]),
                )
            case "result":
                if set(arrays) != {"out"}:
                    raise ProtocolError("a result without its array")
                return Result(
                    arrays=arrays,
                    seconds=float(header["seconds"]),
                    compile_seconds=float(header["compile_seconds"]),
                    breaches=tuple(
                        Breach(
                            clean_text(breach["kind"], 100),
                            clean_text(breach["detail"], 400),
                            tuple(int(row) for row in breach["rows"]),
                        )
                        for breach in header["breaches"]
                    ),
                    leaks=tuple(clean_text(leak, 400) for leak in header["leaks"]),
                )
            case other:
                raise ProtocolError(f"an answer of unknown kind {clean_text(other, 100)!r}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"an unreadable answer: {error}") from error


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {clean_text(name, 200): clean_text(text, 400) for name, text in values.items()}
