"""Concerns that are not rows of cases judged element by element, a module each.

Planned by `conformance.cells`, measured by `conformance.bench`; what such a concern adds is in
:class:`conformance.concerns.base.Concern`. Everything else (deviations, grade, record, resuming,
shards) is common to all cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from conformance.concerns.base import Concern
from conformance.concerns.contract import CONTRACT
from conformance.concerns.invariance import INVARIANCE
from conformance.concerns.reduction import REDUCTION

__all__ = ["OWN", "Concern"]

OWN: Mapping[str, Concern] = MappingProxyType(
    {concern.name: concern for concern in (REDUCTION, CONTRACT, INVARIANCE)}
)
"""By name."""
