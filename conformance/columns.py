"""The columns of a measurement: their names, what they hold, and how JSON holds it.

A measurement is one row of a record: a cell's key, its figures, its worst case and its verdict.
This module is the one place that lists the columns; the record checks what it writes and reads
against it, and `schema` states the same as JSON Schema.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from conformance.registry import ROLES
from conformance.text import printable

VERDICTS = (
    "pass",
    "fail",
    "error",
    "crash",
    "timeout",
    "deviation",
    "unsupported",
    "not installed",
    "not run",
)
GRADES = ("A+", "A", "B", "C", "F")

# The columns of a measurement: what a value may be, besides null where the name is not in
# REQUIRED. "constants" are numbers by name; "worst" is numbers by name and one decimal string;
# "witnesses" is what each witness of a documented deviation gave here, see `conformance.judge`;
# "curves" is numbers by bin, by the curve's name, see `conformance.curves`.
COLUMNS: dict[str, str] = {
    "key": "text",
    "concern": "text",
    "framework": "text",
    "framework_version": "text",
    "implementation": "text",
    "op": "text",
    "role": "role",
    "variant": "text",
    "derivative": "text",
    "argument": "text",
    "dtype": "text",
    "mode": "text",
    "device": "text",
    "context": "text",
    "family": "text",
    "cases": "count",
    "elements": "count",
    "verdict": "verdict",
    "grade": "grade",
    "max_ulp": "number",
    "p99_ulp": "number",
    "mean_ulp": "number",
    "correctly_rounded": "number",
    "normwise": "number",
    "ratio_weak": "number",
    "ratio_pairwise": "number",
    "ratio_strong": "number",
    "constants": "constants",
    "nan_mismatches": "count",
    "inf_mismatches": "count",
    "sign_mismatches": "count",
    "zero_sign_mismatches": "count",
    "flushed": "count",
    "lost": "count",
    "underflow_policy": "text",
    "last_nonzero": "number",
    "curves": "curves",
    "flags": "texts",
    "breaches": "breaches",
    "deviation": "text",
    "witnesses": "witnesses",
    "must_catch": "flag",
    "worst_case": "text",
    "worst_index": "count",
    "worst": "worst",
    "message": "text",
    "seconds_framework": "number",
    "seconds_oracle": "number",
    "seconds_compile": "number",
}
REQUIRED = frozenset(
    {
        "key",
        "concern",
        "framework",
        "implementation",
        "op",
        "role",
        "derivative",
        "argument",
        "dtype",
        "mode",
        "device",
        "context",
        "family",
        "verdict",
    }
)
_LISTS = frozenset({"texts", "breaches"})
# In "worst" these are texts, the other entries numbers.
_WORST_TEXTS = frozenset({"exact"})
# In a breach these are numbers, the other entries texts.
_BREACH_NUMBERS = frozenset({"figure"})
_BIN = re.compile(r"zero|inf|-?[0-9]{1,6}")
_LARGEST_COUNT = 2**63 - 1  # what tables hold

_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def plain(value: object) -> Any:
    """Return `value` in types that JSON has; numbers that it lacks become strings.

    NumPy's scalars are numbers to the `numbers` module, so NumPy need not be imported.

    Raises
    ------
    TypeError
        For a value that is not data.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if math.isfinite(number):
            return number
        return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(v) for v in items]
    if isinstance(value, Path | datetime):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written")


def _number(value: object) -> float | int:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is expected")
    if isinstance(value, int) and abs(value) > _LARGEST_COUNT:
        raise ValueError("a number is expected, and not one of so many digits")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_COUNT:
        raise ValueError("a whole number from 0 is expected")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is expected")
    return value


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in words:
            raise ValueError(f"one of {', '.join(words)} is expected")
        return str(value)

    return check


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("a list of texts is expected")
    return [_text(v) for v in value]


def _numbers(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("numbers by name are expected")
    return {k: None if v is None else _number(v) for k, v in value.items()}


def _worst(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("result, exact, rounded and ulp are expected")
    return {
        k: None if v is None else _text(v) if k in _WORST_TEXTS else _number(v)
        for k, v in value.items()
    }


def _breaches(value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise ValueError("a list of breaches is expected")
    return [
        {
            name: None if v is None else _number(v) if name in _BREACH_NUMBERS else _text(v)
            for name, v in b.items()
        }
        for b in value
    ]


def _witnesses(value: object) -> dict[str, dict[str, dict[str, Any]]]:
    """Deviation to case to the figures of that case."""
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ValueError("figures by deviation and case are expected")
    return {entry: {case: _numbers(v) for case, v in of.items()} for entry, of in value.items()}


def _curves(value: object) -> dict[str, dict[str, Any]]:
    """Numbers by bin, by the curve's name."""
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ValueError("numbers by curve and bin are expected")
    for curve in value.values():
        for name in curve:
            if not _BIN.fullmatch(name):
                raise ValueError(f"bins are numbers, zero or inf, not {printable(name, 20)}")
    return {name: {k: _number(v) for k, v in curve.items()} for name, curve in value.items()}


_KINDS: dict[str, Callable[[object], Any]] = {
    "text": _text,
    "texts": _texts,
    "number": _number,
    "count": _count,
    "flag": _flag,
    "role": _one_of(ROLES),
    "verdict": _one_of(VERDICTS),
    "grade": _one_of(GRADES),
    "constants": _numbers,
    "worst": _worst,
    "breaches": _breaches,
    "witnesses": _witnesses,
    "curves": _curves,
}


def decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return every column of a row as it came from JSON, with its numbers as floats.

    Columns that are absent are None (lists: empty); columns of other names are left out.

    Raises
    ------
    ValueError
        Naming the column that is missing or holds what it cannot hold.
    """
    values: dict[str, Any] = {}
    for column, kind in COLUMNS.items():
        value = row.get(column)
        if value is None:
            if column in REQUIRED:
                raise ValueError(f"column {column} is missing")
            values[column] = [] if kind in _LISTS else None
            continue
        try:
            values[column] = _KINDS[kind](value)
        except ValueError as problem:
            raise ValueError(
                f"column {column} holds {printable(repr(value), 60)}, {problem}"
            ) from None
    return values


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a measurement."""
    number = {"anyOf": [{"type": "number"}, {"enum": list(_WORDS)}]}
    text = {"type": "string"}
    kinds: dict[str, dict[str, Any]] = {
        "text": text,
        "texts": {"type": "array", "items": text},
        "number": number,
        "count": {"type": "integer", "minimum": 0, "maximum": _LARGEST_COUNT},
        "flag": {"type": "boolean"},
        "role": {"enum": list(ROLES)},
        "verdict": {"enum": list(VERDICTS)},
        "grade": {"enum": list(GRADES)},
        "constants": {"type": "object", "additionalProperties": _or_null(number)},
        "worst": {
            "type": "object",
            "properties": {name: _or_null(text) for name in sorted(_WORST_TEXTS)},
            "additionalProperties": _or_null(number),
        },
        "breaches": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: _or_null(number) for name in sorted(_BREACH_NUMBERS)},
                "additionalProperties": _or_null(text),
            },
        },
        "witnesses": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": _or_null(number),
                },
            },
        },
        "curves": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "patternProperties": {f"^({_BIN.pattern})$": number},
                "additionalProperties": False,
            },
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "logit-conformance measurement",
        "type": "object",
        "required": sorted(REQUIRED),
        "properties": {
            column: kinds[kind] if column in REQUIRED else _or_null(kinds[kind])
            for column, kind in COLUMNS.items()
        },
    }


def _or_null(kind: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [kind, {"type": "null"}]}
