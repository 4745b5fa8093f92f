"""The main job, through the command line, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commandline import PACKAGES, SMALL, conformance, figures, measured, python

from conformance.record import read_record, read_witnesses

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("clean") / "run"
    return small_run(folder, "1")


def small_run(folder: Path, workers: str) -> dict[str, dict[str, Any]]:
    """The cells of a run whose witnesses are there."""
    result = conformance("run", *SMALL, "--json", "--workers", workers, "--out", str(folder))
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)["witnesses"]
    found = read_witnesses(read_record(folder))
    assert told["file"] == "witnesses.jsonl"
    assert told["count"] == len(found) == 2
    return measured(result)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("faulty") / "run"
    arguments = ("--family", "realistic", "--family", "shift_ladder", "--timeout", "1")
    result = conformance(
        "run", *SMALL, *arguments, "--plugin", str(HERE / "misbehaving.py"), "--json",
        "--out", str(folder),
    )  # fmt: skip
    return result, folder


def test_the_same_seed_gives_the_same_figures_whatever_the_workers(
    clean: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    again = small_run(tmp_path / "run", "2")
    assert {k: figures(r) for k, r in again.items()} == {k: figures(r) for k, r in clean.items()}
    assert all(sum(r["curves"]["ulp"].values()) == r["elements"] for r in again.values())
    small_run(tmp_path / "one", "1")
    one, two = (read_record(tmp_path / name) for name in ("one", "run"))
    assert read_witnesses(one) == read_witnesses(two)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("segfault", "crash"),
        ("os_exit", "crash"),
        ("hang_with_gil", "timeout"),
        ("hostile_text", "error"),
        ("wrong_dtype", "fail"),
    ],
)
def test_a_fault_is_a_verdict(faulty: tuple[Any, Path], name: str, verdict: str) -> None:
    result, _ = faulty
    assert result.returncode == 1, result.stderr
    row = measured(result)[
        f"accuracy/misbehaving.{name}/value/-/float32/eager/cpu/default/shift_ladder"
    ]
    assert row["verdict"] == verdict
    assert row["grade"] in ("F", None)


def test_a_fault_leaves_every_other_cell_as_it_was(
    faulty: tuple[Any, Path], clean: dict[str, dict[str, Any]]
) -> None:
    rows = measured(faulty[0])
    common = rows.keys() & clean.keys()
    assert len(common) > 2
    assert {k: figures(rows[k]) for k in common} == {k: figures(clean[k]) for k in common}
    untouched = "accuracy/misbehaving.segfault/value/-/float32/eager/cpu/default/realistic"
    assert rows[untouched]["verdict"] == "pass"


def test_hostile_text_of_a_subject_is_cut_and_harmless(faulty: tuple[Any, Path]) -> None:
    _, folder = faulty
    result = conformance("report", str(folder))
    assert result.returncode == 0, result.stderr
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "\u202e" not in page
    assert len(page) < 1_000_000


def test_interrupting_a_run_leaves_a_partial_record_and_no_child(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "conformance", "run", "--framework", "numpy",
         "--out", str(folder)],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    rows = folder / "measurements.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (
        not rows.exists() or len(rows.read_bytes().splitlines()) < 4
    ):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "partial" in stderr
    record = read_record(folder)
    assert record.partial
    assert record.measurements
    assert conformance("report", str(folder)).returncode == 0
    assert _group_is_empty(process.pid), "a process of the run is still there"


def _group_is_empty(leader: int) -> bool:
    """No process is left whose session was started by the run."""
    for _ in range(50):
        sessions = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                sessions.append((int(fields[3]), fields[0]))
        if not any(sid == leader and state != "Z" for sid, state in sessions):
            return True
        time.sleep(0.1)
    return False


def test_a_missing_framework_is_named_and_the_rest_runs(tmp_path: Path) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u, sys\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'tensorflow' else find(name, *a)\n"
    )
    result = python(
        "-m", "conformance", "run", "--op", "logsumexp", "--dtype", "float16",
        "--family", "realistic", "--framework", "numpy", "--framework", "tensorflow",
        "--out", str(tmp_path / "run"), path=(str(tmp_path),),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "tensorflow: not installed" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--op", "sofmax"), ("unknown op", "did you mean softmax?")),
        (("run", "--framework", "numpy", "--mode", "compiled"), ("matches no cell",)),
        (("run", "--profile", "fast"), ("unknown profile", "quick")),
        (("run", "--out", "/proc/nowhere/run", *SMALL), ("cannot write",)),
        (("run", "--cell", "a/b"), ("9 parts",)),
        (("run", "--plugin", "no.such.module"), ("no module of that name",)),
        (("report", "/nonexistent"), ("holds no record",)),
        (("explain", "softmax-float32-gap_ladder1-n2-s0-r0-000000"), ("digest",)),
        (("explain", "nonsense"), ("not a case id",)),
        (("explain", "sofmax-float32-gap_ladder1-n2-s0-r0-000000"), ("did you mean softmax?",)),
        (("exact", "softmax", "[1, two]"), ("'two' is not a number",)),
        (("exact", "softmax", "[1, [2]"), ("]",)),
        (("exact", "sofmax", "[1]"), ("did you mean softmax?",)),
        (("exact", "softmax_cross_entropy", "[1, 2]"), ("takes 2 inputs",)),
        (("exact", "sparse_softmax_cross_entropy", "[1, 2]", "2"), ("from 0 to 1",)),
        (("rnu",), ("did you mean run?",)),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    result = conformance(*arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in result.stderr


def test_a_damaged_record_is_refused_in_one_line(faulty: tuple[Any, Path], tmp_path: Path) -> None:
    _, folder = faulty
    for name in ("run.json", "measurements.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    rows = tmp_path / "measurements.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b'"pass"', b'"fail"', 1))
    result = conformance("report", str(tmp_path))
    assert result.returncode == 2
    assert "line" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_exact_answers_the_mean_loss_of_a_small_batch() -> None:
    result = conformance(
        "exact", "softmax_cross_entropy", "[[0.5, 1.5, 0.1], [2.2, 1.3, 1.7]]",
        "[[0, 1, 0], [0, 0, 1]]", "--reduction", "mean",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    mean = result.stdout.strip().splitlines()[-1]
    assert mean.startswith("mean: 0.839343338")


def test_exact_gives_as_many_digits_as_asked() -> None:
    result = conformance("exact", "softmax", "[0.1, 0.3, 0.5, 0.9]", "--digits", "300", "--json")
    exact = json.loads(result.stdout)["exact"][0]
    assert exact[0].startswith("0.1683850817695924335608987910763350629288766544")
    assert all(len(text) >= 300 for text in exact)


def test_explain_shows_the_case_and_every_answer() -> None:
    result = conformance(
        "explain", "softmax-float32-w.one_plus_inf-" + _digest(), "--framework", "numpy", "--json"
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    value = document["maps"][0]
    assert value["exact"][1] == "1.0"
    answers = {a["implementation"]: a for a in value["answers"]}
    assert {"conformance.numpy.softmax", "scipy.softmax"} <= answers.keys()
    assert answers["conformance.numpy.softmax"]["ulp"] == 0


def _digest() -> str:
    from reference import cases

    named = {c.case_id for c in cases.witnesses("softmax", "float32")}
    (found,) = (c for c in named if "w.one_plus_inf" in c)
    return found.rpartition("-")[2]


def test_a_dry_run_plans_without_importing_a_framework() -> None:
    code = (
        "import sys; from conformance.cli import call; code = call(['run', '--dry-run', '--json']);"
        "assert code == 0; bad = {'torch', 'tensorflow', 'jax'} & set(sys.modules); assert not bad"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert len(plan["cells"]) == sum(plan["counts"].values()) > 2000


def test_a_cell_key_runs_exactly_that_cell(tmp_path: Path) -> None:
    key = "accuracy/conformance.numpy.softmax/value/-/float32/eager/cpu/default/gap_ladder"
    result = conformance(
        "run", "--cell", key, "--json", "--workers", "1", "--out", str(tmp_path / "r")
    )
    assert result.returncode == 0, result.stderr
    assert list(measured(result)) == [key]


HOSTILE = """
[pytest]
addopts = -k nothing -x -m slow -W error
python_files = zzz_*.py
python_functions = nope_*
filterwarnings = error
norecursedirs = *
"""


def test_pytest_on_the_package_gives_the_same_verdicts_in_a_hostile_folder(
    clean: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "pytest.ini").write_text(HOSTILE)
    selection = {"framework": ["numpy"], "op": ["softmax"], "dtype": ["float32"],
                 "derivative": ["value"]}  # fmt: skip
    result = python(
        "-m", "pytest", "--pyargs", "conformance.suite", "-rA", "-q",
        cwd=tmp_path, CONFORMANCE_RUN=json.dumps({"selection": selection}),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    passed = {
        line.partition("[")[2].rpartition("]")[0]
        for line in result.stdout.splitlines()
        if line.startswith("PASSED")
    }
    assert passed == set(clean)


def test_a_passing_cell_of_a_documented_implementation_makes_nothing_stale(tmp_path: Path) -> None:
    """Witnesses of an entry that belong to other cells say nothing about this one."""
    from conformance import bench, judge
    from conformance.cells import Cell
    from conformance.plan import make_plan
    from conformance.registry import load_builtin
    from conformance.selection import Selection

    cell = Cell.from_key("accuracy/jax.nn.softmax/vjp/x/float16/eager/cpu/default/gap_ladder")
    chosen = make_plan(load_builtin(), selection=Selection(cell=(cell.key,)))
    made = bench.Bench(chosen)
    entry = chosen.entry(cell)
    assert made.registry.covering(cell, entry)
    found = made._witnesses(cell, entry, made.cases(cell))
    assert found
    assert not any(found.values())
    assert bench._evidence(found, judge.Judgement(grade="A")) == {}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_stops_after_as_many_failures_as_asked(tmp_path: Path, workers: str) -> None:
    plugin = tmp_path / "wrong.py"
    plugin.write_text(
        "from conformance import implementation\n"
        "for k in range(3):\n"
        "    @implementation(op='softmax', framework='numpy', name=f'wrong.{k}')\n"
        "    def wrong(x, *, axis):\n"
        "        return 'a string'\n"
    )
    result = conformance(
        "run", "--framework", "numpy", "--op", "softmax", "--plugin", str(plugin),
        "--max-failures", "1", "--workers", workers, "--json", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    document = json.loads(result.stdout)
    assert result.returncode == 1, result.stderr
    assert document["partial"]
    assert document["coverage"]["measured"] < document["coverage"]["planned"]
    assert document["counts"]["error"] < 30


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os; os._exit(0)", "ended the process"),
        ("import ctypes; ctypes.string_at(0)", "ended the process"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("x = 1", "registers no implementation"),
    ],
)
def test_a_plugin_that_does_not_import_is_a_mistake_of_its_user(
    tmp_path: Path, body: str, words: str
) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(body + "\n")
    result = conformance("run", "--plugin", str(plugin), "--dry-run")
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_plugin_that_prints_leaves_one_document_on_stdout(tmp_path: Path) -> None:
    plugin = tmp_path / "talkative.py"
    plugin.write_text(
        "import os\nprint('IMPORTED')\nos.chdir('/')\n"
        "from conformance import implementation\n"
        "@implementation(op='softmax', framework='numpy', name='talkative.softmax')\n"
        "def softmax(x, *, axis):\n    return x\n"
    )
    result = conformance("list", "implementations", "--plugin", str(plugin), "--json")
    names = {item["name"] for item in json.loads(result.stdout)["items"]}
    assert "talkative.softmax" in names


def test_a_mutant_that_only_raises_is_not_caught(tmp_path: Path) -> None:
    plugin = tmp_path / "mutant.py"
    plugin.write_text(
        "from conformance import implementation\n"
        "@implementation(op='softmax', framework='numpy', name='mutant.raises', role='mutant',\n"
        "    caught_by=dict(concern='accuracy', derivative='value', argument='-',\n"
        "                   dtype='float32', mode='eager', family='shift_ladder'))\n"
        "def raises(x, *, axis):\n    raise TypeError('never measured')\n"
    )
    result = conformance(
        "run", "--framework", "numpy", "--op", "softmax", "--plugin", str(plugin),
        "--family", "shift_ladder", "--dtype", "float32", "--json", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    assert result.returncode == 3
    assert json.loads(result.stdout)["mutants"]["missed"] == ["mutant.raises"]


def test_exact_refuses_what_it_would_have_to_reinterpret() -> None:
    for arguments in (
        ("logsumexp", "[1e400, 0]"),
        ("softmax_cross_entropy", "[1, 2]", "[1]"),
        ("sparse_softmax_cross_entropy", "[[1, 2], [3, 4]]", "[0]"),
    ):
        result = conformance("exact", *arguments)
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1
