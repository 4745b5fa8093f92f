"""Witnesses: which cases are kept, who answers them, and what interrupted runs and shards have."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import synthetic
from commandline import SMALL, conformance, python

from conformance import columns, concerns, questioning, record, witnesses
from conformance.merge import merge
from conformance.profiles import PROFILES
from conformance.record import (
    WITNESSES_FILE,
    Record,
    RecordWriter,
    read_record,
    read_witnesses,
)
from conformance.selection import Selection
from conformance.settings import Settings
from conformance.witnesses import Kept, chosen, merged
from reference import cases

NUMPY = "conformance.numpy.softmax"
ONE = (*SMALL, "--implementation", NUMPY)


# --- which cases ----------------------------------------------------------------------------------


def row(case: str, ratio: float, **others: Any) -> dict[str, Any]:
    return synthetic.measurement(worst_case=case, ratio_weak=ratio, **others)


def many(seed: int = 1) -> list[dict[str, Any]]:
    """Cells of several implementations in two groups, some with the same worst case."""
    draw = random.Random(seed)
    return [
        row(f"case-{draw.randrange(8)}", draw.random(), implementation=f"i{k}", family=family)
        for k in range(12)
        for family in ("masks", "near_ties")
    ]


def test_a_group_keeps_the_worst_by_test_ratio_and_joins_what_is_the_same_case() -> None:
    rows = [
        row("a", 0.5, implementation="one"),
        row("b", 0.7, implementation="two"),
        row("a", 0.9, implementation="three"),
        row("c", 0.1, implementation="five", family="near_ties"),
    ]
    found = chosen(rows, 2)
    assert [(w.family, w.case_id, w.ratio) for w in found] == [
        ("gap_ladder", "a", 0.9), ("gap_ladder", "b", 0.7), ("near_ties", "c", 0.1)
    ]  # fmt: skip
    assert found[0].worst_of == tuple(sorted((rows[0]["key"], rows[2]["key"])))


def test_a_wrong_nan_comes_before_every_ratio() -> None:
    rows = [row("a", 1e30), row("b", 0.0, implementation="other", nan_mismatches=1)]
    assert [w.case_id for w in chosen(rows, 1)] == ["b"]


def test_equal_ratios_are_told_apart_by_ulp_and_then_by_name() -> None:
    rows = [row(c, 1.0, implementation=c, max_ulp=u) for c, u in (("z", 3), ("b", 2), ("a", 2))]
    assert [w.case_id for w in chosen(rows, 3)] == ["z", "a", "b"]


@pytest.mark.parametrize(
    "others",
    [{"role": "mutant"}, {"role": "control"}, {"concern": "underflow"}, {"worst_case": None}],
)
def test_what_is_no_subject_or_has_no_worst_case_gives_none(others: dict[str, Any]) -> None:
    assert chosen([row("a", 1.0) | others], 3) == []


def test_cases_that_lack_an_input_have_a_quota_of_their_own() -> None:
    ids = ["a", "b", "a-no.pos_weight-1", "b-no.pos_weight-1"]
    rows = [row(c, 1.0, implementation=f"i{k}") for k, c in enumerate(ids)]
    assert {w.case_id for w in chosen(rows, 1)} == {"a", "a-no.pos_weight-1"}


def test_the_order_of_the_cells_decides_nothing() -> None:
    rows = many()
    shuffled = rows.copy()
    random.Random(2).shuffle(shuffled)
    assert chosen(shuffled, 3) == chosen(rows, 3)
    assert len(chosen(rows, 3)) == 6


@pytest.mark.parametrize("seed", range(20))
def test_the_worst_of_the_whole_are_the_worst_of_shards_put_together(seed: int) -> None:
    rows = many(seed)
    draw = random.Random(seed)
    parts: list[list[dict[str, Any]]] = [[], [], []]
    for one in rows:
        draw.choice(parts).append(one)

    def written(part: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**vars(w), "worst_of": list(w.worst_of)} for w in chosen(part, 2)]

    assert merged(rows, map(written, parts), 2) == written(rows)


def test_a_group_keeps_more_in_longer_profiles() -> None:
    assert [witnesses.most(name) for name in PROFILES] == [1, 2, 3]


# --- who answers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "run"
    result = conformance("run", *ONE, "--workers", "1", "--out", str(out))
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture
def found(folder: Path) -> Record:
    return read_record(folder)


def asked(found: Record, kept: Kept | None = None, **changes: Any) -> questioning.Questioned:
    settings = replace(Settings.from_row(found.run["settings"]), **changes)
    return questioning.question(settings, settings.plan(), found.measurements, kept=kept)


def test_a_record_says_how_many_witnesses_it_has(found: Record) -> None:
    told = read_witnesses(found)
    assert found.run["witnesses"]["count"] == len(told) == 2
    assert found.run["witnesses"]["answers"] == sum(len(w["answers"]) for w in told) == 2
    whole_calls = {"underflow", *concerns.OWN}  # what they ask is no row
    worst = {r["worst_case"] for r in found.measurements
             if r["role"] == "subject" and r["concern"] not in whole_calls}  # fmt: skip
    assert {w["case_id"] for w in told} == worst


def test_a_witness_is_the_case_and_its_answer_has_the_figures_of_the_cell(found: Record) -> None:
    rows = {r["key"]: r for r in found.measurements}
    for witness in read_witnesses(found):
        case = cases.by_id(witness["case_id"])
        assert witness["inputs"] == {"x": case.inputs["x"].tolist()}
        (answer,) = witness["answers"]
        assert answer["implementation"] == NUMPY
        (key,) = witness["worst_of"]
        assert witness["ratio"] == rows[key]["ratio_weak"]
        assert answer["ratio"] == pytest.approx(witness["ratio"], rel=1e-6)
        assert answer["worst"] == rows[key]["worst_index"]
        assert answer["result"][answer["worst"]] == rows[key]["worst"]["result"]
        assert witness["rounded"][answer["worst"]] == rows[key]["worst"]["rounded"]
        assert witness["exact"] == {str(answer["worst"]): rows[key]["worst"]["exact"]}


def test_asking_again_gives_what_came_with_the_cells(found: Record, tmp_path: Path) -> None:
    again = asked(found)
    assert again.errors == []
    with RecordWriter(tmp_path / "again", {}) as writer:
        writer.witness(again.witnesses)
        writer.finish()
    assert read_witnesses(read_record(tmp_path / "again")) == read_witnesses(found)


def test_what_is_kept_is_not_asked_for(found: Record) -> None:
    (key,) = {w["worst_of"][0] for w in read_witnesses(found) if w["family"] == "realistic"}
    (case_id,) = {w["case_id"] for w in read_witnesses(found) if w["family"] == "realistic"}
    kept = Kept()
    answer = {"implementation": NUMPY, "framework": "numpy", "framework_version": "9",
              "role": "subject", "result": [0.5, 0.5], "worst": 1, "ulp": 7.0,
              "ratio": 8.0}  # fmt: skip
    kept.add(key, json.dumps({case_id: answer}))
    by_case = {w["case_id"]: w["answers"] for w in asked(found, kept).witnesses}
    assert by_case.pop(case_id) == [answer]
    assert [a[0]["framework_version"] for a in by_case.values()] != ["9"]


def test_every_implementation_answers_whoever_was_worst(tmp_path: Path) -> None:
    plugin = tmp_path / "rough.py"
    plugin.write_text(
        "from conformance import implementation\n"
        "import numpy as np\n"
        "@implementation(op='softmax', framework='numpy', name='rough.softmax')\n"
        "def rough(x, *, axis):\n"
        "    e = np.exp(x - x.max(axis, keepdims=True))\n"
        "    return (e / e.sum(axis, keepdims=True) * x.dtype.type(1.001)).astype(x.dtype)\n"
    )
    result = conformance(
        "run",
        *ONE,
        "--implementation",
        "rough.softmax",
        "--plugin",
        str(plugin),
        "--out",
        str(tmp_path / "run"),
    )
    assert result.returncode == 1, result.stderr
    told = read_witnesses(read_record(tmp_path / "run"))
    assert len(told) == 2  # of two families the worst
    for witness in told:
        names = [a["implementation"] for a in witness["answers"]]
        assert names == [NUMPY, "rough.softmax"]
        assert witness["answers"][1]["ratio"] > 10 * witness["answers"][0]["ratio"]


def test_an_implementation_that_crashes_or_raises_is_an_answer_without_a_result(
    tmp_path: Path,
) -> None:
    plugin = tmp_path / "deadly.py"
    plugin.write_text(
        "import os\n"
        "from conformance import implementation\n"
        "@implementation(op='softmax', framework='numpy', name='deadly.exits')\n"
        "def exits(x, *, axis):\n"
        "    os._exit(7)\n"
        "@implementation(op='softmax', framework='numpy', name='deadly.raises')\n"
        "def raises(x, *, axis):\n"
        "    raise RuntimeError('\\x1b[31m<script>')\n"
    )
    arguments = ("--family", "realistic", "--plugin", str(plugin), "--out", str(tmp_path / "run"))
    result = conformance("run", *SMALL, *arguments)
    assert result.returncode == 1, result.stderr
    (witness,) = read_witnesses(read_record(tmp_path / "run"))
    by_name = {a["implementation"]: a for a in witness["answers"]}
    assert by_name[NUMPY]["result"] is not None
    for name, words in (("deadly.exits", "code 7"), ("deadly.raises", "<script>")):
        assert by_name[name]["result"] is None
        assert words in by_name[name]["message"]
        assert by_name[name]["message"].isprintable()


def test_nobody_is_asked_where_eager_mode_is_not_selected(found: Record) -> None:
    plan = replace(
        Settings.from_row(found.run["settings"]).plan(), selection=Selection(mode=("compiled",))
    )
    assert questioning.implementations(plan) == []


def test_an_unselected_framework_is_not_asked(found: Record) -> None:
    plan = Settings.from_row(found.run["settings"]).plan()
    assert {e.framework for e in questioning.implementations(plan)} == {"numpy"}
    assert {e.role for e in questioning.implementations(plan)} == {"subject"}


def test_a_broken_instrument_is_an_error_and_no_crash(
    found: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken\x1b")

    monkeypatch.setattr(questioning.Bench, "ask", broken)
    again = asked(found)
    assert again.errors == ["witnesses of numpy: RuntimeError: broken"]
    assert [w["answers"] for w in again.witnesses] == [[], []]


def test_a_long_row_keeps_its_first_entries_and_those_around_the_worst() -> None:
    case = next(c for c in cases.make("realistic", "softmax", "float32", 1000, limit=1))
    top = int(case.inputs["x"].argmax())
    kept = witnesses._elements(case, case.n, (500,))
    assert kept is not None
    assert {*range(8), 498, 499, 500, 501, 502, top} <= set(kept)
    assert len(kept) <= 18
    assert witnesses._elements(case, witnesses.WHOLE, (5,)) is None


# --- interrupted runs and shards ------------------------------------------------------------------


def test_a_run_that_ended_before_its_witnesses_gets_them_when_it_is_resumed(
    folder: Path, found: Record, tmp_path: Path
) -> None:
    keep = {k: v for k, v in found.run.items() if k not in ("exit_code", "witnesses")}
    with RecordWriter(tmp_path / "cut", keep) as writer:
        writer.extend(found.measurements)
    cut = read_record(tmp_path / "cut")
    assert cut.partial
    assert read_witnesses(cut) == []
    result = conformance("run", "--resume", str(tmp_path / "cut"), "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["witnesses"]["count"] == 2
    whole = read_record(tmp_path / "cut")
    assert not whole.partial
    assert read_witnesses(whole) == read_witnesses(found)


def test_an_interrupt_among_the_witnesses_leaves_a_partial_record_that_is_resumed(
    found: Record, tmp_path: Path
) -> None:
    code = (
        "import sys, conformance.run as r; from conformance.cli import main\n"
        "def interrupted(*a, **k): raise KeyboardInterrupt\n"
        "r.question = interrupted; main()"
    )
    out = str(tmp_path / "run")
    result = python("-c", code, "run", *ONE, "--workers", "1", "--out", out)
    assert result.returncode == 130, result.stderr
    assert f"--resume {out}" in result.stderr
    cut = read_record(out)
    assert cut.partial
    assert len(cut.measurements) == cut.run["coverage"]["planned"]
    assert not (tmp_path / "run" / WITNESSES_FILE).exists()
    assert conformance("run", "--resume", out).returncode == 0
    assert read_witnesses(read_record(out)) == read_witnesses(found)


def test_resuming_takes_old_witnesses_away(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "run")
    with RecordWriter.reopen(tmp_path / "run") as writer:
        writer.resume()
    assert not (tmp_path / "run" / WITNESSES_FILE).exists()
    assert read_witnesses(read_record(tmp_path / "run")) == []


def test_shards_of_which_one_has_no_witnesses_merge_to_a_record_without(tmp_path: Path) -> None:
    parts = []
    for k in (1, 2):
        out = tmp_path / str(k)
        result = conformance("run", *ONE, "--shard", f"{k}/2", "--out", str(out))
        assert result.returncode == 0, result.stderr
        parts.append(read_record(out))
    merge(parts, tmp_path / "both")
    assert read_record(tmp_path / "both").run["witnesses"]["count"] == 2
    old = replace(parts[1], run={k: v for k, v in parts[1].run.items() if k != "witnesses"})
    merge([parts[0], old], tmp_path / "one")
    assert read_record(tmp_path / "one").run["witnesses"] is None


def test_witnesses_of_a_run_fit_their_schema(found: Record) -> None:
    schema = record.witnesses.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for witness in read_witnesses(found):
        jsonschema.validate(columns.plain(witness), schema)
