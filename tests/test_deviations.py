"""The registry of deviations: what it does not say, it does not excuse.

No framework is needed here.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from conformance import deviations
from conformance.cells import Cell
from conformance.deviations import Deviation, DeviationError, Registry, parse
from conformance.judge import Breach
from conformance.registry import Implementation

ENTRY = """
[[deviation]]
id = "{id}"
versions = ">=2.13,<2.14"
allows = {{ accuracy = 60, "nan@one_plus_inf" = 8 }}
witnesses = ["softmax-float32-w.one_plus_inf-25fbff"]
reason = "upstream-bug"
summary = "Made up."
upstream = "unreported"
since = "2026-11-24"
review_by = "2027-05-24"
[deviation.match]
framework = "torch"
op = "softmax"
dtype = ["float32", "float16"]
family = "infinity_lattice"
"""

CELL = Cell("special_values", "mine.softmax", "value", "-", "float32", "eager", "cpu", "default",
            "infinity_lattice")  # fmt: skip


def subject(**given: str) -> Implementation:
    fields = {"op": "softmax", "framework": "torch", "name": "mine.softmax"} | given
    return Implementation(function=lambda x, *, axis=-1: x, **fields)  # type: ignore[arg-type]


def breach(kind: str = "nan@one_plus_inf", figure: float = 1.0) -> Breach:
    return Breach(kind, "softmax-float32-w.one_plus_inf-25fbff", "", figure)


def registry(*ids: str) -> Registry:
    return parse("".join(ENTRY.format(id=i) for i in ids or ("made-up",)))


@pytest.mark.parametrize("entry", deviations.load().entries, ids=lambda d: d.id)
def test_an_entry_that_ships_explains_itself(entry: Deviation) -> None:
    assert len(entry.summary) > 60


# ---------------------------------------------------------------- strictness


def test_what_is_documented_is_excused() -> None:
    ruling = registry().rule(CELL, subject(), "2.13.0", [breach(figure=8.0)])
    assert ruling.id == "made-up"
    assert ruling.worse == ()


def test_a_figure_above_the_bound_is_worse_and_not_excused() -> None:
    ruling = registry().rule(CELL, subject(), "2.13.0", [breach(figure=9.0)])
    assert ruling.id is None
    assert ruling.worse == ("made-up",)


def test_nan_as_a_figure_is_not_below_any_bound() -> None:
    ruling = registry().rule(CELL, subject(), "2.13.0", [breach("accuracy", math.nan)])
    assert ruling.id is None
    assert ruling.worse == ("made-up",)


def test_another_kind_is_not_excused() -> None:
    ruling = registry().rule(CELL, subject(), "2.13.0", [breach("nan@finite")])
    assert ruling.id is None
    assert ruling.worse == ()


def test_one_breach_that_is_not_excused_fails_the_cell() -> None:
    found = [breach(), breach("crash")]
    assert registry().rule(CELL, subject(), "2.13.0", found).id is None


def test_a_cell_without_a_breach_is_no_deviation() -> None:
    assert registry().rule(CELL, subject(), "2.13.0", []).id is None


def test_two_entries_may_excuse_one_cell_together() -> None:
    first, second = registry("first", "second").entries
    both = Registry((replace(first, allows={"accuracy": 60.0}),
                     replace(second, allows={"nan@one_plus_inf": 8.0})))  # fmt: skip
    ruling = both.rule(CELL, subject(), "2.13.0", [breach(), breach("accuracy", 2.0)])
    assert ruling.id == "second+first"


@pytest.mark.parametrize("version", ["2.12.1", "2.14.0", "nonsense", None])
def test_another_version_is_not_excused(version: str | None) -> None:
    ruling = registry().rule(CELL, subject(), version, [breach()])
    assert ruling.id is None
    assert ruling.worse == ()


@pytest.mark.parametrize("version", ["2.13.0", "2.13.0+cpu", "2.13.1.dev1"])
def test_builds_of_the_version_are_accepted(version: str) -> None:
    assert registry().rule(CELL, subject(), version, [breach()]).id == "made-up"


@pytest.mark.parametrize(
    "cell",
    [replace(CELL, dtype="bfloat16"), replace(CELL, family="masks")],
    ids=["dtype", "family"],
)
def test_another_cell_is_not_excused(cell: Cell) -> None:
    assert registry().rule(cell, subject(), "2.13.0", [breach()]).id is None


@pytest.mark.parametrize("role", ["control", "mutant", "antipattern"])
def test_only_subjects_are_excused(role: str) -> None:
    assert not registry().entries[0].covers(CELL, subject(role=role))
    assert registry().entries[0].covers(CELL, subject())


@pytest.mark.parametrize("other", [{"op": "log_softmax"}, {"framework": "jax"}], ids=str)
def test_another_implementation_is_not_excused(other: dict[str, str]) -> None:
    assert not registry().entries[0].covers(CELL, subject(**other))


def test_witnesses_run_in_their_own_op_and_dtype_only() -> None:
    assert registry().witnesses(CELL, subject()) == ("softmax-float32-w.one_plus_inf-25fbff",)
    assert registry().witnesses(replace(CELL, dtype="float16"), subject()) == ()


# ---------------------------------------------------------------- reading


def test_an_infinite_bound_and_single_values_are_read() -> None:
    entry = parse(ENTRY.format(id="x").replace("accuracy = 60", "accuracy = inf")).entries[0]
    assert entry.allows["accuracy"] == math.inf
    assert entry.match["framework"] == ("torch",)
    assert entry.excuses(breach("accuracy", math.inf))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('id = "x"', 'id = "x"\nidea = 1', "unknown field idea"),
        ('summary = "Made up."\n', "", "summary missing"),
        ('reason = "upstream-bug"', 'reason = "shrug"', "reason is one of"),
        ('upstream = "unreported"', 'upstream = "somewhere"', "https address or unreported"),
        ('">=2.13,<2.14"', '"about 2.13"', "Invalid specifier"),
        ("2027-05-24", "next year", "next year"),
        ("[deviation.match]", "[deviation.match]\nweather = 'fine'", "match takes"),
        ('["softmax-float32-w.one_plus_inf-25fbff"]', "[]", "a witness"),
        ('allows = { accuracy = 60, "nan@one_plus_inf" = 8 }', "allows = {}", "something that it"),
        ("[[deviation]]", "[[deviation]", "not TOML"),
        ("[[deviation]]", "odd = 1\n[[deviation]]", "unknown key 'odd'"),
        ("accuracy = 60", "accuracy = 0", "accuracy takes a number above 0"),
        ("accuracy = 60", "accuracy = nan", "accuracy takes a number above 0"),
        ("accuracy = 60", "accuracy = true", "accuracy takes a number above 0"),
        ("accuracy = 60", 'accuracy = "60"', "accuracy takes a number above 0"),
        ("allows = {", "allows = 1 #", "something that it allows"),
        ('op = "softmax"', "op = 3", "match: op takes a text or a list"),
        ('op = "softmax"', "op = []", "match: op takes a text or a list"),
        ('summary = "Made up."', 'summary = " "', "summary is a text"),
        ('">=2.13,<2.14"', "2.13", "versions is a text"),
        ('["softmax-float32-w.one_plus_inf-25fbff"]', "[1]", "a list of case ids"),
        ("2027-05-24", "2026-11-24", "review_by comes after since"),
        ("[deviation.match]", "[deviation.facts]\nmoon = 'full'\n[deviation.match]", "facts takes"),
        ("[deviation.match]", "facts = { cpu = [] }\n[deviation.match]", "cpu takes a text"),
        ("[deviation.match]", "facts = { library = 'a' }\n[deviation.match]", "is a table"),
        (
            "[deviation.match]",
            "facts = { library = { keras = 'new' } }\n[deviation.match]",
            "library.keras: Invalid specifier",
        ),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused(old: str, new: str, text: str) -> None:
    good = ENTRY.format(id="x")
    assert old in good
    with pytest.raises(DeviationError, match=text):
        parse(good.replace(old, new))


def test_an_id_is_used_once() -> None:
    with pytest.raises(DeviationError, match="used twice"):
        registry("twice", "twice")
