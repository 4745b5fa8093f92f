"""What a record says should change in the registry.

================  ==============================================================================
an entry is       proposed
================  ==============================================================================
stale             to end its versions before the one that was measured, or to remove it
unmatched         to remove it
worse             a larger bound
not for this one  its witnesses break the contract on a version that it does not accept: to accept
                  this version, too
partly met        not to name witnesses that met the contract wherever they ran
================  ==============================================================================

Nothing is proposed about new breaches: to document one, somebody has to understand it first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from conformance.deviations.entries import Deviation, Registry
from conformance.deviations.standing import Seen, of_record
from conformance.policy import Policy
from conformance.record import Record

__all__ = ["ALLOW", "REMOVE", "VERSIONS", "WITNESS", "Proposal", "Update", "propose"]

REMOVE, VERSIONS, ALLOW, WITNESS = "remove", "versions", "allow", "witness"

_MARGIN = 4
"""A new bound is so many times the figure that was seen."""
_ANY = 1e6
"""A count of elements depends on the profile: this is any number of them."""
_SELECTIVE = ("quick",)
"""Profiles that leave out derivatives in which a witness may be there for."""


@dataclass(frozen=True)
class Proposal:
    """One edit of one entry.

    Attributes
    ----------
    id : str
    edit : str
        ``remove``, ``versions``, ``allow`` or ``witness`` (not to name it any more).
    value : str
        The specifier, the figure as TOML has it, or the case id.
    kind : str
        Of ``allow``, the kind of breach.
    why : str
    """

    id: str
    edit: str
    why: str
    value: str = ""
    kind: str = ""


@dataclass
class Update:
    """What is proposed, and what a person has to look at.

    Attributes
    ----------
    proposals : list of Proposal
    notes : list of str
    """

    proposals: list[Proposal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def propose(registry: Registry, record: Record, rules: Policy) -> Update:
    """What a record, judged by the present rules, says should change."""
    found = of_record(registry, record, rules)
    # The same entries on whatever version was measured: do those that do not accept it show?
    anywhere = Registry(tuple(replace(d, versions="") for d in registry.entries))
    elsewhere = of_record(anywhere, record, rules)
    out = Update()
    for entry in registry.entries:
        own = found[entry.id]
        if own.applied or not own.versions:
            out.proposals += _of_accepted(entry, own, str(record.run.get("profile")))
        elif elsewhere[entry.id].applied:
            _take_elsewhere(out, entry, elsewhere[entry.id])
    return out


def _of_accepted(entry: Deviation, own: Seen, profile: str) -> Iterator[Proposal]:
    if own.standing == "unmatched":
        yield Proposal(entry.id, REMOVE, "it matches no cell of the full matrix")
    elif own.standing == "stale":
        version = _first(own)
        why = f"its witnesses met the contract on {version}"
        until = _ended(entry.versions, version)
        yield Proposal(entry.id, VERSIONS, why, until) if until else Proposal(entry.id, REMOVE, why)
    else:
        yield from _bounds(entry, own)
        if own.whole and not own.all_met and profile not in _SELECTIVE:
            for case_id in own.dead:
                yield Proposal(entry.id, WITNESS, "it met the contract wherever it ran", case_id)


def _take_elsewhere(out: Update, entry: Deviation, own: Seen) -> None:
    version = _first(own)
    if own.all_met:
        out.notes.append(f"{entry.id}: its witnesses met the contract on {version}, "
                         f"which {entry.versions} does not accept: nothing to change")  # fmt: skip
    elif own.witnesses:
        accepting = _accepting(entry.versions, version)
        if accepting is None:
            out.notes.append(f"{entry.id}: it shows on {version}, too; change its versions, "
                             f"{entry.versions}, by hand")  # fmt: skip
        else:
            out.proposals.append(
                Proposal(entry.id, VERSIONS, f"it shows on {version}, too", accepting)
            )
            out.proposals += _bounds(entry, own)


def _bounds(entry: Deviation, own: Seen) -> Iterator[Proposal]:
    for kind, figure in own.exceeded.items():
        why = f"{kind} {figure:.3g} was seen, {entry.allows[kind]:.3g} is allowed"
        yield Proposal(entry.id, ALLOW, why, _bound(kind, figure), kind)


def _bound(kind: str, figure: float) -> str:
    """A bound for a figure as TOML has it, with two digits, rounded up."""
    if kind not in ("accuracy", "premature") and figure <= _ANY:
        return "1e6"
    most = _MARGIN * figure
    if math.isinf(most):
        return "inf"
    exponent = math.floor(math.log10(most))
    digits = math.ceil(most / 10.0 ** (exponent - 1)) / 10
    return f"{digits:g}e{exponent}" if abs(exponent) > 4 else f"{digits * 10.0**exponent:g}"


def _first(own: Seen) -> str:
    """The earliest of the versions that were measured, of which there is one as a rule."""

    def order(text: str) -> Version:
        try:
            return Version(text)
        except InvalidVersion:
            return Version("0")

    return min(own.versions, key=order)


def _interval(versions: str) -> tuple[str, str] | None:
    """The ends of ``>=A,<B``; None for a specifier of another form."""
    ends = {s.operator: s.version for s in SpecifierSet(versions)}
    return (ends[">="], ends["<"]) if ends.keys() == {">=", "<"} else None


def _ended(versions: str, version: str) -> str | None:
    """The same versions up to one that is not accepted any more; None if that leaves none."""
    ends = _interval(versions)
    base = Version(version).base_version
    if ends is None or Version(base) <= Version(ends[0]):
        return None
    return f">={ends[0]},<{base}"


def _accepting(versions: str, version: str) -> str | None:
    """The same versions and one more, with the others of its minor version; None if unclear."""
    ends = _interval(versions)
    try:
        found = Version(version)
    except InvalidVersion:
        return None
    if ends is None:
        return None
    if found < Version(ends[0]):
        return f">={found.base_version},<{ends[1]}"
    return f">={ends[0]},<{found.major}.{found.minor + 1}"
