"""Interrupted runs that are resumed, through the command line and through what it asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import EVERY_FAMILY, all_figures, changed, conformance, python

from conformance.cli import call
from conformance.deviations import parse
from conformance.outcome import outcome
from conformance.policy import load
from conformance.record import Record, RecordWriter, read_record
from conformance.registry import isolated_registry
from conformance.resume import CannotResume, NothingToResume, PluginsNotNamed, rest
from conformance.settings import Settings

SELECTION = ("--framework", "numpy", "--op", "logsumexp", "--dtype", "float16", "--dtype",
             "bfloat16", "--derivative", "value", "--derivative", "vjp", *EVERY_FAMILY)  # fmt: skip
HOSTILE = "<script>\x1b[31m\x00\u202e\n../x" + "y" * 100_000
LIMITED = (
    "import resource, sys; from conformance.cli import main;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2); main()"
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that nothing interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = conformance("run", *SELECTION, "--workers", "1", "--json", "--out", str(folder))
    assert result.returncode == 0, result.stderr
    return folder, json.loads(result.stdout)


def cut(source: Path, target: Path, cells: int, **entries: Any) -> Path:
    """The record of a run that was killed after some cells."""
    found = read_record(source)
    keep = {k: v for k, v in found.run.items() if k not in ("exit_code", "controls", "mutants")}
    with RecordWriter(target, keep | entries) as writer:
        writer.extend(found.measurements[:cells])
    return target


# --- the command ----------------------------------------------------------------------------------


def test_a_disk_that_fills_up_is_one_line_and_the_run_can_be_resumed(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    record, clean = whole
    folder = tmp_path / "run"
    sizes = [(record / name).stat().st_size for name in ("run.json", "measurements.jsonl")]
    assert sizes[0] < sizes[1] - 5000  # what is written first has to fit
    limit = str(sum(sizes) // 2)
    full = python("-c", LIMITED, limit, "run", *SELECTION, "--json", "--out", str(folder))
    assert full.returncode == 2, full.stderr
    assert "measurements.jsonl (File too large): what was measured before is intact" in full.stderr
    assert len(full.stderr.strip().splitlines()) == 1
    before = read_record(folder)
    assert before.partial
    assert 5 < len(before.measurements) < len(clean["cells"])

    result = conformance("run", "--resume", str(folder), "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    for entry in ("exit_code", "partial", "counts", "coverage", "mutants", "stale_deviations"):
        assert document[entry] == clean[entry]
    assert all_figures(document["cells"]) == all_figures(clean["cells"])
    record = read_record(folder)
    assert not record.partial
    # What had been measured was not measured again.
    assert record.measurements[: len(before.measurements)] == before.measurements


def test_a_disk_that_is_full_at_the_start_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = python("-c", LIMITED, "2000", "run", *SELECTION, "--out", str(folder))
    assert result.returncode == 2
    assert "run.json (File too large): choose a folder" in result.stderr
    assert list(folder.iterdir()) == []


def test_a_dry_run_shows_what_is_missing(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(whole[0], tmp_path / "run", 5)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert call(["run", "--resume", str(folder), "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    keys = [cell["key"] for cell in whole[1]["cells"]]
    assert sorted(document["cells"]) == sorted(keys[5:])
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_that_was_killed_before_its_footer_only_needs_its_end(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(whole[0], tmp_path / "run", len(whole[1]["cells"]))
    assert read_record(folder).partial
    assert call(["run", "--resume", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cells"] == whole[1]["cells"]
    found = read_record(folder)
    facts = ("exit_code", "controls", "mutants", "stale", "harness_errors", "interrupted")
    assert {k: found.run[k] for k in facts} == {k: read_record(whole[0]).run[k] for k in facts}
    assert not found.partial


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--profile", "quick"), "--profile comes from the record"),
        (("--seed", "0"), "--seed comes from the record"),
        (("--op", "softmax"), "--op comes from the record"),
        (("--cell", "a/b"), "--cell comes from the record"),
        (("--out", "elsewhere"), "--out comes from the record"),
        (("--shard", "1/2"), "--shard comes from the record"),
        (("--memory-limit", "512M"), "--memory-limit comes from the record"),
        (("--retry", "crashed"), "unknown verdict 'crashed'; did you mean crash?"),
        ((), "is finished: `--retry VERDICT`"),
        (("--retry", "crash,timeout"), "has no cell of verdict crash, timeout"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    whole: tuple[Path, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    assert call(["run", "--resume", str(whole[0]), *arguments]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert len(told.strip().splitlines()) == 1


def test_retry_without_resume_and_resuming_nothing_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["run", "--retry", "crash"]) == 2
    assert "--retry goes with --resume" in capsys.readouterr().err
    assert call(["run", "--resume", str(tmp_path)]) == 2
    assert "holds no record" in capsys.readouterr().err


def test_a_run_at_work_is_not_resumed(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cut(whole[0], tmp_path / "run", 5)
    with RecordWriter.reopen(folder):
        assert call(["run", "--resume", str(folder)]) == 2
    assert "is being written by another run" in capsys.readouterr().err


FLAKY = """
import os
from conformance import implementation

@implementation(op="logsumexp", framework="numpy", name="flaky.logsumexp", variant="composition")
def logsumexp(x, *, axis):
    import numpy as np
    if os.path.exists({flag!r}):
        raise OSError("not today")
    with np.errstate(all="ignore"):
        m = np.maximum(x.max(axis=axis, keepdims=True), np.finfo(x.dtype).min)
        return (m + np.log(np.exp(x - m).sum(axis=axis, keepdims=True)))[..., 0]
"""


def test_cells_of_a_verdict_are_measured_again(tmp_path: Path) -> None:
    flag, plugin, folder = tmp_path / "flag", tmp_path / "flaky.py", tmp_path / "run"
    flag.touch()
    plugin.write_text(FLAKY.format(flag=str(flag)))
    cell = "accuracy/flaky.logsumexp/value/-/float64/eager/cpu/default/"
    cells = [f"{cell}{family}" for family in ("realistic", "shift_ladder")]
    selection = [word for key in cells for word in ("--cell", key)]
    common = ("--plugin", str(plugin), "--json", "--workers", "1")
    first = conformance("run", *selection, *common, "--out", str(folder))
    assert first.returncode == 1
    assert json.loads(first.stdout)["counts"] == {"error": 2}

    flag.unlink()
    again = conformance("run", "--resume", str(folder), "--retry", "error,timeout", *common)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["counts"] == {"pass": 2}
    found = read_record(folder)
    assert [row["verdict"] for row in found.superseded] == ["error", "error"]
    assert not found.partial


# --- what must be the same ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def partial(whole: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Record:
    return read_record(cut(whole[0], tmp_path_factory.mktemp("partial") / "run", 7))


def test_what_is_left_is_the_rest_of_the_plan(
    partial: Record, whole: tuple[Path, dict[str, Any]]
) -> None:
    left = rest(partial)
    measured = {row["key"] for row in partial.measurements}
    keys = {cell.key for cell in left.cells}
    assert not keys & measured
    assert keys | measured == {row["key"] for row in whole[1]["cells"]}
    assert left.settings.selection.op == ("logsumexp",)


@pytest.mark.parametrize(
    ("path", "to", "words"),
    [
        (("environment", "tool_version"), "0.0.9", "the tool's version: 0.0.9 -> "),
        (("environment", "frameworks", "numpy"), "1.0", "numpy: 1.0 -> "),
        (("environment", "libraries", "optax"), "0.0", "optax: 0.0 -> "),
        (("environment", "python"), "3.9.1", "Python: 3.9.1 -> "),
        (("environment", "cpu", "flags"), ["sse2", "avx9"], "CPU capability: without avx9, with "),
        (("environment", "cpu", "vendor"), "Nobody", "the CPU's maker: Nobody -> "),
        (("environment", "variables"), {"OMP_FAST": "1"}, "the variable OMP_FAST: 1 -> "),
        (("environment", "threads"), {"each framework": 2}, "threads of each framework: 2 -> 1"),
        (("policy", "ratio"), 2.0, "the policy's ratio: 2.0 -> 1.01"),
        (("rules",), "0" * 64, "the registry of deviations: 000000000000 -> "),
        (("case_set",), "0" * 64, "the cases: 000000000000 -> "),
        (("settings", "memory_limit"), "lots", "memory_limit holds 'lots'"),
        (("settings", "seed"), "1", "seed holds '1'"),
        (("settings", "seed"), 1, "the seed: 0 -> 1"),
        (("settings", "selection"), {"op": "softmax"}, "selection holds"),
        (("settings", "selection"), {"op": ["sofmax"]}, "unknown op 'sofmax'"),
        (("settings", "plugin"), [], "unknown entry plugin"),
        (("settings", "profile"), ["quick"], "profile holds"),
        (("settings",), {"profile": "fast"}, "unknown profile 'fast'"),
        (("schema",), 1, "has schema 1, runs now write 2"),
    ],
)
def test_what_differs_is_named_and_refused(
    partial: Record, path: tuple[str, ...], to: Any, words: str
) -> None:
    with pytest.raises(CannotResume) as caught:
        rest(changed(partial, *path, to=to))
    assert words in str(caught.value)
    assert str(caught.value).endswith("start a new run")


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("environment", "variables", "TORCHINDUCTOR_CACHE_DIR"), "/elsewhere"),
        (("environment", "cpu", "model"), "Another of the same maker"),
        (("environment", "os"), "Linux-6.2"),
        (("selection",), {}),
    ],
)
def test_what_no_figure_depends_on_may_differ(
    partial: Record, path: tuple[str, ...], to: Any
) -> None:
    assert rest(changed(partial, *path, to=to)).cells == rest(partial).cells


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("environment", "tool_version"), HOSTILE),
        (("environment", "variables"), {HOSTILE: HOSTILE}),
        (("environment", "cpu", "flags"), ["avx" + HOSTILE]),
        (("policy", HOSTILE), HOSTILE),
        (("settings", "plugins"), [HOSTILE]),
        (("settings", "profile"), HOSTILE),
        (("settings", "selection"), {"op": [HOSTILE]}),
        (("settings", HOSTILE), 1),
        (("settings", "seed"), HOSTILE),
    ],
)
def test_what_is_refused_shows_no_hostile_text(
    partial: Record, path: tuple[str, ...], to: Any
) -> None:
    with pytest.raises((CannotResume, PluginsNotNamed)) as caught:
        rest(changed(partial, *path, to=to))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_rows_that_are_not_of_the_plan_are_refused(partial: Record) -> None:
    rows = [*partial.measurements, partial.measurements[0] | {"key": "accuracy/stranger"}]
    with pytest.raises(CannotResume, match="not of its plan: accuracy/stranger"):
        rest(replace(partial, measurements=rows))


def test_a_finished_record_has_nothing_to_resume_but_what_is_retried(
    whole: tuple[Path, dict[str, Any]],
) -> None:
    finished = read_record(whole[0])
    with pytest.raises(NothingToResume, match="--retry VERDICT"):
        rest(finished)
    left = rest(finished, retry=("pass", "deviation"))
    assert len(left.cells) == len(finished.measurements)
    assert left.again == {row["key"] for row in finished.measurements}


def test_a_record_does_not_decide_which_code_is_loaded(partial: Record, tmp_path: Path) -> None:
    plugin = tmp_path / "evil.py"
    witness = tmp_path / "it ran"
    plugin.write_text(f"open({str(witness)!r}, 'w')\n")
    asked = changed(partial, "settings", "plugins", to=[str(plugin)])
    with pytest.raises(PluginsNotNamed, match=r"evil\.py: code is never loaded because a record"):
        rest(asked)
    assert not witness.exists()
    with pytest.raises(PluginsNotNamed, match="measured with no plug-in"):
        rest(partial, plugins=(str(plugin),))
    assert not witness.exists()


def test_a_plugin_that_was_edited_is_named(partial: Record, tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(FLAKY.format(flag="none"))
    asked = changed(partial, "settings", "plugins", to=[str(plugin)])
    asked = changed(asked, "plugins", to={"mine.py": "0" * 64})
    told = r"the plug-in mine\.py: 000000000000 -> [0-9a-f]{12}"
    with isolated_registry(), pytest.raises(CannotResume, match=told):
        rest(asked, plugins=(str(plugin),))


def test_settings_survive_a_record() -> None:
    settings = Settings(profile="standard", seed=2**64 - 1, plugins=("a",), shard="2/3")
    assert Settings.from_row(json.loads(json.dumps(settings.row()))) == settings


def test_the_cells_that_are_left_reach_the_workers_however_many_there_are() -> None:
    settings = Settings(profile="exhaustive")
    plan = settings.plan()
    odd = plan.cells[1::2]
    sent = Settings.from_json(settings.only(plan, odd).to_json())
    assert sent.cells(plan) == odd
    assert len(sent.todo) < 131072 / 4, "far below the length of an environment variable"
    assert settings.cells(plan) == plan.cells
    assert settings.only(plan, ()).cells(plan) == ()


# --- computed from the whole record ---------------------------------------------------------------


def rows_with(evidence: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    import synthetic

    return [
        synthetic.measurement(family=f, witnesses={"documented": {"case": evidence(f)}})
        for f in ("masks", "near_ties")
    ]


DOCUMENTED = """
[[deviation]]
id = "documented"
match = { implementation = "torch.softmax" }
versions = ">=2.13,<2.14"
allows = { accuracy = 60 }
witnesses = ["case"]
reason = "upstream-bug"
summary = "Made up."
upstream = "unreported"
since = "2026-11-24"
review_by = "2027-05-24"
"""
GOOD = {"ratio": 0.5, "normwise": 1e-9, "broken": 0}


@pytest.mark.parametrize(
    ("other", "stale"),
    [
        (GOOD, ("documented",)),
        (GOOD | {"ratio": 1.5}, ()),
        (GOOD | {"normwise": 0.5}, ()),
        (GOOD | {"broken": 1}, ()),
        ({"broken": 1}, ()),
        ({"broken": 0, "ratio": None, "normwise": None}, ()),
    ],
)
def test_an_entry_is_stale_when_all_its_witnesses_of_all_sessions_met_the_contract(
    other: dict[str, Any], stale: tuple[str, ...]
) -> None:
    rows = rows_with(lambda family: GOOD if family == "masks" else other)
    made = parse(DOCUMENTED)
    assert outcome(rows, 2, load(), registry=made).stale == stale
    assert outcome(rows, 2, load(), registry=made).exit_code == (1 if stale else 0)
    # A part of the plan cannot tell.
    assert outcome(rows, 3, load(), registry=made).stale == ()
    assert outcome(rows, 2, load(), registry=made, shard=True).stale == ()


def test_a_copy_of_a_record_can_be_resumed(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    copy = shutil.copytree(whole[0], tmp_path / "copy")
    assert read_record(copy).measurements == read_record(whole[0]).measurements
    with RecordWriter.reopen(copy) as writer:
        assert len(writer.found.measurements) == len(whole[1]["cells"])
