"""How content becomes text and back: compact JSON that carries a checksum of itself."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

FORMAT = "logit-conformance-record"
SCHEMA = 2
"""2 added superseding lines, the footer's digest and the columns that `judge` and staleness need;
records of schema 1 are read, and cannot be resumed."""

RUN_FILE = "run.json"
MEASUREMENTS_FILE = "measurements.jsonl"
PARQUET_FILE = "measurements.parquet"
WITNESSES_FILE = "witnesses.jsonl"

_DEEPEST = 64
"""Levels of nesting; what is written has a handful."""

_SEAL = re.compile(r',"crc32":"([0-9a-f]{8})"\}')
_SEAL_LENGTH = len(',"crc32":"00000000"}')


def dump(value: object) -> str:
    """Return compact JSON on one line, in ASCII: no encoding can be mistaken for another."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def load(text: str) -> Any:
    """Parse JSON, and only JSON: no NaN literals, and nothing too deep for whoever walks it."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    value = json.loads(text, parse_constant=refuse)
    if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    return value


def _depth(value: Any) -> int:
    """How many levels of lists and objects there are; counted without recursion."""
    depth, level = 0, [value]
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [w for v in level for w in (v.values() if isinstance(v, dict) else v)]
    return depth


def crc(text: str) -> str:
    """The CRC-32 of a text, as eight hex digits."""
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def canonical(run: Mapping[str, Any]) -> str:
    """Return what the checksum of run.json is taken of: its content, not its layout."""
    return json.dumps(run, sort_keys=True, separators=(",", ":"))


def sealed(value: Mapping[str, Any]) -> str:
    """Return one line of JSON that ends in the CRC-32 of what stands before the checksum."""
    text = dump(value)[:-1]
    return f'{text},"crc32":"{crc(text)}"}}\n'


def unsealed(text: str) -> dict[str, Any]:
    """Return the content of a line without its checksum; raise ValueError when it is not right."""
    seal = _SEAL.fullmatch(text[-_SEAL_LENGTH:])
    if seal is None:
        raise ValueError("it has no checksum at its end")
    body = text[:-_SEAL_LENGTH]
    if crc(body) != seal.group(1):
        raise ValueError("its checksum does not match its text")
    value = load(body + "}")
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
