"""The policy as data, and old records judged again."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic

from conformance import deviations, policy
from conformance.bench import Bench
from conformance.cli import call
from conformance.columns import decoded, plain
from conformance.policy import Policy, PolicyError
from conformance.record import Record, RecordWriter, read_record
from conformance.registry import load_builtin
from conformance.rejudge import rejudge
from conformance.settings import Settings
from reference.cases import FAMILIES
from reference.formats import FORMATS

F32 = FORMATS["float32"]
PRESENT = policy.load()
DATA = Path(__file__).parent / "data"
TEXT = 'version = 2\nratio = 2\nulp = 1.0\ndigits = 0.5\npassing = "C"\n'


def figures(**given: Any) -> dict[str, Any]:
    row = {"nan_mismatches": 0, "inf_mismatches": 0, "normwise": 1e-8, "max_ulp": 3.0,
           "ratio_weak": 0.5, "ratio_strong": 0.5}  # fmt: skip
    return row | given


# --- the rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "grade"),
    [
        ({"max_ulp": 0.99}, "A+"),
        ({"max_ulp": 1.0}, "A"),
        ({"ratio_strong": 1.01}, "A"),
        ({"ratio_strong": 1.02}, "B"),
        ({"ratio_weak": 1.02, "ratio_strong": 9.0}, "C"),
        ({"normwise": 2.0**-12}, "A"),
        ({"normwise": 2.0**-11}, "F"),
        ({"nan_mismatches": 1}, "F"),
        ({"inf_mismatches": 1}, "F"),
        ({"normwise": math.nan}, "F"),
        ({"ratio_weak": math.nan}, "C"),
    ],
)
def test_a_grade_follows_from_figures(given: dict[str, Any], grade: str) -> None:
    assert PRESENT.grade(F32, figures(**given)) == grade


@pytest.mark.parametrize(
    ("passing", "given", "breach"),
    [
        ("B", {"ratio_weak": 1.02}, True),
        ("C", {"ratio_weak": 1.02}, False),
        ("C", {"normwise": 0.5}, True),
        ("B", {"ratio_strong": 9.0}, False),
        ("A", {"ratio_strong": 9.0}, True),
        ("A", {"max_ulp": 0.5, "ratio_strong": 9.0}, False),
        ("A+", {"max_ulp": 1.5}, True),
        ("B", {"nan_mismatches": 3}, False),
    ],
)
def test_a_grade_that_does_not_pass_is_a_breach(
    passing: str, given: dict[str, Any], breach: bool
) -> None:
    rules = replace(PRESENT, passing=passing)
    assert rules.inaccurate(F32, figures(**given)) is breach


def test_the_verdict_is_the_worst_of_the_breaches() -> None:
    assert PRESENT.verdict("A", []) == "pass"
    assert PRESENT.verdict(None, []) == "pass"
    assert PRESENT.verdict("C", []) == "fail"
    assert PRESENT.verdict("A", ["leak"]) == "fail"
    assert PRESENT.verdict("A", ["error", "nan@finite"]) == "error"
    assert PRESENT.verdict("A", ["error", "timeout", "crash"]) == "crash"


# --- the file -------------------------------------------------------------------------------------


def test_the_policy_of_this_version_is_the_one_that_is_documented() -> None:
    assert Policy(1, 1.01, 1.0, 0.5, "B") == PRESENT
    assert PRESENT.passes == ("A+", "A", "B")
    contract = (Path(__file__).parents[1] / "docs" / "contract.md").read_text("utf-8")
    assert f"A test ratio up to {PRESENT.ratio} counts as within" in contract
    assert policy.from_row(json.loads(json.dumps(PRESENT.row()))) == PRESENT


def test_a_policy_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT)
    assert policy.read(path) == Policy(2, 2.0, 1.0, 0.5, "C")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("ratio = 2", "ratios = 2", "unknown key 'ratios' (known: version, ratio,"),
        ("ratio = 2\n", "", "the key ratio is missing"),
        ("ratio = 2", "ratio = 0", "ratio is above 0"),
        ("ratio = 2", "ratio = inf", "ratio is above 0"),
        ("ratio = 2", "ratio = nan", "ratio is above 0"),
        ("ratio = 2", "ratio = 1" + "0" * 400, "ratio is above 0"),
        ("ratio = 2", "ratio = true", "ratio is a number"),
        ("ratio = 2", 'ratio = "2"', "ratio is a number"),
        ("digits = 0.5", "digits = 1.5", "digits is above 0 and at most 1"),
        ("version = 2", "version = 0", "version is a whole number from 1"),
        ('passing = "C"', 'passing = "F"', "passing is one of A+, A, B, C"),
        ('passing = "C"', "passing = []", "passing is one of"),
        ("ulp = 1.0", "ulp = ", "is not TOML"),
        ("ratio = 2", "ratio = 1" + "0" * 5000, "is not TOML"),
        ("version = 2", "version = 0x1" + "0" * 20_000, "version is a whole number from 1"),
        ("ratio = 2", "ratio = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("ratio = 2", "ratio = 2 #" + "x" * 2_000_000, "longer than"),
        ("version = 2", "[version]", "the key ratio is missing"),
    ],
)
def test_a_policy_that_is_none_names_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, words: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(PolicyError) as caught:
        policy.read(path)
    assert words in str(caught.value)
    assert call(["judge", str(tmp_path), "--policy", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_policy_that_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "bytes"):
        assert call(["judge", str(tmp_path), "--policy", str(path)]) == 2
        assert "cannot read the policy" in capsys.readouterr().err


# --- judged again ---------------------------------------------------------------------------------


def record_of(*rows: dict[str, Any]) -> Record:
    return Record(run={"schema": 2}, measurements=[decoded(plain(r)) for r in rows], partial=False)


def told(found: Record, rules: Policy = PRESENT) -> list[tuple[Any, ...]]:
    """Verdict, grade and deviation of each row, judged again."""
    rows = rejudge(found, rules, deviations.load()).rows
    return [(r["verdict"], r["grade"], r["deviation"]) for r in rows]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record with passing and failing cells, controls and mutants, measured here."""
    from conformance.plan import make_plan
    from conformance.selection import Selection

    chosen = Selection(
        framework=("numpy",), op=("softmax",), dtype=("float32",), family=tuple(FAMILIES)
    )
    plan = make_plan(load_builtin(), selection=chosen)
    bench = Bench(plan)
    folder = tmp_path_factory.mktemp("measured") / "run"
    settings = Settings(selection=chosen)
    with RecordWriter(folder, {"policy": PRESENT.row(), "settings": settings.row()}) as writer:
        writer.extend([bench.measure(cell) for cell in plan.cells])
        writer.finish(exit_code=0)
    bench.close()
    return folder


def test_a_fresh_record_judged_again_comes_out_the_same(measured: Path) -> None:
    found = read_record(measured)
    again = rejudge(found, PRESENT, deviations.load())
    assert again.changes == []
    assert again.rows == found.measurements
    assert again.judged == len(found.measurements) > 30
    assert {r["verdict"] for r in found.measurements} == {"pass", "fail", "deviation"}


@pytest.mark.parametrize(
    "rules",
    [
        replace(PRESENT, ratio=0.2),
        replace(PRESENT, ratio=1e30, digits=1e-6, passing="C"),
        replace(PRESENT, passing="A+"),
        replace(PRESENT, digits=1.0),
        replace(PRESENT, ulp=100.0),
    ],
)
def test_judging_again_gives_what_measuring_under_these_rules_gives(
    measured: Path, rules: Policy
) -> None:
    from conformance.plan import make_plan
    from conformance.selection import Selection

    chosen = Selection(
        framework=("numpy",), op=("softmax",), dtype=("float32",), family=("realistic",)
    )
    plan = make_plan(load_builtin(), selection=chosen)
    bench = Bench(plan, rules=rules)
    judged = {r["key"]: r for r in rejudge(read_record(measured), rules, deviations.load()).rows}
    subjects = [c for c in plan.cells if plan.entry(c).role in ("subject", "mutant")]
    for cell in subjects:
        direct, again = decoded(plain(bench.measure(cell))), judged[cell.key]
        for column in ("verdict", "grade", "deviation"):
            assert direct[column] == again[column], cell.key
        kinds = [[(b["kind"], b["figure"]) for b in r["breaches"]] for r in (direct, again)]
        assert kinds[0] == kinds[1], cell.key
    bench.close()
    assert subjects


def test_other_thresholds_change_grades_and_verdicts() -> None:
    sound = synthetic.measurement(max_ulp=31.9, ratio_weak=0.4, ratio_strong=0.6)
    assert told(record_of(sound)) == [("pass", "A", None)]
    assert told(record_of(sound), replace(PRESENT, ratio=0.5)) == [("pass", "B", None)]
    assert told(record_of(sound), replace(PRESENT, ratio=0.3)) == [("fail", "C", None)]
    assert told(record_of(sound), replace(PRESENT, ratio=0.3, passing="C")) == [("pass", "C", None)]
    assert told(record_of(sound), replace(PRESENT, ulp=32.0)) == [("pass", "A+", None)]
    assert told(record_of(sound), replace(PRESENT, digits=1.0)) == [("pass", "A", None)]


def test_a_breach_that_is_a_fact_stays_under_every_policy() -> None:
    lax = replace(PRESENT, ratio=1e9, digits=1e-9, passing="C")
    leak = {"kind": "leak", "case_id": "c", "detail": "cwd", "figure": 1.0}
    crash = {"kind": "crash", "case_id": "c", "detail": "signal", "figure": 1.0}
    rows = [
        synthetic.measurement(family="a", verdict="fail", grade="F", breaches=[leak]),
        synthetic.measurement(family="b", verdict="crash", grade="F", breaches=[crash, leak]),
        synthetic.measurement(family="c", verdict="fail", grade="F", nan_mismatches=2,
                              breaches=[leak | {"kind": "nan@finite"}]),
        synthetic.measurement(family="d", verdict="unsupported", grade=None, cases=None),
        synthetic.measurement(family="e", verdict="timeout", grade=None, cases=None, max_ulp=None,
                              breaches=[crash | {"kind": "timeout"}]),
    ]  # fmt: skip
    expected = ["fail", "crash", "fail", "unsupported", "timeout"]
    for rules in (PRESENT, lax):
        assert [verdict for verdict, _, _ in told(record_of(*rows), rules)] == expected


def test_the_present_registry_of_deviations_is_asked() -> None:
    nan = {"kind": "nan@one_plus_inf", "case_id": "c", "detail": "3 elements", "figure": 3.0}
    row = synthetic.measurement(
        concern="special_values", family="infinity_lattice", verdict="fail", grade="F",
        nan_mismatches=3, breaches=[nan],
    )  # fmt: skip
    assert told(record_of(row)) == [("deviation", "F", "torch-plus-inf")]
    other = row | {
        "framework_version": "3.0",
        "deviation": "torch-plus-inf",
        "verdict": "deviation",
    }
    assert told(record_of(other)) == [("fail", "F", None)]
    mutant = row | {"role": "mutant"}
    assert told(record_of(mutant)) == [("fail", "F", None)]


def test_what_cannot_be_judged_keeps_its_verdict_and_is_named() -> None:
    found = rejudge(
        record_of(
            synthetic.measurement(family="a", normwise=None, verdict="deviation", deviation="d"),
            synthetic.measurement(family="b", dtype="float7"),
        ),
        PRESENT,
        deviations.load(),
    )
    assert found.judged == 0
    assert list(found.kept.values()) == [
        "the figure normwise is missing", "the dtype float7 is unknown"
    ]  # fmt: skip
    assert found.rows[0]["verdict"] == "deviation"


# --- the command ----------------------------------------------------------------------------------


def test_the_command_shows_what_changes(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in measured.iterdir()}
    assert call(["judge", str(measured)]) == 0
    shown = capsys.readouterr().out
    assert "policy 1, as recorded" in shown
    assert " 0 changed; exit code: 0 -> 0" in shown
    path = tmp_path / "strict.toml"
    path.write_text(TEXT.replace("ratio = 2", "ratio = 0.1").replace('"C"', '"A"'))
    assert call(["judge", str(measured), "--policy", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "policy 1 -> 2 (ratio 1.01 -> 0.1, passing B -> A)" in shown
    line = "accuracy/conformance.numpy.softmax/value/-/float32/eager/cpu/default/realistic"
    assert f"pass A -> fail C: {line}" in shown
    assert call(["judge", str(measured), "--policy", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (change,) = [c for c in document["changed"] if c["key"] == line]
    assert change["before"]["verdict"] == "pass"
    assert change["after"] == {"verdict": "fail", "grade": "C", "deviation": None}
    assert document["counts"]["applied"]["fail"] > document["counts"]["recorded"]["fail"]
    assert document["exit_code"]["applied"] in (1, 3)
    assert {path.name: path.read_bytes() for path in measured.iterdir()} == before


def test_hostile_text_of_a_record_does_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<script>\x1b[31m\x00\u202e\n../x" + "y" * 10_000
    row = synthetic.measurement(key=evil, implementation=evil, deviation=evil, grade="F",
                                verdict="deviation", worst_case=evil, dtype="float32")  # fmt: skip
    run = {"policy": PRESENT.row() | {"passing": evil}, "profile": evil}
    with RecordWriter(tmp_path / "run", run) as writer:
        writer.append(row)
        evidence = {evil: {evil: {"ratio": 0.1, "normwise": 0.0, "broken": 0}}}
        writer.append(row | {"key": evil + "2", "dtype": evil, "witnesses": evidence})
        writer.append(row | {"key": evil + "3", "witnesses": {evil + "3": evidence[evil]}})
        writer.finish()
    assert call(["judge", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "2 changed" in shown
    assert "stale" not in shown, "which entries there are is not for a record to say"
    assert all(line.isprintable() and len(line) < 500 for line in shown.splitlines())


# --- older records --------------------------------------------------------------------------------


def test_a_record_of_schema_1_is_read_judged_as_far_as_it_goes_and_not_resumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = DATA / "record-schema-1"
    found = read_record(folder)
    assert found.run["schema"] == 1
    assert not found.partial
    assert [r["verdict"] for r in found.measurements] == ["pass", "fail", "pass"]
    assert {r["normwise"] for r in found.measurements} == {None}
    assert call(["judge", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "the record does not hold the one it was judged by" in shown
    assert "3 cells keep their verdict: the figure normwise is missing" in shown
    assert "exit code: 0 -> 0" in shown, "the mutant counts as caught"
    assert call(["run", "--resume", str(folder), "--retry", "pass"]) == 2
    assert "has schema 1, runs now write 2" in capsys.readouterr().err
