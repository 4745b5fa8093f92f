"""What a run makes of each entry, with implementations that are made for it.

Measured on the bench, and at the end by ``conformance run`` itself, in a copy of the package that
has these implementations and entries alone: only there a run of everything takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from made_entries import (
    ELSEWHERE,
    EVERYTHING,
    NO_CELL,
    NO_WITNESS,
    OTHER_VERSION,
    PLUGIN,
    SMALL,
    conformance,
    entry,
    package,
)

from conformance import policy
from conformance.bench import Bench
from conformance.deviations import parse
from conformance.deviations.extent import extents
from conformance.environment import present
from conformance.outcome import Outcome, outcome
from conformance.plan import make_plan
from conformance.registry import Implementation, load_plugin
from conformance.selection import Selection

PART = Selection(concern=("special_values",))
"""The cells of the witness, and not all that the entries are about."""
NOTHING = Selection(family=("realistic",))


@cache
def implementations() -> Mapping[str, Implementation]:
    return load_plugin(PLUGIN)


def run(
    name: str,
    *changes: tuple[str, str],
    selection: Selection | None = None,
    without: int = 0,
    **given: Any,
) -> Outcome:
    """Run all of ``deviating.NAME`` in profile quick, or a selection, with one entry about it."""
    text = entry(name, *changes)
    full = f"deviating.{name}"
    plan = make_plan({full: implementations()[full]}, selection=selection)
    registry = parse(text)
    bench = Bench(plan, plugins=(PLUGIN,), registry=registry)
    rows = [bench.measure(cell) for cell in plan.cells]
    bench.close()
    return outcome(
        rows[: len(rows) - without],
        len(rows),
        policy.load(),
        registry=registry,
        environment=present(plan.registry),
        extents=extents(registry, plan),
        **given,
    )


def special(ended: Outcome) -> dict[str, Any]:
    """The row of the cell that shows it."""
    (row,) = [r for r in ended.measurements if r["concern"] == "special_values"]
    return row


def test_what_is_documented_is_shown_and_the_run_conforms() -> None:
    ended = run("shows")
    assert special(ended)["verdict"] == "deviation"
    assert special(ended)["deviation"] == "shows"
    assert ended.deviations == {"shows": "shown"}
    assert ended.exit_code == 0


def test_one_that_is_gone_is_stale_and_fails_the_run() -> None:
    ended = run("mended")
    assert special(ended)["verdict"] == "pass"
    assert ended.deviations == {"mended": "stale"}
    assert ended.exit_code == 1


def test_a_selection_that_has_all_of_it_finds_it_stale() -> None:
    assert run("mended", selection=Selection(framework=("numpy",))).exit_code == 1


def test_one_that_got_worse_fails_its_cell() -> None:
    ended = run("worse", SMALL)
    assert special(ended)["verdict"] == "fail"
    assert special(ended)["message"].startswith("worse than documented in worse: ")
    assert ended.deviations == {"worse": "worse"}
    assert ended.exit_code == 1


@pytest.mark.parametrize("elsewhere", [OTHER_VERSION, ELSEWHERE], ids=["version", "facts"])
def test_one_for_another_version_or_machine_excuses_nothing_and_is_not_stale(
    elsewhere: tuple[str, str],
) -> None:
    ended = run("elsewhere", elsewhere)
    assert special(ended)["verdict"] == "fail"
    assert ended.deviations == {"elsewhere": "not exercised"}
    assert ended.exit_code == 1
    ended = run("mended", elsewhere)
    assert ended.deviations == {"mended": "not exercised"}
    assert ended.exit_code == 0


def test_one_that_matches_nothing_breaks_a_run_of_everything() -> None:
    ended = run("mended", NO_CELL)
    assert ended.deviations == {"mended": "unmatched"}
    assert ended.exit_code == 3


@pytest.mark.parametrize(
    "given",
    [
        {"selection": PART},
        {"selection": NOTHING},
        {"shard": True},
        {"without": 1, "incomplete": True},
        {"without": 1, "stopped": "as asked"},
    ],
    ids=["part", "nothing", "shard", "incomplete", "stopped"],
)
@pytest.mark.parametrize("change", [None, NO_CELL], ids=["gone", "matches nothing"])
def test_a_partial_run_raises_no_false_alarm(
    given: dict[str, Any], change: tuple[str, str] | None
) -> None:
    ended = run("mended", *([change] if change else []), **given)
    assert ended.deviations == {"mended": "not exercised"}
    assert ended.exit_code == (1 if "stopped" in given else 0)


def test_a_part_of_it_that_shows_is_shown() -> None:
    assert run("shows", selection=PART).deviations == {"shows": "shown"}


@pytest.mark.parametrize(
    ("name", "changes"), [("mended", [NO_WITNESS]), ("absent", [])], ids=["witness", "installed"]
)
def test_one_whose_witnesses_did_not_run_is_not_exercised(
    name: str, changes: list[tuple[str, str]]
) -> None:
    ended = run(name, *changes)
    assert ended.deviations == {name: "not exercised"}
    assert ended.exit_code == 0


# ---------------------------------------------------------------- the command


def ended(result: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_run_of_everything_tells_each_of_them(tmp_path: Path) -> None:
    where = package(tmp_path / "copy", *EVERYTHING)
    result = conformance(where, "run", "--json", "--workers", "1", "--out", str(tmp_path / "one"))
    assert ended(result)["deviations"] == {
        "shows": "shown",
        "worse": "worse",
        "elsewhere": "not exercised",
        "mended": "stale",
        "absent": "unmatched",
    }
    assert result.returncode == 3, result.stderr
    failed = {c["implementation"]: c["message"] for c in ended(result)["cells"]
              if c["verdict"] == "fail"}  # fmt: skip
    assert failed.keys() == {"deviating.worse", "deviating.elsewhere"}
    assert failed["deviating.worse"].startswith("worse than documented")
    told = conformance(where, "run", "--workers", "1", "--out", str(tmp_path / "two"))
    assert "stale deviation: mended: its witnesses all met the contract" in told.stderr
    assert "instrument: deviation absent matches no cell of the full matrix" in told.stderr
    counts = "1 shown, 1 worse, 1 stale, 1 not exercised, 1 unmatched"
    assert f"documented deviations: {counts}" in told.stdout


def test_neither_a_selection_nor_a_shard_raises_a_false_alarm_but_the_merged_run_tells(
    tmp_path: Path,
) -> None:
    both = ('"deviating.mended"', '["deviating.mended", "deviating.twin"]')
    where = package(tmp_path / "copy", entry("mended", both), entry("absent", NO_CELL))
    common = ("run", "--json", "--workers", "1", "--implementation", "deviating.[mt]*")
    for name, part in (
        ("concern", ("--concern", "special_values")),
        ("1", ("--shard", "1/2")),
        ("2", ("--shard", "2/2")),
    ):
        result = conformance(where, *common, *part, "--out", str(tmp_path / name))
        assert set(ended(result)["deviations"].values()) == {"not exercised"}
        assert result.returncode == 0, result.stderr
    merged = conformance(where, "merge", str(tmp_path / "1"), str(tmp_path / "2"),
                         "--out", str(tmp_path / "whole"), "--json")  # fmt: skip
    assert ended(merged)["deviations"] == {"mended": "stale", "absent": "not exercised"}
    assert merged.returncode == 1, merged.stderr
