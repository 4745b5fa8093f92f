"""The oracle against the textbook definition of every map, at 6000 bits.

REFERENCE_LONG=1 takes ten times as many rows.
"""

from __future__ import annotations

import os

import arb_inputs
import numpy as np
import pytest
import textbook
from against_arb import MAPS, Key

from reference import ops
from reference.formats import FORMATS

ROUNDS = 10 if os.environ.get("REFERENCE_LONG") else 1
LENGTHS = {1: 1, 2: 1, 3: 1, 7: 1}
ELEMENTS = 60


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_the_oracle_is_the_textbook_definition(key: Key) -> None:
    fmt = FORMATS["float64"]
    compared = 0
    for number in range(ROUNDS):
        for inputs in arb_inputs.batches(key, fmt, LENGTHS, ELEMENTS, number):
            found, wrong = textbook.disagreements(key, inputs, fmt)
            assert wrong == []
            compared += found
    assert compared >= 10 * ROUNDS


def test_every_map_of_every_op_is_compared() -> None:
    assert {(op, *key) for op, made in ops.OPS.items() for key in made.maps} == set(MAPS)


def test_an_exact_zero_among_huge_cotangents_is_known_as_one() -> None:
    """The definition leaves 2^-5220 of terms of 2^780; a reference that is not 0 is noticed."""
    row = {"x": np.array([[-10.5, 1.75, 0.1]]), "y": np.array([[0.1, -10.5, 1.75]]),
           "g": np.array([2.7e233]), "v_x": np.full((1, 3), -2.76)}  # fmt: skip
    key = ("kl_divergence", "hvp", "x.x")
    assert textbook.disagreements(key, row, FORMATS["float64"]) == (3, [])
    refs = textbook.oracle.evaluate(*key, row, FORMATS["float64"])
    assert (refs.codes == textbook.ZERO).all()
    with textbook.mpmath.workprec(textbook.BITS):
        assert not textbook.close(refs, 0, 0, textbook.mpmath.mpf(5e-324))


def test_a_wrong_reference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([[0.0, 1.0]])
    inputs = {"x": x, "g": np.ones(1)}
    key = ("logsumexp", "value", "-")
    assert textbook.disagreements(key, inputs, FORMATS["float64"]) == (1, [])
    evaluate = textbook.oracle.evaluate
    monkeypatch.setattr(
        textbook.oracle, "evaluate",
        lambda *args: evaluate(*args[:3], {**args[3], "x": args[3]["x"] * (1 + 2.0**-52)}, args[4]),
    )  # fmt: skip
    compared, wrong = textbook.disagreements(key, inputs, FORMATS["float64"])
    assert (compared, len(wrong)) == (1, 1)
