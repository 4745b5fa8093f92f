"""What the processes of a run leave each other: whole and right, or not there."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from conformance import shelf
from conformance.answers import Answers, Question
from conformance.frameworks import get_framework
from conformance.shelf import NAME, VARIABLE, Shelf
from reference import bounds, cases, formats, oracle
from reference.cases import Case

QUESTION = Question("softmax", "vjp", "x", formats.get("float32"))


@pytest.fixture
def rows() -> list[Case]:
    return list(cases.make("realistic", "softmax", "float32", 9, seed=0, limit=4))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setattr("conformance.answers._WORTH_SHARING", 0.0)
    return tmp_path


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


def test_another_process_finds_what_was_computed(
    here: Path, rows: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Answers()
    references = first.references(QUESTION, rows)
    limits = [first.bounds(QUESTION, rows, flushes=f) for f in (False, True)]
    monkeypatch.setattr(oracle, "evaluate", refuse)
    monkeypatch.setattr(bounds, "evaluate", refuse)
    second = Answers()
    found = second.references(QUESTION, rows)
    for name in ("hi", "lo", "exponent", "codes", "tier"):
        assert np.array_equal(getattr(found, name), getattr(references, name)), name
        assert getattr(found, name).dtype == getattr(references, name).dtype
    assert found.format is references.format
    for flushes, limit in zip((False, True), limits, strict=True):
        again = second.bounds(QUESTION, rows, flushes=flushes)
        for f in fields(bounds.Bounds):
            assert np.array_equal(getattr(again, f.name), getattr(limit, f.name)), f.name
            assert getattr(again, f.name).dtype == np.longdouble
    assert len(list(here.iterdir())) == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone", "a folder"])
def test_what_is_damaged_is_computed_again(here: Path, rows: list[Case], damage: str) -> None:
    right = Answers().references(QUESTION, rows).rounded()
    (path,) = here.iterdir()
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage in ("cut", "flipped", "empty"):
        path.write_bytes(content[: {"cut": -1, "flipped": None, "empty": 0}[damage]])
    elif damage == "a folder":
        path.mkdir()
    assert np.array_equal(Answers().references(QUESTION, rows).rounded(), right)


def test_a_disk_that_refuses_costs_nothing_but_time(here: Path, rows: list[Case]) -> None:
    here.rmdir()
    assert Answers().references(QUESTION, rows).shape == (4, 9)
    assert not here.exists()


def test_other_rows_flags_or_formats_have_answers_of_their_own(
    here: Path, rows: list[Case]
) -> None:
    answers = Answers()
    answers.references(QUESTION, rows)
    answers.references(QUESTION, rows[:2])
    answers.references(QUESTION, rows[::-1])
    answers.references(Question("softmax", "vjp", "x", formats.get("float64")), rows)
    answers.references(Question("softmax", "value", "-", formats.get("float32")), rows)
    assert len(list(here.iterdir())) == 5


def test_a_run_opens_an_empty_one_and_takes_it_away(tmp_path: Path) -> None:
    left = tmp_path / NAME
    left.mkdir()
    (left / "of a killed run").write_text("x", encoding="utf-8")
    with shelf.opened(tmp_path):
        assert Path(os.environ[VARIABLE]) == left
        assert list(left.iterdir()) == []
        Shelf(left).put("key", [np.arange(3.0)])
        assert Shelf(left).get("key") is not None
    assert not left.exists()
    assert VARIABLE not in os.environ
    assert shelf.of_run() is None


def test_a_link_in_its_place_is_removed_and_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("x", encoding="utf-8")
    (tmp_path / NAME).symlink_to(elsewhere)
    with shelf.opened(tmp_path):
        assert not (tmp_path / NAME).is_symlink()
    assert (elsewhere / "mine").exists()


def test_no_implementation_is_told_where_it_is() -> None:
    for framework in ("numpy", "torch", "tensorflow", "jax"):
        assert get_framework(framework).environment("default")[VARIABLE] is None
