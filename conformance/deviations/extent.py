"""How much of what an entry is about a plan runs: only who saw all of it may call it stale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.cells import cells_of
from conformance.deviations.entries import Deviation, Registry
from conformance.plan import Plan, make_plan
from conformance.profiles import PROFILES
from conformance.registry import Implementation

__all__ = ["EXTENTS", "NONE", "PART", "UNMATCHED", "WHOLE", "covered", "extents", "recorded"]

WHOLE = "whole"
PART = "part"
NONE = "none"
UNMATCHED = "unmatched"
EXTENTS = (WHOLE, PART, NONE, UNMATCHED)
"""Of the cells that an entry covers in the plan's profile: all are in the plan, some, none; or
there is no such cell in the full matrix either, which only a plan without a selection says."""


def covered(registry: Registry, plan: Plan) -> dict[str, set[str]]:
    """The keys of the cells that each entry covers, those of other shards among them."""
    found: dict[str, set[str]] = {d.id: set() for d in registry.entries}
    for cell in plan.every:
        for d in registry.covering(cell, plan.entry(cell)):
            found[d.id].add(cell.key)
    return found


def extents(registry: Registry, plan: Plan) -> dict[str, str]:
    """Of each entry how much a plan runs, one of `EXTENTS`."""
    here = covered(registry, plan)
    if plan.selection.everything:
        full = here
    else:
        full = covered(registry, make_plan(plan.registry, profile=plan.profile.name))
    return {d.id: _extent(d, here[d.id], full[d.id], plan) for d in registry.entries}


def _extent(entry: Deviation, here: set[str], full: set[str], plan: Plan) -> str:
    if here and full <= here:
        return WHOLE
    if here:
        return PART
    if plan.selection.everything and not matches(entry, plan.registry):
        return UNMATCHED
    return NONE


def matches(entry: Deviation, registry: Mapping[str, Implementation]) -> bool:
    """Is there a cell in the full matrix that an entry is about?"""
    return any(
        entry.covers(cell, implementation)
        for implementation in registry.values()
        if entry.is_about(implementation)
        for cell in cells_of(implementation, PROFILES["exhaustive"])
    )


def recorded(run: Mapping[str, Any], registry: Registry) -> dict[str, str]:
    """What a run.json says of each entry; where it does not say it, its selection does."""
    told = run.get("deviations")
    told = told if isinstance(told, Mapping) else {}
    found = {}
    for d in registry.entries:
        entry = told.get(d.id)
        extent = entry.get("extent") if isinstance(entry, Mapping) else None
        found[d.id] = extent if extent in EXTENTS else PART if run.get("selection") else WHOLE
    return found
