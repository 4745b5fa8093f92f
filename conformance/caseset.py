"""A digest of what a plan runs on what: the same digest, the same questions.

Resuming and merging put together what was measured at different times or places; they refuse where
this differs. It covers the profile's content, the seed, the version of every family, the named rows
by their ids (which hold a digest of their bits), the witnesses of documented deviations, and the
keys of all cells of the plan, whichever shard they belong to.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from conformance import concerns
from conformance.deviations import Registry
from conformance.plan import Plan
from reference import cases


def case_set(plan: Plan, registry: Registry) -> str:
    """The SHA-256, in hex."""
    families = {cell.family for cell in plan.every}
    questions = {(plan.entry(cell).op, cell.dtype, cell.family) for cell in plan.every}
    content: dict[str, Any] = {
        "profile": asdict(plan.profile),
        "seed": plan.seed,
        "families": {name: _version(name) for name in sorted(families)},
        "named": sorted(
            case.case_id for question in sorted(questions) for case in cases.witnesses(*question)
        ),
        "witnesses": {
            cell.key: ids
            for cell in plan.every
            if (ids := registry.witnesses(cell, plan.entry(cell)))
        },
        "cells": sorted(cell.key for cell in plan.every),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _version(family: str) -> int:
    """The version of a family of rows, or of a concern's own."""
    if family in cases.FAMILIES:
        return cases.FAMILIES[family].version
    return next(c.versions[family] for c in concerns.OWN.values() if family in c.versions)
