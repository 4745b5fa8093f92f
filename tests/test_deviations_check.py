"""``conformance deviations check``: one fault for each rule, and the registry that ships has none.

No framework is needed here.
"""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path

import pytest

from conformance.cli import call
from conformance.deviations.checking import RULES, Problem, check
from conformance.deviations.reading import entries_of, packaged, read_folder
from conformance.registry import Implementation, load_builtin

TODAY = datetime.date(2026, 12, 1)
ENTRY = """
[[deviation]]
id = "made-up"
versions = ">=2.13,<2.14"
allows = { "nan@one_plus_inf" = 8 }
witnesses = ["softmax-float32-w.one_plus_inf-7d53c4"]
reason = "upstream-bug"
summary = "Made up."
upstream = "unreported"
since = "2026-11-24"
review_by = "2027-05-24"
[deviation.match]
implementation = "mine.softmax"
family = "infinity_lattice"
"""


def implementations() -> dict[str, Implementation]:
    made = [
        Implementation(function=lambda x, *, axis=-1: x, op="softmax", framework=of, name=name)
        for of, name in (("torch", "mine.softmax"), ("jax", "other.softmax"))
    ]
    return {entry.name: entry for entry in made}


def problems(**files: str) -> list[Problem]:
    texts = {f"{name}.toml": text for name, text in files.items()}
    return check(texts, implementations(), TODAY).problems


def other(text: str = ENTRY) -> str:
    return text.replace("made-up", "other")


NARROW = other().replace('family = "', 'dtype = "float32"\nfamily = "')


def test_a_right_entry_has_no_problem() -> None:
    found = check({"torch.toml": ENTRY}, implementations(), TODAY)
    assert (found.problems, found.files, found.entries) == ([], 1, 1)


@pytest.mark.parametrize(
    ("old", "new", "rule", "detail"),
    [
        ("[[deviation]]", "[[deviation]", "schema", "not TOML"),
        ('reason = "upstream-bug"', "reason = 'shrug'", "schema", "reason is one of"),
        ('"mine.softmax"', '"mine.sofmax"', "unknown", "did you mean mine.softmax"),
        ('"infinity_lattice"', '"infinity"', "unknown", "unknown family 'infinity'"),
        ('"mine.softmax"', '"other.softmax"', "mixed", "this one is about jax"),
        ('"mine.softmax"', '["mine.softmax", "other.softmax"]', "mixed", "is about jax, torch"),
        ('family = "', 'op = "logsumexp"\nfamily = "', "unmatched", "no cell of the full matrix"),
        ('family = "', 'concern = "accuracy"\nfamily = "', "unmatched", "no cell of the full"),
        ('"infinity_lattice"', '["infinity_lattice", "labels"]', "unmatched", "family 'labels' of"),
        ("7d53c4", "7d53c5", "witness", "does not recreate"),
        ('"infinity_lattice"', '"near_ties"', "witness", "runs in no cell of its entry"),
        ('c4"]', 'c4", "softmax-float32-w.one_plus_inf-7d53c4"]', "witness", "named twice"),
        (",<2.14", "", "unbounded", "versions >=2.13 has no end"),
        ("= 8", "= inf", "unbounded", "needs a match of derivative, family, implementation"),
        ("2027-05-24", "2026-11-30", "overdue", "review was due by 2026-11-30"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_entry_is_named(old: str, new: str, rule: str, detail: str) -> None:
    assert old in ENTRY
    found = problems(torch=ENTRY.replace(old, new))
    assert [(p.rule, p.severity) for p in found] == [(rule, "error")]
    assert detail in found[0].detail


def test_a_file_is_named_after_a_framework() -> None:
    assert [(p.rule, p.file) for p in problems(torhc=ENTRY)] == [("mixed", "torhc.toml")]
    assert problems(torch_softmax=ENTRY) == []


def test_an_id_is_used_once_in_all_files() -> None:
    (found,) = problems(torch=ENTRY, torch_other=ENTRY)
    assert (found.file, found.rule) == ("torch_other.toml", "repeated")
    assert "in torch.toml already" in found.detail


def test_an_entry_inside_another_is_redundant() -> None:
    narrow = NARROW.replace("= 8", "= 4")
    (found,) = problems(torch=ENTRY + narrow)
    assert (found.id, found.rule) == ("other", "redundant")


@pytest.mark.parametrize(
    "narrow",
    [
        other().replace("= 8", '= 4, "nan@finite" = 1'),
        NARROW.replace("= 8", "= 9"),
    ],
    ids=["another kind", "a larger bound"],
)
def test_a_bound_that_another_entry_undoes_is_a_warning(narrow: str) -> None:
    (found,) = problems(torch=ENTRY + narrow)
    assert (found.rule, found.severity) == ("overlap", "warning")


@pytest.mark.parametrize(
    "apart",
    [
        other().replace("2.14", "2.15").replace("2.13", "2.14"),
        NARROW.replace("= 8", '= 8, "nan@finite" = 1'),
        other().replace("nan@one_plus_inf", "nan@finite"),
    ],
    ids=["other versions", "the same bound", "another kind"],
)  # fmt: skip
def test_entries_that_do_not_get_in_each_others_way_are_right(apart: str) -> None:
    assert problems(torch=ENTRY + apart) == []


def test_an_entry_of_one_machine_does_not_make_a_general_one_redundant() -> None:
    facts = '[deviation.facts]\ncpu = "avx2"\n[deviation.match]'
    (found,) = problems(torch=ENTRY + other().replace("[deviation.match]", facts))
    assert (found.id, found.rule) == ("other", "redundant")


def test_a_cell_that_no_published_run_has_is_a_warning() -> None:
    text = ENTRY.replace("float32-w", "float64-w").replace('family = "', 'mode = "compiled"\n'
                         'dtype = "float64"\nfamily = "')  # fmt: skip
    assert [(p.rule, p.severity) for p in problems(torch=text)] == [("rare", "warning")]


def test_problems_come_in_the_order_of_files_and_entries() -> None:
    late = ENTRY.replace("2027-05-24", "2026-11-30").replace("infinity_lattice", "limit_table")
    found = problems(torch=other(late.replace(",<2.14", "")), torch_b=late, torch_a="[[")
    told = [(p.file, p.rule) for p in found if p.rule != "witness"]
    assert told == [("torch.toml", "unbounded"), ("torch.toml", "overdue"),
                    ("torch_b.toml", "overdue"), ("torch_a.toml", "schema")]  # fmt: skip


# ---------------------------------------------------------------- the registry that ships


def test_the_registry_that_ships_has_no_errors() -> None:
    texts = read_folder(packaged())
    # Its reviews are a matter of the day that the command is called on.
    day = max(datetime.date.fromisoformat(d.since) for _, d in entries_of(texts))
    found = check(texts, load_builtin(), day)
    assert found.errors == []
    assert found.entries > 50


# ---------------------------------------------------------------- the command


def folder(tmp_path: Path, **files: str) -> str:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    return str(tmp_path)


NUMPY = ENTRY.replace("mine.softmax", "scipy.softmax")


def test_the_command_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = folder(tmp_path, numpy=NUMPY)
    assert call(["deviations", "check", "--folder", where]) == 0
    assert capsys.readouterr().out == "1 entries in 1 files: 0 errors, 0 warnings\n"
    folder(tmp_path, numpy=NUMPY.replace(",<2.14", ""))
    assert call(["deviations", "check", "--folder", where]) == 1
    line, end = capsys.readouterr().out.splitlines()
    assert line.startswith("error: numpy.toml: made-up: unbounded: versions >=2.13 has no end")
    assert end == "1 entries in 1 files: 1 errors, 0 warnings"
    assert call(["deviations", "check", "--folder", where, "--exit-zero"]) == 0
    assert capsys.readouterr().out.endswith("1 errors, 0 warnings\n")
    assert call(["deviations", "check", "--folder", where, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["errors"], told["exit_code"]) == (1, 1, 1)
    assert told["items"][0].keys() == {"file", "id", "rule", "severity", "detail"}


def test_a_folder_that_cannot_be_read_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.toml").write_bytes(b"\xff")
    (tmp_path / "empty").mkdir()
    for where, why in (
        (tmp_path / "nowhere", "No such file or directory"),
        (tmp_path, "invalid start byte"),
        (tmp_path / "empty", "holds no .toml file"),
    ):
        assert call(["deviations", "check", "--folder", str(where)]) == 2
        assert re.match(f"error: .*{why}", capsys.readouterr().err)


@pytest.mark.parametrize("group", [[], ["deviations"]], ids=["all", "deviations"])
def test_a_group_without_a_command_shows_its_help(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(group) == 2
    told = capsys.readouterr()
    assert told.err.startswith("Usage: conformance")
    assert re.search("^Commands:$", told.err, re.MULTILINE)
    assert told.out == ""


def test_the_help_has_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["deviations", "check", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {rule} ", told, re.MULTILINE) for rule in RULES)
