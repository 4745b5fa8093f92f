"""SIGKILL at random moments: to the run itself, to a worker, to the child of an executor.

Each run is resumed until it is whole and then equals the uninterrupted run, figure by figure. Five
runs here; `tox run -e robustness` sets ROBUSTNESS_LONG=1 and kills fifty.

An executor that is killed from outside looks like an implementation that crashed it: the cell in
flight gets the verdict `crash`, as it must, and `--retry crash` measures it again.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commandline import EVERY_FAMILY, all_figures, conformance
from killing import TARGETS, killed, nothing_left

from conformance.columns import decoded
from conformance.record import RUN_FILE, check_parquet, read_record, read_witnesses

RUNS = 50 if os.environ.get("ROBUSTNESS_LONG") else 5
SELECTION = ("--framework", "numpy", "--op", "logsumexp", "--dtype", "float16",
             "--derivative", "value", "--workers", "2", *EVERY_FAMILY)  # fmt: skip

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="processes are looked up in /proc"
)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("clean") / "run"
    result = conformance("run", *SELECTION, "--json", "--out", str(folder))
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    assert len(found["cells"]) == found["coverage"]["planned"] > 20
    return found


def test_killed_runs_are_resumed_to_the_figures_of_the_uninterrupted_one(
    clean: dict[str, Any], tmp_path: Path
) -> None:
    draw = random.Random(44)
    hits: Counter[str] = Counter()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    number = killed_runs = 0
    while killed_runs < RUNS:
        assert number < 2 * RUNS + 10, "the kills come too late"
        folder = tmp_path / f"run{number}"
        number += 1
        before = sum(hits.values())
        with nothing_left(temporary):
            _kill_until_done(folder, temporary, hits, draw, len(clean["cells"]))
            _finish_and_compare(folder, clean)
        killed_runs += sum(hits.values()) > before
    print(f"{killed_runs} runs of {number} were killed and equal: {dict(hits)}")
    assert all(hits[target] for target in TARGETS)


def _kill_until_done(
    folder: Path, temporary: Path, hits: Counter[str], draw: random.Random, cells: int
) -> None:
    """One kill, and now and then another one while the run is being resumed."""
    for _ in range(3):
        target = TARGETS[sum(hits.values()) % len(TARGETS)]
        begun = (folder / RUN_FILE).exists()
        start = ["--resume", str(folder)] if begun else [*SELECTION, "--out", str(folder)]
        ended = killed(["run", *start], folder, temporary, target, draw, cells)
        hits[target] += ended.hit
        if (folder / RUN_FILE).exists():
            record = read_record(folder)
            measured = len(record.measurements) + len(record.superseded)
            assert measured >= ended.lines - 2, "a line that was there is lost"
            if not record.partial:
                return
        if draw.random() < 0.7:
            return


def _finish_and_compare(folder: Path, clean: dict[str, Any]) -> None:
    if not (folder / RUN_FILE).exists():  # killed before anything was recorded
        result = conformance("run", *SELECTION, "--json", "--out", str(folder))
    elif read_record(folder).run["ended"] is None or _crashed(folder):
        result = conformance("run", "--resume", str(folder), "--retry", "crash", "--json")
    else:
        result = None
    record = read_record(folder)
    assert all_figures(map(_asked_once, record.measurements)) == all_figures(
        map(decoded, clean["cells"])
    )
    assert not record.partial
    assert record.run["exit_code"] == 0
    check_parquet(folder, record.run)
    assert len(read_witnesses(record)) == clean["witnesses"]["count"] > 0
    assert {path.name for path in folder.iterdir()} <= {
        "run.json", "measurements.jsonl", "measurements.parquet", "witnesses.jsonl"
    }  # fmt: skip
    if result is not None:
        assert result.returncode == 0, result.stderr
        document = json.loads(result.stdout)
        same = ("exit_code", "counts", "controls", "mutants", "coverage", "witnesses",
                "stale_deviations")  # fmt: skip
        assert {k: _sorted(document[k]) for k in same} == {k: _sorted(clean[k]) for k in same}


def _asked_once(row: dict[str, Any]) -> dict[str, Any]:
    """Without the flag of a batch that was asked again because we killed its child."""
    return {**row, "flags": [flag for flag in row["flags"] if flag != "retried"]}


def _crashed(folder: Path) -> bool:
    return any(row["verdict"] == "crash" for row in read_record(folder).measurements)


def _sorted(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value
