"""``conformance deviations list``. No framework is needed here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic

from conformance import deviations
from conformance.cli import call
from conformance.record import RecordWriter

INFINITE = "torch-plus-inf"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert call(["deviations", "list", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    items: list[dict[str, Any]] = document["items"]
    return items


def test_all_entries_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    items = told(capsys)
    assert [i["id"] for i in items] == [d.id for d in deviations.load().entries]
    assert {i["file"] for i in items} >= {"torch.toml", "jax.toml", "numpy.toml"}
    assert call(["deviations", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"{len(items)} entries")
    assert len(lines) == len(items) + 1


def test_options_choose_among_them(capsys: pytest.CaptureFixture[str]) -> None:
    of_torch = told(capsys, "--framework", "torch", "--op", "softmax", "--reason", "wont-fix")
    assert INFINITE in {i["id"] for i in of_torch}
    assert all(i["file"].startswith("torch") for i in of_torch)
    assert {i["reason"] for i in of_torch} == {"wont-fix"}
    assert len(of_torch) < len(told(capsys, "--framework", "torch"))


def test_an_entry_that_is_named_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["deviations", "list", INFINITE]) == 0
    shown = capsys.readouterr().out
    for text in ("(torch.toml)", "x - max x is inf - inf", "allows: nan@one_plus_inf 1e+06",
                 "versions: >=", "witnesses: softmax-float32-w.one_plus_inf"):  # fmt: skip
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["torch-plus-in"], "did you mean torch-plus-inf?"),
        (["--framework", "torhc"], "did you mean torch?"),
        (["--reason", "shrug"], "known: upstream-bug"),
        (["--run", "/nowhere"], "/nowhere"),
    ],
)
def test_a_name_that_does_not_exist_is_a_mistake(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["deviations", "list", *arguments]) == 2
    assert hint in capsys.readouterr().err


def test_a_file_that_is_wrong_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "torch.toml").write_text('[[deviation]]\nid = "half"\n')
    assert call(["deviations", "list", "--folder", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: deviation half: ")
    assert "deviations check" in told


def test_a_record_says_how_entries_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nan = {"kind": "nan@one_plus_inf", "case_id": "c", "detail": "3 elements", "figure": 3.0}
    row = synthetic.measurement(
        concern="special_values", family="infinity_lattice", verdict="fail", grade="F",
        nan_mismatches=3, breaches=[nan],
    )  # fmt: skip
    with RecordWriter(tmp_path / "run", {"selection": {"op": ["softmax"]}}) as writer:
        writer.append(row)
        writer.finish()
    items = told(capsys, "--framework", "torch", "--run", str(tmp_path / "run"))
    by_id = {i["id"]: i for i in items}
    assert by_id[INFINITE]["standing"] == "shown"
    assert by_id[INFINITE]["seen"]["excused"] == {"nan@one_plus_inf": 3.0}
    assert {i["standing"] for i in items if i["id"] != INFINITE} == {"not exercised"}
    assert call(["deviations", "list", INFINITE, "--run", str(tmp_path / "run")]) == 0
    assert "standing: shown" in capsys.readouterr().out
