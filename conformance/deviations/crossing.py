"""What every framework deviates in: perhaps the contract asks for the wrong thing.

An op that several independent frameworks break in one way, on one family, is either hard or not
what its contract says. Which of these, a person decides; this names where to look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conformance.judge import Breach
from conformance.outcome import FAILING
from conformance.registry import DERIVATIVES, OPS

__all__ = ["Suspect", "subjects", "suspects"]

_DEVIATES = (*FAILING, "deviation")
_RAN = ("pass", *_DEVIATES)
_LEAST = 2
"""Frameworks that must have run: one alone says nothing of a contract."""

Row = Mapping[str, Any]


@dataclass
class Suspect:
    """A breach that every framework shows that was run.

    Attributes
    ----------
    op, derivative, family, kind : str
    arguments, dtypes : set of str
        Where every framework shows it.
    ran, deviating : dict of str to set of str
        By framework, the implementations that ran there, and those that show it.
    worst : float
        Its largest figure.
    documented : set of str
        Deviations that excuse cells with it.
    """

    op: str
    derivative: str
    family: str
    kind: str
    arguments: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    ran: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    deviating: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    worst: float = 0.0
    documented: set[str] = field(default_factory=set)

    @property
    def unanimous(self) -> bool:
        """Not one implementation is without it."""
        return self.ran == self.deviating

    def row(self) -> dict[str, Any]:
        """For machines."""
        return {
            "op": self.op,
            "derivative": self.derivative,
            "family": self.family,
            "kind": self.kind,
            "arguments": sorted(self.arguments),
            "dtypes": sorted(self.dtypes),
            "unanimous": self.unanimous,
            "worst": self.worst,
            "frameworks": {
                name: {"deviating": sorted(self.deviating[name]), "ran": sorted(ran)}
                for name, ran in sorted(self.ran.items())
            },
            "documented": sorted(self.documented),
        }


def subjects(rows: Iterable[Row]) -> list[Row]:
    """The rows of subjects that ran."""
    return [r for r in rows if r["role"] == "subject" and r["verdict"] in _RAN]


def suspects(rows: Iterable[Row]) -> list[Suspect]:
    """The breaches that every framework shows, those of every implementation first.

    A framework shows a breach in an op, derivative, argument, dtype and family if one of its
    subjects does, in whatever mode; it counts where one of them ran.

    Parameters
    ----------
    rows : iterable of mapping
        Measurements, of one or several records.
    """
    places: dict[tuple[str, ...], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in subjects(rows):
        place = (row["op"], row["derivative"], row["family"], row["argument"], row["dtype"])
        places[place][row["framework"]].append(row)
    found: dict[tuple[str, ...], Suspect] = {}
    for (op, derivative, family, argument, dtype), frameworks in places.items():
        if len(frameworks) < _LEAST:
            continue
        shown = [{b.kind for r in of for b in _breaches(r)} for of in frameworks.values()]
        for kind in set.intersection(*shown):
            name = (op, derivative, family, kind)
            suspect = found.setdefault(name, Suspect(*name))
            suspect.arguments.add(argument)
            suspect.dtypes.add(dtype)
            for row in (r for of in frameworks.values() for r in of):
                _take(suspect, row)
    return sorted(found.values(), key=_order)


def _breaches(row: Row) -> list[Breach]:
    told = (row.get("breaches") or ()) if row["verdict"] in _DEVIATES else ()
    return [Breach.of_row(b) for b in told]


def _take(suspect: Suspect, row: Row) -> None:
    suspect.ran[row["framework"]].add(row["implementation"])
    for breach in _breaches(row):
        if breach.kind == suspect.kind:
            suspect.deviating[row["framework"]].add(row["implementation"])
            suspect.worst = max(suspect.worst, breach.figure)
            suspect.documented.update(filter(None, (row.get("deviation") or "").split("+")))


def _order(suspect: Suspect) -> tuple[Any, ...]:
    return (
        not suspect.unanimous,
        -len(suspect.ran),
        *_rank(OPS, suspect.op),
        *_rank(DERIVATIVES, suspect.derivative),
        suspect.family,
        suspect.kind,
    )


def _rank(names: Iterable[str], name: str) -> tuple[int, str]:
    """The place of a name, which a record from elsewhere may have made up."""
    known = list(names)
    return (known.index(name), "") if name in known else (len(known), name)
