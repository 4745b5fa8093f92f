"""How much ran: counts that add up, what was never planned and why, and the floor."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from commandline import SMALL, conformance

from conformance import coverage
from conformance.columns import VERDICTS, decoded, plain
from conformance.outcome import outcome
from conformance.plan import Plan, make_plan
from conformance.policy import load
from conformance.profiles import PROFILES
from conformance.record import Record, read_record
from conformance.registry import implementation, isolated_registry, load_builtin
from conformance.report import write_report
from conformance.report.extent import extent
from conformance.selection import Selection

PARTS = ("run", "unsupported", "not_installed", "not_run")
ROWS = [decoded(plain(row)) for row in synthetic.measurements(missing=("jax",))]


@pytest.fixture(scope="module", params=tuple(PROFILES))
def plan(request: pytest.FixtureRequest) -> Plan:
    return make_plan(load_builtin(), profile=request.param)


# --- the table ------------------------------------------------------------------------------------


def test_a_plan_is_counted_whole_and_not_run(plan: Plan) -> None:
    items = coverage.planned(plan)
    assert sum(i["planned"] for i in items) == len(plan.cells)
    assert all(i["planned"] == i["not_run"] > 0 for i in items)
    assert len({tuple(i[n] for n in coverage.GROUP) for i in items}) == len(items)


def test_every_cell_is_counted_once_by_what_became_of_it() -> None:
    items = coverage.table((), ROWS)
    for item in items:
        assert item["planned"] == sum(item[name] for name in PARTS)
        assert item["run"] >= item["deviating"] + item["failed"]
    total = {name: sum(i[name] for i in items) for name in coverage.COUNTS}
    verdicts = {v: sum(r["verdict"] == v for r in ROWS) for v in VERDICTS}
    assert total["planned"] == len(ROWS)
    assert total["unsupported"] == verdicts["unsupported"] > 0
    assert total["not_installed"] == verdicts["not installed"] > 0
    assert total["deviating"] == verdicts["deviation"] > 0
    assert total["failed"] == verdicts["fail"] > 0
    assert total["run"] == verdicts["pass"] + verdicts["deviation"] + verdicts["fail"]


def test_what_was_planned_and_has_no_row_was_not_run() -> None:
    whole = coverage.table((), ROWS)
    part = coverage.table(whole, ROWS[::3])
    assert sum(i["planned"] for i in part) == len(ROWS)
    assert sum(i["not_run"] for i in part) == len(ROWS) - len(ROWS[::3])
    for item in part:
        assert item["planned"] == sum(item[name] for name in PARTS)


def test_tables_of_shards_add_up_to_that_of_the_whole() -> None:
    parts = [coverage.table((), ROWS[k::3]) for k in range(3)]
    assert coverage.table([i for p in parts for i in p], ROWS) == coverage.table((), ROWS)


# --- never planned --------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[dict[str, Any]]:
    """A NumPy softmax that brings no derivative, and one that has only float32."""
    with isolated_registry():

        @implementation(op="softmax", framework="numpy", name="mine.value_only")
        def value_only(x: Any, *, axis: int) -> Any:
            return x

        @implementation(op="softmax", framework="torch", name="mine.one", dtypes=("float32",))
        def one(x: Any, *, axis: int) -> Any:
            return x

        from conformance.registry import registered

        yield {name: registered()[name] for name in ("mine.value_only", "mine.one")}


def test_a_derivative_that_nobody_brings_is_named_with_its_reason(own: dict[str, Any]) -> None:
    found = coverage.declared(make_plan(own, profile="standard"))
    (vjp,) = (i for i in found if (i["implementation"], i["derivative"])
              == ("mine.value_only", "vjp"))  # fmt: skip
    assert vjp["reason"] == "mine.value_only brings no vjp, and numpy cannot take one"
    assert (vjp["framework"], vjp["op"], vjp["arguments"]) == ("numpy", "softmax", ["x"])
    assert vjp["dtypes"] == ["float64", "float32", "bfloat16", "float16"]
    assert {i["derivative"] for i in found if i["implementation"] == "mine.value_only"} == {
        "vjp", "jvp", "hvp"
    }  # fmt: skip
    dtypes = {d for i in found if i["implementation"] == "mine.one" for d in i["dtypes"]}
    assert dtypes == {"float64", "bfloat16", "float16"}


def test_what_a_selection_excludes_is_not_called_unsupported(own: dict[str, Any]) -> None:
    for selection in (Selection(derivative=("value",)), Selection(framework=("torch",))):
        plan = make_plan(own, profile="standard", selection=selection)
        assert not any(i["implementation"] == "mine.value_only" for i in coverage.declared(plan))
    chosen = make_plan(own, profile="standard", selection=Selection(dtype=("float32",)))
    assert {d for i in coverage.declared(chosen) for d in i["dtypes"]} == {"float32"}


def test_planned_and_declared_never_name_the_same(plan: Plan) -> None:
    cells = {(c.implementation, c.derivative, c.argument, c.dtype, c.mode) for c in plan.cells}
    declared = {
        (i["implementation"], i["derivative"], argument, dtype, mode)
        for i in coverage.declared(plan)
        if len(i["modes"]) == len(i["dtypes"]) == len(i["arguments"]) == 1
        for argument in i["arguments"]
        for dtype in i["dtypes"]
        for mode in i["modes"]
    }
    assert not cells & declared


# --- the floor ------------------------------------------------------------------------------------


def table(**changes: int) -> list[dict[str, Any]]:
    """A table of two frameworks."""
    items = coverage.table((), [r for r in ROWS if r["framework"] in ("torch", "numpy")])
    for item in items:
        item.update(changes)
    return items


@pytest.fixture
def floor(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The floor that this table just meets."""
    made = tomllib.loads(coverage.floor_text([("quick", table())]))
    monkeypatch.setattr(coverage, "floors", lambda: made)
    return made


def test_a_run_that_just_meets_the_floor_is_not_below_it(floor: dict[str, Any]) -> None:
    assert set(floor["quick"]) == {"torch", "numpy"}
    assert floor["quick"]["torch"]["subjects"]["softmax"] == ["value", "vjp"]
    assert coverage.below("quick", table()) == []


def test_one_cell_less_is_below(floor: dict[str, Any]) -> None:
    items = table()
    ran = next(i for i in items if i["framework"] == "torch" and i["run"] > 1)
    ran["run"] -= 1
    ran["unsupported"] += 1
    least = floor["quick"]["torch"]["cells"]
    assert coverage.below("quick", items) == [
        f"torch: {least - 1} cells ran, the floor of quick is {least}"
    ]


def test_an_op_that_lost_a_derivative_is_named_whatever_else_ran(floor: dict[str, Any]) -> None:
    items = [
        i
        for i in table(run=1000)
        if (i["framework"], i["op"], i["derivative"]) != ("numpy", "softmax", "vjp")
    ]
    assert coverage.below("quick", items) == ["numpy: no subject of softmax ran in vjp"]


RUN: dict[str, Any] = {"profile": "quick", "selection": {}, "shard": None}


@pytest.mark.parametrize(
    ("run", "changes", "words"),
    [
        ({"selection": {"op": ["softmax"]}}, {}, "a selection was run"),
        ({"shard": {"index": 1, "count": 2}}, {}, "a shard was run"),
        ({"profile": "mine"}, {}, "profile mine has no floor"),
        ({}, {"not_installed": 1}, "not all is installed: numpy, torch"),
        ({}, {"not_run": 1}, "the record is partial"),
    ],
)
def test_a_run_that_is_not_whole_says_why_it_is_not_held_to_it(
    floor: dict[str, Any], run: dict[str, Any], changes: dict[str, int], words: str
) -> None:
    assert coverage.unchecked(RUN, table()) == ""
    assert words in coverage.unchecked(RUN | run, table(**changes))


def ended(run: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
    return outcome(rows, len(rows), load(), run=run)


def test_a_whole_run_below_the_floor_breaks_the_instrument(floor: dict[str, Any]) -> None:
    good = [r for r in ROWS if r["framework"] in ("torch", "numpy")
            and r["verdict"] != "fail"]  # fmt: skip
    items = coverage.table((), good)
    run = RUN | {"coverage": {"planned": len(good), "table": items}}
    floor["quick"]["torch"]["cells"] = sum(i["run"] for i in items if i["framework"] == "torch")
    floor["quick"]["numpy"]["cells"] = sum(i["run"] for i in items if i["framework"] == "numpy")
    assert (ended(run, good).below, ended(run, good).exit_code) == ([], 0)
    floor["quick"]["numpy"]["cells"] += 1
    short = ended(run, good)
    assert short.exit_code == 3
    assert short.below == short.facts()["coverage"]["floor"]["below"]
    assert short.below[0].startswith("numpy: ")
    selected = ended(run | {"selection": {"op": ["softmax"]}}, good)
    assert (selected.exit_code, selected.below) == (0, [])
    assert selected.facts()["coverage"]["floor"]["unchecked"] == "a selection was run"


def test_the_committed_floor_can_be_met_by_its_plan() -> None:
    for profile, frameworks in coverage.floors().items():
        items = coverage.planned(make_plan(load_builtin(), profile=profile))
        for item in items:
            item["run"] = item["planned"]
        assert coverage.below(profile, items) == []
        assert set(frameworks) == {i["framework"] for i in items}


def test_the_floor_is_printed_from_records_and_what_has_none_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coverage.main([]) == 0
    assert tomllib.loads(capsys.readouterr().out) == coverage.floors()
    from conformance import record

    whole = [r for r in ROWS if r["framework"] == "torch"]
    run = RUN | {"coverage": {"planned": len(whole), "table": []}, "profile": "exhaustive"}
    monkeypatch.setattr(record, "read_record", lambda _: Record(run, whole, False))
    assert coverage.main(["somewhere"]) == 0
    printed = tomllib.loads(capsys.readouterr().out)
    assert printed["quick"] == coverage.floors()["quick"]
    ran = sum(r["verdict"] not in ("unsupported", "not installed") for r in whole)
    assert printed["exhaustive"]["torch"]["cells"] == ran
    monkeypatch.setattr(record, "read_record", lambda _: Record(run, whole, True))
    assert coverage.main(["somewhere"]) == 2
    assert "the record is partial" in capsys.readouterr().err


# --- where it is shown ----------------------------------------------------------------------------


def test_a_run_tells_its_coverage_in_its_document_and_its_record(tmp_path: Path) -> None:
    result = conformance("run", *SMALL, "--json", "--out", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    told = document["coverage"]
    assert sum(i["planned"] for i in told["table"]) == told["planned"] == told["measured"]
    assert sum(i["run"] for i in told["table"]) == len(document["cells"])
    assert told["floor"] == {"unchecked": "a selection was run", "below": []}
    assert "derivatives jvp and hvp" in told["left_out"]
    recorded = read_record(tmp_path / "run").run["coverage"]
    assert {k: v for k, v in told.items() if k != "measured"} == recorded


def test_a_dry_run_tells_what_it_would_cover() -> None:
    result = conformance("run", *SMALL, "--dry-run", "--json")
    document = json.loads(result.stdout)
    assert sum(i["planned"] for i in document["coverage"]["table"]) == len(document["cells"])
    assert document["coverage"]["declared"] == []


def test_the_report_shows_op_by_framework_and_what_was_never_planned(tmp_path: Path) -> None:
    found = Record(run=synthetic.run(len(ROWS)), measurements=ROWS, partial=False)
    told = {
        "framework": "numpy", "op": "softmax", "implementation": "mine.softmax",
        "derivative": "hvp", "reason": "brings no <hvp>", "arguments": ["x.x"],
        "dtypes": ["float32"], "modes": ["eager"],
    }  # fmt: skip
    covered = found.run["coverage"] | {
        "declared": [told],
        "floor": {"unchecked": "", "below": ["numpy: 1 cells ran"]},
    }
    found = replace(found, run=found.run | {"coverage": covered})
    shown = extent(covered, ROWS)
    assert shown.frameworks == ["numpy", "torch", "tensorflow", "jax"]
    by_op = dict(shown.lines)
    numpy, torch, _, jax = by_op["softmax"]
    assert [(p.derivative, p.none) for p in numpy] == [
        ("value", ""), ("vjp", ""), ("hvp", "unsupported by declaration")
    ]  # fmt: skip
    assert torch[2].none == "no implementation"
    assert jax[0].run == 0
    assert jax[0].notes == [f"{jax[0].planned} not installed"]
    for parts in (torch[0].dtypes, torch[0].modes):
        assert sum(run for _, run, _ in parts) == torch[0].run
        assert sum(planned for _, _, planned in parts) == torch[0].planned
    page = write_report([found], tmp_path).read_text("utf-8")
    text = (tmp_path / "report.md").read_text("utf-8")
    for source in (page, text):
        assert f"value {torch[0].run}/{torch[0].planned}" in source
        assert "brings no &lt;hvp&gt;" in source
        assert "hvp: unsupported by declaration" in source
        assert "numpy: 1 cells ran" in source


@pytest.mark.parametrize(
    "told", [None, 3, {"table": 3}, {"table": [1, {}]}, {"declared": [{"op": 3}], "table": None}]
)
def test_odd_coverage_of_a_record_shows_what_its_rows_tell(told: Any) -> None:
    assert extent(told, ROWS) == extent({}, ROWS)
