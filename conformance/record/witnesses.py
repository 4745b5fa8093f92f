"""The witnesses of a record: ``witnesses.jsonl``, written once and whole, checked line by line.

The same lines as ``measurements.jsonl``, each with its number and a CRC-32 of its own text::

    {"line":1,"header":{"format":"logit-conformance-witnesses","schema":1,"run_id":"..."},...}
    {"line":2,"witness":{"case_id":"...","answers":[...],...},"crc32":"..."}
    {"line":3,"footer":{"count":1,"sha256":"..."},"crc32":"..."}

The file appears whole or not at all, when all cells are measured. run.json counts its witnesses and
holds its digest; where run.json names none (an older record, a run that has not ended), there are
none, whatever lies in the folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conformance.columns import plain
from conformance.files import replace_bytes
from conformance.record import lines
from conformance.record.errors import (
    BadValue,
    DamagedLine,
    MisplacedLine,
    MixedRecord,
    NewerSchema,
)
from conformance.record.lines import WITNESSES_FILE
from conformance.record.reader import Record, read_bytes, read_line, shown
from conformance.text import printable

FORMAT = "logit-conformance-witnesses"
SCHEMA = 1

TEXTS = ("op", "derivative", "argument", "dtype", "family", "case_id")
_ANSWER_TEXTS = ("implementation", "framework", "framework_version", "role")
_WORDS = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}


def write_witnesses(
    folder: Path, run_id: str, witnesses: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Write the witnesses of a record beside its lines, atomically and durably.

    Returns
    -------
    dict
        For run.json: ``count``, ``answers`` and the file's ``sha256``.

    Raises
    ------
    BadValue
        A witness holds what it cannot hold.
    OSError
        Where the file system refuses; an old file is untouched.
    """
    header = {"format": FORMAT, "schema": SCHEMA, "run_id": run_id}
    text = [lines.sealed({"line": 1, "header": header})]
    digest = hashlib.sha256(text[0].encode("ascii"))
    answers = 0
    for number, witness in enumerate(witnesses, start=2):
        try:
            content = plain(witness)
            answers += len(decoded(content)["answers"])
        except (TypeError, ValueError) as problem:
            raise BadValue(f"{printable(witness.get('case_id'), 100)}: {problem}") from None
        text.append(lines.sealed({"line": number, "witness": content}))
        digest.update(text[-1].encode("ascii"))
    count = len(text) - 1
    footer = {"count": count, "sha256": digest.hexdigest()}
    text.append(lines.sealed({"line": count + 2, "footer": footer}))
    data = "".join(text).encode("ascii")
    replace_bytes(folder / WITNESSES_FILE, data)
    return {"count": count, "answers": answers, "sha256": hashlib.sha256(data).hexdigest()}


def read_witnesses(record: Record) -> list[dict[str, Any]]:
    """The witnesses of a record, every line checked; none where run.json names none.

    Raises
    ------
    CannotRead
        The file is not to be read.
    NewerSchema, DamagedLine, MisplacedLine, MixedRecord, BadValue
        Each of the ways in which it can be wrong; lines are named by number.
    """
    told = record.run.get("witnesses")
    if told is None or record.path is None or record.run.get("ended") is None:
        return []
    path = record.path / WITNESSES_FILE
    name = shown(path)
    if not path.exists():
        raise MisplacedLine(f"{name} is missing, and run.json counts {told.get('count')} witnesses")
    data = read_bytes(path)
    *whole, rest = data.split(b"\n")
    digest = hashlib.sha256()
    found: list[dict[str, Any]] = []
    ended = False
    for number, line in enumerate(whole, start=1):
        where = f"line {number} of {name}"
        content = read_line(line, number, where)
        if ended:
            raise MisplacedLine(f"{where}: it comes after the footer")
        if number == 1:
            _check_header(content, record.run, where)
        elif isinstance(content.get("witness"), dict):
            try:
                found.append(decoded(content["witness"]))
            except ValueError as problem:
                raise BadValue(f"{where}: {problem}") from None
        elif isinstance(content.get("footer"), dict):
            _check_footer(content["footer"], len(found), digest.hexdigest(), where)
            ended = True
        else:
            raise DamagedLine(f"{where}: it is neither a witness nor a footer")
        digest.update(line + b"\n")
    if not ended:
        raise MisplacedLine(f"{name}: it ends after line {len(whole)}, the footer is missing")
    if rest:
        raise MisplacedLine(f"line {len(whole) + 1} of {name}: it comes after the footer")
    if hashlib.sha256(data).hexdigest() != told.get("sha256"):
        raise MixedRecord(f"{name} is whole, but not the file that run.json names")
    return found


def _check_header(content: Mapping[str, Any], run: Mapping[str, Any], where: str) -> None:
    header = content.get("header")
    if not isinstance(header, dict):
        raise MisplacedLine(f"{where}: the header is missing")
    schema = header.get("schema")
    if header.get("format") != FORMAT or isinstance(schema, bool) or not isinstance(schema, int):
        raise DamagedLine(f"{where}: it does not say that it is of the format {FORMAT}")
    if schema > SCHEMA:
        raise NewerSchema(f"{where}: it has schema {schema}, this version reads up to {SCHEMA}")
    if header.get("run_id") != run.get("run_id"):
        raise MixedRecord(f"{where}: it belongs to another run than run.json")


def _check_footer(footer: Mapping[str, Any], count: int, digest: str, where: str) -> None:
    if footer.get("count") != count:
        raise MisplacedLine(
            f"{where}: the footer counts {printable(footer.get('count'), 20)} witnesses, "
            f"there are {count}"
        )
    if footer.get("sha256") != digest:
        raise DamagedLine(f"{where}: its digest does not match the lines before it")


# ---------------------------------------------------------------- what a witness holds


def decoded(witness: Mapping[str, Any]) -> dict[str, Any]:
    """A witness as it came from JSON, with its numbers as floats.

    Raises
    ------
    ValueError
        Naming the entry that is missing or holds what it cannot hold.
    """
    return {
        **{name: _text(witness, name) for name in TEXTS},
        "n": _count(witness, "n"),
        "ratio": _number(witness.get("ratio"), "ratio"),
        "ulp": _number(witness.get("ulp"), "ulp"),
        "worst_of": _texts(witness.get("worst_of"), "worst_of"),
        "inputs": {
            name: _entries(value, f"inputs {name}")
            for name, value in _mapping(witness, "inputs").items()
        },
        "rounded": _entries(witness.get("rounded"), "rounded"),
        "exact": {
            _index(k, "exact"): _is_text(v, "exact") for k, v in _mapping(witness, "exact").items()
        },
        "answers": [_answer(a) for a in _list(witness.get("answers"), "answers")],
    }


def _answer(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("answers holds what is no answer")
    out = {name: _text(value, name) for name in _ANSWER_TEXTS}
    if value.get("result") is None:
        return {**out, "result": None, "message": _text(value, "message")}
    return {
        **out,
        "result": _entries(value["result"], "result"),
        "worst": _count(value, "worst"),
        "ulp": _number(value.get("ulp"), "ulp"),
        "ratio": _number(value.get("ratio"), "ratio"),
    }


def _entries(value: Any, name: str) -> Any:
    """A row: a number, all its entries in a list, or some of them by index."""
    if isinstance(value, Mapping):
        return {_index(k, name): _number(v, name) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_number(v, name) for v in value]
    return _number(value, name)


def _index(key: Any, name: str) -> str:
    if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 10):
        raise ValueError(f"{name} has an entry {printable(key, 20)}")
    return key


def _number(value: Any, name: str) -> float | int | bool:
    """A number; of a mask, whether an entry is kept."""
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, int | float):
        return value
    raise ValueError(f"{name} holds {printable(repr(value), 40)}, a number is expected")


def _count(of: Mapping[str, Any], name: str) -> int:
    value = of.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} holds {printable(repr(value), 40)}, a count is expected")
    return value


def _is_text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} holds {printable(repr(value), 40)}, a text is expected")
    return value


def _text(of: Mapping[str, Any], name: str) -> str:
    return _is_text(of.get(name), name)


def _texts(value: Any, name: str) -> list[str]:
    return [_is_text(v, name) for v in _list(value, name)]


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{name} holds {printable(repr(value), 40)}, a list is expected")
    return value


def _mapping(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = of.get(name)
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} holds {printable(repr(value), 40)}, entries are expected")
    return value


def schema() -> dict[str, Any]:
    """The JSON Schema of a witness."""
    text: dict[str, Any] = {"type": "string"}
    count = {"type": "integer", "minimum": 0}
    number = {"anyOf": [{"type": ["number", "boolean"]}, {"enum": list(_WORDS)}]}
    some = {
        "type": "object",
        "patternProperties": {"^[0-9]{1,9}$": number},
        "additionalProperties": False,
    }
    entries = {"anyOf": [*number["anyOf"], {"type": "array", "items": number}, some]}
    who = dict.fromkeys(_ANSWER_TEXTS, text)
    given = {**who, "result": entries, "worst": count, "ulp": number, "ratio": number}
    none = {**who, "result": {"type": "null"}, "message": text}
    properties: dict[str, Any] = {
        **dict.fromkeys(TEXTS, text),
        "n": count,
        "ratio": number,
        "ulp": number,
        "worst_of": {"type": "array", "items": text},
        "inputs": {"type": "object", "additionalProperties": entries},
        "rounded": entries,
        "exact": {
            "type": "object",
            "patternProperties": {"^[0-9]{1,9}$": text},
            "additionalProperties": False,
        },
        "answers": {"type": "array", "items": {"anyOf": [_all(given), _all(none)]}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "logit-conformance witness",
        **_all(properties),
    }


def _all(properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object with all of these."""
    return {"type": "object", "required": sorted(properties), "properties": dict(properties)}
