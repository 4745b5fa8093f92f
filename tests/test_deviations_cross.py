"""``conformance deviations cross``: what every framework deviates in. No framework is needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import synthetic

from conformance.cli import call
from conformance.deviations.crossing import suspects
from conformance.record import RecordWriter

NAN = {"kind": "nan@one_plus_inf", "case_id": "c", "detail": "3 elements", "figure": 3.0}
WORSE = NAN | {"figure": 7.0}


def row(framework: str, *breaches: dict[str, Any], **given: Any) -> dict[str, Any]:
    verdict = "fail" if breaches else "pass"
    fields = {"implementation": f"{framework}.softmax", "verdict": verdict, "concern":
              "special_values", "family": "infinity_lattice"} | given  # fmt: skip
    return synthetic.measurement(framework=framework, breaches=list(breaches), **fields)


def test_what_every_framework_shows_is_a_suspect() -> None:
    documented = row("jax", WORSE, verdict="deviation", deviation="one+two")
    (found,) = suspects([row("torch", NAN), documented])
    assert found.row() == {
        "op": "softmax",
        "derivative": "value",
        "family": "infinity_lattice",
        "kind": "nan@one_plus_inf",
        "arguments": ["-"],
        "dtypes": ["float32"],
        "unanimous": True,
        "worst": 7.0,
        "frameworks": {
            "jax": {"deviating": ["jax.softmax"], "ran": ["jax.softmax"]},
            "torch": {"deviating": ["torch.softmax"], "ran": ["torch.softmax"]},
        },
        "documented": ["one", "two"],
    }


@pytest.mark.parametrize(
    "rows",
    [
        [row("torch", NAN)],
        [row("torch", NAN), row("jax")],
        [row("torch", NAN), row("jax", NAN | {"kind": "nan@finite"})],
        [row("torch", NAN), row("jax", NAN, dtype="float16")],
        [row("torch", NAN), row("jax", NAN, family="masks")],
        [row("torch", NAN), row("jax", NAN, role="antipattern")],
        [row("torch", NAN), row("jax", NAN), row("numpy")],
    ],
    ids=["one framework", "only one", "kind", "dtype", "family", "role", "not all"],
)
def test_what_not_every_framework_shows_is_none(rows: list[dict[str, Any]]) -> None:
    assert suspects(rows) == []


def test_a_framework_that_did_not_run_does_not_count() -> None:
    absent = row("numpy", verdict="not installed")
    assert len(suspects([row("torch", NAN), row("jax", NAN), absent])) == 1


def test_one_implementation_that_conforms_makes_it_less_suspect_and_later() -> None:
    fine = row("jax", implementation="jax.other")
    masks = {"family": "masks"}
    found = suspects([
        row("torch", NAN), row("jax", NAN), fine,
        row("torch", NAN, **masks), row("jax", NAN, **masks),
    ])  # fmt: skip
    assert [(s.family, s.unanimous) for s in found] == [
        ("masks", True),
        ("infinity_lattice", False),
    ]
    assert found[1].ran["jax"] == {"jax.softmax", "jax.other"}


def test_dtypes_come_together_where_every_framework_shows_it_in_each() -> None:
    (found,) = suspects([
        row("torch", NAN), row("jax", NAN),
        row("torch", NAN, dtype="float16"), row("jax", NAN, dtype="float16"),
        row("torch", NAN, dtype="bfloat16"),
        row("jax", dtype="bfloat16"),
    ])  # fmt: skip
    assert found.dtypes == {"float32", "float16"}


def record(folder: Path, *rows: dict[str, Any]) -> str:
    with RecordWriter(folder, {}) as writer:
        writer.extend(rows)
        writer.finish()
    return str(folder)


def test_the_command_takes_a_record_of_each_framework(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record(tmp_path / of, row(of, NAN)) for of in ("torch", "jax")]
    assert call(["deviations", "cross", *runs]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "softmax value, infinity_lattice: nan@one_plus_inf (every implementation)",
        "    in float32",
        "    jax: 1 of 1 implementations: jax.softmax",
        "    torch: 1 of 1 implementations: torch.softmax",
        "    documented: nowhere",
    ]
    assert shown.err == "1 suspects in 2 cells of torch, jax\n"
    assert call(["deviations", "cross", *runs, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["frameworks"], len(told["items"])) == (1, ["torch", "jax"], 1)


def test_one_framework_has_nothing_to_compare_and_no_record_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["deviations", "cross", record(tmp_path / "one", row("torch", NAN))]) == 0
    assert "one framework at most" in capsys.readouterr().err
    assert call(["deviations", "cross", str(tmp_path)]) == 2
    assert "holds no record" in capsys.readouterr().err
    assert call(["deviations", "cross"]) == 2
    assert "Missing argument 'RUN...'" in capsys.readouterr().err


def test_a_record_that_made_its_names_up_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<b>\x1b[31m\u202e\n"
    rows = [
        row(of, NAN | {"kind": evil}, op=evil, derivative=evil, dtype=evil, implementation=evil,
            key=f"{of}{evil}")
        for of in ("torch", evil)
    ]  # fmt: skip
    assert call(["deviations", "cross", record(tmp_path / "run", *rows)]) == 0
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\u202e" not in shown.out + shown.err
