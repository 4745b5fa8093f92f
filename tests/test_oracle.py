"""The oracle next to rounding boundaries, and the shape of its answers.

Against Arb: test_against_arb.py. Against the definitions: test_definitions.py. Limits and rational
results: test_oracle_limits.py. REFERENCE_LONG=1 takes ten times as many rows.
"""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import against_arb
import mpmath
import numpy as np
import pytest
from first_ops import (
    CE,
    CE_T,
    CE_X,
    LOG,
    LOG_X,
    LSE,
    LSE_X,
    MAPS,
    SCALE,
    SOFTMAX,
    SOFTMAX_X,
    SPARSE,
    batch,
    evaluate,
    rounded,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import cases, escalation, formats, ops, oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO, Batch

mp = mpmath.mp


# ---------------------------------------------------------------- against Arb


@given(
    key=st.sampled_from(MAPS),
    x=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=6),
    g=st.lists(st.floats(-8, 8, width=16), min_size=6, max_size=6),
    name=st.sampled_from(sorted(FORMATS)),
)
@settings(max_examples=150, deadline=None)
def test_whatever_hypothesis_thinks_of(
    key: tuple[str, str, str], x: list[float], g: list[float], name: str
) -> None:
    fmt = FORMATS[name]
    values = formats.nearest(fmt, np.array(x))
    cotangent = formats.nearest(fmt, np.array(g))
    per_row = ops.get(key[0]).per_row
    made = batch(
        key[0], x=values, g=cotangent[0] if per_row else cotangent[: len(x)],
        target=cotangent[-len(x) :], label=len(x) - 1,
    )  # fmt: skip
    tally = against_arb.compare(key, made, fmt)
    assert tally.wrong == tally.missed == []


# ---------------------------------------------------------------- next to a boundary


@pytest.mark.parametrize(
    ("key", "row", "expected"),
    [
        # l = -(2^24 + 1) - e^-(2^24 + 1): beyond the midpoint, away from 0
        (LOG, {"x": [1.0, -(2.0**24)]}, [-0.0, -16777218.0]),
        (LOG, {"x": [2.0**24, -1.0]}, [-0.0, -16777218.0]),
        (LSE, {"x": [1.0, -1e30]}, [1.0]),
        (SOFTMAX, {"x": [0.0, 0.0, -1e6]}, [0.5, 0.5, 0.0]),
        # -g d = 4097 * 4097 * 2^10, a midpoint, plus g log1p
        (CE_T, {"x": [0.0, -4097.0 * 1024], "g": 4097.0}, [0.0, 16785410.0 * 1024]),
        (CE_T, {"x": [0.0, -4097.0 * 1024], "g": -4097.0}, [-0.0, -16785410.0 * 1024]),
        # -g t = -(2^24 + 2^13 + 1), a midpoint, plus g s T: toward 0
        (CE_X, {"x": [0.0, -4097.0 * 1024], "target": [0.0, 4097.0], "g": 4097.0},
         [16785408.0, -16785408.0]),
        (CE, {"x": [0.0, -4097.0 * 1024], "target": [0.0, 4097.0]}, [16785410.0 * 1024]),
        # s = 1/2 - tiny: 3 eta / 2 - tiny
        (LSE_X, {"x": [0.0, 0.0, -1e6], "g": 3 * 2.0**-149}, [2.0**-149, 2.0**-149, 0.0]),
        (LSE_X, {"x": [0.0, 0.0, -1e6], "g": -3 * 2.0**-149}, [-(2.0**-149)] * 2 + [-0.0]),
        # (2^24 + 1) / 4, less a little: the slope in e^-1e6 is (2^24 - (2^24 + 1)) / 4
        (SOFTMAX_X, {"x": [0.0, 0.0, -1e6], "g": [2.0**24, -1.0, 0.0]},
         [4194304.0, -4194304.0, -0.0]),
        # the same with the slope's sign turned: it is that of -1 - g_2
        (SOFTMAX_X, {"x": [0.0, 0.0, -1e6], "g": [2.0**24, -1.0, -5.0]},
         [4194304.5, -4194304.0, -0.0]),
        # a group of three: (3 g - G) / 9 = 2^24 + 1, with the slope of -2^25 - 6 - g_3
        (SOFTMAX_X, {"x": [3.0] * 3 + [-1e6], "g": [2.0**26, -(2.0**24), -9.0, 0.0]},
         [16777216.0, -11184810.0, -5592407.5, -0.0]),
        (SOFTMAX_X, {"x": [3.0] * 3 + [-1e6], "g": [2.0**26, -(2.0**24), -9.0, -(2.0**26)]},
         [16777218.0, -11184810.0, -5592407.5, -0.0]),
        # G / 2 - g, a midpoint, plus tiny G
        (LOG_X, {"x": [0.0, 0.0, -1e6], "g": [2.0**24, -1.0, 0.0]}, [8388609.0, -8388608.0, -0.0]),
        (CE_X, {"x": [0.0, 0.0, -1e6], "target": [1.5, 2.0**-24, 0.0], "g": 1.0},
         [-0.75, 0.74999994039535522, 0.0]),
        # everything above the last class cancels exactly
        (SOFTMAX_X, {"x": [0.0, -1.0, -1.0, -1e6], "g": [0.0, 1.0, -1.0, 5.0]},
         [-0.0, 0.21194155514240265, -0.21194155514240265, 0.0]),
        (SOFTMAX_X, {"x": [0.0, 0.0, -1e6, -2e6], "g": [1.0, -1.0, 0.0, 3.0]},
         [0.5, -0.5, -0.0, 0.0]),
    ],
)  # fmt: skip
def test_an_exponentially_small_term_decides(
    key: tuple[str, str, str], row: dict[str, Any], expected: list[float]
) -> None:
    got = rounded(key, "float32", **row)
    assert got == [float(np.float32(v)) for v in expected]
    assert np.signbit(got).tolist() == np.signbit(expected).tolist()


@pytest.mark.parametrize("key", MAPS, ids="-".join)
@pytest.mark.parametrize("format_name", ["float8_e5m2", "float32"])
def test_far_away_logits_decide_as_near_ones_do(
    key: tuple[str, str, str], format_name: str
) -> None:
    """Ties at the top, one class so far below that no precision reaches it.

    On which side of a boundary the result falls does not depend on how far (for one far class),
    and Arb can tell with the class 60 to 300 below.
    """
    fmt = FORMATS[format_name]
    rng = np.random.default_rng([12, fmt.precision, MAPS.index(key)])
    far, near = (-57344.0, -320.0) if fmt.bits == 8 else (-1e6, -400.0)
    count = 0
    for _ in range(60 * SCALE):
        tops = int(rng.choice((2, 4)))
        n = tops + 1
        g = rng.integers(-7, 8, n) * 1.0
        t = rng.integers(0, 4, n) * 1.0
        if fmt.bits > 8:  # odd multiples of half an ulp after the division by 2 or 4
            g[0], t[0] = 2.0**24 - 2 * rng.integers(0, 9), 1 + 2.0**-23 * rng.integers(0, 9)
            t[1] = 2.0**-24 * rng.integers(0, 9)
        rows = [np.array([0.0] * tops + [low]) for low in (far, near)]
        made = [batch(key[0], x=x, target=t, label=n - 1,
                      g=g[0] if ops.get(key[0]).per_row else g) for x in rows]  # fmt: skip
        values = oracle.evaluate(*key, made[0], fmt).rounded()[0]
        results, _ = against_arb.rounded(key, {k: v[0] for k, v in made[1].items()}, format_name)
        for i, right in enumerate(results):
            # the result at the far class itself depends on how far it is, and so does the loss
            if len(results) == n and i < tops and right is not None:
                assert float(values[i]) == right, (g.tolist(), t.tolist(), i)
                count += 1
    assert count > 60 or key in (LSE, CE, SPARSE)


@pytest.mark.parametrize("gap", [1e4, 1e8, 1e30, 1e300])
def test_gaps_up_to_1e300_are_decided(gap: float) -> None:
    for key in MAPS:
        refs = evaluate(key, "float64", x=[0.0, -gap, -gap / 2], target=[0.5, 0.25, 0.25], label=1,
                        g=1.0 if ops.get(key[0]).per_row else [1.0, -3.0, 0.5])  # fmt: skip
        assert np.isfinite(refs.rounded()).all(), key
        assert ((refs.hi != 0) | (refs.codes == ZERO)).all(), key


def test_cotangent_sums_that_are_midpoints() -> None:
    # g_0 - G = 2^24 + 1 is a midpoint of float32, and s_0 = 1 - e^-200 leaves it downwards
    row = {"x": [0.0, -200.0, -300.0], "g": [1.0, -(2.0**24), -1.0]}
    right, _ = against_arb.rounded(LOG_X, row, "float32")
    assert rounded(LOG_X, "float32", **row) == right == [16777216.0, -16777216.0, -1.0]
    # the same beyond the reach of any precision
    row["x"] = [0.0, -1e9, -2e9]
    assert rounded(LOG_X, "float32", **row) == right


@pytest.mark.parametrize("gap", [30.0, 90.0, 700.0, 1e6, 1e300])
def test_a_probability_just_below_one_has_the_ulp_of_the_binade_below(gap: float) -> None:
    refs = evaluate(SOFTMAX, "float64", x=[-gap, 0.0, -gap])
    assert (refs.hi[0, 1], int(refs.exponent[0, 1])) in ((0.5, 1), (1 - 2.0**-53, 0)) or gap < 40
    assert refs.lo[0, 1] < 0 or gap < 40
    pair = evaluate(LSE_X, "float64", x=[0.0, 0.0, -gap], g=2.0)
    assert (pair.lo[0, :2] < 0).all() or gap < 40


@pytest.mark.parametrize(("format_name", "tier"), [("float32", 1), ("bfloat16", 1), ("float64", 2)])
@pytest.mark.parametrize("op", ["softmax", "masked_softmax"])
def test_a_row_with_one_probability_that_is_all_but_1_needs_no_mpmath(
    op: str, format_name: str, tier: int
) -> None:
    inputs = {"x": np.array([[0.0, -1e4, -2e4]]), "mask": np.ones((1, 3))}
    needed = ("x", "mask") if op == "masked_softmax" else ("x",)
    refs = oracle.evaluate(
        op, "value", "-", {name: inputs[name] for name in needed}, FORMATS[format_name]
    )
    assert refs.tier.tolist() == [[tier] * 3]
    assert refs.rounded()[0].tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("key", [SOFTMAX, SOFTMAX_X], ids="-".join)
def test_logits_that_are_all_but_equal_are_decided_without_a_sign(
    key: tuple[str, str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Probabilities of 1/4 and a few subnormals: a sign would have to look at all the terms."""
    fmt = FORMATS[name]
    gap = fmt.smallest_subnormal
    row = {"x": np.array([[0.0, gap, -gap, 3 * gap]]), "g": np.array([[1.0, 1.0, -1.0, -1.0]])}
    before = oracle.evaluate(*key, row, fmt)

    def asked(*_: Any) -> int:
        raise AssertionError("a sign was asked for")

    monkeypatch.setattr(escalation, "side", asked)
    assert oracle.evaluate(*key, row, fmt).rounded().tolist() == before.rounded().tolist()
    far = {"x": np.array([[0.0, 0.0, -1e30, -1e30 + 2.0**60]]), "g": row["g"]}
    with pytest.raises(AssertionError, match="a sign was asked for"):
        oracle.evaluate(*key, {**far, "g": np.array([[1.0, 3.0, 0.0, 0.0]])}, fmt)


@pytest.mark.parametrize(
    ("x", "y", "bits"),
    [
        ([0.0, -1e30], None, 40),
        ([0.0, 0.0, -np.inf], None, 40),
        ([0.0, 0.5, 5e-324], None, 2188),
        ([0.0, 0.75], None, 42),
        ([0.0, 4.0], [1.0, 1.25], 44),
        ([0.0], None, 40),
    ],
)
def test_signs_wait_for_the_square_of_the_finest_gap(x: Any, y: Any, bits: int) -> None:
    inputs = {"x": np.array([x])} | ({} if y is None else {"y": np.array([y])})
    assert escalation.patience(Batch(inputs), 0) == bits


def test_signs_are_asked_for_before_the_cap_however_fine_the_gaps_are() -> None:
    row = batch("softmax", x=[0.0, 0.0, -2000.0, -2000.0 + 2.0**-42])  # patience would be 124
    capped = oracle.evaluate(*SOFTMAX, row, FORMATS["bfloat16"], max_bits=100)
    assert capped.rounded()[0, :2].tolist() == [0.5, 0.5]
    assert (capped.lo[0, :2] < 0).all() or (capped.hi[0, :2] < 0.5).all()


def test_tiny_results_keep_their_sign() -> None:
    refs = evaluate(LOG, x=[0.0, -1e30])
    assert refs.rounded()[0, 0] == 0
    assert np.signbit(refs.rounded()[0, 0])
    assert refs.hi[0, 0] < 0
    loss = evaluate(SPARSE, x=[0.0, -1e30], label=0)
    assert not np.signbit(loss.rounded()[0, 0])
    assert loss.hi[0, 0] > 0


def test_a_small_cap_is_reported_and_nothing_is_guessed() -> None:
    inputs = batch("softmax", x=[0.0, 0.0, -700.0])  # 1/2 - 2^-1012: no vectorised tier sees it
    with pytest.raises(
        oracle.Undecided,
        match=r"softmax value -: 1 rows undecided at \d+ bits for float32; first x",
    ):
        oracle.evaluate(*SOFTMAX, inputs, FORMATS["float32"], max_bits=40)
    close_call = batch("logsumexp", x=[-math.log(2), -math.log(2)], g=1.0)
    with pytest.raises(oracle.Undecided, match="logsumexp value"):
        oracle.evaluate(*LSE, close_call, FORMATS["float64"], max_bits=100)
    assert oracle.evaluate(*LSE, close_call, FORMATS["float64"]).finite.all()


# ---------------------------------------------------------------- the shape of an answer


def test_references_are_normalised_and_lo_has_the_sign_of_the_rest() -> None:
    made = cases.stack(cases.make("gap_ladder", "softmax", "float64", 3, limit=60))
    refs = oracle.evaluate(*SOFTMAX, made, FORMATS["float64"])
    used = refs.codes == 0
    assert ((np.abs(refs.hi[used]) >= 0.5) & (np.abs(refs.hi[used]) < 1)).all()
    assert (refs.lo[used] != 0).all()
    assert (np.abs(refs.lo[used]) <= 2.0**-54).all()


def test_joining_references_keeps_rows_in_order() -> None:
    made = [cases.stack(cases.make("realistic", "softmax", "float32", 4, seed=s, limit=3))
            for s in (0, 1)]  # fmt: skip
    parts = [oracle.evaluate(*SOFTMAX, b, FORMATS["float32"]) for b in made]
    joined = oracle.join(parts)
    np.testing.assert_array_equal(joined.rounded()[3:], parts[1].rounded())
    np.testing.assert_array_equal(joined.rows([1, 4]).rounded()[1], parts[1].rounded()[1])


def test_softmax_rows_sum_to_one_in_exact_arithmetic() -> None:
    made = cases.stack(cases.make("realistic", "softmax", "float64", 33, limit=6))
    refs = oracle.evaluate(*SOFTMAX, made, FORMATS["float64"])
    for r in range(refs.shape[0]):
        total = sum(
            (Fraction(float(h)) + Fraction(float(lo))) * Fraction(2) ** int(e)
            for h, lo, e in zip(refs.hi[r], refs.lo[r], refs.exponent[r], strict=True)
        )
        assert abs(total - 1) < Fraction(1, 2**70)


def test_labels_outside_the_classes_are_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="label outside"):
        evaluate(SPARSE, x=[0.0, 1.0], label=2)
    with pytest.raises(ValueError, match="x must have shape"):
        Batch({"x": np.zeros(3)})


# ---------------------------------------------------------------- the machine


@pytest.mark.skipif(find_spec("torch") is None, reason="torch switches the bit, not installed")
def test_a_thread_that_flushes_subnormals_gets_no_reference() -> None:
    program = textwrap.dedent(
        """
        import numpy as np, torch
        from reference import oracle
        from reference.formats import FORMATS
        x = {"x": np.array([[0.0, 1.0]])}
        oracle.evaluate("softmax", "value", "-", x, FORMATS["float32"])
        if not torch.set_flush_denormal(True):
            print("cannot")
        else:
            for ask in (
                lambda: oracle.evaluate("softmax", "value", "-", x, FORMATS["float32"]),
                lambda: oracle.decimal("softmax", "value", "-", x, 10),
            ):
                try:
                    ask()
                except oracle.FlushToZero as e:
                    print(e)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=120, check=True)  # fmt: skip
    if done.stdout.strip() == "cannot":
        pytest.skip("this processor cannot flush subnormals")
    assert done.stdout.count("flushed to zero") == 2
