"""Cells, the units of planning, judging and reporting, and which of them a profile has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from conformance import concerns
from conformance.frameworks import get_framework
from conformance.profiles import CONTEXT_CELLS, FIRST, GRAPH_MODES, SESSION_OPS, Profile
from conformance.registry import BUILTIN_MODULES, Implementation
from reference import ops


class SelectionError(ValueError):
    """A selection that names something unknown or matches nothing."""


@dataclass(frozen=True, order=True)
class Cell:
    """One question to one implementation: the unit of planning, judging and reporting."""

    concern: str
    implementation: str
    derivative: str
    argument: str
    dtype: str
    mode: str
    device: str
    context: str
    family: str

    @property
    def key(self) -> str:
        """The names written out."""
        return "/".join(str(v) for v in asdict(self).values())

    @classmethod
    def from_key(cls, key: str) -> Cell:
        """The inverse of :attr:`key`; SelectionError if it has not nine parts."""
        parts = key.split("/")
        if len(parts) != len(fields(cls)):
            raise SelectionError(
                f"a cell key has {len(fields(cls))} parts separated by '/' "
                f"({'/'.join(f.name for f in fields(cls))}); this one has {len(parts)}"
            )
        return cls(*parts)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Cell:
        """The cell of a measurement."""
        return cls(**{f.name: row[f.name] for f in fields(cls)})


def applies(
    profile: Profile, entry: Implementation, derivative: str, dtype: str, mode: str
) -> bool:
    """Does this implementation run this derivative in this dtype and mode?"""
    if entry.role == "antipattern":
        shown = dtype in profile.compiled and derivative in FIRST
        return mode == "eager" and not profile.builtins_only and shown
    if mode == "eager":
        if derivative not in profile.derivatives.get(dtype, ()):
            return False
        return entry.variant == "builtin" or not profile.builtins_only or _stands_alone(entry)
    if entry.role != "subject":
        return False
    if mode in GRAPH_MODES:
        if entry.op not in profile.graph_ops or entry.variant != "builtin":
            return False
        if profile.name == "exhaustive":
            return True
        if dtype != "float32" or derivative not in FIRST:
            return False
        return mode != "session" or entry.op in SESSION_OPS
    if entry.variant != "builtin" and profile.builtins_only:
        return False
    return derivative in profile.compiled.get(dtype, ())


def applies_in_context(profile: Profile, entry: Implementation, cell: Cell) -> bool:
    """Does this cell belong to the contexts beside the usual one?"""
    return (
        entry.role == "subject"
        and entry.variant == "builtin"
        and entry.op in profile.context_ops
        and (cell.derivative, cell.dtype) == ("value", "float32")
        and (cell.concern, cell.family) in CONTEXT_CELLS
    )


def _stands_alone(entry: Implementation) -> bool:
    """Controls, mutants, a user's own, and compositions of a framework without such built-ins."""
    return (
        entry.role in ("control", "mutant")
        or entry.framework == "numpy"
        or entry.module not in BUILTIN_MODULES
    )


def cells_of(entry: Implementation, profile: Profile) -> list[Cell]:
    """The cells of one implementation, in a fixed order."""
    if entry.role == "mutant":
        return [must_catch(entry)]
    framework = get_framework(entry.framework)
    pairs = [
        (concern, family)
        for concern, families in profile.families.items()
        for family in families
        if entry.role != "control" or (concern, family) in profile.controls
    ]
    found = [
        Cell(concern, entry.name, derivative, argument, dtype, mode, "cpu", context, family)
        for context in framework.known_contexts()
        for mode in framework.modes
        for dtype in framework.dtypes
        if framework.runs_in(context, dtype, mode)
        for derivative, argument in ops.get(entry.op).maps
        if framework.unsupported_reason(entry, derivative, argument, dtype, mode) is None
        for concern, family in pairs
    ]
    return [
        cell
        for cell in found
        if (
            applies_in_context(profile, entry, cell)
            if cell.context in framework.switched
            else applies(profile, entry, cell.derivative, cell.dtype, cell.mode)
        )
        and (
            cell.concern not in concerns.OWN
            or concerns.OWN[cell.concern].asks(profile, entry, cell)
        )
    ]


def must_catch(entry: Implementation) -> Cell:
    """The cell that has to catch a mutant."""
    if entry.caught_by is None:
        raise ValueError(f"{entry.name} is not a mutant")
    by = entry.caught_by
    context = get_framework(entry.framework).context_for(by["dtype"])
    return Cell(by["concern"], entry.name, by["derivative"], by["argument"], by["dtype"],
                by["mode"], "cpu", context, by["family"])  # fmt: skip
