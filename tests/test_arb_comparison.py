"""The comparison with Arb notices what is wrong, and its table says what was compared."""

from __future__ import annotations

import dataclasses
from collections import Counter
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import against_arb
import arb_table
import numpy as np
import pytest
from against_arb import Tally
from mpmath import libmp

from reference import ops, oracle
from reference.arithmetic._ball import FloatBall
from reference.arithmetic.multiprecision import Multiprecision
from reference.formats import FORMATS
from reference.ops.base import Batch, Settled

FMT = FORMATS["float32"]
ROWS = {"x": np.array([[0.0, 1.0, -2.5], [3.0, 2.0, 0.25]])}
SOFTMAX = ("softmax", "value", "-")


def test_a_sound_oracle_passes() -> None:
    tally = against_arb.compare(SOFTMAX, ROWS, FMT)
    assert (tally.compared, tally.wrong, tally.missed) == (6, [], [])
    # binade and expansion; ends and words of two arithmetics; mpmath; between
    assert tally.enclosures == 6 * 8


def test_a_wrong_rounding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    refs = oracle.evaluate(*SOFTMAX, ROWS, FMT)
    refs.hi[0, 1] = np.nextafter(np.float32(refs.hi[0, 1]), np.float32(1))
    monkeypatch.setattr(oracle, "evaluate", lambda *args: refs)
    tally = against_arb.compare(SOFTMAX, ROWS, FMT)
    assert [found[2:4] for found in tally.wrong] == [(1, "rounding")]
    assert [found[2:4] for found in tally.missed] == [(1, "expansion")]
    assert tally.compared == 5


def test_a_wrong_side_of_a_power_of_two_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    below_one = {"x": np.array([[0.0, -50.0]])}
    refs = oracle.evaluate(*SOFTMAX, below_one, FMT)
    assert against_arb.compare(SOFTMAX, below_one, FMT).missed == []
    refs.hi[0, 0], refs.exponent[0, 0], refs.lo[0, 0] = 0.5, 1, 2.0**-100
    monkeypatch.setattr(oracle, "evaluate", lambda *args: refs)
    tally = against_arb.compare(SOFTMAX, below_one, FMT)
    assert [found[2:4] for found in tally.missed] == [(0, "binade")]


def _moved(method: Any) -> Any:
    """Ends, or the leading words, moved by 2^-40."""

    def moved(self: FloatBall) -> Any:
        first, second, *rest = method(self)
        return first * (1 + 2.0**-40), second if rest else second * (1 + 2.0**-40), *rest

    return moved


@pytest.mark.parametrize(("method", "kind"), [("enclosure", "ends"), ("expand", "words")])
def test_an_enclosure_beside_the_truth_is_noticed(
    method: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = oracle.evaluate(*SOFTMAX, ROWS, FMT)
    monkeypatch.setattr(oracle, "evaluate", lambda *args: refs)
    monkeypatch.setattr(FloatBall, method, _moved(getattr(FloatBall, method)))
    tally = against_arb.compare(SOFTMAX, ROWS, FMT)
    assert tally.wrong == []
    assert Counter(found[3] for found in tally.missed) == {
        f"binary64 {kind}": 6, f"double-double {kind}": 6,
    }  # fmt: skip


def test_a_ball_of_mpmath_that_is_too_narrow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    refs = oracle.evaluate(*SOFTMAX, ROWS, FMT)
    monkeypatch.setattr(oracle, "evaluate", lambda *args: refs)
    monkeypatch.setattr(Multiprecision, "_rounding", lambda self, m: libmp.fzero)
    tally = against_arb.compare(SOFTMAX, ROWS, FMT)
    assert {found[3] for found in tally.missed} == {"mpmath"}


def test_a_settled_value_that_is_not_exact_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    equal = {"x": np.zeros((1, 3))}
    assert against_arb.compare(SOFTMAX, equal, FMT).compared == 3
    maps = ops.get("softmax").maps
    off = dataclasses.replace(maps["value", "-"], settle=_nearly_a_third)
    monkeypatch.setitem(maps, ("value", "-"), off)  # type: ignore[arg-type] # a dict it is
    tally = against_arb.compare(SOFTMAX, equal, FMT)
    assert (tally.compared, len(tally.wrong)) == (0, 3)


def _nearly_a_third(b: Batch) -> Settled:
    out = Settled.formula(b.x.shape)
    for i in range(b.n):
        out.exact(0, i, (1 + Fraction(1, 2**80)) / 3)
    return out


# ---------------------------------------------------------------- the table


def _reports(compared: int, formats: Any = FORMATS) -> list[Any]:
    tally = Tally(confirmed=Counter({1: compared - 1, 3: 1}), left_open=2, enclosures=7)
    tally.touching["between"] = 4
    return [
        SimpleNamespace(user_properties=[
            ("another", 1), (arb_table.NAME, arb_table.figures(SOFTMAX, name, tally, 1.5)),
        ]) for name in formats
    ]  # fmt: skip


def test_the_table_adds_up_the_formats() -> None:
    lines = arb_table.collect(_reports(20_000))
    assert lines["softmax-value--"].compared == 120_000
    assert not lines["softmax-value--"].too_few
    head, row, whole = arb_table.text(lines)
    assert row.split()[:6] == ["softmax-value--", "120000", "0.0%", "100.0%", "0.0%", "0.0%"]
    assert whole.split()[1:] == row.split()[1:]
    assert len(head) == len(row)
    assert row.split()[6:] == ["42", "12", "24", "0", "0", "9.0"]


def test_the_table_names_a_map_of_too_few_elements() -> None:
    lines = arb_table.collect(_reports(1000))
    assert lines["softmax-value--"].too_few
    assert "only 6000 of at least 100000" in arb_table.text(lines)[-1]
    some = arb_table.collect(_reports(1000, list(FORMATS)[:5]))  # a selection is not judged
    assert not some["softmax-value--"].too_few


def test_nothing_compared_is_no_table() -> None:
    assert arb_table.collect([SimpleNamespace()]) == {}
