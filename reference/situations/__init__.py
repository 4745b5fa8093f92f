"""Situations for reductions, labels and weights: one file per family, recreated from their ids.

A file that defines ``FAMILY`` is a family; adding one means adding a file. What the right answers
are: :mod:`reference.reductions`.
"""

from __future__ import annotations

import re

from .. import formats
from ..cases.base import CaseError
from ..discovery import offered
from .base import Family, Situation, generate

__all__ = ["FAMILIES", "Family", "Situation", "by_id", "is_id", "make"]


FAMILIES: dict[str, Family] = {
    family.name: family for family in offered(__name__, __path__, "FAMILY")
}

_ID = re.compile(
    r"(?P<op>\w+)-(?P<format>\w+)-(?P<family>[a-z_]+)(?P<version>\d+)"
    r"-s(?P<seed>\d{1,20})-q(?P<number>\d{1,6})-(?P<digest>[0-9a-f]{6})"
)


def make(family: str, op: str, format_name: str, *, seed: int = 0) -> list[Situation]:
    """All situations of a family for an op and a format."""
    return generate(FAMILIES[family], op, formats.get(format_name), seed)


def is_id(case_id: str) -> bool:
    """Whether an id has the form of a situation's; a case's has another."""
    return _ID.fullmatch(case_id) is not None


def by_id(case_id: str) -> Situation:
    """Recreate a situation from its id.

    Raises
    ------
    CaseError
        If the id names nothing, or its digest does not fit what is made today.
    """
    found = _ID.fullmatch(case_id)
    family = FAMILIES.get(found["family"]) if found else None
    if found is None or family is None or found["format"] not in formats.FORMATS:
        raise CaseError(f"no situation {case_id[:80]!r}")
    if int(found["version"]) != family.version:
        raise CaseError(
            f"family {family.name} is at version {family.version}, not {found['version']}"
        )
    numbers = [int(found["number"])]
    fmt = formats.get(found["format"])
    made = generate(family, found["op"], fmt, int(found["seed"]), numbers)
    if not made:
        raise CaseError(f"family {family.name} has no situation {found['number']} of {found['op']}")
    if made[0].case_id != case_id:
        raise CaseError(f"the digest does not fit: today this situation is {made[0].case_id}")
    return made[0]
