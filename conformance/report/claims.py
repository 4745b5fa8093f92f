"""The section "The article, checked": from what `conformance claims --json` printed.

The document is read as data and belongs to whoever wrote it: everything in it is untrusted text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from conformance.claims.tables import DTYPES, Text, example, further, rows_of
from conformance.claims.verdicts import VERDICTS, Item
from conformance.files import explained
from conformance.record import RecordError
from conformance.text import printable

__all__ = ["CLAIMS_FILE", "ClaimsError", "read_claims", "section"]

CLAIMS_FILE = "claims.json"
"""In the folder of a run, it is found without being named."""
_SCHEMA = 1
_TEXTS = ("claim", "framework", "mode", "dtype", "verdict", "range", "short", "counter_example")


class ClaimsError(RecordError):
    """A file is not what `conformance claims --json` prints."""

    hint = "write it with `conformance claims --json > FILE`"


def read_claims(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the document.

    Raises
    ------
    ClaimsError
        If the file cannot be read, or is something else.
    """
    name = printable(path, 100)
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise ClaimsError(f"cannot read {name} ({explained(problem)})") from None
    except (ValueError, RecursionError):
        raise ClaimsError(
            f"{name} is not JSON; `conformance claims --json > {CLAIMS_FILE}` makes it"
        ) from None
    if not isinstance(document, dict) or document.get("kind") != "claims":
        raise ClaimsError(f"{name} is not what `conformance claims --json` prints")
    schema = document.get("schema")
    if not isinstance(schema, int) or schema > _SCHEMA:
        raise ClaimsError(f"{name} has schema {schema!r}, this version reads up to {_SCHEMA}")
    if not all(isinstance(document.get(k), list) for k in ("claims", "items", "changes")):
        raise ClaimsError(f"{name} lacks its claims, items or changes")
    return document


def section(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates show of the document."""
    items = [_item(entry) for entry in document["items"]]
    versions = document.get("versions")
    versions = versions if isinstance(versions, Mapping) else {}
    claims = []
    for number, entry in enumerate(document["claims"], 1):
        if not isinstance(entry, Mapping):
            raise ClaimsError("a claim is not an object")
        mine = [item for item in items if item.claim == entry.get("claim")]
        if mine:
            claims.append(_claim(number, entry, mine))
    return {
        "claims": claims,
        "versions": [_flat(found) for found in versions.values()],
        "changes": [
            {k: str(c.get(k)) for k in ("claim", "framework", "mode", "dtype", "expected", "found")}
            for c in document["changes"]
            if isinstance(c, Mapping)
        ],
    }


def _claim(number: int, entry: Mapping[str, Any], items: Sequence[Item]) -> dict[str, Any]:
    counts = {v: sum(item.verdict == v for item in items) for v in VERDICTS}
    tables = [_table(str(entry.get("figure", "")), items, lambda item: item.short)]
    tables += [_table(title, items, partial(further, title)) for title in items[0].more]
    told = example(items)
    return {
        "number": number,
        "says": str(entry.get("says", "")),
        "counts": [(verdict, count) for verdict, count in counts.items() if count],
        "tables": tables,
        "example": told and f"{told.framework} {told.mode} {told.dtype}: {told.counter_example}",
    }


def _table(title: str, items: Sequence[Item], text: Text) -> dict[str, Any]:
    rows = rows_of(items, text)
    return {
        "title": title,
        "dtypes": [d for d in DTYPES if any(d in cells for _, _, cells in rows)],
        "rows": [(f"{name} {', '.join(modes)}", cells) for name, modes, cells in rows],
    }


def _item(entry: object) -> Item:
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(k), str) for k in _TEXTS):
        raise ClaimsError("an item lacks its claim, framework, mode, dtype or verdict")
    more = entry.get("more")
    more = more if isinstance(more, Mapping) else {}
    texts = {str(k): str(v) for k, v in more.items()}
    return Item(**{k: entry[k] for k in _TEXTS}, more=texts)


def _flat(found: object) -> str:
    if not isinstance(found, Mapping):
        return ""
    return ", ".join(f"{name} {version}" for name, version in found.items())
