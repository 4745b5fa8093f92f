"""The registry's files: TOML, each with entries ``[[deviation]]``, read and checked.

A file per framework, or several that are named after its modules of implementations; every
``*.toml`` of the folder is read. README.md says what the fields are.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from conformance.deviations import facts
from conformance.deviations.entries import MATCH, REASONS, Deviation, Registry
from conformance.files import explained, read_text

__all__ = [
    "DeviationError",
    "FolderError",
    "digest",
    "entries_in",
    "entries_of",
    "entry_faults",
    "load",
    "packaged",
    "parse",
    "raw_entries",
    "read_folder",
]  # fmt: skip

_TEXTS = ("versions", "reason", "summary", "upstream")
_DATES = ("since", "review_by")
_FIELDS = {"id", "match", "allows", "witnesses", *_TEXTS, *_DATES}
_OPTIONAL = {"facts"}
_LONGEST = 4 << 20
"""Bytes of a file that are read."""


class DeviationError(ValueError):
    """The registry cannot be right: a malformed entry, or one that matches no cell."""


class FolderError(DeviationError):
    """A folder that was named does not hold readable files of entries."""


@cache
def load() -> Registry:
    """The registry that comes with this package."""
    return parse(_text())


def digest() -> str:
    """SHA-256 of the registry that comes with this package."""
    return hashlib.sha256(_text().encode("utf-8")).hexdigest()


def packaged() -> Path:
    """The folder of the registry that comes with this package."""
    return Path(__file__).parent


def _text() -> str:
    """All files, which together are one document."""
    found = (f for f in files("conformance.deviations").iterdir() if f.name.endswith(".toml"))
    texts = [f.read_text(encoding="utf-8") for f in sorted(found, key=lambda f: f.name)]
    return "\n".join(texts)


def read_folder(folder: Path) -> dict[str, str]:
    """The texts of a folder's TOML files, by name.

    Raises
    ------
    FolderError
        If there are none, or one cannot be read.
    """
    try:
        names = sorted(p.name for p in folder.iterdir() if p.name.endswith(".toml"))
        found = {name: read_text(folder / name, _LONGEST) for name in names}
    except OSError as problem:
        raise FolderError(f"cannot read deviations in {folder}: {explained(problem)}") from None
    except ValueError as problem:
        raise FolderError(f"cannot read deviations in {folder}: {problem}") from None
    if not found:
        raise FolderError(f"{folder} holds no .toml file")
    return found


def raw_entries(text: str) -> list[Any]:
    """The entries of a file as TOML has them, not checked yet.

    Raises
    ------
    DeviationError
        If it is not TOML, or holds something else than entries.
    """
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise DeviationError("deviations: nested too deeply") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise DeviationError(f"deviations: not TOML: {error}") from None
    if extra := raw.keys() - {"deviation"}:
        raise DeviationError(f"deviations: unknown key {min(extra)!r}, entries are [[deviation]]")
    found = raw.get("deviation", [])
    if not isinstance(found, list):
        raise DeviationError("deviations: entries are [[deviation]], with two brackets")
    return found


def parse(text: str) -> Registry:
    """Read a registry.

    Raises
    ------
    DeviationError
        Naming the entry and what is wrong with it.
    """
    return Registry(tuple(entry for _, entry in entries_of({"": text})))


def entries_of(texts: Mapping[str, str]) -> list[tuple[str, Deviation]]:
    """The entries of several files, each with the name of its file; raises as `parse`."""
    found: list[tuple[str, Deviation]] = []
    for file, text in texts.items():
        for item in raw_entries(text):
            if faults := entry_faults(item):
                raise DeviationError(f"deviation {named(item)}: {faults[0]}")
            found.append((file, parse_entry(item)))
    ids = [entry.id for _, entry in found]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise DeviationError(f"deviation {repeated}: the id is used twice")
    return found


def entries_in(folder: Path) -> list[tuple[str, Deviation]]:
    """The entries of a folder's files, each with the name of its file.

    Raises
    ------
    FolderError
        If it cannot be read, or an entry is wrong.
    """
    texts = read_folder(folder)
    try:
        return entries_of(texts)
    except DeviationError as problem:
        told = f"{problem} (`conformance deviations check` names all that is wrong)"
        raise FolderError(told) from None


def named(item: Any) -> str:
    """The id of an entry that may be anything."""
    return str(item.get("id", "without id")) if isinstance(item, Mapping) else "without id"


def entry_faults(item: Any) -> list[str]:
    """What is wrong with an entry as TOML has it; nothing if it can be read."""
    if not isinstance(item, Mapping):
        return ["it is not a table"]
    if missing := _FIELDS - item.keys():
        return [f"{', '.join(sorted(missing))} missing"]
    found = []
    if extra := item.keys() - _FIELDS - _OPTIONAL:
        found.append(f"unknown field {', '.join(sorted(extra))}")
    found += [
        f"{name} is a text" for name in ("id", *_TEXTS)
        if not isinstance(item[name], str) or not item[name].strip()
    ]  # fmt: skip
    found += _match_faults(item["match"])
    if item["reason"] not in REASONS:
        found.append(f"reason is one of {', '.join(REASONS)}")
    found += _allows_faults(item["allows"])
    if not facts.is_texts(item["witnesses"]):
        found.append("witnesses is a list of case ids, and it needs a witness")
    upstream = item["upstream"]
    if upstream != "unreported" and not str(upstream).startswith("https://"):
        found.append("upstream is an https address or unreported")
    try:
        SpecifierSet(str(item["versions"]))
    except InvalidSpecifier as error:
        found.append(str(error))
    found += _date_faults(item)
    if "facts" in item:
        found += facts.faults(item["facts"])
    return found


def _match_faults(match: Any) -> list[str]:
    if not isinstance(match, Mapping) or not match or not match.keys() <= set(MATCH):
        return [f"match takes {', '.join(MATCH)}"]
    return [
        f"match: {name} takes a text or a list of them"
        for name, value in match.items()
        if not (isinstance(value, str) and value) and not facts.is_texts(value)
    ]


def _allows_faults(allows: Any) -> list[str]:
    if not isinstance(allows, Mapping) or not allows:
        return ["allows names something that it allows"]
    return [
        f"allows: {kind} takes a number above 0"
        for kind, figure in allows.items()
        if isinstance(figure, bool)
        or not isinstance(figure, int | float)
        or math.isnan(figure)
        or figure <= 0
    ]


def _date_faults(item: Mapping[str, Any]) -> list[str]:
    found = []
    for name in _DATES:
        try:
            datetime.date.fromisoformat(str(item[name]))
        except ValueError as error:
            found.append(f"{name}: {error}")
    if not found and str(item["since"]) >= str(item["review_by"]):
        found.append("review_by comes after since")
    return found


def parse_entry(item: Mapping[str, Any]) -> Deviation:
    """An entry of which `entry_faults` found nothing wrong."""
    match = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in item["match"].items()}
    return Deviation(
        id=item["id"],
        match=match,
        versions=item["versions"],
        allows={k: float(v) for k, v in item["allows"].items()},
        witnesses=tuple(item["witnesses"]),
        reason=item["reason"],
        summary=item["summary"],
        upstream=item["upstream"],
        since=str(item["since"]),
        review_by=str(item["review_by"]),
        facts=facts.read(item.get("facts", {})),
    )
