"""Entries of the registry, and what they say of a cell's breaches."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.cells import Cell
from conformance.deviations import facts
from conformance.judge import Breach

__all__ = ["MATCH", "OF_CELLS", "REASONS", "Deviation", "Judged", "Named", "Registry", "Ruling"]

REASONS = ("upstream-bug", "wont-fix", "ambiguous-contract", "platform")
OF_IMPLEMENTATIONS = ("op", "framework", "implementation")
OF_CELLS = ("derivative", "argument", "dtype", "mode", "context", "family", "concern")
MATCH = (*OF_IMPLEMENTATIONS, *OF_CELLS)
"""What an entry may match."""


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
class Named:
    """The implementation of a record's row, as far as the registry asks."""

    op: str
    framework: str
    name: str
    role: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Named:
        """Of a measurement."""
        return cls(row["op"], row["framework"], row["implementation"], row["role"])


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
    facts : mapping of str to tuple of str
        What else has to hold, see `conformance.deviations.facts`.
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
    facts: facts.Conditions = field(default_factory=dict)

    def is_about(self, entry: Judged) -> bool:
        """Can it be about a cell of this implementation?"""
        return entry.role == "subject" and all(
            value in self.match.get(name, (value,))
            for name, value in (
                ("op", entry.op),
                ("framework", entry.framework),
                ("implementation", entry.name),
            )
        )

    def covers(self, cell: Cell, entry: Judged) -> bool:
        """Is it about this cell (whatever the version)?"""
        return self.is_about(entry) and self._covers(cell)

    def _covers(self, cell: Cell) -> bool:
        return all(
            name not in self.match or getattr(cell, name) in self.match[name] for name in OF_CELLS
        )

    def accepts_version(self, version: str | None) -> bool:
        """Is it about this version of the framework?"""
        try:
            return version is not None and Version(version) in SpecifierSet(
                self.versions, prereleases=True
            )
        except InvalidVersion:
            return False

    def overdue(self, today: datetime.date) -> bool:
        """Should somebody have looked at it again by now?"""
        return datetime.date.fromisoformat(self.review_by) < today

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
    """All entries, and where they are asked.

    Attributes
    ----------
    entries : tuple of Deviation
    environment : mapping, optional
        As run.json holds it: an entry with facts applies only where they are known to hold.
    """

    entries: tuple[Deviation, ...]
    environment: Mapping[str, Any] | None = None
    _about: dict[tuple[str, str, str, str], tuple[Deviation, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def under(self, environment: Mapping[str, Any] | None) -> Registry:
        """The same entries, asked in an environment."""
        return replace(self, environment=environment)

    def covering(self, cell: Cell, entry: Judged) -> tuple[Deviation, ...]:
        """Entries about a cell, whatever the version and the facts."""
        who = (entry.op, entry.framework, entry.name, entry.role)
        if who not in self._about:
            self._about[who] = tuple(d for d in self.entries if d.is_about(entry))
        return tuple(d for d in self._about[who] if d.covers(cell, entry))

    def applying(self, cell: Cell, entry: Judged, version: str | None) -> tuple[Deviation, ...]:
        """Entries about a cell that accept the version and the facts."""
        return tuple(
            d
            for d in self.covering(cell, entry)
            if d.accepts_version(version) and facts.hold(d.facts, self.environment)
        )

    def rule(
        self, cell: Cell, entry: Judged, version: str | None, breaches: Sequence[Breach]
    ) -> Ruling:
        """Excuse all breaches of a cell, or none."""
        applicable = self.applying(cell, entry, version)
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
