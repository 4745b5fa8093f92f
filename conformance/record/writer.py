"""Writing a record: durable line by line, alone by a lock, and able to go on where it stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from conformance.columns import COLUMNS, decoded, plain
from conformance.files import explained, remove_leftovers, replace_text
from conformance.record import lines
from conformance.record.claim import created, lock, locked
from conformance.record.errors import (
    BadValue,
    CannotContinue,
    CannotWrite,
    DuplicateCell,
    RecordGone,
)
from conformance.record.lines import (
    FORMAT,
    MEASUREMENTS_FILE,
    PARQUET_FILE,
    RUN_FILE,
    WITNESSES_FILE,
)
from conformance.record.parquet import write_parquet
from conformance.record.reader import Record, Scan, scan, shown
from conformance.record.witnesses import write_witnesses
from conformance.text import printable


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class _End:
    """How far the lines have come. Replaced as a whole, so that an interrupt cannot split it."""

    lines: int = 0
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)


class RecordWriter:
    """The single writer of a record; a context manager.

    On entry the folder is created, run.json and the header are written and the record is locked.
    `append` writes a cell, `finish` writes the footer. Leaving without `finish` (an error, Ctrl-C)
    leaves a partial record that `read_record` reads and `reopen` continues.

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
            "schema": lines.SCHEMA,
            "run_id": uuid.uuid4().hex,
            "ended": None,
        }
        self._run: dict[str, Any] = {**identity, "started": _now(), **plain(run), **identity}
        self._rows: dict[str, dict[str, Any]] = {}
        self._places: dict[str, int] = {}
        self._stream: IO[bytes] | None = None
        self._end = _End()
        self._found: Scan | None = None
        self._continues = False
        self._witnesses: dict[str, Any] | None = None

    @classmethod
    def reopen(cls, folder: str | os.PathLike[str]) -> RecordWriter:
        """A writer that continues the record in `folder`.

        On entry the record is locked, then read and checked (see `read_record`), and nothing is
        changed before `resume` is called.
        """
        writer = cls(folder, {})
        writer._continues = True
        return writer

    @property
    def run_id(self) -> str:
        """The identity of this run, in run.json and in the header."""
        return str(self._run["run_id"])

    @property
    def run(self) -> dict[str, Any]:
        """What run.json says so far."""
        return dict(self._run)

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the cells that were written."""
        return frozenset(self._rows)

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """The current row of each cell, those of an earlier session among them."""
        return list(self._rows.values())

    @property
    def found(self) -> Record:
        """The record as it was when it was reopened."""
        if self._found is None:
            raise ValueError("this record was not reopened")
        return self._found.record(self.folder)

    def __enter__(self) -> RecordWriter:
        try:
            if self._continues:
                self._reopen()
            else:
                self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ beginning

    def _begin(self) -> None:
        path = self.folder / MEASUREMENTS_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stream = created(self.folder)
        except FileExistsError:
            # The folder is a file.
            raise CannotWrite(f"{shown(self.folder)} is not a folder") from None
        except (OSError, ValueError) as problem:
            reason = explained(problem) if isinstance(problem, OSError) else str(problem)
            raise CannotWrite(
                f"cannot write a record into {shown(self.folder)} ({reason})"
            ) from None
        ours = os.fstat(self._stream.fileno())
        try:
            self._save_run()
            self._write_header()
        except BaseException as problem:
            # No record was begun: leave none behind that would be in the way of the next run.
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path), ours):
                    (self.folder / RUN_FILE).unlink(missing_ok=True)
                    path.unlink()
            if isinstance(problem, CannotContinue):
                raise CannotWrite(*problem.args) from None
            raise

    def _write_header(self) -> None:
        header = {"format": FORMAT, "schema": self._run["schema"], "run_id": self.run_id}
        self._write([("header", header, {})])

    # ------------------------------------------------------------ continuing

    def _reopen(self) -> None:
        scan(self.folder)  # says by name what is wrong, before anything is opened for writing
        path = self.folder / MEASUREMENTS_FILE
        try:
            # Not through a link that a record from elsewhere came with, to any file of the user's.
            more = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | more, 0o666)
            self._stream = os.fdopen(handle, "r+b", buffering=0)
        except OSError as problem:
            raise CannotWrite(f"cannot write {shown(path)} ({explained(problem)})") from None
        if lock(self._stream) is False:
            raise locked(self.folder)
        self._check_place()
        # Again, now that nobody else can write.
        self._found = found = scan(self.folder)
        self._run, self._rows, self._places = dict(found.run), found.rows, found.places
        self._end = _End(found.lines, found.size, found.digest)

    def resume(self, **fields: Any) -> None:
        """Make a reopened record ready for more lines.

        The footer of a finished record and an unfinished last line are dropped; the rows stay.
        run.json says first that the run has not ended, so that no state in between is wrong.
        """
        path = self.folder / MEASUREMENTS_FILE
        resumed = [*self._run.get("resumed", []), _now()]
        self.update(ended=None, parquet=None, witnesses=None, resumed=resumed, **fields)
        stream = self._open_stream()
        try:
            for name in (PARQUET_FILE, WITNESSES_FILE):
                (self.folder / name).unlink(missing_ok=True)
            os.ftruncate(stream.fileno(), self._end.size)
            os.fsync(stream.fileno())
        except OSError as problem:
            raise CannotContinue(f"cannot write {shown(path)} ({explained(problem)})") from None
        for name in (RUN_FILE, PARQUET_FILE, WITNESSES_FILE):
            remove_leftovers(self.folder / name)
        if self._end.lines == 0:
            self._write_header()

    # ------------------------------------------------------------ cells

    def append(self, row: Mapping[str, Any], *, again: bool = False) -> None:
        """Write one cell's measurement; it is on the disk when this returns.

        Columns that are absent are null.

        Parameters
        ----------
        row
            The measurement.
        again
            Whether it replaces a row of the same cell that was written before.

        Raises
        ------
        BadValue
            A column is unknown, missing though required, or holds what it cannot hold.
        DuplicateCell
            The cell was written before, and `again` is false.
        """
        self._append([row], again)

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write several cells at once, like `append`: all of them or, where that fails, none."""
        self._append(list(rows), False)

    def _append(self, rows: list[Mapping[str, Any]], again: bool) -> None:
        parts, kept = [], {}
        for row in rows:
            values = _checked(row)
            key = values["key"]
            if (key in self._rows and not again) or key in kept:
                raise DuplicateCell(f"{printable(key)} was measured twice")
            more = {"supersedes": self._places[key]} if key in self._rows else {}
            parts.append(("measurement", values, more))
            kept[key] = decoded(values)
        first = self._end.lines + 1
        self._write(parts)
        self._rows.update(kept)
        self._places.update({key: first + k for k, key in enumerate(kept)})

    def update(self, **fields: Any) -> None:
        """Replace entries of run.json (counts so far, `interrupted`, ...)."""
        self._run.update(plain(fields))
        self._save_run()

    def witness(self, witnesses: Iterable[Mapping[str, Any]]) -> None:
        """Write the witnesses of the cells; `finish` puts their number into run.json.

        Raises
        ------
        BadValue
            A witness holds what it cannot hold.
        """
        self._check_place()
        try:
            self._witnesses = write_witnesses(self.folder, self.run_id, witnesses)
        except OSError as problem:
            raise CannotContinue(
                f"cannot write {shown(self.folder / WITNESSES_FILE)} ({explained(problem)})"
            ) from None

    def finish(self, **fields: Any) -> None:
        """Write the footer, the Parquet copy, and the end of the run into run.json; close.

        In this order: a run.json that names its end promises that the rest is there.
        """
        before = self._end.digest.hexdigest()
        self._write([("footer", {"count": len(self._rows), "sha256": before}, {})])
        try:
            table = write_parquet(
                self.folder, self.measurements, self.run_id, self._end.digest.hexdigest()
            )
        except OSError as problem:
            raise CannotContinue(
                f"cannot write {shown(self.folder / PARQUET_FILE)} ({explained(problem)})"
            ) from None
        told = {"ended": _now(), "parquet": table, "witnesses": self._witnesses}
        self.update(**{**told, **fields})
        self.close()

    def close(self) -> None:
        """Close the file and give the lock up; a record that was not finished stays partial."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # ------------------------------------------------------------ files

    def _save_run(self) -> None:
        self._check_place()
        sealed = {**self._run, "crc32": lines.crc(lines.canonical(self._run))}
        try:
            replace_text(self.folder / RUN_FILE, json.dumps(sealed, indent=2) + "\n")
        except OSError as problem:
            raise CannotContinue(
                f"cannot write {shown(self.folder / RUN_FILE)} ({explained(problem)})"
            ) from None

    def _write(self, parts: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> None:
        """Write lines, whole and durable or not at all."""
        stream = self._check_place()
        end = self._end
        data = "".join(
            lines.sealed({"line": end.lines + k, kind: content, **more})
            for k, (kind, content, more) in enumerate(parts, start=1)
        ).encode("ascii")
        try:
            # Whatever an interrupted write has left goes.
            if os.fstat(stream.fileno()).st_size != end.size:
                os.ftruncate(stream.fileno(), end.size)
            os.lseek(stream.fileno(), end.size, os.SEEK_SET)
            rest = memoryview(data)
            while rest:
                rest = rest[stream.write(rest) :]
            os.fsync(stream.fileno())
        except BaseException as problem:
            with contextlib.suppress(OSError):
                os.ftruncate(stream.fileno(), end.size)
            if not isinstance(problem, OSError):
                raise
            self.close()
            path = self.folder / MEASUREMENTS_FILE
            raise CannotContinue(f"cannot write {shown(path)} ({explained(problem)})") from None
        digest = end.digest.copy()
        digest.update(data)
        self._end = _End(end.lines + len(parts), end.size + len(data), digest)

    def _check_place(self) -> IO[bytes]:
        """The open file, if the record's folder still holds it."""
        stream = self._open_stream()
        path = self.folder / MEASUREMENTS_FILE
        try:
            same = os.path.samestat(os.stat(path), os.fstat(stream.fileno()))
        except OSError:
            same = False
        if not same:
            self.close()
            raise RecordGone(f"{shown(path)} was removed or replaced during the run")
        return stream

    def _open_stream(self) -> IO[bytes]:
        if self._stream is None:
            raise CannotWrite(f"the record in {shown(self.folder)} is closed")
        return self._stream


def _checked(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it is written: every column, in types that JSON has."""
    name = printable(row.get("key", "a measurement without a key"))
    unknown = sorted(set(row) - set(COLUMNS))
    if unknown:
        raise BadValue(f"{name}: unknown column {', '.join(unknown)}")
    try:
        values = {column: plain(row.get(column)) for column in COLUMNS}
        decoded(values)
    except (TypeError, ValueError) as problem:
        raise BadValue(f"{name}: {problem}") from None
    return values
