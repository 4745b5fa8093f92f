"""How requests and answers travel between two processes.

A length-prefixed JSON header followed by the raw little-endian bytes of the arrays; large arrays
go through an anonymous shared memory file and leave only their offset in the header. Nothing that
is read is ever executed, and everything a child sends is treated as untrusted: lengths are
checked, texts are cut and cleaned.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from conformance.execution.protocol import (
    Array,
    Breach,
    Hello,
    ProtocolError,
    Raised,
    Request,
    Result,
    clean_text,
    is_exchanged,
    numpy_dtype,
)

__all__ = [
    "SharedMemory",
    "answer_from",
    "answer_header",
    "answer_limit",
    "decode",
    "encode",
    "read_frame",
    "request_from",
    "request_header",
]

SHARED_FROM = 1 << 16
"""Arrays of at least this many bytes go through shared memory."""

_PREFIX = struct.Struct("<4sIQ")
_MAGIC = b"LGC1"
_HEADER_LIMIT = 1 << 22
_PAYLOAD_LIMIT = 1 << 40
_SMALL = 1 << 20
_TIMES = 16


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
        if not is_exchanged(array.dtype):
            raise ProtocolError(f"arrays of dtype {array.dtype.name!r} are not exchanged")
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        entry: dict[str, Any] = {
            "name": name,
            "dtype": array.dtype.name,
            "shape": list(array.shape),
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
            shared.write(offset, array.reshape(-1).view(np.uint8).data)
    text = json.dumps({**header, "arrays": entries}).encode("ascii")
    return b"".join((_PREFIX.pack(_MAGIC, len(text), inline_size), text, *inline))


def answer_limit(request: Request | None) -> int:
    """Bytes of arrays that an answer to `request` may have.

    A right one is at most as large as its inputs, a wrong one of the widest dtype several times
    that. What is far beyond would only fill the memory of the process that judges it.
    """
    asked = 0 if request is None else sum(array.nbytes for array in request.arrays.values())
    return _SMALL + _TIMES * asked


def read_frame(
    read_exactly: Callable[[int], bytes], limit: int = _PAYLOAD_LIMIT
) -> tuple[bytes, bytes]:
    """Read one message: the text of its header and its inline bytes.

    Parameters
    ----------
    read_exactly : callable
        Returns exactly as many bytes as it is asked for, or raises.
    limit : int
        Bytes of arrays that it may have.
    """
    magic, header_size, payload_size = _PREFIX.unpack(read_exactly(_PREFIX.size))
    if magic != _MAGIC or header_size > _HEADER_LIMIT or payload_size > limit:
        raise ProtocolError("what arrived is not the start of a message")
    return read_exactly(header_size), read_exactly(payload_size)


def decode(
    text: bytes, payload: bytes, shared: SharedMemory | None, limit: int = _PAYLOAD_LIMIT
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the arrays of a message; each array owns its memory and is writable.

    Parameters
    ----------
    text, payload : bytes
        From `read_frame`.
    shared : SharedMemory or None
        Where large arrays are.
    limit : int
        Bytes of arrays that the message may have.

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
            limit -= nbytes
            if limit < 0:
                raise ProtocolError("arrays of absurd size")
            if "shared" in entry:
                offset = int(entry["shared"])
                if shared is None or not 0 <= offset <= _PAYLOAD_LIMIT:
                    raise ProtocolError("an array in a shared memory that does not exist")
                if offset + nbytes > os.fstat(shared.fd).st_size:
                    raise ProtocolError("an array reaches beyond the end of the shared memory")
                raw = np.empty(nbytes, np.uint8)
                shared.read(offset, raw.data)
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
        "call_context": request.call_context,
        "options": dict(request.options),
        "keywords": list(request.keywords),
        "layout": request.layout,
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
        call_context=header["call_context"],
        options=header["options"],
        keywords=tuple(header["keywords"]),
        layout=header["layout"],
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
            "declared": list(answer.declared),
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
                    declared=tuple(dict(entry) for entry in header["declared"]),
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
