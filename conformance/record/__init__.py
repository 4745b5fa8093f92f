"""A run's record: written safely, read by everything downstream.

One run is one folder::

    run.json               what was run, where, with which versions; replaced atomically
    measurements.jsonl     one JSON object a line: a header, a line for each cell, a footer
    measurements.parquet   the same rows for tables; a copy, made when the run is finished
    witnesses.jsonl        the worst cases, and everybody's answers to them; made likewise

Every line of ``measurements.jsonl`` has its number, its content and a CRC-32 of its own text::

    {"line":1,"header":{"format":"logit-conformance-record","schema":2,"run_id":"..."},"crc32":"..."}
    {"line":2,"measurement":{"key":"accuracy/torch.softmax/...","verdict":"crash",...},"crc32":"..."}
    {"line":3,"measurement":{...},"supersedes":2,"crc32":"..."}
    {"line":4,"footer":{"count":1,"sha256":"..."},"crc32":"..."}

so that a lost, changed or moved line is found and named. A line with ``supersedes`` replaces the
row of the same cell on that earlier line, which was measured again on purpose (``--retry``); a
cell that occurs twice without it is an error. The footer counts cells and holds a digest of all
lines before it. Lines reach the disk before `append` returns: a killed run loses the cells in
flight and nothing else. What was being written when the machine stopped is an unfinished last
line, and dropped; a record without a footer is *partial*, and `RecordWriter.reopen` continues it.

`conformance.record.witnesses` describes ``witnesses.jsonl``.

The JSON lines are the truth. The Parquet file names the digest of the lines that it was made of,
run.json the digest of the Parquet file; `check_parquet` compares both.

Numbers that JSON lacks are the strings ``"inf"``, ``"-inf"`` and ``"nan"``; `read_record` gives
floats back in the columns that hold numbers (`conformance.columns`). Nothing that is read is ever
executed, and no path that a record names is opened.
"""

from __future__ import annotations

from conformance.record.errors import (
    BadValue,
    CannotContinue,
    CannotRead,
    CannotWrite,
    DamagedLine,
    DamagedParquet,
    DamagedRun,
    DuplicateCell,
    MisplacedLine,
    MixedRecord,
    NewerSchema,
    NotARecord,
    RecordError,
    RecordExists,
    RecordGone,
    RecordLocked,
)
from conformance.record.lines import (
    FORMAT,
    MEASUREMENTS_FILE,
    PARQUET_FILE,
    RUN_FILE,
    SCHEMA,
    WITNESSES_FILE,
)
from conformance.record.parquet import check_parquet
from conformance.record.reader import Record, read_record, read_run
from conformance.record.witnesses import read_witnesses
from conformance.record.writer import RecordWriter

__all__ = [
    "FORMAT",
    "MEASUREMENTS_FILE",
    "PARQUET_FILE",
    "RUN_FILE",
    "SCHEMA",
    "WITNESSES_FILE",
    "BadValue",
    "CannotContinue",
    "CannotRead",
    "CannotWrite",
    "DamagedLine",
    "DamagedParquet",
    "DamagedRun",
    "DuplicateCell",
    "MisplacedLine",
    "MixedRecord",
    "NewerSchema",
    "NotARecord",
    "Record",
    "RecordError",
    "RecordExists",
    "RecordGone",
    "RecordLocked",
    "RecordWriter",
    "check_parquet",
    "read_record",
    "read_run",
    "read_witnesses",
]
