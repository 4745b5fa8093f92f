"""What a concern with a module of its own says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from conformance.profiles import Profile
from conformance.registry import Implementation
from conformance.trial import Trial
from reference.metrics import Underflow

if TYPE_CHECKING:
    from conformance.bench import Bench
    from conformance.cells import Cell


class Concern(Protocol):
    """A concern that makes its own requests.

    Questions go to the executor's child like all others, and what comes back is a `Trial`: what
    was answered, judged like any other answer, and breaches.
    """

    @property
    def name(self) -> str:
        """As in a cell's key."""

    @property
    def versions(self) -> Mapping[str, int]:
        """Its families and their versions."""

    def asks(self, profile: Profile, entry: Implementation, cell: Cell) -> bool:
        """Whether a profile has this cell, of those that the profile's other rules leave."""

    def cases(self, bench: Bench, cell: Cell) -> Sequence[Any]:
        """What a cell asks: anything with a ``case_id``."""

    def run(self, bench: Bench, cell: Cell, rows: Sequence[Any], policy: Underflow) -> Trial:
        """Ask it."""
