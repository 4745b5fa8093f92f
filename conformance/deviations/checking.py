"""Is the registry itself right? Its files, held to the implementations and cases that there are.

An *error* is an entry that cannot do what it says, or that nobody has looked at for too long; a
*warning* is one that is weaker than it looks.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from conformance.cells import SelectionError
from conformance.deviations.entries import OF_CELLS, Deviation, Registry
from conformance.deviations.extent import covered
from conformance.deviations.reading import (
    DeviationError,
    entry_faults,
    named,
    parse_entry,
    raw_entries,
)
from conformance.plan import Plan, make_plan
from conformance.registry import FRAMEWORKS, Implementation
from conformance.selection import Selection, check_names, unknown
from reference import arrangements, cases, situations
from reference.cases import CaseError

__all__ = ["RULES", "Found", "Problem", "check"]

RULES: Mapping[str, str] = {
    "schema": "the file or the entry cannot be read",
    "repeated": "an id is used twice",
    "unknown": "it matches a name that does not exist",
    "mixed": "it is about another framework than that of its file",
    "unmatched": "it, or a value of its match, matches no cell of the full matrix",
    "witness": "a case does not recreate, or runs in no cell of its entry",
    "unbounded": "it excuses versions that nobody has measured, or an error of any size widely",
    "overdue": "its review date is past",
    "redundant": "another entry excuses all that it excuses",
    "overlap": "two entries bound one kind in one cell differently: the smaller bound is not held",
    "rare": "it matches no cell of profile standard",
}
"""What each rule finds; the last two are warnings."""
_WARNINGS = ("overlap", "rare")
_NARROW = frozenset({"implementation", "derivative", "family"})


@dataclass(frozen=True, order=True)
class Problem:
    """Something that is wrong with an entry.

    Attributes
    ----------
    file, id : str
    rule : str
        One of `RULES`.
    detail : str
    """

    file: str
    id: str
    rule: str
    detail: str

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return "warning" if self.rule in _WARNINGS else "error"

    def row(self) -> dict[str, str]:
        """For machines."""
        return {
            "file": self.file,
            "id": self.id,
            "rule": self.rule,
            "severity": self.severity,
            "detail": self.detail,
        }


@dataclass(frozen=True)
class Found:
    """What a check found.

    Attributes
    ----------
    problems : list of Problem
        By file, in the order of its entries.
    files : int
    entries : int
        That could be read.
    """

    problems: list[Problem]
    files: int
    entries: int

    @property
    def errors(self) -> list[Problem]:
        """Those that are no warnings."""
        return [p for p in self.problems if p.severity == "error"]


def check(
    texts: Mapping[str, str], registry: Mapping[str, Implementation], today: datetime.date
) -> Found:
    """Check files of entries.

    Parameters
    ----------
    texts : mapping of str to str
        TOML by file name.
    registry : mapping
        The implementations that there are.
    today : date
        By which reviews are overdue.
    """
    problems: list[Problem] = []
    read: list[tuple[str, Deviation]] = []
    for file, text in texts.items():
        problems += _read(file, text, read)
    checker = _Checker([d for _, d in read], registry)
    for file, entry in read:
        problems += [Problem(file, entry.id, *p) for p in checker.entry(file, entry, today)]
    files = {entry.id: file for file, entry in read}
    problems += [Problem(files[id_], id_, *p) for id_, *p in checker.pairs()]
    place = {id_: k for k, id_ in enumerate(files)}
    order = {file: k for k, file in enumerate(texts)}
    problems.sort(key=lambda p: (order[p.file], place.get(p.id, -1), list(RULES).index(p.rule)))
    return Found(problems, len(texts), len(read))


def _read(file: str, text: str, into: list[tuple[str, Deviation]]) -> Iterator[Problem]:
    try:
        items = raw_entries(text)
    except DeviationError as error:
        yield Problem(file, "", "schema", str(error))
        return
    for item in items:
        faults = entry_faults(item)
        yield from (Problem(file, named(item), "schema", fault) for fault in faults)
        if faults:
            continue
        entry = parse_entry(item)
        twice = next((other for other, e in into if e.id == entry.id), None)
        if twice is not None:
            yield Problem(file, entry.id, "repeated", f"the id is used in {twice} already")
        else:
            into.append((file, entry))


_Told = tuple[str, str]
"""Rule and detail."""


class _Checker:
    """Entries, and the cells that they cover."""

    def __init__(
        self, entries: Iterable[Deviation], registry: Mapping[str, Implementation]
    ) -> None:
        self.registry = registry
        self.entries = list(entries)
        asked = Registry(tuple(self.entries))
        self.plan: Plan = make_plan(registry, profile="exhaustive")
        self.cells = {cell.key: cell for cell in self.plan.cells}
        self.full = covered(asked, self.plan)
        self.standard = covered(asked, make_plan(registry, profile="standard"))

    def entry(self, file: str, entry: Deviation, today: datetime.date) -> Iterator[_Told]:
        """What is wrong with one entry."""
        names = list(self._names(entry))
        yield from names
        yield from self._frameworks(file, entry)
        if not names:
            yield from self._matching(entry)
        yield from self._witnesses(entry)
        yield from _bounds(entry)
        if entry.overdue(today):
            yield "overdue", f"review was due by {entry.review_by}"

    def _names(self, entry: Deviation) -> Iterator[_Told]:
        for part, accepted in entry.match.items():
            for value in accepted:
                if part == "implementation":
                    if value not in self.registry:
                        yield "unknown", unknown(part, value, tuple(self.registry), show=False)
                elif part != "argument":
                    try:
                        check_names(Selection(**{part: (value,)}), self.registry)
                    except SelectionError as error:
                        yield "unknown", str(error)

    def _frameworks(self, file: str, entry: Deviation) -> Iterator[_Told]:
        about = {e.framework for e in self.registry.values() if entry.is_about(e)}
        of = file.removesuffix(".toml").partition("_")[0]
        if of not in FRAMEWORKS:
            yield "mixed", f"{file} is not named after a framework"
        elif about - {of}:
            yield "mixed", f"{file} holds entries of {of}, this one is about {_listed(about)}"

    def _matching(self, entry: Deviation) -> Iterator[_Told]:
        keys = self.full[entry.id]
        if not keys:
            yield "unmatched", "it matches no cell of the full matrix"
            return
        of_cells = [self.cells[key] for key in keys]
        about = [self.plan.entry(cell) for cell in of_cells]
        for part, accepted in entry.match.items():
            name = "name" if part == "implementation" else part
            among = {getattr(x, name) for x in (of_cells if part in OF_CELLS else about)}
            for value in accepted:
                if value not in among:
                    yield "unmatched", f"{part} {value!r} of its match matches no cell"
        if not self.standard[entry.id]:
            yield "rare", "it matches no cell of profile standard"

    def _witnesses(self, entry: Deviation) -> Iterator[_Told]:
        of_cells = [self.cells[key] for key in self.full[entry.id]]
        where = {(self.plan.entry(c).op, c.dtype, c.family) for c in of_cells}
        for case_id in dict.fromkeys(entry.witnesses):
            if entry.witnesses.count(case_id) > 1:
                yield "witness", f"{case_id} is named twice"
            try:
                case = _case(case_id)
            except CaseError as error:
                yield "witness", f"{case_id} does not recreate: {error}"
                continue
            if where and (case.op, case.format, case.family) not in where:
                yield "witness", f"{case_id} runs in no cell of its entry"

    def pairs(self) -> Iterator[tuple[str, str, str]]:
        """What is wrong between entries of the same versions: id, rule and detail."""
        for one, other in combinations(self.entries, 2):
            kinds = one.allows.keys() & other.allows.keys()
            common = self.full[one.id] & self.full[other.id] if kinds else set()
            if not common or one.versions != other.versions:
                continue
            within = next((p for p in ((one, other), (other, one)) if self._within(*p)), None)
            unequal = [kind for kind in kinds if one.allows[kind] != other.allows[kind]]
            if within:
                inner, outer = within
                yield inner.id, "redundant", f"{outer.id} excuses all that it excuses"
            elif unequal and (one.facts == other.facts or not one.facts or not other.facts):
                yield (one.id, "overlap",
                       f"{_listed(unequal)} in {len(common)} cells with {other.id}")  # fmt: skip

    def _within(self, inner: Deviation, outer: Deviation) -> bool:
        return (
            self.full[inner.id] <= self.full[outer.id]
            and all(outer.allows.get(kind, 0.0) >= most for kind, most in inner.allows.items())
            and (not outer.facts or outer.facts == inner.facts)
        )


def _case(case_id: str) -> cases.Case | situations.Situation | arrangements.Arrangement:
    if arrangements.is_id(case_id):
        return arrangements.by_id(case_id)
    return situations.by_id(case_id) if situations.is_id(case_id) else cases.by_id(case_id)


def _bounds(entry: Deviation) -> Iterator[_Told]:
    if "<" not in entry.versions and "==" not in entry.versions:
        yield "unbounded", f"versions {entry.versions} has no end: say which were measured"
    for kind, most in entry.allows.items():
        if math.isinf(most) and not (kind == "accuracy" and entry.match.keys() >= _NARROW):
            yield "unbounded", (f"{kind} without a bound needs a match of "
                                f"{_listed(_NARROW)}, and is for accuracy")  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
