"""A plan dealt out to shards, and shards merged to the record of one run."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from commandline import EVERY_FAMILY, all_figures, changed, conformance

from conformance import deviations, shards
from conformance.cells import Cell, SelectionError
from conformance.cli import call
from conformance.compatible import NotComparable
from conformance.merge import IncompleteShards, NotAShard, OverlappingShards, merge
from conformance.plan import Plan, make_plan
from conformance.record import (
    Record,
    RecordExists,
    RecordWriter,
    check_parquet,
    read_record,
    read_witnesses,
)
from conformance.registry import load_builtin
from conformance.resume import rest
from conformance.settings import Settings
from conformance.shards import Shard

SELECTION = ("--framework", "numpy", "--op", "logsumexp", "--dtype", "float16", *EVERY_FAMILY)
COUNT = 4


# --- dealing out ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["quick", "standard"])
def plan(request: pytest.FixtureRequest) -> Plan:
    return make_plan(load_builtin(), profile=request.param)


def _stratum(plan: Plan, cell: Cell) -> tuple[str, str]:
    return plan.entry(cell).framework, cell.mode


def _function(cell: Cell) -> tuple[str, ...]:
    """What a cell calls."""
    return tuple(v for k, v in asdict(cell).items() if k not in ("concern", "family"))


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_every_cell_is_in_exactly_one_shard_and_all_shards_are_alike(
    plan: Plan, count: int
) -> None:
    parts = [shards.part(plan.cells, plan.registry, Shard(k + 1, count)) for k in range(count)]
    assert sorted(cell for part in parts for cell in part) == sorted(plan.cells)
    places = {cell: place for place, cell in enumerate(plan.cells)}
    assert all([places[c] for c in part] == sorted(places[c] for c in part) for part in parts)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 0.05 * len(plan.cells)
    # What is called with one compiled function stays together, so that nothing can be fairer.
    groups = Counter((_stratum(plan, c), _function(c)) for c in plan.cells)
    largest: Counter[tuple[str, str]] = Counter()
    for (stratum, _), count in groups.items():
        largest[stratum] = max(largest[stratum], count)
    strata = [Counter(_stratum(plan, c) for c in part) for part in parts]
    for stratum in {s for counted in strata for s in counted}:
        shares = [counted[stratum] for counted in strata]
        assert max(shares) - min(shares) <= largest[stratum]


def test_what_shares_a_compiled_function_stays_together(plan: Plan) -> None:
    owners: dict[tuple[str, ...], set[int]] = {}
    for k in range(COUNT):
        for cell in shards.part(plan.cells, plan.registry, Shard(k + 1, COUNT)):
            owners.setdefault(_function(cell), set()).add(k)
    assert {len(found) for found in owners.values()} == {1}


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "2/0", "a/b", "1/2/3", "-1/4", "1/99999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(SelectionError, match="shard"):
        shards.parse(text)


def test_a_shard_is_parsed() -> None:
    assert shards.parse("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"


def test_more_shards_than_there_is_to_do_are_refused(plan: Plan) -> None:
    with pytest.raises(SelectionError, match="take fewer shards"):
        shards.part(plan.cells[:1], plan.registry, Shard(2, 2))


# --- four shards and one run ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = conformance("run", *SELECTION, "--out", str(folder))
    assert result.returncode == 0, result.stderr
    return read_record(folder)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("parts")
    found = [folder / str(k) for k in range(1, COUNT + 1)]
    for k, out in enumerate(found, start=1):
        shard = ("--shard", f"{k}/{COUNT}", "--workers", "1", "--out", str(out))
        result = conformance("run", *SELECTION, *shard)
        assert result.returncode == 0, result.stderr
        assert "`conformance merge` joins it with the others" in result.stdout
    return found


def test_four_merged_shards_equal_one_run(
    whole: Record, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    arguments = ["merge", *map(str, reversed(parts)), "--out", str(out)]
    assert call([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    merged = read_record(out)
    assert all_figures(merged.measurements) == all_figures(whole.measurements)
    assert len(whole.measurements) > 20
    assert not merged.partial
    same = ("case_set", "coverage", "policy", "rules", "profile", "seed", "selection", "settings",
            "shard", "plugins", "mutants", "stale", "harness_errors", "interrupted", "exit_code",
            "deviations")  # fmt: skip
    assert {k: merged.run[k] for k in same} == {k: whole.run[k] for k in same}
    assert merged.run["controls"]["total"] == whole.run["controls"]["total"] > 0
    assert [part["shard"]["index"] for part in merged.run["merged"]] == [1, 2, 3, 4]
    assert document["counts"] == dict(Counter(r["verdict"] for r in whole.measurements))
    check_parquet(out, merged.run)
    # Each shard asked all implementations about its own worst cases.
    assert len(read_witnesses(whole)) == 7
    assert read_witnesses(merged) == read_witnesses(whole)
    assert document["witnesses"]["count"] == whole.run["witnesses"]["count"]
    assert call(arguments) == 2  # the folder is taken
    assert "already holds a record" in capsys.readouterr().err


def test_a_merge_of_some_shards_can_be_resumed(parts: list[Path], tmp_path: Path) -> None:
    records = [read_record(path) for path in parts[:3]]
    ended = merge(records, tmp_path / "merged", partial=True)
    assert (ended.exit_code, ended.partial) == (0, True)
    merged = read_record(tmp_path / "merged")
    assert merged.partial
    left = rest(merged)
    missing = read_record(parts[3]).measurements
    assert {cell.key for cell in left.cells} == {row["key"] for row in missing}
    assert left.settings.shard == ""


def test_a_shard_is_resumed_as_a_shard(parts: list[Path], tmp_path: Path) -> None:
    found = read_record(parts[1])
    keep = {k: v for k, v in found.run.items() if k != "exit_code"}
    with RecordWriter(tmp_path / "cut", keep) as writer:
        writer.extend(found.measurements[:-2])
    left = rest(read_record(tmp_path / "cut"))
    assert {c.key for c in left.cells} == {r["key"] for r in found.measurements[-2:]}
    assert len(left.plan.every) > len(left.plan.cells)


# --- what is refused ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(parts: list[Path]) -> list[Record]:
    return [read_record(path) for path in parts]


@pytest.mark.parametrize(
    ("path", "to", "words"),
    [
        (("environment", "frameworks", "numpy"), "1.0", "numpy: "),
        (("environment", "tool_version"), "9", "the tool's version: "),
        (("environment", "cpu", "flags"), ["sse2"], "CPU capability: without "),
        (("environment", "cpu", "vendor"), "Nobody", "the CPU's maker"),
        (("environment", "variables"), {"ATEN_CPU_CAPABILITY": "avx2"}, "ATEN_CPU_CAPABILITY"),
        (("policy", "passing"), "C", "the policy's passing: B -> C"),
        (("profile",), "standard", "the profile: quick -> standard"),
        (("seed",), 5, "the seed: 0 -> 5"),
        (("case_set",), "f" * 64, "the cases: "),
        (("rules",), "f" * 64, "the registry of deviations: "),
        (("settings", "deadline"), 7.0, "the limit deadline: 30.0 -> 7.0"),
        (("shard", "count"), 5, "one of 4 shards"),
        (("schema",), 1, "has schema 1"),
    ],
)
def test_what_is_not_comparable_is_named_and_not_merged(
    records: list[Record], tmp_path: Path, path: tuple[str, ...], to: Any, words: str
) -> None:
    other = changed(records[2], *path, to=to)
    with pytest.raises(NotComparable) as caught:
        merge([*records[:2], other, records[3]], tmp_path / "merged")
    assert words in str(caught.value)
    assert not (tmp_path / "merged").exists()


def test_missing_partial_double_and_foreign_records_are_named(
    records: list[Record], whole: Record, tmp_path: Path
) -> None:
    out = tmp_path / "merged"
    with pytest.raises(IncompleteShards, match="shard 3/4 missing"):
        merge([*records[:2], records[3]], out)
    with pytest.raises(IncompleteShards, match="2 shards missing: 2/4, 4/4"):
        merge([records[0], records[2]], out)
    with pytest.raises(IncompleteShards, match="is partial; `conformance run --resume` finishes"):
        merge([*records[:3], replace(records[3], partial=True)], out)
    with pytest.raises(IncompleteShards, match=r"the plan has \d+ cells, the shards \d+"):
        merge([*records[:3], replace(records[3], measurements=records[3].measurements[1:])], out)
    with pytest.raises(OverlappingShards, match="is both in"):
        merge([*records, records[1]], out)
    with pytest.raises(OverlappingShards, match="give each shard once"):
        merge([records[1], records[1]], out, partial=True)
    with pytest.raises(NotAShard, match="is no shard of a run"):
        merge([*records, whole], out)
    with pytest.raises(NotAShard, match="how many cells"):
        merge([changed(r, "coverage", to={}) for r in records], out)
    assert not out.exists()


def test_a_shard_without_the_end_of_its_run_is_not_finished(
    records: list[Record], tmp_path: Path
) -> None:
    """Killed between its footer and run.json: whether the instrument broke is not known."""
    killed = [*records[:3], changed(records[3], "ended", to=None)]
    with pytest.raises(IncompleteShards, match="is partial; `conformance run --resume` finishes"):
        merge(killed, tmp_path / "merged")
    merge(killed, tmp_path / "asked", partial=True)
    ended = max(r.run["ended"] for r in records[:3])
    assert read_record(tmp_path / "asked").run["ended"] == ended


@pytest.mark.parametrize("entry", ["started", "settings"])
def test_a_shard_that_lacks_an_entry_is_named(
    records: list[Record], tmp_path: Path, entry: str
) -> None:
    other = [replace(r, run={k: v for k, v in r.run.items() if k != entry}) for r in records]
    with pytest.raises(NotAShard, match=f"lacks the entry {entry}"):
        merge(other, tmp_path / "merged")


def test_a_merge_does_not_write_over_a_record(records: list[Record], whole: Record) -> None:
    assert whole.path is not None
    with pytest.raises(RecordExists):
        merge(records, whole.path)


DOCUMENTED = """
[[deviation]]
id = "documented"
match = { framework = "numpy" }
versions = ">=2"
allows = { accuracy = 60 }
witnesses = ["case"]
reason = "upstream-bug"
summary = "Made up."
upstream = "unreported"
since = "2026-11-24"
review_by = "2027-05-24"
"""


def test_what_only_the_whole_can_tell_is_told_by_the_merge(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry all of whose witnesses met the contract is stale, however they were dealt out."""
    good = {"documented": {"case": {"ratio": 0.1, "normwise": 0.0, "broken": 0}}}
    monkeypatch.setattr(deviations, "load", lambda: deviations.parse(DOCUMENTED))
    extents = {"documented": {"extent": "whole"}}
    about = {"role": "subject"}
    shown = [
        replace(
            changed(r, "deviations", to=extents),
            measurements=[r.measurements[0] | about | {"witnesses": good}, *r.measurements[1:]],
        )
        for r in records
    ]
    ended = merge(shown, tmp_path / "merged")
    assert (ended.stale, ended.exit_code) == (("documented",), 1)
    bad = {"documented": {"case": {"ratio": 9.0, "normwise": 0.0, "broken": 0}}}
    last = shown[3].measurements[0] | {"witnesses": bad}
    shown[3] = replace(shown[3], measurements=[last, *shown[3].measurements[1:]])
    ended = merge(shown, tmp_path / "other")
    assert (ended.stale, ended.exit_code) == ((), 0)


def test_settings_plan_their_shard() -> None:
    whole = Settings(profile="quick").plan()
    part = Settings(profile="quick", shard="2/4").plan()
    assert part.every == whole.cells
    assert set(part.cells) < set(whole.cells)
