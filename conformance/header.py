"""What run.json says before anything is measured: what is run, where, and under which rules."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from conformance import coverage, deviations, policy, shards
from conformance.caseset import case_set
from conformance.environment import environment
from conformance.frameworks import get_framework
from conformance.plan import Plan
from conformance.registry import (
    DERIVATIVES,
    FRAMEWORKS,
    distribution_version,
    entry_point_plugins,
    plugin_digests,
)
from conformance.settings import Settings

_LIBRARIES = ("jaxlib", "ml_dtypes", "mpmath")
"""Distributions that compute here beside the frameworks."""


def header(settings: Settings, plan: Plan) -> dict[str, Any]:
    """The entries of run.json that a run begins with.

    Parameters
    ----------
    settings : Settings
    plan : Plan
        Made from them.
    """
    rules = policy.load()
    shard = shards.parse(settings.shard) if settings.shard else None
    return {
        "profile": settings.profile,
        "seed": settings.seed,
        "selection": {k: v for k, v in asdict(settings.selection).items() if v},
        "settings": settings.row(),
        "plugins": plugin_digests((*entry_point_plugins(), *settings.plugins)),
        "shard": asdict(shard) if shard else None,
        "case_set": case_set(plan, deviations.load()),
        "policy": rules.row(),
        "rules": deviations.digest(),
        "environment": environment(
            rules.version, _versions(), {"each framework": 1}, _libraries(plan)
        ),
        "coverage": {
            "planned": len(plan.cells),
            "whole": len(plan.every),
            "left_out": _left_out(plan),
            "table": coverage.planned(plan),
            "declared": coverage.declared(plan),
        },
        "deviations": _documented(),
    }


def _versions() -> dict[str, str | None]:
    return {name: get_framework(name).installed_version() for name in FRAMEWORKS}


def _libraries(plan: Plan) -> dict[str, str | None]:
    required = {name for entry in plan.registry.values() for name in entry.requires}
    return {name: distribution_version(name) for name in sorted({*_LIBRARIES, *required})}


def _documented() -> dict[str, dict[str, str]]:
    """What the report says of each deviation."""
    return {
        d.id: {"reason": d.reason, "summary": d.summary, "upstream": d.upstream}
        for d in deviations.load().entries
    }


def _left_out(plan: Plan) -> list[str]:
    """What this run does not cover, in a reader's words."""
    profile = plan.profile
    out = []
    if not plan.selection.everything:
        out.append("whatever the selection excludes")
    without = {
        derivative: [dtype for dtype, has in profile.derivatives.items() if derivative not in has]
        for derivative in DERIVATIVES
    }
    lacking = [d for d, dtypes in without.items() if len(dtypes) == len(profile.derivatives)]
    if lacking:
        out.append(f"derivatives {' and '.join(lacking)}")
    out += [
        f"derivative {d} in {' and '.join(dtypes)}"
        for d, dtypes in without.items()
        if dtypes and d not in lacking
    ]
    if profile.name != "exhaustive":
        out.append(f"compiled modes in other dtypes than {', '.join(profile.compiled)}")
        out.append(f"rows of more than {max(profile.lengths)} classes, except named ones")
    if profile.builtins_only:
        out.append("compositions of frameworks that have built-ins")
    versions = _versions()
    out += [f"{name}: not installed" for name in plan.counts() if versions[name] is None]
    return out
