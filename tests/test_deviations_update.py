"""``conformance deviations update``: what is proposed, and that nothing else changes in a file.

No framework but NumPy is needed.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic
from made_entries import EVERYTHING, conformance, package

from conformance import deviations, policy
from conformance.deviations import FolderError, parse
from conformance.deviations.edits import difference, edited
from conformance.deviations.reading import packaged, read_folder
from conformance.deviations.updating import Proposal, Update, propose
from conformance.record import Record

ENTRY = """
[[deviation]]
id = "made-up"
versions = ">=2.13,<2.14"
# Worst seen 2.
allows = { "nan@one_plus_inf" = 8, accuracy = 8.0 }  # elements
witnesses = [
    "softmax-float32-w.one_plus_inf-7d53c4",
    "softmax-float32-w.two_plus_inf-f565c3",  # another
]
reason = "upstream-bug"
summary = \"\"\"
Made \\
up.\"\"\"
upstream = "unreported"
since = "2026-11-24"
review_by = "2027-05-24"
[deviation.match]
implementation = "torch.softmax"
"""
ONE, TWO = "softmax-float32-w.one_plus_inf-7d53c4", "softmax-float32-w.two_plus_inf-f565c3"
RUN = {"profile": "standard", "selection": {}, "deviations": {"made-up": {"extent": "whole"}}}
NAN = {"kind": "nan@one_plus_inf", "case_id": ONE, "detail": "", "figure": 3.0}


def row(*breaches: dict[str, Any], **met: bool) -> dict[str, Any]:
    """A cell, with what breaks the contract in it, and whether the witnesses met it."""
    evidence = {
        {"one": ONE, "two": TWO}[name]: {"ratio": 0.1, "normwise": 0.0, "broken": int(not good)}
        for name, good in met.items()
    }
    return synthetic.measurement(
        breaches=list(breaches),
        verdict="fail" if breaches else "pass",
        nan_mismatches=len(breaches),
        witnesses={"made-up": evidence},
    )


def proposed(
    *rows: dict[str, Any],
    entry: str = ENTRY,
    version: str = "2.13.0+cpu",
    partial: bool = False,
    **run: Any,
) -> Update:
    measured = [r | {"framework_version": version} for r in rows]
    record = Record(run=RUN | run, measurements=measured, partial=partial)
    return propose(parse(entry), record, policy.load())


def edits(update: Update) -> list[tuple[str, str, str]]:
    assert all(p.id == "made-up" and p.why for p in update.proposals)
    return [(p.edit, p.kind, p.value) for p in update.proposals]


GONE = row(one=True, two=True)
SHOWN = row(NAN, one=False, two=False)


# ---------------------------------------------------------------- what is proposed


def test_nothing_is_proposed_for_what_is_as_documented() -> None:
    assert proposed(SHOWN) == Update()


def test_what_is_gone_goes() -> None:
    assert edits(proposed(GONE)) == [("remove", "", "")]


def test_what_is_gone_in_a_later_version_is_documented_up_to_it() -> None:
    assert edits(proposed(GONE, version="2.13.2")) == [("versions", "", ">=2.13,<2.13.2")]


@pytest.mark.parametrize(
    "given",
    [
        {"partial": True},
        {"shard": {"index": 1, "count": 2}},
        {"coverage": {"planned": 2}},
        {"deviations": {"made-up": {"extent": "part"}}},
        {"deviations": {}, "selection": {"op": ["softmax"]}},
    ],
    ids=["partial", "shard", "incomplete", "part", "selection"],
)
def test_who_did_not_see_all_of_it_removes_nothing(given: dict[str, Any]) -> None:
    assert proposed(GONE, **given) == Update()
    assert proposed(row(NAN, one=False, two=True), **given) == Update()


def test_what_matches_nothing_goes() -> None:
    update = proposed(deviations={"made-up": {"extent": "unmatched"}})
    assert edits(update) == [("remove", "", "")]


@pytest.mark.parametrize(
    ("kind", "figure", "bound"),
    [("nan@one_plus_inf", 9.0, "1e6"), ("nan@one_plus_inf", 3e6, "1.2e7")],
)
def test_what_got_worse_gets_a_larger_bound(kind: str, figure: float, bound: str) -> None:
    worse = row(NAN | {"kind": kind, "figure": figure}, one=False, two=False)
    assert edits(proposed(worse)) == [("allow", kind, bound)]


@pytest.mark.parametrize(
    ("ratio", "bound"), [(9.0, "36"), (25.1, "110"), (1e20, "4e20"), (float("inf"), "inf")]
)
def test_accuracy_gets_four_times_what_was_seen(ratio: float, bound: str) -> None:
    lost = SHOWN | {"breaches": [NAN | {"kind": "accuracy", "figure": ratio}],
                    "ratio_weak": ratio, "normwise": 3e-8, "nan_mismatches": 0}  # fmt: skip
    assert edits(proposed(lost)) == [("allow", "accuracy", bound)]


@pytest.mark.parametrize(
    ("version", "versions"),
    [
        ("2.14.1", ">=2.13,<2.15"),
        ("3.0", ">=2.13,<3.1"),
        ("2.14.0.dev20261201", ">=2.13,<2.15"),
        ("2.12.1+cpu", ">=2.12.1,<2.14"),
    ],
)
def test_what_shows_on_another_version_is_widened_to_it(version: str, versions: str) -> None:
    assert edits(proposed(SHOWN, version=version)) == [("versions", "", versions)]
    accepting = replace(parse(ENTRY).entries[0], versions=versions)
    assert accepting.accepts_version(version) or "dev" in version


def test_what_shows_worse_on_another_version_gets_both() -> None:
    worse = row(NAN | {"figure": 9.0}, one=False)
    assert edits(proposed(worse, version="2.14.0")) == [
        ("versions", "", ">=2.13,<2.15"),
        ("allow", "nan@one_plus_inf", "1e6"),
    ]


def test_what_is_gone_in_a_version_that_is_not_accepted_is_a_note() -> None:
    update = proposed(GONE, version="2.14.0")
    assert update.proposals == []
    (note,) = update.notes
    assert note.startswith("made-up: its witnesses met the contract on 2.14.0, which >=2.13,<2.14")
    assert note.endswith("nothing to change")


def test_versions_of_another_form_are_left_to_a_person() -> None:
    update = proposed(SHOWN, entry=ENTRY.replace(">=2.13,<2.14", "==2.13.*"), version="2.14.0")
    assert update.proposals == []
    assert "by hand" in update.notes[0]


def test_other_facts_say_nothing() -> None:
    text = ENTRY.replace("[deviation.match]", "[deviation.facts]\nmachine = 'x'\n[deviation.match]")
    assert proposed(GONE, entry=text, environment={"machine": "y"}) == Update()
    assert proposed(SHOWN, entry=text, version="2.14", environment={"machine": "y"}) == Update()
    assert edits(proposed(GONE, entry=text, environment={"machine": "x"})) == [("remove", "", "")]


def test_a_witness_that_met_the_contract_everywhere_goes() -> None:
    partly = row(NAN, one=False, two=True)
    assert edits(proposed(partly)) == [("witness", "", TWO)]
    assert proposed(partly, profile="quick") == Update()
    elsewhere = row(NAN, two=False) | {"key": "another", "derivative": "vjp"}
    assert proposed(partly, elsewhere) == Update()


# ---------------------------------------------------------------- edits


def changed_lines(old: str, new: str) -> list[str]:
    return [
        line for line in difference("x", old, new).splitlines()
        if line[0] in "+-" and not line.startswith(("+++", "---"))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("proposal", "lines"),
    [
        (
            Proposal("made-up", "versions", "", ">=2.13,<2.15"),
            ['-versions = ">=2.13,<2.14"', '+versions = ">=2.13,<2.15"'],
        ),
        (
            Proposal("made-up", "allow", "", "4e15", "accuracy"),
            ['-allows = { "nan@one_plus_inf" = 8, accuracy = 8.0 }  # elements',
             '+allows = { "nan@one_plus_inf" = 8, accuracy = 4e15 }  # elements'],
        ),
        (Proposal("made-up", "witness", "", ONE), [f'-    "{ONE}",']),
        (Proposal("another", "remove", ""), []),
    ],
    ids=["versions", "allow", "witness", "another"],
)  # fmt: skip
def test_an_edit_changes_its_line_alone(proposal: Proposal, lines: list[str]) -> None:
    assert changed_lines(ENTRY, edited(ENTRY, [proposal])) == lines


@pytest.mark.parametrize("k", [0, 1, 2])
def test_an_entry_is_removed_with_its_comments_and_no_others(k: int) -> None:
    parts = [ENTRY.replace("made-up", f"id-{n}") for n in range(3)]
    heads = ["# The file.\n", "# About the second.", "# About the third."]
    text = (
        "".join(f"{head}{part}" for head, part in zip(heads, parts, strict=True)) + "# The end.\n"
    )
    new = edited(text, [Proposal(f"id-{k}", "remove", "")])
    assert [d.id for d in parse(new).entries] == [f"id-{n}" for n in range(3) if n != k]
    assert all(head in new for head in heads)
    assert "# The end." in new
    assert not [line for line in changed_lines(text, new) if line.startswith("+")]


def test_a_header_that_is_not_a_line_of_its_own_is_left_to_a_person() -> None:
    text = ENTRY.replace("]]", "]] #", 1)
    with pytest.raises(FolderError, match="to remove"):
        edited(text, [Proposal("made-up", "remove", "")])


def test_every_entry_that_ships_can_be_edited() -> None:
    texts = read_folder(packaged())
    for entry in deviations.load().entries:
        kind = next(iter(entry.allows))
        (file,) = [name for name, text in texts.items() if f'id = "{entry.id}"\n' in text]
        new = edited(texts[file], [Proposal(entry.id, "allow", "", "7e77", kind),
                                   Proposal(entry.id, "versions", "", "==1")])  # fmt: skip
        (found,) = [d for d in parse(new).entries if d.id == entry.id]
        expected = replace(entry, allows={**entry.allows, kind: 7e77}, versions="==1")
        assert found == expected
        assert len(changed_lines(texts[file], new)) == 4
        without = parse(edited(texts[file], [Proposal(entry.id, "remove", "")])).entries
        assert without == tuple(d for d in parse(texts[file]).entries if d.id != entry.id)


# ---------------------------------------------------------------- the command


def test_what_a_run_of_everything_calls_for_makes_the_next_one_conform(tmp_path: Path) -> None:
    where = package(tmp_path / "copy", *EVERYTHING)
    file = tmp_path / "copy/conformance/deviations/numpy.toml"
    record = str(tmp_path / "one")
    assert conformance(where, "run", "--json", "--workers", "1", "--out", record).returncode == 3
    before = file.read_text()

    told = conformance(where, "deviations", "update", record)
    assert told.returncode == 0, told.stderr
    assert file.read_text() == before, "not without being asked"
    assert told.stderr.splitlines()[-1] == "5 entries, 4 edits proposed"
    assert "mended: versions >=2,<2." in told.stderr
    assert "absent: remove: it matches no cell of the full matrix" in told.stderr
    assert "worse: allow nan@one_plus_inf 1e6: nan@one_plus_inf 69 was seen, 3 is" in told.stderr
    assert "elsewhere: versions >=1,<2." in told.stderr

    document = json.loads(conformance(where, "deviations", "update", record, "--json").stdout)
    assert document["diff"] == told.stdout
    assert document["applied"] is False
    assert {(p["id"], p["edit"]) for p in document["items"]} == {
        ("mended", "versions"), ("absent", "remove"), ("worse", "allow"), ("elsewhere", "versions"),
    }  # fmt: skip

    applied = conformance(where, "deviations", "update", record, "--apply")
    assert applied.stderr.splitlines()[-1] == "5 entries, 4 edits made"
    assert applied.stdout == told.stdout
    after = file.read_text()
    file.write_text(before)
    subprocess.run(["git", "apply"], input=told.stdout, text=True, cwd=where, check=True)
    assert file.read_text() == after, "the diff says the same"

    result = conformance(where, "run", "--json", "--workers", "1", "--out", str(tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["deviations"] == {
        "shows": "shown", "worse": "shown", "elsewhere": "shown", "mended": "not exercised"
    }  # fmt: skip


def test_a_folder_that_cannot_be_written_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from conformance import files
    from conformance.cli import call
    from conformance.record import RecordWriter

    (tmp_path / "torch.toml").write_text(ENTRY)
    with RecordWriter(tmp_path / "run", RUN) as writer:
        writer.append(GONE)
        writer.finish()

    def refuse(path: Path, text: str) -> None:
        raise OSError(30, "")

    monkeypatch.setattr(files, "replace_text", refuse)
    arguments = ["deviations", "update", str(tmp_path / "run"), "--folder", str(tmp_path)]
    assert call([*arguments, "--apply"]) == 2
    assert "torch.toml: Read-only file system" in capsys.readouterr().err
    assert call(["deviations", "update", str(tmp_path)]) == 2
    assert "holds no record" in capsys.readouterr().err
