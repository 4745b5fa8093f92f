"""What the processes of a run leave each other: whole and right, or not there."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conformance import shelf
from conformance.answers import Answers, Question
from conformance.bench import Bench
from conformance.frameworks import get_framework
from conformance.plan import make_plan
from conformance.registry import load_builtin
from conformance.shelf import NAME, VARIABLE, Shelf
from reference import bounds, cases, formats, oracle
from reference.cases import Case

QUESTION = Question("softmax", "vjp", "x", formats.get("float32"))


@pytest.fixture
def rows() -> list[Case]:
    return list(cases.make("realistic", "softmax", "float32", 9, seed=0, limit=4))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("conformance.answers._WORTH_SHARING", 0.0)
    return tmp_path


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


def test_another_process_finds_what_was_computed(
    here: Path, rows: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Answers(shared=Shelf(here))
    references = first.references(QUESTION, rows)
    limits = [first.bounds(QUESTION, rows, flushes=f) for f in (False, True)]
    monkeypatch.setattr(oracle, "evaluate", refuse)
    monkeypatch.setattr(bounds, "evaluate", refuse)
    second = Answers(shared=Shelf(here))
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


def sealed(*arrays: np.ndarray[Any, Any]) -> bytes:
    """What `Shelf.put` writes."""
    stream = io.BytesIO()
    for array in arrays:
        np.save(stream, array)
    return hashlib.sha256(stream.getvalue()).digest() + stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        hashlib.sha256(b"garbage").digest() + b"garbage",
        hashlib.sha256(sealed(np.zeros(9))[32:-1]).digest() + sealed(np.zeros(9))[32:-1],
        sealed(*[np.zeros((4, 9))] * 3),
        sealed(*[np.zeros((4, 9))] * 5),
        sealed(np.zeros((4, 7)), np.zeros((4, 9)), np.zeros((4, 9), np.int64),
               *[np.zeros((4, 9), np.uint8)] * 2),
        sealed(*[np.zeros((3, 9))] * 2, np.zeros((3, 9), np.int64),
               *[np.zeros((3, 9), np.uint8)] * 2),
    ],
    ids=["garbage", "cut", "too few", "other dtypes", "another width", "other rows"],
)  # fmt: skip
def test_a_right_digest_of_something_else_counts_as_missing(
    here: Path, rows: list[Case], content: bytes
) -> None:
    right = Answers(shared=Shelf(here)).references(QUESTION, rows).rounded()
    (path,) = here.iterdir()
    path.write_bytes(content)
    again = Answers(shared=Shelf(here)).references(QUESTION, rows)
    assert np.array_equal(again.rounded(), right)


@pytest.mark.parametrize(
    "damage", ["cut", "flipped", "empty", "gone", "a folder", "a pipe", "a dangling link"]
)
def test_what_is_damaged_is_computed_again(here: Path, rows: list[Case], damage: str) -> None:
    right = Answers(shared=Shelf(here)).references(QUESTION, rows).rounded()
    (path,) = here.iterdir()
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage in ("cut", "flipped", "empty"):
        path.write_bytes(content[: {"cut": -1, "flipped": None, "empty": 0}[damage]])
    elif damage == "a folder":
        path.mkdir()
    elif damage == "a pipe":
        os.mkfifo(path)
    elif damage == "a dangling link":
        path.symlink_to(here / "nowhere")
    assert np.array_equal(Answers(shared=Shelf(here)).references(QUESTION, rows).rounded(), right)


def test_a_disk_that_refuses_costs_nothing_but_time(here: Path, rows: list[Case]) -> None:
    here.rmdir()
    assert Answers(shared=Shelf(here)).references(QUESTION, rows).shape == (4, 9)
    assert not here.exists()


def test_other_rows_flags_or_formats_have_answers_of_their_own(
    here: Path, rows: list[Case]
) -> None:
    answers = Answers(shared=Shelf(here))
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


def test_what_is_written_goes_through_no_link(here: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious", encoding="utf-8")
    shelf_ = Shelf(here)
    shelf_.put("key", [np.zeros(3)])
    path = next(p for p in here.iterdir() if p != mine)
    path.unlink()
    path.with_suffix(f".{os.getpid()}").symlink_to(mine)
    shelf_.put("key", [np.zeros(3)])
    assert mine.read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("in_the_way", ["a file", "a pipe"])
def test_whatever_stands_in_its_place_goes(tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / NAME
    if in_the_way == "a pipe":
        os.mkfifo(path)
    else:
        path.write_text("x", encoding="utf-8")
    with shelf.opened(tmp_path):
        assert path.is_dir()


def test_a_folder_that_somebody_else_named_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where a run can have none of its own, and not by a bench that no run started."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with shelf.opened(tmp_path / "not there"):
        assert shelf.of_run() is None
    assert os.environ[VARIABLE] == str(tmp_path)
    monkeypatch.setattr(Shelf, "get", refuse)
    rows = list(cases.make("realistic", "softmax", "float32", 3, limit=2))
    made = Bench(make_plan(load_builtin(), profile="quick"))
    assert made.answers.references(QUESTION, rows).shape == (2, 3)


def test_no_implementation_is_told_where_it_is() -> None:
    for framework in ("numpy", "torch", "tensorflow", "jax"):
        assert get_framework(framework).environment("default")[VARIABLE] is None
