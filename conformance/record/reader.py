"""Reading a record, and checking every line of it.

Whatever is wrong with the files ends in a `RecordError` that names it; nothing else is raised, and
no figure is believed that was not written.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.columns import decoded
from conformance.files import at_once, explained
from conformance.record import lines
from conformance.record.errors import (
    BadValue,
    CannotRead,
    DamagedLine,
    DamagedRun,
    DuplicateCell,
    MisplacedLine,
    MixedRecord,
    NewerSchema,
    NotARecord,
    RecordError,
)
from conformance.record.lines import (
    FORMAT,
    MEASUREMENTS_FILE,
    PARQUET_FILE,
    RUN_FILE,
    WITNESSES_FILE,
)
from conformance.text import printable

# What run.json may hold by these names, where it holds them; whoever reads it relies on that.
_ENTRIES: dict[str, type | tuple[type, ...]] = {
    "run_id": str,
    "started": str,
    "ended": (str, type(None)),
    "resumed": list,
    "profile": str,
    "seed": int,
    "selection": dict,
    "settings": dict,
    "environment": dict,
    "coverage": dict,
    "deviations": dict,
    "policy": dict,
    "plugins": dict,
    "shard": (dict, type(None)),
    "merged": list,
    "case_set": str,
    "rules": str,
    "controls": dict,
    "mutants": dict,
    "stale": list,
    "standings": dict,
    "harness_errors": list,
    "interrupted": bool,
    "exit_code": int,
    "parquet": (dict, type(None)),
    "witnesses": (dict, type(None)),
}


@dataclass(frozen=True)
class Record:
    """What one run measured.

    Attributes
    ----------
    run
        The content of run.json.
    measurements
        A row for each cell, in the order in which the cells were first measured; every column of
        `conformance.columns.COLUMNS` is there.
    partial
        True when the run did not come to its end: cells of its plan are missing.
    path
        The folder it was read from, or None for a record made in memory.
    superseded
        Rows that were measured again on purpose, and the earlier ones replaced by that.
    """

    run: dict[str, Any]
    measurements: list[dict[str, Any]]
    partial: bool
    path: Path | None = None
    superseded: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Scan:
    """The state of a record's files, as a writer that continues them needs it.

    Attributes
    ----------
    rows : dict
        The current row of each cell, by key.
    places : dict
        On which line it stands.
    lines, size : int
        Finished lines, and their bytes; the footer is not among them.
    digest
        SHA-256 of these bytes, ready to be continued.
    footer : bytes or None
        The footer's line, without its line break.
    """

    run: dict[str, Any]
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    superseded: list[dict[str, Any]] = field(default_factory=list)
    lines: int = 0
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    footer: bytes | None = None

    def record(self, path: Path) -> Record:
        """What a reader of the record gets."""
        return Record(
            run=self.run,
            measurements=list(self.rows.values()),
            partial=self.footer is None,
            path=path,
            superseded=self.superseded,
        )


def read_record(folder: str | os.PathLike[str]) -> Record:
    """Read the record in `folder`, and check every line of it.

    Parameters
    ----------
    folder
        The folder of a run, or one of the files in it.

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
    if path.name in (RUN_FILE, MEASUREMENTS_FILE, PARQUET_FILE, WITNESSES_FILE) and not _is_folder(
        path
    ):
        path = path.parent
    return scan(path).record(path)


def scan(folder: Path) -> Scan:
    """Read and check the files of a record; raises like `read_record`."""
    found = Scan(read_run(folder))
    name = shown(folder / MEASUREMENTS_FILE)
    *finished, rest = _lines(folder / MEASUREMENTS_FILE)
    for number, line in enumerate(finished, start=1):
        where = f"line {number} of {name}"
        content = read_line(line, number, where)
        if found.footer is not None:
            raise MisplacedLine(f"{where}: it comes after the footer")
        if number == 1:
            _check_header(content, found.run, where)
        elif isinstance(content.get("measurement"), dict):
            _take(found, content, number, where)
        elif isinstance(content.get("footer"), dict):
            _check_footer(content["footer"], found, where)
            found.footer = line
            continue
        else:
            raise DamagedLine(f"{where}: it is neither a measurement nor a footer")
        found.lines = number
        found.size += len(line) + 1
        found.digest.update(line + b"\n")
    if found.footer is not None and rest:  # nothing is ever being written there
        raise DamagedLine(f"{name}: something was added after the footer")
    if found.run.get("ended") is not None and found.footer is None:
        raise MisplacedLine(f"{name}: the run came to its end, but the footer is missing")
    return found


def _take(found: Scan, content: Mapping[str, Any], number: int, where: str) -> None:
    """A measurement: the first of its cell, or one that supersedes an earlier line."""
    try:
        row = decoded(content["measurement"])
    except ValueError as problem:
        raise BadValue(f"{where}: {problem}") from None
    key = row["key"]
    supersedes = content.get("supersedes")
    before = found.places.get(key)
    if supersedes is None:
        if before is not None:
            raise DuplicateCell(f"{where}: {printable(key)} was measured twice")
    elif before is None or supersedes != before or isinstance(supersedes, bool):
        raise MisplacedLine(
            f"{where}: it supersedes line {printable(supersedes, 20)}, which does not hold "
            f"{printable(key)}"
        )
    else:
        found.superseded.append(found.rows[key])
    found.rows[key] = row
    found.places[key] = number


def shown(path: Path) -> str:
    """A path as it may be printed."""
    return printable(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path) -> bytes:
    """The content of a file of a record; CannotRead where the system refuses."""
    try:
        # A record from elsewhere may come with a pipe, or a link to a device without an end.
        with open(path, "rb", opener=at_once) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise CannotRead(f"cannot read {shown(path)} (not a regular file)")
            return stream.read()
    except (OSError, ValueError) as problem:
        reason = explained(problem) if isinstance(problem, OSError) else str(problem)
        raise CannotRead(f"cannot read {shown(path)} ({reason})") from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as problem:
        reason = explained(problem) if isinstance(problem, OSError) else str(problem)
        raise CannotRead(f"cannot read {shown(path)} ({reason})") from None


def read_run(folder: Path) -> dict[str, Any]:
    """The content of run.json, checked; raises like `read_record`."""
    path = folder / RUN_FILE
    name = shown(path)
    if not _exists(path):
        raise NotARecord(f"{shown(folder)} holds no record")
    data = read_bytes(path)
    try:
        run = lines.load(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise DamagedRun(f"{name} is not JSON") from None
    if not isinstance(run, dict):
        raise DamagedRun(f"{name} is not a JSON object")
    # The schema first: how a newer one is sealed is not for this version to say.
    _check_schema(run, name, DamagedRun)
    if run.pop("crc32", None) != lines.crc(lines.canonical(run)):
        raise DamagedRun(f"the checksum of {name} does not match its content")
    for entry, kind in _ENTRIES.items():
        value = run.get(entry)
        if entry in run and (
            not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        ):
            raise DamagedRun(f"{name}: {entry} holds {printable(repr(value), 60)}")
    return run


def _check_schema(content: Mapping[str, Any], name: str, damaged: type[RecordError]) -> None:
    schema = content.get("schema")
    if content.get("format") != FORMAT or isinstance(schema, bool) or not isinstance(schema, int):
        raise damaged(f"{name} does not say that it is of the format {FORMAT}")
    if schema > lines.SCHEMA:
        raise NewerSchema(
            f"{name} has schema {printable(schema, 20)}, this version reads up to {lines.SCHEMA}"
        )
    if schema < 1:
        raise damaged(f"{name} has schema {printable(schema, 20)}, there never was one")


def _lines(path: Path) -> list[bytes]:
    """The finished lines, and what was being written when the run ended, if only nothing."""
    if not _exists(path):
        # Lost, or never copied along: a run that ended misses its footer, any other is partial.
        return [b""]
    return read_bytes(path).split(b"\n")


def read_line(line: bytes, number: int, where: str) -> dict[str, Any]:
    """The content of a line, if it is what was written on the line of this number."""
    try:
        content = lines.unsealed(line.decode("ascii"))
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


def _check_footer(footer: Mapping[str, Any], found: Scan, where: str) -> None:
    if footer.get("count") != len(found.rows):
        raise MisplacedLine(
            f"{where}: the footer counts {printable(footer.get('count'), 20)} cells, "
            f"there are {len(found.rows)}"
        )
    if found.run["schema"] == 1:  # had no digest yet
        return
    if footer.get("sha256") != found.digest.hexdigest():
        raise DamagedLine(f"{where}: its digest does not match the lines before it")
