"""What the rows of a record make of each entry.

=============  ===============================================================================
shown          a breach was excused by it, or a witness of it broke the contract
worse          something of a kind that it allows was larger than it allows
stale          all of what it is about was run, and its witnesses all met the contract
not exercised  none of these: its cells or witnesses did not run, or not under the versions and
               facts that it accepts, or only a part of them did
unmatched      there is no cell that it could be about
=============  ===============================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.cells import Cell
from conformance.deviations import extent as extents
from conformance.deviations.entries import Deviation, Named, Registry
from conformance.judge import Breach
from conformance.policy import Policy
from conformance.record import Record
from conformance.rejudge import rejudge
from conformance.ruling import met
from reference.formats import FORMATS

__all__ = ["STANDINGS", "Seen", "of_record", "seen", "standings"]

STANDINGS = ("shown", "worse", "stale", "not exercised", "unmatched")
_ABSENT = ("not installed", "not run")


@dataclass
class Seen:
    """What was seen of an entry.

    Attributes
    ----------
    extent : str
        How much of what it is about was run to its end, one of `extent.EXTENTS`.
    cells : int
        That it covers and that have an implementation that is installed.
    missing : int
        That it covers, and that did not run for want of something.
    applied : int
        Under versions and facts that it accepts.
    versions : set of str
        Of the framework, in cells that it covers.
    excused, exceeded : dict of str to float
        By kind the largest figure that it allows (or would if another entry had not), and the
        largest that is more than this and that nothing allows.
    witnesses : dict of str to dict of str to bool
        Of each that ran, by the key of the cell: whether it met the contract.
    """

    extent: str = extents.PART
    cells: int = 0
    missing: int = 0
    applied: int = 0
    versions: set[str] = field(default_factory=set)
    excused: dict[str, float] = field(default_factory=dict)
    exceeded: dict[str, float] = field(default_factory=dict)
    witnesses: dict[str, dict[str, bool]] = field(default_factory=dict)

    @property
    def dead(self) -> tuple[str, ...]:
        """Witnesses that met the contract wherever they ran."""
        return tuple(w for w, where in self.witnesses.items() if all(where.values()))

    @property
    def all_met(self) -> bool:
        """Witnesses ran, and every one met the contract."""
        return bool(self.witnesses) and len(self.dead) == len(self.witnesses)

    @property
    def whole(self) -> bool:
        """All of what the entry is about was run."""
        return self.extent == extents.WHOLE and not self.missing

    @property
    def standing(self) -> str:
        """One of `STANDINGS`."""
        if self.extent == extents.UNMATCHED:
            return "unmatched"
        if self.exceeded:
            return "worse"
        if self.all_met and self.whole:
            return "stale"
        return "shown" if self.excused or len(self.dead) < len(self.witnesses) else "not exercised"


def seen(
    registry: Registry,
    rows: Iterable[Mapping[str, Any]],
    rules: Policy,
    extent: Mapping[str, str],
) -> dict[str, Seen]:
    """What rows show of each entry.

    Parameters
    ----------
    registry : Registry
        In the environment that the rows were measured in.
    rows : iterable of mapping
        Measurements.
    rules : Policy
        Under which a witness met the contract or did not.
    extent : mapping of str to str
        How much of each entry was run to its end, by id; of others a part.
    """
    found = {d.id: Seen(extent.get(d.id, extents.PART)) for d in registry.entries}
    for row in rows:
        cell, entry = Cell.of_row(row), Named.of_row(row)
        covering = registry.covering(cell, entry)
        if not covering:
            continue
        version = row.get("framework_version")
        for d in covering:
            _count(found[d.id], row, version)
        if row["verdict"] in _ABSENT:
            continue
        applying = registry.applying(cell, entry, version)
        for d in applying:
            found[d.id].applied += 1
        _take_breaches(found, applying, row)
        _take_witnesses(found, applying, row, rules)
    return found


def _count(own: Seen, row: Mapping[str, Any], version: str | None) -> None:
    if row["verdict"] in _ABSENT:
        own.missing += 1
        return
    own.cells += 1
    if version:
        own.versions.add(version)


def _take_breaches(
    found: Mapping[str, Seen], applying: Iterable[Deviation], row: Mapping[str, Any]
) -> None:
    for breach in map(Breach.of_row, row.get("breaches") or ()):
        about = [d for d in applying if breach.kind in d.allows]
        excusing = [d for d in about if d.excuses(breach)]
        for d in excusing or about:
            own = found[d.id].excused if excusing else found[d.id].exceeded
            figure = math.inf if math.isnan(breach.figure) else breach.figure
            own[breach.kind] = max(own.get(breach.kind, 0.0), figure)


def _take_witnesses(
    found: Mapping[str, Seen], applying: Iterable[Deviation], row: Mapping[str, Any], rules: Policy
) -> None:
    # By case and not by entry: the entry may have had another name when the row was measured.
    evidence = {
        case_id: of
        for cases in (row.get("witnesses") or {}).values()
        for case_id, of in cases.items()
    }
    fmt = FORMATS.get(row["dtype"])
    for d in applying if evidence else ():
        for case_id in d.witnesses:
            if case_id in evidence:
                good = fmt is not None and met(rules, fmt, evidence[case_id])
                found[d.id].witnesses.setdefault(case_id, {})[row["key"]] = good


def standings(
    registry: Registry,
    rows: Iterable[Mapping[str, Any]],
    rules: Policy,
    extent: Mapping[str, str],
) -> dict[str, str]:
    """The standing of every entry, by id; parameters as above."""
    return {id_: own.standing for id_, own in seen(registry, rows, rules, extent).items()}


def of_record(registry: Registry, record: Record, rules: Policy) -> dict[str, Seen]:
    """What a record shows of each entry under these rules, by id."""
    run = record.run
    rows = rejudge(record, rules, registry).rows
    planned = run.get("coverage", {}).get("planned", 0)
    ended = not record.partial and len(rows) >= planned and run.get("shard") is None
    extent = extents.recorded(run, registry) if ended else {}
    return seen(registry.under(run.get("environment")), rows, rules, extent)
