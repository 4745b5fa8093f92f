"""A run's record: written safely, read by everything downstream.

One run is one folder::

    run.json             what was run, where, with which versions; replaced atomically
    measurements.jsonl   one JSON object a line: a header, a line for each cell, a footer

Every line of ``measurements.jsonl`` has its number, its content and a CRC-32 of its own text::

    {"line":1,"header":{"format":"logit-conformance-record","schema":1,"run_id":"..."},"crc32":"..."}
    {"line":2,"measurement":{"key":"accuracy/torch.softmax/...","verdict":"pass",...},"crc32":"..."}
    {"line":3,"footer":{"count":1},"crc32":"..."}

so that a lost, changed or moved line is found and named. Lines reach the disk before `append`
returns: a killed run loses the cells in flight and nothing else. What was being written when the
machine stopped is an unfinished last line, and dropped; a record without a footer is *partial*.

Numbers that JSON lacks are the strings ``"inf"``, ``"-inf"`` and ``"nan"``; `read_record` gives
floats back in the columns that hold numbers (`conformance.columns`). Nothing that is read is ever
executed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from conformance.columns import COLUMNS, decoded, plain
from conformance.files import explained, replace_text
from conformance.text import printable

FORMAT = "logit-conformance-record"
SCHEMA = 1
RUN_FILE = "run.json"
MEASUREMENTS_FILE = "measurements.jsonl"

_SEAL = re.compile(r',"crc32":"([0-9a-f]{8})"\}')
_SEAL_LENGTH = len(',"crc32":"00000000"}')


class RecordError(Exception):
    """A record cannot be written or read."""

    hint = ""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {self.hint}" if self.hint else message


class CannotWrite(RecordError):
    """The folder or a file in it cannot be written."""

    hint = "choose a folder that can be written, or make room; what was written before is intact"


class RecordExists(RecordError):
    """The folder already holds a record."""

    hint = "choose another folder, or remove that one"


class RecordLocked(RecordError):
    """Another run is writing into this folder."""

    hint = "wait for it to end, or choose another folder"


class DuplicateCell(RecordError):
    """A cell was measured twice in one record."""

    hint = "a record holds each cell once"


class BadValue(RecordError):
    """A column that does not exist, is missing, or holds what it cannot hold."""

    hint = "the columns are those of conformance.columns.COLUMNS"


class NotARecord(RecordError):
    """There is no record at this path."""

    hint = f"give the folder of a run, the one that holds {RUN_FILE}"


class CannotRead(RecordError):
    """The file system does not let the record be read."""

    hint = "check the path and its permissions"


class NewerSchema(RecordError):
    """The record was written by a newer version of this tool."""

    hint = "update logit-conformance to read it"


class DamagedRun(RecordError):
    """run.json is not what was written."""

    hint = "take the record from a copy, or run again"


class DamagedLine(RecordError):
    """A line of the measurements is not what was written."""

    hint = "take the record from a copy, or run again"


class MisplacedLine(RecordError):
    """A line of the measurements is missing, repeated, or in another place."""

    hint = "take the record from a copy, or run again"


class MixedRecord(RecordError):
    """run.json and the measurements are of different runs."""

    hint = "keep the files of one run together"


@dataclass(frozen=True)
class Record:
    """What one run measured.

    Attributes
    ----------
    run
        The content of run.json.
    measurements
        The rows in the order in which they were measured; every column of `COLUMNS` is there.
    partial
        True when the run did not come to its end: cells of its plan are missing.
    path
        The folder it was read from, or None for a record made in memory.
    """

    run: dict[str, Any]
    measurements: list[dict[str, Any]]
    partial: bool
    path: Path | None = None


# --- text and checksums ---------------------------------------------------------------------------


def _dump(value: object) -> str:
    """Return compact JSON on one line, in ASCII: no encoding can be mistaken for another."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _load(text: str) -> Any:
    """Parse JSON, and only JSON: no NaN literals."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8')):08x}"


def _sealed(value: Mapping[str, Any]) -> str:
    """Return one line of JSON that ends in the CRC-32 of what stands before the checksum."""
    text = _dump(value)[:-1]
    return f'{text},"crc32":"{_crc(text)}"}}\n'


def _unsealed(text: str) -> dict[str, Any]:
    """Return the content of a line without its checksum; raise ValueError when it is not right."""
    seal = _SEAL.fullmatch(text[-_SEAL_LENGTH:])
    if seal is None:
        raise ValueError("it has no checksum at its end")
    body = text[:-_SEAL_LENGTH]
    if _crc(body) != seal.group(1):
        raise ValueError("its checksum does not match its text")
    value = _load(body + "}")
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


# --- writing --------------------------------------------------------------------------------------


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lock(stream: IO[bytes]) -> bool:
    """Take the advisory lock of a record; False when another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; creating the file exclusively is the guard there
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        # A file system without locks must not keep a run from being recorded.
        return problem.errno not in (errno.EACCES, errno.EAGAIN)
    return True


class RecordWriter:
    """The single writer of a record; a context manager.

    On entry the folder is created, run.json and the header are written and the record is locked.
    `append` writes a cell, `finish` writes the footer. Leaving without `finish` (an error, Ctrl-C)
    leaves a partial record that `read_record` reads.

    Parameters
    ----------
    folder
        Where the record goes; made when missing. It may hold other files, but no record.
    run
        What is known at the start: plan, selection, seed, `environment()`, ...

    Raises
    ------
    RecordExists, RecordLocked
        The folder holds a record, or one is being written there.
    CannotWrite
        The file system refuses; also from `append`, `update` and `finish`.
    """

    def __init__(self, folder: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        identity = {
            "format": FORMAT,
            "schema": SCHEMA,
            "run_id": uuid.uuid4().hex,
            "started": _now(),
            "ended": None,
        }
        self._run: dict[str, Any] = {**identity, **plain(run), **identity}
        self._keys: set[str] = set()
        self._stream: IO[bytes] | None = None
        self._line = 0

    @property
    def run_id(self) -> str:
        """The identity of this run, in run.json and in the header."""
        return str(self._run["run_id"])

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the cells that were written."""
        return frozenset(self._keys)

    def __enter__(self) -> RecordWriter:
        path = self.folder / MEASUREMENTS_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / RUN_FILE).exists() or path.exists():
                raise _occupied(self.folder)
            stream = path.open("xb", buffering=0)
        except FileExistsError:
            # The folder is a file, or another run was faster.
            raise (_occupied(self.folder) if path.exists() else _no_folder(self.folder)) from None
        except OSError as problem:
            raise CannotWrite(
                f"cannot write a record into {_shown(self.folder)} ({explained(problem)})"
            ) from None
        if not _lock(stream):
            stream.close()
            raise RecordLocked(f"{_shown(self.folder)} is being written by another run")
        self._stream = stream
        try:
            self._save_run()
            header = {"format": FORMAT, "schema": SCHEMA, "run_id": self.run_id}
            self._write("header", header)
        except BaseException:
            # No record was begun: leave none behind that would be in the way of the next run.
            self.close()
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one cell's measurement; it is on the disk when this returns.

        Columns that are absent are null.

        Raises
        ------
        BadValue
            A column is unknown, missing though required, or holds what it cannot hold.
        DuplicateCell
            The cell was written before.
        """
        name = printable(row.get("key", "a measurement without a key"))
        unknown = sorted(set(row) - set(COLUMNS))
        if unknown:
            raise BadValue(f"{name}: unknown column {', '.join(unknown)}")
        try:
            values = {column: plain(row.get(column)) for column in COLUMNS}
            decoded(values)
        except (TypeError, ValueError) as problem:
            raise BadValue(f"{name}: {problem}") from None
        if values["key"] in self._keys:
            raise DuplicateCell(f"{name} was measured twice")
        self._write("measurement", values)
        self._keys.add(values["key"])

    def update(self, **fields: Any) -> None:
        """Replace entries of run.json (counts so far, `interrupted`, ...)."""
        self._run.update(plain(fields))
        self._save_run()

    def finish(self, **fields: Any) -> None:
        """Write the footer and the end of the run into run.json, and close the record."""
        # In this order: a run.json that names its end promises that the footer is there.
        self._write("footer", {"count": len(self._keys)})
        self.update(ended=_now(), **fields)
        self.close()

    def close(self) -> None:
        """Close the file and give the lock up; a record that was not finished stays partial."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _save_run(self) -> None:
        self._open_stream()
        text = json.dumps({**self._run, "crc32": _crc(_canonical(self._run))}, indent=2)
        try:
            replace_text(self.folder / RUN_FILE, text + "\n")
        except OSError as problem:
            raise CannotWrite(
                f"cannot write {_shown(self.folder / RUN_FILE)} ({explained(problem)})"
            ) from None

    def _write(self, kind: str, content: Mapping[str, Any]) -> None:
        stream = self._open_stream()
        path = self.folder / MEASUREMENTS_FILE
        data = _sealed({"line": self._line + 1, kind: content}).encode("ascii")
        before = os.fstat(stream.fileno())
        if before.st_nlink == 0:
            self.close()
            raise CannotWrite(f"{_shown(path)} was removed while the run was writing it")
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except BaseException as problem:
            # Half a line would spoil what is written after it (by whoever caught a Ctrl-C).
            with contextlib.suppress(OSError):
                os.ftruncate(stream.fileno(), before.st_size)
            if not isinstance(problem, OSError):
                raise
            self.close()
            raise CannotWrite(f"cannot write {_shown(path)} ({explained(problem)})") from None
        self._line += 1

    def _open_stream(self) -> IO[bytes]:
        if self._stream is None:
            raise CannotWrite(f"the record in {_shown(self.folder)} is closed")
        return self._stream


def _shown(path: Path) -> str:
    return printable(path)


def _no_folder(folder: Path) -> CannotWrite:
    return CannotWrite(f"{_shown(folder)} is not a folder")


def _occupied(folder: Path) -> RecordError:
    """Return what is wrong with a folder that holds a record, finished or still being written."""
    try:
        with (folder / MEASUREMENTS_FILE).open("rb") as stream:
            free = _lock(stream)
    except OSError:
        free = True
    if free:
        return RecordExists(f"{_shown(folder)} already holds a record")
    return RecordLocked(f"{_shown(folder)} is being written by another run")


# --- reading --------------------------------------------------------------------------------------


def _canonical(run: Mapping[str, Any]) -> str:
    """Return what the checksum of run.json is taken of: its content, not its layout."""
    return json.dumps(run, sort_keys=True, separators=(",", ":"))


def read_record(folder: str | os.PathLike[str]) -> Record:
    """Read the record in `folder`, and check every line of it.

    Parameters
    ----------
    folder
        The folder of a run, or one of the two files in it.

    Raises
    ------
    NotARecord, CannotRead
        Nothing there, or not to be read.
    NewerSchema
        Written by a newer version.
    DamagedRun, DamagedLine, MisplacedLine, MixedRecord, DuplicateCell, BadValue
        Each of the ways in which a record can be wrong; lines are named by number.
    """
    path = Path(folder)
    if path.name in (RUN_FILE, MEASUREMENTS_FILE) and not path.is_dir():
        path = path.parent
    run = _read_run(path)
    measurements: list[dict[str, Any]] = []
    seen: set[str] = set()
    footer = False
    name = _shown(path / MEASUREMENTS_FILE)
    for number, line in _lines(path / MEASUREMENTS_FILE):
        where = f"line {number} of {name}"
        content = _read_line(line, number, where)
        if footer:
            raise MisplacedLine(f"{where}: it comes after the footer")
        if number == 1:
            _check_header(content, run, where)
        elif "measurement" in content and isinstance(content["measurement"], dict):
            try:
                row = decoded(content["measurement"])
            except ValueError as problem:
                raise BadValue(f"{where}: {problem}") from None
            if row["key"] in seen:
                raise DuplicateCell(f"{where}: {printable(row['key'])} was measured twice")
            seen.add(row["key"])
            measurements.append(row)
        elif "footer" in content and isinstance(content["footer"], dict):
            if content["footer"].get("count") != len(measurements):
                raise MisplacedLine(
                    f"{where}: the footer counts {printable(content['footer'].get('count'), 20)} "
                    f"cells, there are {len(measurements)}"
                )
            footer = True
        else:
            raise DamagedLine(f"{where}: it is neither a measurement nor a footer")
    if run.get("ended") is not None and not footer:
        raise MisplacedLine(f"{name}: the run came to its end, but the footer is missing")
    return Record(run=run, measurements=measurements, partial=not footer, path=path)


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise CannotRead(f"cannot read {_shown(path)} ({explained(problem)})") from None


def _read_run(folder: Path) -> dict[str, Any]:
    path = folder / RUN_FILE
    name = _shown(path)
    try:
        missing = not path.exists()
    except OSError as problem:
        raise CannotRead(f"cannot read {name} ({explained(problem)})") from None
    if missing:
        raise NotARecord(f"{_shown(folder)} holds no record")
    data = _read_bytes(path)
    try:
        run = _load(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise DamagedRun(f"{name} is not JSON") from None
    if not isinstance(run, dict):
        raise DamagedRun(f"{name} is not a JSON object")
    # The schema first: how a newer one is sealed is not for this version to say.
    _check_schema(run, name, DamagedRun)
    if run.pop("crc32", None) != _crc(_canonical(run)):
        raise DamagedRun(f"the checksum of {name} does not match its content")
    return run


def _check_schema(content: Mapping[str, Any], name: str, damaged: type[RecordError]) -> None:
    schema = content.get("schema")
    if content.get("format") != FORMAT or isinstance(schema, bool) or not isinstance(schema, int):
        raise damaged(f"{name} does not say that it is of the format {FORMAT}")
    if schema > SCHEMA:
        raise NewerSchema(f"{name} has schema {schema}, this version reads up to {SCHEMA}")
    if schema < 1:
        raise damaged(f"{name} has schema {schema}, there never was one")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the finished lines with their numbers, from 1."""
    if not path.exists():
        # Lost, or never copied along: a run that ended misses its footer, any other is partial.
        return
    data = _read_bytes(path)
    # What comes after the last line break was being written when the run ended.
    yield from enumerate(data.split(b"\n")[:-1], start=1)


def _read_line(line: bytes, number: int, where: str) -> dict[str, Any]:
    try:
        content = _unsealed(line.decode("ascii"))
    except UnicodeDecodeError:
        raise DamagedLine(f"{where}: it holds bytes that were not written") from None
    except (ValueError, RecursionError) as problem:
        reason = "it is not JSON" if isinstance(problem, json.JSONDecodeError) else problem
        raise DamagedLine(f"{where}: {reason}") from None
    if content.get("line") != number:
        raise MisplacedLine(f"{where}: it was line {printable(content.get('line'), 20)}")
    return content


def _check_header(content: Mapping[str, Any], run: Mapping[str, Any], where: str) -> None:
    header = content.get("header")
    if not isinstance(header, dict):
        raise MisplacedLine(f"{where}: the header is missing")
    _check_schema(header, where, DamagedLine)
    if header.get("run_id") != run.get("run_id"):
        raise MixedRecord(f"{where}: it belongs to another run than {RUN_FILE}")
