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
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

import conformance.suite
from conformance import deviations
from conformance.bench import caught
from conformance.columns import decoded
from conformance.environment import environment
from conformance.frameworks import get_framework
from conformance.judge import POLICY_VERSION
from conformance.plan import Plan
from conformance.record import CannotWrite, RecordWriter
from conformance.registry import FRAMEWORKS
from conformance.settings import VARIABLE, Settings
from conformance.suite.verdicts import MEASUREMENT, WITNESSES

_SUITE = Path(conformance.suite.__file__).parent
_NEUTRAL = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")

CONFORMS, FAILS, USAGE, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""


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
    stale : tuple of str
        Deviations whose witnesses all met the contract.
    interrupted : bool
    stopped : str
        Why the run was ended early, if it was.
    """

    exit_code: int = CONFORMS
    measurements: list[dict[str, Any]] = field(default_factory=list)
    planned: int = 0
    harness_errors: list[str] = field(default_factory=list)
    controls: dict[str, Any] = field(default_factory=dict)
    mutants: dict[str, Any] = field(default_factory=dict)
    stale: tuple[str, ...] = ()
    interrupted: bool = False
    stopped: str = ""

    @property
    def partial(self) -> bool:
        """Cells of the plan are missing."""
        return len(self.measurements) < self.planned

    @property
    def counts(self) -> dict[str, int]:
        """Cells per verdict."""
        found = Counter(row["verdict"] for row in self.measurements)
        missing = self.planned - len(self.measurements)
        if missing > 0:
            found["not run"] += missing
        return dict(sorted(found.items()))


def run(
    settings: Settings,
    plan: Plan,
    folder: Path,
    *,
    workers: int = 2,
    max_failures: int | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
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
        Called with every measurement.

    Raises
    ------
    conformance.record.RecordError
        If the record cannot be begun or written.
    """
    header = {
        "profile": settings.profile,
        "seed": settings.seed,
        "selection": {k: v for k, v in asdict(settings.selection).items() if v},
        "settings": json.loads(settings.to_json()),
        "environment": environment(POLICY_VERSION, _versions(), {"each framework": 1}),
        "coverage": {"planned": len(plan.cells), "left_out": _left_out(plan)},
        "deviations": _documented(),
    }
    with RecordWriter(folder, header) as writer:
        plugin = _Recorder(plan, writer, max_failures, progress)
        with _surroundings(settings):
            plugin.code = int(pytest.main(_arguments(workers), plugins=[plugin]))
        outcome = plugin.outcome()
        facts = {
            "controls": outcome.controls,
            "mutants": outcome.mutants,
            "stale": outcome.stale,
            "harness_errors": outcome.harness_errors,
            "interrupted": outcome.interrupted,
            "exit_code": outcome.exit_code,
        }
        if outcome.partial:
            writer.update(**facts)
        else:
            writer.finish(**facts)
    return outcome


def _versions() -> dict[str, str | None]:
    return {name: get_framework(name).installed_version() for name in FRAMEWORKS}


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
    if profile.name != "exhaustive":
        out.append(f"compiled modes in other dtypes than {', '.join(profile.compiled_dtypes)}")
        out.append(f"rows of more than {max(profile.lengths)} classes, except named ones")
    if profile.builtins_only:
        out.append("compositions of frameworks that have built-ins")
    return out


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
        writer: RecordWriter,
        max_failures: int | None,
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self.plan = plan
        self.writer = writer
        self.max_failures = max_failures
        self.progress = progress
        self.code = 0
        self.rows: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.shown: dict[str, dict[str, bool]] = {}
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
        self._keep(decoded(json.loads(text)), str(properties.get(WITNESSES, "{}")))

    # ------------------------------------------------------------ bookkeeping

    def _keep(self, row: dict[str, Any], witnesses: str) -> None:
        if self.write_error is not None:
            return
        try:
            self.writer.append(row)
        except CannotWrite as error:
            # pytest would bury an exception of a hook; stop, and raise it when pytest is done.
            self.write_error = error
            self._stop(str(error))
        self.rows.append(row)
        for entry, met in json.loads(witnesses).items():
            self.shown.setdefault(entry, {}).update(met)
        if self.progress is not None:
            self.progress(row)
        if row["role"] == "subject" and row["verdict"] in FAILING:
            self.failures += 1
            if self.max_failures is not None and self.failures >= self.max_failures:
                self._stop(f"stopped after {self.failures} failures")

    def _stop(self, why: str) -> NoReturn:
        """End the run now; pytest-xdist's own flags let workers finish what they hold."""
        self.stopped = why
        pytest.exit(why)

    def outcome(self) -> Outcome:
        """What all of it amounts to."""
        if self.write_error is not None:
            raise self.write_error
        interrupted = self.code == int(pytest.ExitCode.INTERRUPTED) and not self.stopped
        if self.code == int(pytest.ExitCode.INTERNAL_ERROR) and not self.errors:
            self.errors.append("pytest ended with an internal error")
        out = Outcome(
            measurements=self.rows,
            planned=len(self.plan.cells),
            harness_errors=self.errors,
            controls=self._controls(),
            mutants=self._mutants(),
            stale=deviations.stale(self.shown),
            interrupted=interrupted,
            stopped=self.stopped,
        )
        out.exit_code = exit_code(out)
        return out

    def _controls(self) -> dict[str, Any]:
        rows = [r for r in self.rows if r["role"] == "control" and r["verdict"] != "not installed"]
        return {"total": len(rows), "failed": [r["key"] for r in rows if r["verdict"] != "pass"]}

    def _mutants(self) -> dict[str, Any]:
        rows = [r for r in self.rows if r["role"] == "mutant" and r["verdict"] != "not installed"]
        missed = [
            r["implementation"]
            for r in rows
            if not caught(self.plan.registry[r["implementation"]], r)
        ]
        return {"total": len(rows), "missed": missed}


FAILING = ("fail", "error", "crash", "timeout")
"""Verdicts that make a subject's cell fail a run."""


def exit_code(outcome: Outcome) -> int:
    """The exit code of a run."""
    if outcome.interrupted:
        return INTERRUPTED
    broken: Sequence[Any] = (
        *outcome.harness_errors,
        *outcome.controls.get("failed", ()),
        *outcome.mutants.get("missed", ()),
    )
    if broken or (outcome.partial and not outcome.stopped):
        return BROKEN
    failing = any(
        row["role"] == "subject" and row["verdict"] in FAILING for row in outcome.measurements
    )
    return FAILS if failing or outcome.stale or outcome.stopped else CONFORMS
