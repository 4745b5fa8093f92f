"""Whatever an implementation does, its cell gets the promised verdict and its neighbours nothing.

The faults are those of `fault_matrix.py` and its two sisters; each names what it must come to. All
of them run in one `conformance run` and, with the faults switched off, in another one. As a part
of the tests only some of them run, and in NumPy; with ``CONFORMANCE_MATRIX=all`` all of them do, in
every framework that is installed (`tox run -e robustness`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fault_matrix_answers  # noqa: F401 - adds to the table
import fault_matrix_state  # noqa: F401 - adds to the table
import pytest
from fault_matrix import FAULTS
from leftovers import nothing_left

import conformance as package
from conformance.frameworks import installed_version
from conformance.record import Record, read_record

HERE = Path(__file__).parent
PLUGINS = ("fault_matrix.py", "fault_matrix_state.py", "fault_matrix_answers.py")
SMALL = ("--op", "softmax", "--dtype", "float32", "--derivative", "value", "--mode", "eager",
         "--concern", "accuracy", "--family", "shift_ladder")  # fmt: skip
LIMITS = ("--timeout", "3", "--memory-limit", "512M")
CHANGES_ITS_OWN_ANSWER = ("replaced", "rounding", "flushed")
"""Words of leaks that act at once, in the very call that they come from."""
ALL = os.environ.get("CONFORMANCE_MATRIX") == "all"

Rows = dict[str, dict[str, Any]]

PLACES = [
    (framework, name)
    for name, fault in FAULTS.items()
    for framework in fault.frameworks
    if (installed_version(framework) if ALL else framework == "numpy" and len(fault.frameworks) > 1)
]
each_place = pytest.mark.parametrize(("framework", "name"), PLACES, ids=lambda value: str(value))


def run(folder: Path, **variables: str) -> Any:
    """Measure every place; without its own temporary files or children outliving it."""
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    word = f"conformance-fault-{uuid.uuid4().hex}"
    names = [f"matrix.{framework}.{name}" for framework, name in PLACES]
    chosen = [
        part for n in names for part in ("--implementation", n, "--implementation", f"{n}.beside")
    ]
    plugins = [part for plugin in PLUGINS for part in ("--plugin", str(HERE / plugin))]
    with nothing_left(temporary, word):
        result = subprocess.run(
            [sys.executable, "-P", "-m", "conformance", "run", *SMALL, *LIMITS, *chosen, *plugins,
             "--json", "--out", str(folder / "run")],
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(package.__file__).parents[1]),
                "TMPDIR": str(temporary),
                "CONFORMANCE_FAULT_WORD": word,
                **variables,
            },
        )  # fmt: skip
    assert result.stdout, result.stderr
    return result


def rows_of(result: Any) -> Rows:
    rows: Rows = {row["implementation"]: row for row in json.loads(result.stdout)["cells"]
                  if row["role"] == "subject"}  # fmt: skip
    return rows


def figures(row: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement without its times."""
    return {k: v for k, v in row.items() if not k.startswith("seconds_")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Any:
    result = run(tmp_path_factory.mktemp("clean"), CONFORMANCE_NO_FAULTS="1")
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faulty")


@pytest.fixture(scope="module")
def faulty(folder: Path) -> Any:
    """The run with the faults; that it leaves nothing behind is checked on the way."""
    return run(folder)


@pytest.fixture(scope="module")
def measured(faulty: Any) -> Rows:
    return rows_of(faulty)


@pytest.fixture(scope="module")
def undisturbed(clean: Any) -> Rows:
    return rows_of(clean)


def test_the_matrix_is_large_enough() -> None:
    assert len(FAULTS) >= 40
    assert len(PLACES) >= 40


def test_a_run_full_of_faults_is_a_run_and_no_broken_instrument(faulty: Any) -> None:
    document = json.loads(faulty.stdout)
    assert document["exit_code"] == faulty.returncode == 1, faulty.stderr
    assert document["harness_errors"] == []
    assert not document["partial"]
    assert document["controls"]["failed"] == document["mutants"]["missed"] == []
    assert len(document["cells"]) == document["coverage"]["planned"]


@each_place
def test_a_fault_comes_to_its_verdict(
    framework: str, name: str, measured: Rows, undisturbed: Rows
) -> None:
    fault, row = FAULTS[name], measured[f"matrix.{framework}.{name}"]
    assert row["verdict"] == fault.verdict(framework), row["breaches"]
    told = {b["kind"]: b["detail"] for b in row["breaches"]}
    if fault.breach is None:
        assert told == {}
        return
    assert fault.text in told[fault.breach]
    assert all(detail.isprintable() for detail in told.values())
    assert max(map(len, told.values())) <= 600


@each_place
def test_the_other_rows_of_a_cell_keep_their_figures(
    framework: str, name: str, measured: Rows, undisturbed: Rows
) -> None:
    fault, key = FAULTS[name], f"matrix.{framework}.{name}"
    row, before = measured[key], undisturbed[key]
    if fault.always:
        return
    # An array of another dtype or shape is the answer to both rows of its batch.
    one = row["verdict"] in ("crash", "timeout", "error")
    lost = 1 if one else 2 if fault.breach in ("dtype", "shape") else 0
    assert row["cases"] == before["cases"] - lost
    if not lost and not any(word in fault.text for word in CHANGES_ITS_OWN_ANSWER):
        told = ("verdict", "grade", "breaches", "message")
        same = {k: v for k, v in figures(before).items() if k not in told}
        assert {k: figures(row)[k] for k in same} == same


@each_place
def test_the_neighbour_of_a_fault_is_as_it_was(
    framework: str, name: str, measured: Rows, undisturbed: Rows
) -> None:
    key = f"matrix.{framework}.{name}.beside"
    assert undisturbed[key]["verdict"] == "pass"
    assert figures(measured[key]) == figures(undisturbed[key])


def test_the_proofs_of_the_instrument_are_as_they_were(faulty: Any, clean: Any) -> None:
    def proofs(result: Any) -> dict[str, Any]:
        cells = json.loads(result.stdout)["cells"]
        return {row["key"]: figures(row) for row in cells if row["role"] != "subject"}

    assert proofs(faulty) == proofs(clean)


@pytest.fixture(scope="module")
def record(faulty: Any, folder: Path) -> Record:
    return read_record(folder / "run")


def test_the_record_is_readable_and_complete(record: Record, faulty: Any) -> None:
    assert not record.partial
    cells = {row["key"]: row for row in json.loads(faulty.stdout)["cells"]}
    assert {row["key"] for row in record.measurements} == set(cells)
    for row in record.measurements:
        assert row["verdict"] == cells[row["key"]]["verdict"]


def test_the_record_says_what_was_allowed(record: Record) -> None:
    settings = record.run["settings"]
    assert settings["deadline"] == 3
    assert settings["memory_limit"] == 512 << 20
