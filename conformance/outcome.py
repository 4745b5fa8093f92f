"""What the rows of a record amount to: did the instrument prove itself, and how did the run end.

Everything is computed from the rows of the whole record, so that an interrupted and resumed run, or
one that was merged from shards, ends as an uninterrupted one would have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conformance import coverage, deviations
from conformance.deviations import Registry
from conformance.deviations.extent import WHOLE, recorded
from conformance.deviations.standing import standings
from conformance.policy import Policy

CONFORMS, FAILS, BROKEN, INTERRUPTED = 0, 1, 3, 130
"""Exit codes of a run; 2, wrong usage, is the command line's."""

FAILING = ("fail", "error", "crash", "timeout")
"""Verdicts that make a subject's cell fail a run."""


@dataclass
class Outcome:
    """How a run ended.

    Attributes
    ----------
    exit_code : int
    measurements : list of dict
    planned : int
    harness_errors : list of str
        What broke in the instrument itself, not in an implementation.
    controls, mutants : dict
        ``total`` and the names of what ``failed`` or was ``missed``.
    deviations : dict of str to str
        The standing of each entry of the registry, see `conformance.deviations.standing`. Only who
        ran all that an entry is about can tell that it is stale or matches nothing: a partial
        record and a shard cannot.
    interrupted : bool
    stopped : str
        Why the run was ended early, if it was.
    incomplete : bool
        Cells may be missing: that was asked for.
    coverage : dict
        What run.json says of it, with the counts of these measurements and, under ``floor``, where
        they fall below the floor, or why they are not held to it.
    """

    exit_code: int = CONFORMS
    measurements: list[dict[str, Any]] = field(default_factory=list)
    planned: int = 0
    harness_errors: list[str] = field(default_factory=list)
    controls: dict[str, Any] = field(default_factory=dict)
    mutants: dict[str, Any] = field(default_factory=dict)
    deviations: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    stopped: str = ""
    incomplete: bool = False
    coverage: dict[str, Any] = field(default_factory=dict)

    @property
    def stale(self) -> tuple[str, ...]:
        """Deviations whose witnesses all met the contract."""
        return self._standing("stale")

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Deviations that match no cell of the full matrix."""
        return self._standing("unmatched")

    def _standing(self, wanted: str) -> tuple[str, ...]:
        return tuple(sorted(id_ for id_, standing in self.deviations.items() if standing == wanted))

    @property
    def below(self) -> list[str]:
        """Where too few cells ran, a line each."""
        return list(self.coverage.get("floor", {}).get("below", ()))

    @property
    def partial(self) -> bool:
        """Cells of the plan are missing, or what comes after the last of them."""
        return len(self.measurements) < self.planned or self.interrupted

    @property
    def counts(self) -> dict[str, int]:
        """Cells per verdict."""
        found = Counter(row["verdict"] for row in self.measurements)
        missing = self.planned - len(self.measurements)
        if missing > 0:
            found["not run"] += missing
        return dict(sorted(found.items()))

    def facts(self) -> dict[str, Any]:
        """What run.json holds of it."""
        return {
            "controls": self.controls,
            "mutants": self.mutants,
            "stale": self.stale,
            "standings": self.deviations,
            "harness_errors": self.harness_errors,
            "interrupted": self.interrupted,
            "exit_code": self.exit_code,
            **({"coverage": self.coverage} if self.coverage else {}),
        }


def outcome(
    rows: Sequence[dict[str, Any]],
    planned: int,
    rules: Policy,
    *,
    run: Mapping[str, Any] | None = None,
    shard: bool = False,
    harness_errors: Iterable[str] = (),
    interrupted: bool = False,
    stopped: str = "",
    incomplete: bool = False,
    registry: Registry | None = None,
    environment: Mapping[str, Any] | None = None,
    extents: Mapping[str, str] | None = None,
) -> Outcome:
    """What all of it amounts to.

    Parameters
    ----------
    rows : sequence of dict
        All measurements of the record.
    planned : int
        Cells of the plan (of a shard: of its part).
    rules : Policy
        Under which the witnesses of deviations met the contract or did not.
    run : mapping, optional
        What run.json says; without it, nothing is told of the coverage.
    shard : bool
        Whether other shards hold the rest of the plan.
    incomplete : bool
        Whether cells may be missing.
    registry : Registry, optional
        Of deviations; default: that of this version.
    environment : mapping, optional
        What the rows were measured in; default: that of `run`.
    extents : mapping, optional
        How much of each deviation the plan runs; default: what `run` says, and all of it without.
    """
    out = Outcome(
        measurements=list(rows),
        planned=planned,
        harness_errors=list(harness_errors),
        controls=controls(rows),
        mutants=mutants(rows),
        interrupted=interrupted,
        stopped=stopped,
        incomplete=incomplete,
    )
    registry = deviations.load() if registry is None else registry
    if extents is None:
        extents = dict.fromkeys((d.id for d in registry.entries), WHOLE)
        extents = extents if run is None else recorded(run, registry)
    if environment is None and run is not None:
        environment = run.get("environment")
    whole = extents if not out.partial and not shard else {}
    out.deviations = standings(registry.under(environment), rows, rules, whole)
    if run is not None:
        out.coverage = _coverage(run, rows)
    out.exit_code = exit_code(out)
    return out


def _coverage(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    told = run.get("coverage", {})
    table = coverage.table(told.get("table", ()), rows)
    why = coverage.unchecked(run, table)
    floor = {"unchecked": why, "below": [] if why else coverage.below(run["profile"], table)}
    return {**told, "table": table, "floor": floor}


def controls(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many cells of controls ran, and the keys of those that were not bit-equal."""
    ran = _ran(rows, "control")
    return {"total": len(ran), "failed": [r["key"] for r in ran if r["verdict"] != "pass"]}


def mutants(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """How many mutants ran, and the names of those that were not caught."""
    ran = _ran(rows, "mutant")
    return {"total": len(ran), "missed": [r["implementation"] for r in ran if not caught(r)]}


def _ran(rows: Iterable[Mapping[str, Any]], role: str) -> list[Mapping[str, Any]]:
    return [r for r in rows if r["role"] == role and r["verdict"] != "not installed"]


def caught(row: Mapping[str, Any]) -> bool:
    """Was this mutant caught in the cell that must catch it? By its figures, not by an error."""
    # Records of schema 1 do not say which cell that is; they hold no other of a mutant.
    return row.get("must_catch") is not False and row["verdict"] == "fail"


def exit_code(outcome: Outcome) -> int:
    """The exit code of a run."""
    if outcome.interrupted:
        return INTERRUPTED
    broken: Sequence[Any] = (
        *outcome.harness_errors,
        *outcome.controls.get("failed", ()),
        *outcome.mutants.get("missed", ()),
        *outcome.below,
        *outcome.unmatched,
    )
    if broken or (outcome.partial and not outcome.stopped and not outcome.incomplete):
        return BROKEN
    failing = any(
        row["role"] == "subject" and row["verdict"] in FAILING for row in outcome.measurements
    )
    return FAILS if failing or outcome.stale or outcome.stopped else CONFORMS
