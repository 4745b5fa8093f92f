"""What a run consists of: the cells of a profile that a selection wants, in a fixed order.

Nothing here imports a framework: a plan is made from the registry, the frameworks' declared
capabilities and the families.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from conformance.cells import Cell, SelectionError, cells_of
from conformance.frameworks import get_framework
from conformance.profiles import CONCERNS, PROFILES, Profile
from conformance.registry import DERIVATIVES, Implementation
from conformance.selection import Selection, check_names, unknown
from reference.cases import FAMILIES


@dataclass(frozen=True)
class Plan:
    """The cells of a run, framework first, and what they were chosen by.

    Attributes
    ----------
    cells : tuple of Cell
        What the run measures.
    whole : tuple of Cell
        Of a shard: the cells of all shards; otherwise empty.
    """

    profile: Profile
    seed: int
    selection: Selection
    registry: Mapping[str, Implementation] = field(repr=False)
    cells: tuple[Cell, ...] = field(repr=False)
    whole: tuple[Cell, ...] = field(default=(), repr=False)

    @property
    def every(self) -> tuple[Cell, ...]:
        """The cells of the plan, those of other shards among them."""
        return self.whole or self.cells

    def entry(self, cell: Cell) -> Implementation:
        """The implementation of a cell."""
        return self.registry[cell.implementation]

    def counts(self) -> dict[str, int]:
        """Planned cells per framework."""
        found: dict[str, int] = {}
        for cell in self.cells:
            framework = self.entry(cell).framework
            found[framework] = found.get(framework, 0) + 1
        return found


def make_plan(
    registry: Mapping[str, Implementation],
    *,
    profile: str = "quick",
    seed: int = 0,
    selection: Selection | None = None,
) -> Plan:
    """Choose the cells of a run.

    Controls and mutants belong to every selection that has a subject of their framework and op,
    whatever else it asks for: they prove that the instrument that judged it works. A selection of
    single cells runs exactly those. A family or derivative that a selection names runs whether or
    not the profile has it.

    Raises
    ------
    SelectionError
        If a name is unknown or nothing is selected.
    """
    chosen = PROFILES.get(profile)
    if chosen is None:
        raise SelectionError(unknown("profile", profile, tuple(PROFILES)))
    selection = selection or Selection()
    check_names(selection, registry)
    chosen = _widened(chosen, selection)
    if selection.cell:
        cells = [_single(key, registry) for key in selection.cell]
        return Plan(chosen, seed, selection, registry, tuple(dict.fromkeys(cells)))

    everything = [(entry, cell) for entry in registry.values() for cell in cells_of(entry, chosen)]
    wanted = [(entry, cell) for entry, cell in everything if selection.accepts(cell, entry)]
    if not wanted:
        raise SelectionError(
            f"the selection matches no cell of profile {chosen.name}; "
            "`--dry-run` shows what a selection matches, `--profile exhaustive` plans everything"
        )
    covered = {(entry.framework, entry.op) for entry, _ in wanted}
    selected = {cell for _, cell in wanted}
    cells = [
        cell
        for entry, cell in everything
        if cell in selected
        or (entry.role in ("control", "mutant") and (entry.framework, entry.op) in covered)
    ]
    return Plan(chosen, seed, selection, registry, tuple(sorted(cells, key=_order(registry))))


def _widened(profile: Profile, selection: Selection) -> Profile:
    """The profile, and the families and derivatives that were asked for by name besides.

    Nothing is taken away: what the selection does not want is left out cell by cell, and controls
    stay.
    """
    return replace(
        profile,
        families={
            concern: tuple(
                name for name in names if name in (*profile.families[concern], *selection.family)
            )
            for concern, names in CONCERNS.items()
        },
        derivatives=_with(profile.derivatives, selection.derivative),
        compiled=_with(profile.compiled, selection.derivative),
    )


def _with(
    derivatives: Mapping[str, tuple[str, ...]], named: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """Each dtype's derivatives and those that were named, in the usual order."""
    return {
        dtype: tuple(d for d in DERIVATIVES if d in (*has, *named))
        for dtype, has in derivatives.items()
    }


def _single(key: str, registry: Mapping[str, Implementation]) -> Cell:
    """The cell of a key, which need not belong to the profile."""
    cell = Cell.from_key(key)
    entry = registry.get(cell.implementation)
    if entry is None:
        raise SelectionError(
            unknown("implementation", cell.implementation, tuple(registry), show=False)
        )
    every = set(cells_of(entry, PROFILES["exhaustive"]))
    framework = get_framework(entry.framework)
    if cell in every or (
        cell.family in FAMILIES
        and cell.family in CONCERNS.get(cell.concern, ())
        and cell.device == "cpu"
        and framework.runs_in(cell.context, cell.dtype, cell.mode)
        and framework.unsupported_reason(
            entry, cell.derivative, cell.argument, cell.dtype, cell.mode
        )
        is None
    ):
        return cell
    close = difflib.get_close_matches(key, [c.key for c in every], 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise SelectionError(f"there is no cell {key!r}{hint}")


MODE_ORDER = ("compiled", "xla", "graph", "session", "eager")
FRAMEWORK_ORDER = ("torch", "numpy", "tensorflow", "jax")
"""Slow starters at the two ends: with two workers each gets a half that takes about as long."""


def _order(registry: Mapping[str, Implementation]) -> Any:
    """Framework first, so that one worker holds one framework; then by executor and mode.

    Families come last: cells that share references and compiled shapes stay together, also when
    a worker that is done takes over half of what another one has left.
    """

    @cache
    def rank(name: str) -> tuple[int, str]:
        entry = registry[name]
        return FRAMEWORK_ORDER.index(entry.framework), entry.op

    def key(cell: Cell) -> tuple[Any, ...]:
        framework, op = rank(cell.implementation)
        return (
            framework,
            cell.context,
            MODE_ORDER.index(cell.mode),
            cell.dtype,
            op,
            cell.implementation,
            cell.derivative,
            cell.argument,
            cell,
        )

    return key
