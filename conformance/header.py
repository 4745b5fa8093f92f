"""What run.json says before anything is measured: what is run, where, and under which rules."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from conformance import coverage, deviations, policy, shards
from conformance.caseset import case_set
from conformance.deviations.extent import extents
from conformance.environment import present, versions
from conformance.plan import Plan
from conformance.registry import DERIVATIVES, entry_point_plugins, plugin_digests
from conformance.settings import Settings


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
        "environment": present(plan.registry, rules.version),
        "coverage": {
            "planned": len(plan.cells),
            "whole": len(plan.every),
            "left_out": _left_out(plan),
            "table": coverage.planned(plan),
            "declared": coverage.declared(plan),
        },
        "deviations": _documented(plan),
    }


def _documented(plan: Plan) -> dict[str, dict[str, str]]:
    """What the report says of each deviation, and how much of what it is about is run."""
    registry = deviations.load()
    of = extents(registry, plan)
    return {
        d.id: {
            "reason": d.reason,
            "summary": d.summary,
            "upstream": d.upstream,
            "extent": of[d.id],
        }
        for d in registry.entries
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
    installed = versions()
    out += [f"{name}: not installed" for name in plan.counts() if installed[name] is None]
    return out
