"""The main job: start pytest on the suite, write the record, say how it ended.

pytest runs with the packaged configuration and without plug-ins of the surroundings. This process
is the single writer of the record; measurements reach it as properties of test reports, also from
the workers of pytest-xdist.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

import conformance.suite
from conformance import policy, shelf
from conformance.cells import Cell
from conformance.columns import decoded
from conformance.header import header
from conformance.outcome import FAILING, Outcome, outcome
from conformance.plan import Plan
from conformance.questioning import Stage, question
from conformance.record import CannotWrite, RecordWriter
from conformance.resume import rest
from conformance.settings import VARIABLE, Settings
from conformance.suite.verdicts import ANSWERS, MEASUREMENT
from conformance.witnesses import Kept

_SUITE = Path(conformance.suite.__file__).parent
_NEUTRAL = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")

Progress = Callable[[dict[str, Any], int], None]
"""Called with every measurement and the number of cells that this run measures."""


def run(
    settings: Settings,
    plan: Plan,
    folder: Path,
    *,
    workers: int = 2,
    max_failures: int | None = None,
    progress: Progress | None = None,
    stage: Stage | None = None,
) -> Outcome:
    """Run a plan and write its record into ``folder``.

    Parameters
    ----------
    settings : Settings
        What ``plan`` was made from; the workers make it again.
    workers : int
        Processes of pytest-xdist; 1 runs everything in this process.
    max_failures : int, optional
        Stop after this many failing subject cells.
    progress : callable, optional
        Called with every measurement and the number of cells that will be measured.
    stage : callable, optional
        Called while implementations answer the witnesses.

    Raises
    ------
    conformance.record.RecordError
        If the record cannot be begun or written.
    """
    with RecordWriter(folder, header(settings, plan)) as writer:
        recorder = _Recorder(plan, plan.cells, writer, max_failures, progress)
        return _measure(settings, recorder, workers, stage)


def resume(
    folder: Path,
    *,
    plugins: Sequence[str] = (),
    retry: Collection[str] = (),
    workers: int = 2,
    max_failures: int | None = None,
    progress: Progress | None = None,
    stage: Stage | None = None,
) -> tuple[Plan, Outcome]:
    """Measure what is missing in a record, and end it as an uninterrupted run would have.

    Parameters
    ----------
    folder : Path
        Of a record that `run` began.
    plugins : sequence of str
        Those that the run was begun with; a record does not decide which code is loaded.
    retry : collection of str
        Verdicts; rows with one of them are measured again, and the new row supersedes the old.
    workers, max_failures, progress, stage
        As in `run`.

    Raises
    ------
    conformance.record.RecordError
        If the record is damaged, locked or finished, or was begun under other circumstances.
    """
    with RecordWriter.reopen(folder) as writer:
        left = rest(writer.found, plugins=plugins, retry=retry)
        writer.resume()
        recorder = _Recorder(left.plan, left.cells, writer, max_failures, progress, left.again)
        return left.plan, _measure(left.settings, recorder, workers, stage)


def _measure(settings: Settings, recorder: _Recorder, workers: int, stage: Stage | None) -> Outcome:
    """Run what the recorder waits for, and bring the record to its end."""
    with shelf.opened(recorder.writer.folder):
        return _ended(settings, recorder, workers, stage)


def _ended(settings: Settings, recorder: _Recorder, workers: int, stage: Stage | None) -> Outcome:
    cells = recorder.cells
    if cells:
        chosen = settings if cells == recorder.plan.cells else settings.only(recorder.plan, cells)
        arguments = _arguments(min(workers, len(cells)))
        with _surroundings(chosen):
            recorder.code = int(pytest.main(arguments, plugins=[recorder]))
    ended = recorder.outcome(shard=bool(settings.shard))
    if not ended.partial:
        _witness(settings, recorder, workers, stage)
        ended = recorder.outcome(shard=bool(settings.shard))
    if ended.partial:
        recorder.writer.update(**ended.facts())
    else:
        recorder.writer.finish(**ended.facts())
    return ended


def _witness(settings: Settings, recorder: _Recorder, workers: int, stage: Stage | None) -> None:
    """Have everybody answer the worst cases, when every cell is measured."""
    writer = recorder.writer
    try:
        found = question(
            settings,
            recorder.plan,
            writer.measurements,
            kept=recorder.answers,
            workers=workers,
            stage=stage,
        )
    except KeyboardInterrupt:
        recorder.interrupted = True
        return
    recorder.errors += found.errors
    writer.witness(found.witnesses)


def _arguments(workers: int) -> list[str]:
    arguments = [
        str(_SUITE),
        "-c", str(_SUITE / "pytest.ini"),
        "--rootdir", str(_SUITE),
        "-p", "no:cacheprovider",
        "-p", "no:tmpdir",  # pytest-xdist would leave a folder of pytest's among temporary files
        "-q",
    ]  # fmt: skip
    if workers > 1:
        # Work stealing deals the cells out in runs of neighbours: one worker, one framework.
        arguments += ["-p", "xdist", "-n", str(workers), "--dist", "worksteal"]
    return arguments


@contextlib.contextmanager
def _surroundings(settings: Settings) -> Iterator[None]:
    """Nothing of the user's pytest gets in, and pytest's own terminal output stays out."""
    saved = dict(os.environ)
    for name in _NEUTRAL:
        os.environ.pop(name, None)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ[VARIABLE] = settings.to_json()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.environ.clear()
        os.environ.update(saved)


class _Recorder:
    """The pytest plug-in of the controlling process."""

    def __init__(
        self,
        plan: Plan,
        cells: tuple[Cell, ...],
        writer: RecordWriter,
        max_failures: int | None,
        progress: Progress | None,
        again: Collection[str] = (),
    ) -> None:
        self.plan = plan
        self.cells = cells
        self.writer = writer
        self.max_failures = max_failures
        self.progress = progress
        self.again = set(again)
        self.code = 0
        self.errors: list[str] = []
        self.interrupted = False
        self.answers = Kept()
        self.failures = 0
        self.stopped = ""
        self.write_error: CannotWrite | None = None

    # ------------------------------------------------------------ hooks

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(f"collection: {report.longreprtext[-2000:]}")

    def pytest_internalerror(self, excrepr: Any) -> None:
        self.errors.append(f"pytest: {str(excrepr)[-2000:]}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        text = properties.get(MEASUREMENT)
        if report.when != "call":
            if report.failed:
                self.errors.append(f"{report.nodeid}: {report.longreprtext[-2000:]}")
            return
        if not isinstance(text, str):
            self.errors.append(f"{report.nodeid}: {report.longreprtext[-2000:]}")
            return
        row = decoded(json.loads(text))
        answers = properties.get(ANSWERS)
        if isinstance(answers, str):
            self.answers.add(row["key"], answers)
        self._keep(row)

    # ------------------------------------------------------------ bookkeeping

    def _keep(self, row: dict[str, Any]) -> None:
        if self.write_error is not None:
            return
        try:
            self.writer.append(row, again=row["key"] in self.again)
        except CannotWrite as error:
            # pytest would bury an exception of a hook; stop, and raise it when pytest is done.
            self.write_error = error
            self._stop(str(error))
        self.again.discard(row["key"])
        if self.progress is not None:
            self.progress(row, len(self.cells))
        if row["role"] == "subject" and row["verdict"] in FAILING:
            self.failures += 1
            if self.max_failures is not None and self.failures >= self.max_failures:
                self._stop(f"stopped after {self.failures} failures")

    def _stop(self, why: str) -> NoReturn:
        """End the run now; pytest-xdist's own flags let workers finish what they hold."""
        self.stopped = why
        pytest.exit(why)

    def outcome(self, *, shard: bool) -> Outcome:
        """What all of it amounts to, rows of earlier sessions included."""
        if self.write_error is not None:
            raise self.write_error
        if self.code == int(pytest.ExitCode.INTERNAL_ERROR) and not self.errors:
            self.errors.append("pytest ended with an internal error")
        by_hand = self.code == int(pytest.ExitCode.INTERRUPTED) and not self.stopped
        return outcome(
            self.writer.measurements,
            len(self.plan.cells),
            policy.load(),
            run=self.writer.run,
            shard=shard,
            harness_errors=self.errors,
            interrupted=by_hand or self.interrupted,
            stopped=self.stopped,
        )
