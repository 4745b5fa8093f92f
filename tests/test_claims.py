"""`conformance claims`: gaps are found, trajectories certified, verdicts compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance.claims import expected, measure, trajectory
from conformance.claims.article import (
    CLAIMS,
    PRINTED_MEAN_LOSS,
    PRINTED_SOFTMAX,
    implementation_names,
)
from conformance.claims.ask import Ask, Unanswered
from conformance.claims.collect import Findings, collect
from conformance.claims.expected import Expectation, ExpectationError, changes
from conformance.claims.gaps import Ladder, digits, first_gap, thresholds
from conformance.claims.measure import ChildFailed
from conformance.claims.problem import SCALES, STEPS, Problem, problem
from conformance.claims.programs import exact_mean, exact_softmax, printed
from conformance.claims.progress import Progress, Stopped
from conformance.claims.properties import usual_rows
from conformance.claims.terminal import lines
from conformance.claims.training import outcome
from conformance.claims.trajectory import Trajectory, Uncertified, agreement, certified, run
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, HOLDS_WITHIN, NOT_MEASURED, Item
from conformance.cli import call
from conformance.execution.executor import Executor
from conformance.plan import make_plan
from conformance.registry import FRAMEWORKS, load_builtin
from reference import formats

ROOT = Path(__file__).resolve().parent.parent
F32 = formats.get("float32")


@pytest.fixture(scope="module")
def numpy_executor() -> Iterator[Executor]:
    with Executor("numpy") as executor:
        yield executor


# --- gaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_a_threshold_is_closed_in_on(dtype: str) -> None:
    fmt = formats.get(dtype)
    found = first_gap(fmt, lambda gaps: gaps >= 87.3365)
    assert found is not None
    assert found.good < 87.3365 <= found.bad
    neighbours = float(formats.step(fmt, np.array(found.good), 1)) == found.bad
    assert neighbours or found.bad - found.good <= 2.0**-20 * found.bad


def test_nothing_bad_is_no_gap_and_everything_bad_starts_at_0() -> None:
    assert first_gap(F32, lambda gaps: np.zeros(len(gaps), bool)) is None
    found = first_gap(F32, lambda gaps: np.ones(len(gaps), bool))
    assert found is not None
    assert found.good == 0


def test_every_question_has_the_same_height() -> None:
    heights = set()

    def bad(gaps: Any) -> Any:
        heights.add(gaps.shape)
        return gaps > 20

    first_gap(F32, bad)
    assert heights == {(256,)}


def test_digits_of_the_formats() -> None:
    names = ("float64", "float32", "float16", "bfloat16")
    assert [digits(formats.get(name)) for name in names] == [15, 6, 3, 2]
    assert thresholds(F32) == {"digit": 1e-5, "half": 1e-3, "all": 1.0}


def test_the_hand_written_loss_ends_where_its_softmax_underflows(numpy_executor: Executor) -> None:
    ladder = Ladder(Ask(numpy_executor, "eager", "float32"))
    gap = ladder.not_finite("manual", "losing")
    assert gap is not None
    # exp(-g) rounds to 0 below half of the smallest subnormal, 2^-150.
    assert gap.good <= 150 * math.log(2) <= gap.bad
    at = np.array([gap.good, gap.bad])
    assert np.isfinite(ladder.value("manual", at, "losing")).tolist() == [True, False]
    lost = ladder.lost("manual", "losing")
    found = [lost[name].bad for name in ("digit", "half", "all") if lost[name] is not None]  # type: ignore[union-attr]
    assert len(found) == 3
    # Subnormal probabilities have few bits: digits go between 2^-126 and 2^-150.
    assert 126 * math.log(2) < found[0] < found[1] < found[2] <= gap.bad
    assert ladder.lost("builtin", "losing") == {"digit": None, "half": None, "all": None}
    assert ladder.not_finite("builtin", "losing") is None
    assert ladder.gradient_not_finite("builtin", "losing") is None


def test_the_clipped_loss_is_wrong_where_the_clip_begins(numpy_executor: Executor) -> None:
    lost = Ladder(Ask(numpy_executor, "eager", "float64")).lost("clipped", "losing")["digit"]
    assert lost is not None
    assert lost.good <= -math.log(1e-7) + 1e-6 <= lost.bad + 1e-3


def test_an_answer_that_fails_is_not_measured_and_hides_no_other_claim() -> None:
    ask = Ask.__new__(Ask)
    ask.framework, ask.mode, ask.dtype = "torch", "eager", "float32"
    done = Item("logits", "torch", "eager", "float32", HOLDS)

    def judge() -> Iterator[Item]:
        yield done
        raise Unanswered("it crashed")

    found = list(measure._guarded(ask, ("logits", "order"), judge))
    assert [(i.claim, i.verdict) for i in found] == [("logits", HOLDS), ("order", NOT_MEASURED)]
    assert "it crashed" in found[1].counter_example


@pytest.mark.parametrize("part", ["manual", "clipped"])
@pytest.mark.parametrize("argument", ["x", "target"])
def test_by_hand_is_the_same_function_where_nothing_underflows(part: str, argument: str) -> None:
    names, entries = implementation_names("numpy"), load_builtin()
    x, target = usual_rows(formats.get("float64"), 3), np.eye(3)[np.arange(256) % 3]
    g = np.linspace(0.5, 2, 256)
    gradients = []
    for name in (names["builtin"], names[part]):
        vjp = entries[name].vjp
        assert vjp is not None
        gradients.append(vjp(g, x, target, axis=-1)[argument])
    assert np.allclose(*gradients, rtol=1e-9, atol=1e-12)


# --- the article's numbers ------------------------------------------------------------------------


def test_the_printed_digits_are_those_of_the_exact_answer() -> None:
    rounded = [f"{float(text):.8f}".rstrip("0") for text in exact_softmax()]
    assert tuple(rounded) == PRINTED_SOFTMAX
    assert f"{float(exact_mean()):.6f}" == PRINTED_MEAN_LOSS


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_numbers_are_printed_as_numpy_prints_them(dtype: str) -> None:
    fmt = formats.get(dtype)
    for value in (0.1, 0.20566600330640592, 0.37474789122577884, 0.25):
        array = np.array([value], fmt.dtype)
        assert f"[{printed(fmt, float(array[0]))}]" == str(array)


NO_JOB: dict[str, Any] = {"programs": [], "training": [], "operations": []}


# --- training -------------------------------------------------------------------------------------


def test_the_problem_is_the_same_at_every_scale_but_for_the_inputs() -> None:
    one, ten = problem(1), problem(10)
    assert np.array_equal(ten.inputs, np.float32(10) * one.inputs)
    assert np.array_equal(ten.labels, one.labels)
    assert np.array_equal(ten.weights, one.weights)
    assert set(one.labels.sum(axis=1)) == {1}


def test_a_trajectory_is_certified_by_two_precisions() -> None:
    found = certified(1)
    assert found.digits >= trajectory.DIGITS
    assert found.bits == (160, 320)
    assert len(found.loss) == STEPS
    assert found.loss[-1] < found.loss[0]


def test_the_first_loss_is_the_textbook_s() -> None:
    data = problem(100)
    losses, _ = run(small(data), 100)
    logits = data.inputs[:4].astype(np.float64) @ data.weights.astype(np.float64)
    right = np.log(np.exp(logits).sum(axis=1)) - logits[data.labels[:4] == 1]
    assert float(losses[0]) == pytest.approx(right.mean(), rel=1e-13)


def small(data: Problem) -> Problem:
    return replace(data, inputs=data.inputs[:4], labels=data.labels[:4])


def test_precisions_that_disagree_certify_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trajectory, "_BITS", 30)
    monkeypatch.setattr(trajectory, "_MOST_BITS", 60)
    monkeypatch.setattr(trajectory, "problem", lambda scale: small(problem(scale)))
    with pytest.raises(Uncertified, match="17 are needed"):
        trajectory._certified.__wrapped__(10)
    coarse, fine = run(small(problem(10)), 30)[0], run(small(problem(10)), 60)[0]
    assert 2 < agreement(coarse, fine) < 10


def curve(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "loss": [3.0, 2.0, 1.0],
        "gap": [10.0, 20.0, 30.0],
        "moved": [True] * 3,
        "finite": [True] * 3,
        "accuracy": 1.0,
    }
    return plain | changes


EXACT = Trajectory((3.0, 2.0, 1.0), 1.0, (160, 320), 40.0)


@pytest.mark.parametrize(
    ("changes", "kind", "step", "leaves"),
    [
        ({}, "trains", None, None),
        ({"loss": [3.0, 2.0, 1.1]}, "trains", None, 3),
        ({"loss": [3.0, math.nan, math.nan], "finite": [True, False, False], "accuracy": 0.0},
         "NaN", 2, 2),
        ({"moved": [True, True, False], "accuracy": 0.5}, "stalls", 3, None),
        ({"moved": [True, True, False]}, "trains", None, None),
        ({"accuracy": 0.96875}, "behind", None, None),
    ],
)  # fmt: skip
def test_outcomes(changes: dict[str, Any], kind: str, step: int | None, leaves: int | None) -> None:
    found = outcome(curve(**changes), EXACT)
    assert (found.kind, found.step, found.leaves) == (kind, step, leaves)


def test_the_child_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "DEADLINE", 0.01)
    with pytest.raises(ChildFailed, match=r"no answer within 0\.01 s"):
        measure._run_child("numpy", "default", NO_JOB, Progress(print))


def test_the_child_that_fails_says_why() -> None:
    with pytest.raises(ChildFailed, match="KeyError"):
        measure._run_child("numpy", "default", {}, Progress(print))


def test_a_child_that_nobody_waits_for_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_LOOK", 0.01)
    progress = Progress(print)
    progress.stop()
    with pytest.raises(Stopped):
        measure._run_child("numpy", "default", NO_JOB, progress)


def test_the_first_failure_is_the_one_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(framework: str, progress: Progress) -> list[Item]:
        raise ChildFailed(f"{framework} failed")

    def stops(framework: str, progress: Progress, *, timing: bool) -> list[Item]:
        while True:
            progress.check()

    monkeypatch.setattr("conformance.claims.collect.measure_programs", fails)
    monkeypatch.setattr("conformance.claims.collect.measure_ops", stops)
    with pytest.raises(ChildFailed, match="numpy failed"):
        collect(["numpy"], lambda text: None)


# --- expectations ---------------------------------------------------------------------------------

KEY = ("identical", "numpy", "eager", "float32")
HERE = {"numpy": expected.installed("numpy")}


def item(verdict: str = HOLDS_WITHIN, limit: float | None = 87.3, **rest: Any) -> Item:
    return Item(*KEY, verdict, limit=limit, **rest)


def test_the_committed_verdict_is_no_change() -> None:
    assert changes([item()], Expectation(HERE, {KEY: (HOLDS_WITHIN, 87.3)})) == []
    assert changes([item(limit=88.0)], Expectation(HERE, {KEY: (HOLDS_WITHIN, 87.3)})) == []


@pytest.mark.parametrize(
    "wanted", [(HOLDS, 87.3), (HOLDS_WITHIN, None), (HOLDS_WITHIN, 104.0), (DOES_NOT_HOLD, None)]
)
def test_another_verdict_or_range_is_a_change(wanted: tuple[str, float | None]) -> None:
    (found,) = changes([item()], Expectation(HERE, {KEY: wanted}))
    assert found.found == "holds within (87.3)"
    assert found.expected is not None
    assert found.expected.startswith(wanted[0])


def test_what_appears_and_what_vanishes_is_a_change() -> None:
    gone = ("order", "numpy", "eager", "float64")
    found = changes([item()], Expectation(HERE, {gone: (HOLDS, None)}))
    assert {(c.claim, c.expected, c.found) for c in found} == {
        ("identical", None, "holds within (87.3)"),
        ("order", HOLDS, None),
    }


def test_other_versions_and_times_are_not_compared() -> None:
    other = Expectation({"numpy": {"numpy": "1.0"}}, {KEY: (HOLDS, None)})
    assert changes([item()], other) == []
    assert other.other_versions("numpy") == {"numpy": ("1.0", HERE["numpy"]["numpy"])}
    timed = Item("faster", "numpy", "eager", "float32", HOLDS)
    assert changes([timed], Expectation(HERE, {})) == []


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "expected.toml"
    expected.write([item(), Item("order", "numpy", "eager", "float16", HOLDS)], path)
    found = expected.read(path)
    assert found.versions == HERE
    assert found.verdicts == {
        KEY: (HOLDS_WITHIN, 87.3),
        ("order", "numpy", "eager", "float16"): (HOLDS, None),
    }


@pytest.mark.parametrize(
    "text",
    [
        "x =",
        '[verdicts.nonsense]\n"a b c" = ["holds"]',
        '[verdicts.order]\n"a b" = ["holds"]',
        '[verdicts.order]\n"a b c" = ["perhaps"]',
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "expected.toml"
    path.write_text(text)
    with pytest.raises(ExpectationError):
        expected.read(path)


def test_the_committed_file_is_for_the_pinned_versions_and_every_claim() -> None:
    committed = expected.read()
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert set(committed.versions) == set(FRAMEWORKS)
    for libraries in committed.versions.values():
        for name, version in libraries.items():
            assert pinned[name.replace("_", "-")] == version
    compared = {c.name for c in CLAIMS.values() if c.compared}
    assert {key[0] for key in committed.verdicts} == compared
    assert not any(verdict == NOT_MEASURED for verdict, _ in committed.verdicts.values())


def test_the_hand_written_loss_fails_where_the_built_in_trains_in_every_framework() -> None:
    committed = expected.read().verdicts
    for framework in FRAMEWORKS:
        modes = [k[2] for k in committed if k[:2] == ("training", framework)]
        assert modes
        for mode in modes:
            trains = committed["training", framework, mode, "float32"]
            fails = committed["training-fails", framework, mode, "float32"]
            assert trains == (HOLDS, float(SCALES[-1]))
            assert fails[0] == HOLDS


# --- the command ----------------------------------------------------------------------------------


def test_the_claims_of_numpy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call(["claims", "--framework", "numpy", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["changes"], document["exit_code"]) == (1, [], 0)
    assert list(document["versions"]) == ["numpy"]
    by_key = {(i["claim"], i["dtype"]): i for i in document["items"]}
    assert by_key["printed-softmax", "float64"]["verdict"] == HOLDS
    assert by_key["printed-softmax", "float32"]["verdict"] == DOES_NOT_HOLD
    assert by_key["training-fails", "float32"]["figures"]["runs"]["100"]["outcome"] == "NaN"
    assert by_key["training", "float32"]["figures"]["runs"]["100"]["outcome"] == "trains"
    for scale in SCALES:
        assert document["trajectories"][str(scale)]["digits_agreed"] >= trajectory.DIGITS


@pytest.mark.parametrize("name", ["nump", "pytorch"])
def test_an_unknown_framework_is_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["claims", "--framework", name]) == 2
    assert f"unknown framework '{name}'" in capsys.readouterr().err


def test_a_missing_framework_is_named_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.claims.collect.installed_version", lambda name: None)
    found = collect(["jax"], lambda text: None)
    assert (found.not_installed, found.exit_code, found.items) == (["jax"], 0, [])
    assert "jax: not installed" in list(lines(found))


def test_a_change_is_exit_code_1_and_told() -> None:
    found = changes([item()], Expectation(HERE, {KEY: (HOLDS, None)}))
    findings = Findings([item()], found, HERE, {}, [])
    assert findings.exit_code == 1
    text = "\n".join(lines(findings))
    assert "changed: identical / numpy eager float32" in text
    assert "expected holds, found holds within (87.3)" in text


def test_a_line_fits_a_terminal_and_keeps_no_escape() -> None:
    long = item(
        short="gap < 87.3" + "\x1b[31m" * 3,
        counter_example="\x1b[31m" + "word " * 100,
        more={"A title that is longer than a line " * 4: "1/2/3"},
    )
    found = Findings(
        [long, replace(long, mode="graph"), replace(long, mode="session", short="never")],
        [], {"numpy": HERE["numpy"]}, {"numpy": {"numpy": ("1", None)}}, [],
    )  # fmt: skip
    printed_lines = list(lines(found))
    assert max(map(len, printed_lines)) <= 80
    assert not any("\x1b" in line for line in printed_lines)
    assert any(line.strip().startswith("numpy eager, graph ") for line in printed_lines)


# --- in the suite ---------------------------------------------------------------------------------


def test_antipatterns_and_sessions_stay_out_of_the_quick_profile() -> None:
    quick = make_plan(load_builtin(), profile="quick")
    assert not any(quick.entry(cell).role == "antipattern" for cell in quick.cells)
    sessions = {cell.implementation for cell in quick.cells if cell.mode == "session"}
    assert sessions == {"tensorflow.nn.softmax", "keras.ops.softmax"}
    standard = make_plan(load_builtin(), profile="standard")
    shown = {quick.registry[c.implementation].framework for c in standard.cells
             if standard.entry(c).role == "antipattern"}  # fmt: skip
    assert shown == set(FRAMEWORKS)
