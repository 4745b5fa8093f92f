"""The finished rows as a Parquet file, for whoever asks questions with tables.

A copy: nothing in this package reads figures from it. The file says in its metadata which lines it
was made of (``logit-conformance``: format, schema, run id, and the SHA-256 of the JSON lines), and
run.json holds the SHA-256 of the file, so that `check_parquet` finds one that was changed or that
belongs to other lines. Texts and numbers are columns of these types; what is nested (flags,
breaches, the worst element, ...) is JSON. pyarrow is optional: without it there is no such file.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.columns import COLUMNS, plain
from conformance.files import replace_bytes
from conformance.record.errors import DamagedParquet
from conformance.record.lines import (
    FORMAT,
    MEASUREMENTS_FILE,
    PARQUET_FILE,
    SCHEMA,
    dump,
)
from conformance.record.reader import read_bytes, shown

METADATA = b"logit-conformance"

_NUMBERS = {"number": "float64", "count": "int64", "flag": "bool"}
_TEXTS = frozenset({"text", "role", "verdict", "grade"})


def write_parquet(
    folder: Path, rows: Sequence[Mapping[str, Any]], run_id: str, lines_sha256: str
) -> dict[str, str] | None:
    """Write the rows of a record beside its lines, atomically.

    Returns
    -------
    dict or None
        For run.json: the file's ``sha256`` and the ``lines_sha256`` of what it was made of; None
        without pyarrow.

    Raises
    ------
    OSError
        Where the file system refuses; an old file is untouched.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return None
    kinds = {"float64": pyarrow.float64(), "int64": pyarrow.int64(), "bool": pyarrow.bool_()}
    fields, columns = [], []
    for name, kind in COLUMNS.items():
        values = [_cell(kind, row[name]) for row in rows]
        of = kinds[_NUMBERS[kind]] if kind in _NUMBERS else pyarrow.string()
        fields.append(pyarrow.field(name, of))
        columns.append(pyarrow.array(values, type=of))
    about = {"format": FORMAT, "schema": SCHEMA, "run_id": run_id, "lines_sha256": lines_sha256}
    schema = pyarrow.schema(fields, metadata={METADATA: dump(about).encode("ascii")})
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_arrays(columns, schema=schema), buffer)
    data = buffer.getvalue()
    replace_bytes(folder / PARQUET_FILE, data)
    return {"sha256": hashlib.sha256(data).hexdigest(), "lines_sha256": lines_sha256}


def _cell(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind in _NUMBERS:
        return float(value) if kind == "number" else value
    if kind in _TEXTS:
        # UTF-8 has no lone surrogates; JSON, and so a record, has.
        return value.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(plain(value), separators=(",", ":"), allow_nan=False)


def check_parquet(folder: str | Path, run: Mapping[str, Any]) -> None:
    """Raise `DamagedParquet` if the record's Parquet file is not the copy of its lines.

    A record without such a file is in order.

    Parameters
    ----------
    folder
        Of the record.
    run
        Its run.json, read and checked.
    """
    path = Path(folder) / PARQUET_FILE
    if not path.exists():
        return
    name = shown(path)
    told = run.get("parquet")
    if not isinstance(told, Mapping):
        raise DamagedParquet(f"{name} is not of this run, which has not ended with one")
    if hashlib.sha256(read_bytes(path)).hexdigest() != told.get("sha256"):
        raise DamagedParquet(f"{name} is not the file that was written")
    lines = read_bytes(path.with_name(MEASUREMENTS_FILE))
    if hashlib.sha256(lines).hexdigest() != told.get("lines_sha256"):
        raise DamagedParquet(f"{name} was made of other lines")
