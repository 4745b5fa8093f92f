"""Asking every implementation for its answers to the witnesses of a run.

The controlling process does it, when all cells are measured: what the witnesses are, is known only
then. Most answers came with the cells that were measured in this session, whose cases they are;
asked is for the others: other row lengths, rows of deviations, cells of earlier sessions and of
other shards. An answer does not depend on the rows beside it: batches have the same heights, whole
vectors of every instruction set.

Each framework has a thread with executors of its own, which survive whatever an implementation
does; the oracle's answers are shared.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from conformance import shelf, witnesses
from conformance.answers import Answers, Question
from conformance.bench import Bench
from conformance.cells import Cell
from conformance.frameworks import get_framework
from conformance.plan import Plan
from conformance.registry import FRAMEWORKS, Implementation
from conformance.settings import Settings
from conformance.text import printable
from conformance.trial import batches
from conformance.witnesses import MODE, Kept, Map, Witness
from reference import cases, formats
from reference.cases import Case
from reference.references import References

DEATHS = 4.0
"""Children that one implementation may cost with all its witnesses; its cells have shown already
that it crashes."""

Stage = Callable[[str, int, int], None]
"""Called with the framework that was asked, the questions asked so far, and how many there are."""

_SLOWEST_FIRST = ("jax", "tensorflow", "torch", "numpy")


@dataclass
class Questioned:
    """What came of it.

    Attributes
    ----------
    witnesses : list of dict
        As a record holds them.
    errors : list of str
        What broke in the instrument.
    """

    witnesses: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def question(
    settings: Settings,
    plan: Plan,
    rows: Iterable[Mapping[str, Any]],
    *,
    kept: Kept | None = None,
    workers: int = 2,
    stage: Stage | None = None,
) -> Questioned:
    """Choose the witnesses of a run's measurements and have everybody answer them.

    Asked are the implementations of the plan, so an unselected framework is not started; nobody is
    where eager mode was not selected.

    Parameters
    ----------
    settings : Settings
    plan : Plan
        Made from them.
    rows : iterable of measurements
    kept : Kept, optional
        Answers that came with the cells.
    workers : int
        Frameworks that are asked side by side.
    stage : callable, optional
        Called after each question; from several threads, one at a time.
    """
    chosen = witnesses.chosen(rows, witnesses.most(plan.profile.name))
    asking = _Asking(settings, plan, chosen, kept or Kept(), stage)
    return asking.run(workers)


def implementations(plan: Plan) -> list[Implementation]:
    """Who is asked, by framework and in the order of the registry."""
    modes = plan.selection.mode
    if modes and MODE not in modes:
        return []
    planned = {cell.implementation for cell in plan.every}
    entries = [
        entry
        for name, entry in plan.registry.items()
        if name in planned and entry.role in ("subject", "antipattern")
    ]
    return sorted(entries, key=lambda entry: FRAMEWORKS.index(entry.framework))


@dataclass(frozen=True)
class _Question:
    """Cases of one map for one implementation."""

    map: Map
    entry: Implementation
    cases: tuple[Case, ...]


class _Asking:
    """The questions of one run."""

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        chosen: Sequence[Witness],
        kept: Kept,
        stage: Stage | None,
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.chosen = chosen
        self.stage = stage
        self.cases = {case_id: cases.by_id(case_id) for case_id in {w.case_id for w in chosen}}
        self.answers = Answers(shared=shelf.of_run())
        self.given: dict[tuple[Map, str, str], dict[str, Any]] = {}
        self.entries = implementations(plan)
        # Apart by their inputs: nobody can answer both kinds.
        self.by_map: dict[Map, dict[frozenset[str], list[Case]]] = {}
        for witness in chosen:
            case = self.cases[witness.case_id]
            alike = self.by_map.setdefault(witness.map, {})
            alike.setdefault(frozenset(case.arguments), []).append(case)
        self.places = {
            (map_, case.case_id): (batch.rows, row)
            for map_, kinds in self.by_map.items()
            for alike in kinds.values()
            for batch in batches(alike)
            for row, case in enumerate(batch.rows)
        }
        self._look_up(kept)
        self.questions = self._questions()
        self.asked = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()

    def _look_up(self, kept: Kept) -> None:
        """Take the answers that are there."""
        by_group: dict[tuple[Map, str], list[str]] = {}
        for witness in self.chosen:
            by_group.setdefault((witness.map, witness.family), []).append(witness.case_id)
        for (map_, family), case_ids in by_group.items():
            for entry in self.entries:
                if entry.op == map_[0]:
                    given = kept.of(entry, *map_[1:], family)
                    for case_id in given.keys() & set(case_ids):
                        self.given[map_, case_id, entry.name] = given[case_id]

    def _questions(self) -> dict[str, list[_Question]]:
        """By framework; neighbours share references."""
        found: dict[str, list[_Question]] = {}
        for map_, of in self.by_map.items():
            op, derivative, argument, dtype = map_
            for entry in self.entries:
                if entry.op != op or get_framework(entry.framework).unsupported_reason(
                    entry, derivative, argument, dtype, MODE
                ):
                    continue
                mine = [
                    case
                    for case in of.get(frozenset(entry.inputs), ())
                    if (map_, case.case_id, entry.name) not in self.given
                    and self.plan.profile.answers(entry, derivative, case.n)
                ]
                if mine:
                    found.setdefault(entry.framework, []).append(
                        _Question(map_, entry, tuple(mine))
                    )
        return found

    def run(self, workers: int) -> Questioned:
        """Ask all of them."""
        out = Questioned()
        frameworks = sorted(self.questions, key=_SLOWEST_FIRST.index)
        pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(frameworks))))
        try:
            errors = list(pool.map(self._framework, frameworks))
        except BaseException:
            self.stop.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        out.errors = [error for error in errors if error]
        out.witnesses = [self._described(witness) for witness in self.chosen]
        return out

    # ------------------------------------------------------------ in a thread

    def _framework(self, framework: str) -> str:
        """Ask the implementations of a framework; an error of the instrument as text."""
        # The kernel ends a child with the thread that started it: this one closes what it opens.
        bench = Bench(
            self.plan,
            plugins=self.settings.loaded,
            deadline=self.settings.deadline,
            memory_limit=self.settings.memory_limit,
            answers=self.answers,
        )
        left: dict[str, float] = {}
        try:
            for asked in self.questions[framework]:
                if self.stop.is_set():
                    break
                self._ask(bench, asked, left)
                with self.lock:
                    self.asked += 1
                    if self.stage is not None:
                        total = sum(map(len, self.questions.values()))
                        self.stage(framework, self.asked, total)
        except Exception as error:
            return printable(f"witnesses of {framework}: {type(error).__name__}: {error}", 2000)
        finally:
            bench.close()
        return ""

    def _ask(self, bench: Bench, asked: _Question, left: dict[str, float]) -> None:
        entry = asked.entry
        version = bench.version(entry.framework)
        if version is None or entry.missing_requirements():
            return
        _, derivative, argument, dtype = asked.map
        context = get_framework(entry.framework).context_for(dtype)
        cell = Cell("accuracy", entry.name, derivative, argument, dtype, MODE, "cpu", context,
                    asked.cases[0].family)  # fmt: skip
        deaths = left.setdefault(entry.name, DEATHS)
        message = "not asked: it crashed or hung too often before"
        given: dict[str, dict[str, Any]] = {}
        if deaths > 0:
            trial = bench.ask(cell, asked.cases, entry, deaths)
            left[entry.name] -= trial.cost
            message = trial.message or "no answer"
            given = witnesses.answer(entry, version, trial)
        for case in asked.cases:
            self.given[asked.map, case.case_id, entry.name] = given.get(
                case.case_id
            ) or witnesses.refused(entry, version, message)

    # ------------------------------------------------------------ afterwards

    def _described(self, witness: Witness) -> dict[str, Any]:
        answers = [
            given
            for entry in self.entries
            if (given := self.given.get((witness.map, witness.case_id, entry.name))) is not None
        ]
        references, row = self._references(witness)
        return witnesses.described(witness, self.cases[witness.case_id], references, row, answers)

    def _references(self, witness: Witness) -> tuple[References, int]:
        """The exact answers to a witness, in the batch in which they were computed."""
        op, derivative, argument, dtype = witness.map
        rows, row = self.places[witness.map, witness.case_id]
        asked = Question(op, derivative, argument, formats.get(dtype))
        return self.answers.references(asked, rows), row
