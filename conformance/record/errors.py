"""The ways in which a record can be wrong: one exception each, with what to do next."""

from __future__ import annotations

from conformance.record.lines import RUN_FILE


class RecordError(Exception):
    """A record cannot be written or read."""

    hint = ""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {self.hint}" if self.hint else message


class CannotWrite(RecordError):
    """The folder or a file in it cannot be written."""

    hint = "choose a folder that can be written, or make room; what was written before is intact"


class CannotContinue(CannotWrite):
    """The record that is being written cannot be written any further."""

    hint = (
        "what was measured before is intact; mend the cause, then `conformance run --resume` "
        "measures the rest"
    )


class RecordGone(CannotContinue):
    """The folder that is being written into is no longer there, or no longer the same."""

    hint = "where it was moved to it can be resumed; where it was removed, run again"


class RecordExists(RecordError):
    """The folder already holds a record."""

    hint = "choose another folder, remove that one, or continue it with --resume"


class RecordLocked(RecordError):
    """Another run is writing into this folder."""

    hint = "wait for it to end, or choose another folder"


class DuplicateCell(RecordError):
    """A cell was measured twice in one record, and not because somebody asked for it."""

    hint = "a record holds each cell once"


class BadValue(RecordError):
    """A column or an entry that does not exist, is missing, or holds what it cannot hold."""

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


class DamagedParquet(RecordError):
    """The Parquet file is not the one that was made of these lines."""

    hint = "do not use it; the JSON lines beside it are the record"
