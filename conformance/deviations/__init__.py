"""The registry of deviations: known, documented exceptions, each of them strict.

An entry, in a TOML file of its framework, says which cells it is about, on which versions and
under which facts, which kinds of breach it excuses and up to which figure, which cases witness it,
and why.
It excuses nothing else: another kind, a larger figure or another version is a failure, and an
entry whose witnesses all met the contract is *stale* and fails the run.
"""

from __future__ import annotations

import datetime
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.cells import Cell
from conformance.judge import Breach

REASONS = ("upstream-bug", "wont-fix", "ambiguous-contract", "platform")
_MATCH = ("op", "framework", "implementation", "derivative", "argument", "dtype", "mode", "context",
          "family", "concern")  # fmt: skip
_FIELDS = {"id", "match", "versions", "allows", "witnesses", "reason", "summary", "upstream",
           "since", "review_by"}  # fmt: skip


class DeviationError(ValueError):
    """The registry cannot be right: a malformed entry, or one that matches no cell."""


class Judged(Protocol):
    """What the registry must know of an implementation; a record's row says as much."""

    @property
    def op(self) -> str:
        """Its op."""

    @property
    def framework(self) -> str:
        """Its framework."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def role(self) -> str:
        """Its role."""


@dataclass(frozen=True)
class Deviation:
    """One documented exception.

    Attributes
    ----------
    id : str
    match : mapping of str to tuple of str
        Parts of a cell's key (and ``op``, ``framework``), each with its accepted values.
    versions : str
        Version specifier of the framework, e.g. ``>=2.13,<2.14``.
    allows : mapping of str to float
        Kind of breach to the largest figure it may have.
    witnesses : tuple of str
        Case ids that show it; they run in every profile that selects their cell.
    reason, summary, upstream, since, review_by : str
    """

    id: str
    match: Mapping[str, tuple[str, ...]]
    versions: str
    allows: Mapping[str, float]
    witnesses: tuple[str, ...]
    reason: str
    summary: str
    upstream: str
    since: str
    review_by: str

    def covers(self, cell: Cell, entry: Judged) -> bool:
        """Is it about this cell (whatever the version)?"""
        parts = {
            "op": entry.op,
            "framework": entry.framework,
            "implementation": entry.name,
            "derivative": cell.derivative,
            "argument": cell.argument,
            "dtype": cell.dtype,
            "mode": cell.mode,
            "context": cell.context,
            "family": cell.family,
            "concern": cell.concern,
        }
        return entry.role == "subject" and all(
            parts[name] in accepted for name, accepted in self.match.items()
        )

    def accepts_version(self, version: str | None) -> bool:
        """Is it about this version of the framework?"""
        try:
            return version is not None and Version(version) in SpecifierSet(
                self.versions, prereleases=True
            )
        except InvalidVersion:
            return False

    def excuses(self, breach: Breach) -> bool:
        """Is this breach of a kind and size that is documented?"""
        return breach.kind in self.allows and breach.figure <= self.allows[breach.kind]


@dataclass(frozen=True)
class Ruling:
    """What the registry says of a cell's breaches.

    Attributes
    ----------
    id : str or None
        The entries that excuse them, joined by ``+``; None if something is not excused.
    worse : tuple of str
        Entries that document a breach of this kind, but a smaller one.
    """

    id: str | None
    worse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """All entries."""

    entries: tuple[Deviation, ...]

    def covering(self, cell: Cell, entry: Judged) -> tuple[Deviation, ...]:
        """Entries about a cell, whatever the version."""
        return tuple(d for d in self.entries if d.covers(cell, entry))

    def rule(
        self, cell: Cell, entry: Judged, version: str | None, breaches: Sequence[Breach]
    ) -> Ruling:
        """Excuse all breaches of a cell, or none."""
        applicable = [d for d in self.covering(cell, entry) if d.accepts_version(version)]
        used, worse, open_ = [], [], False
        for breach in breaches:
            excuse = next((d for d in applicable if d.excuses(breach)), None)
            if excuse is not None:
                used.append(excuse.id)
                continue
            open_ = True
            worse += [d.id for d in applicable if breach.kind in d.allows]
        if open_ or not used:
            return Ruling(None, tuple(dict.fromkeys(worse)))
        return Ruling("+".join(dict.fromkeys(used)))

    def witnesses(self, cell: Cell, entry: Judged) -> tuple[str, ...]:
        """Case ids that have to run in a cell."""
        ids = (
            w
            for d in self.covering(cell, entry)
            for w in d.witnesses
            if w.startswith(f"{entry.op}-{cell.dtype}-")
        )
        return tuple(dict.fromkeys(ids))


def stale(shown: Mapping[str, Mapping[str, bool]]) -> tuple[str, ...]:
    """Entries all of whose witnesses that ran met the contract.

    Parameters
    ----------
    shown : mapping of entry id to (mapping of ``case id @ cell key`` to bool)
        Whether the case met the contract there, under a version that the entry accepts.
    """
    return tuple(sorted(id_ for id_, met in shown.items() if met and all(met.values())))


# ---------------------------------------------------------------- reading the registry


@cache
def load() -> Registry:
    """The registry that comes with this package."""
    return parse(_text())


def digest() -> str:
    """SHA-256 of the registry that comes with this package."""
    return hashlib.sha256(_text().encode("utf-8")).hexdigest()


def _text() -> str:
    """The files of all frameworks, which together are one document."""
    found = (f for f in files(__name__).iterdir() if f.name.endswith(".toml"))
    texts = [f.read_text(encoding="utf-8") for f in sorted(found, key=lambda f: f.name)]
    return "\n".join(texts)


def parse(text: str) -> Registry:
    """Read a registry.

    Raises
    ------
    DeviationError
        Naming the entry and what is wrong with it.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviationError(f"deviations: not TOML: {error}") from None
    entries = tuple(_entry(item) for item in raw.get("deviation", []))
    ids = [e.id for e in entries]
    for repeated in {i for i in ids if ids.count(i) > 1}:
        raise DeviationError(f"deviation {repeated}: the id is used twice")
    return Registry(entries)


def _entry(item: Mapping[str, Any]) -> Deviation:
    name = str(item.get("id", "without id"))

    def wrong(what: str) -> DeviationError:
        return DeviationError(f"deviation {name}: {what}")

    if missing := _FIELDS - item.keys():
        raise wrong(f"{', '.join(sorted(missing))} missing")
    if extra := item.keys() - _FIELDS:
        raise wrong(f"unknown field {', '.join(sorted(extra))}")
    if not isinstance(item["match"], dict) or not item["match"].keys() <= set(_MATCH):
        raise wrong(f"match takes {', '.join(_MATCH)}")
    if item["reason"] not in REASONS:
        raise wrong(f"reason is one of {', '.join(REASONS)}")
    if not item["allows"] or not item["witnesses"]:
        raise wrong("it needs something that it allows and a witness")
    upstream = str(item["upstream"])
    if upstream != "unreported" and not upstream.startswith("https://"):
        raise wrong("upstream is an https address or unreported")
    try:
        SpecifierSet(item["versions"])
        for date in (item["since"], item["review_by"]):
            datetime.date.fromisoformat(str(date))
    except (InvalidSpecifier, ValueError) as error:
        raise wrong(str(error)) from None
    match = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in item["match"].items()}
    return Deviation(
        id=name,
        match=match,
        versions=item["versions"],
        allows={k: float(v) for k, v in item["allows"].items()},
        witnesses=tuple(item["witnesses"]),
        reason=item["reason"],
        summary=item["summary"],
        upstream=upstream,
        since=str(item["since"]),
        review_by=str(item["review_by"]),
    )
