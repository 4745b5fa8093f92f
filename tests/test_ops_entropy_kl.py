"""categorical_entropy and kl_divergence: values that mix exp and log, derivatives that do not.

Against Arb: test_against_arb.py. Against the definitions: test_definitions.py.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import against_arb
import arb as first
import emulated_rows
import mpmath
import numpy as np
import pytest
import textbook
from against_arb import same

from reference import bounds, formats, ops, oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO, Batch
from reference.ops.pairs import Pair

INF, NAN = math.inf, math.nan
ANY = "undefined"
MAPS = [(op, *key) for op in ("categorical_entropy", "kl_divergence") for key in ops.get(op).maps]
H, H_X, H_J, H_XX = MAPS[:4]
KL, KL_X, KL_Y, KL_JX, KL_JY, KL_XX, KL_XY, KL_YX, KL_YY = MAPS[4:]


def evaluate(key: Any, fmt: str = "float64", **row: Any) -> oracle.References:
    """One row; y, g and v as given, else zeros, 1 and 0, 1, 2, ..."""
    x = np.asarray(row["x"], np.float64)
    made: dict[str, Any] = {"x": x[None], "g": np.array([row.get("g", 1.0)])}
    if "y" in ops.get(key[0]).inputs:
        made["y"] = np.asarray(row.get("y", np.zeros(x.size)), np.float64)[None]
    v = row.get("v", np.arange(x.size))
    made["v_" + key[2].rsplit(".", maxsplit=1)[-1]] = np.asarray(v, np.float64)[None]
    return oracle.evaluate(*key, made, FORMATS[fmt])


def zeros(refs: oracle.References) -> list[int]:
    return np.flatnonzero(refs.codes[0] == ZERO).tolist()


@pytest.mark.parametrize("k", [10, 30, 52])
@pytest.mark.parametrize("key", MAPS[4:], ids="-".join)
def test_rows_that_nearly_agree_are_decided_without_mpmath(key: Any, k: int) -> None:
    """Differences of 2^-k: the textbook loses 2 k bits of the value, k of the derivatives."""
    rng = np.random.default_rng(k)
    x = rng.standard_normal((20, 9)) + 1.0
    inputs = {"x": x, "y": x * (1 + 2.0**-k * rng.integers(-3, 4, x.shape)), "g": np.ones(20),
              "v_x": rng.standard_normal(x.shape), "v_y": rng.standard_normal(x.shape)}  # fmt: skip
    tally = against_arb.compare(key, inputs, FORMATS["float64"])
    assert tally.wrong == tally.missed == []
    refs = oracle.evaluate(*key, inputs, FORMATS["float64"])
    assert (refs.tier == 3).mean() <= 0.05


def test_rows_as_long_as_a_block_of_the_kernels_are_evaluated() -> None:
    rng = np.random.default_rng(2)
    x = formats.nearest(FORMATS["float32"], rng.standard_normal((6, 1000)))
    y = formats.nearest(FORMATS["float32"], x + 2.0**-6 * rng.standard_normal(x.shape))
    for fmt in ("float32", "float64"):
        refs = oracle.evaluate(*KL, {"x": x, "y": y}, FORMATS[fmt])
        rows = [oracle.evaluate(*KL, {"x": x[[r]], "y": y[[r]]}, FORMATS[fmt]).rounded()
                for r in range(len(x))]  # fmt: skip
        assert refs.rounded().tolist() == np.concatenate(rows).tolist()
        right, _ = against_arb.rounded(KL, {"x": x[0], "y": y[0]}, fmt)
        assert right[0] == refs.rounded()[0, 0]


# ---------------------------------------------------------------- limits of the entropy


@pytest.mark.parametrize(
    ("x", "value", "derivative", "along"),
    [
        ([-INF, 0.0], 0.0, [0.0, 0.0], 0.0), ([-INF, -INF], ANY, [ANY, ANY], ANY),
        ([INF, 0.0], 0.0, [0.0, 0.0], 0.0), ([INF, -INF, 1.0], 0.0, [0.0] * 3, 0.0),
        ([INF, INF, 0.0], ANY, [ANY, ANY, 0.0], ANY), ([3.0], 0.0, [0.0], 0.0),
        ([INF], ANY, [ANY], ANY), ([-INF], ANY, [ANY], ANY),
        ([NAN, 0.0], NAN, [NAN, NAN], NAN), ([NAN, INF], NAN, [NAN, NAN], NAN),
    ],
)  # fmt: skip
def test_limits_of_the_entropy(x: Any, value: Any, derivative: Any, along: Any) -> None:
    for key, expected in ((H, [value]), (H_J, [along]), (H_X, derivative), (H_XX, derivative)):
        agree(evaluate(key, x=x), expected, (key, x))


def agree(refs: oracle.References, expected: Any, where: Any) -> None:
    for i, right in enumerate(expected):
        assert bool(refs.undefined[0, i]) == (right == ANY), (where, i)
        got = float(refs.rounded()[0, i])
        assert right == ANY or same(got, float(right)), (where, i, got, right)


def test_an_infinite_y_where_x_has_no_weight_leaves_no_weight_elsewhere() -> None:
    """s(y) is one-hot at 0, where s(x) is 0: the difference is one of two disjoint softmaxes."""
    x, y = [-INF, -0.65, 0.8, 0.4], [INF, 0.65, -0.8, -0.4]
    rest = oracle.evaluate("softmax", "value", "-", {"x": np.array([x[1:]])}, FORMATS["float64"])
    right = np.append(0.5, -rest.rounded()[0] / 2)
    np.testing.assert_array_equal(evaluate(KL_Y, x=x, y=y, g=0.5).rounded()[0], right)
    assert evaluate(KL_JY, x=x, y=y, v=[0.0, 1.0, 1.0, 1.0]).rounded()[0] == [-1.0]
    assert evaluate(KL, x=x, y=y).rounded()[0] == [INF]


def test_an_entry_at_minus_infinity_is_as_if_absent() -> None:
    for key in MAPS[:4]:
        alone = evaluate(key, x=[0.5, 1.5], v=[1, 3]).rounded()[0].tolist()
        beside = evaluate(key, x=[0.5, -INF, 1.5], v=[1, 9, 3]).rounded()[0].tolist()
        assert beside == (alone if len(alone) == 1 else [alone[0], 0.0, alone[1]])


# ---------------------------------------------------------------- limits of the divergence


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([-INF, 0.0], [5.0, 0.0], "-l(y)_1"), ([-INF, 0.0], [-INF, 7.0], 0.0),
        ([-INF, 0.0], [NAN, 7.0], NAN), ([0.0, NAN], [0.0, 7.0], NAN),
        ([0.0, 1.0], [-INF, 7.0], INF),
        ([-INF, 0.0], [7.0, -INF], INF), ([INF, 0.0], [5.0, 0.0], "-l(y)_0"),
        ([INF, 0.0], [-INF, 0.0], INF), ([INF, 0.0], [0.0, -INF], 0.0),
        ([INF, 0.0], [INF, 3.0], 0.0),
        ([0.0, 1.0], [INF, 3.0], INF), ([0.0, -INF], [INF, 3.0], 0.0),
        ([-INF, 0.0], [INF, 3.0], INF),
        ([INF, INF], [0.0, 1.0], ANY), ([-INF, -INF], [0.0, 1.0], ANY),
        ([0.0, 1.0], [-INF, -INF], ANY),
        ([0.0, 1.0], [INF, INF], ANY), ([0.0, 1.0, 0.0], [INF, INF, 0.0], INF),
        ([INF, 0.0, 0.0], [INF, INF, 0.0], ANY), ([0.0, 0.0, INF], [INF, INF, 0.0], INF),
        ([3.0], [5.0], 0.0), ([INF], [5.0], ANY), ([3.0], [-INF], ANY), ([3.0], [INF], ANY),
        ([0.0, 2.0], [1.0, 3.0], 0.0), ([0.0, -1e300], [1e300, 0.0], 0.0),
    ],
)  # fmt: skip
def test_limits_of_the_divergence(x: Any, y: Any, expected: Any) -> None:
    refs = evaluate(KL, x=x, y=y)
    if isinstance(expected, str) and expected.startswith("-l"):
        k = int(expected[-1])
        expected = math.log1p(math.exp(y[1 - k] - y[k]))
    agree(refs, [expected], (x, y))


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("key", "x", "y", "expected"),
    [
        (KL_Y, [0.0, 0.0], [-INF, 0.0], [-0.5, 0.5]), (KL_Y, [-INF, 0.0], [0.0, 0.0], [0.5, -0.5]),
        (KL_Y, [-INF, 0.0], [-INF, 0.0], [0.0, 0.0]), (KL_Y, [0.0, 0.0], [INF, 0.0], [0.5, -0.5]),
        (KL_Y, [INF, 0.0], [0.0, 0.0], [-0.5, 0.5]), (KL_Y, [INF, INF], [0.0, 0.0], [ANY, ANY]),
        (KL_Y, [0.0, 0.0], [-INF, -INF], [ANY, ANY]), (KL_Y, [0.0, NAN], [0.0, 0.0], [NAN, NAN]),
        (KL_X, [-INF, 0.0, 0.0], [7.0, 2.0, 2.0], [0.0, 0.0, 0.0]),
        (KL_X, [-INF, 0.0, 0.0], [INF, 1.0, 2.0], [0.0, 0.25, -0.25]),
        (KL_X, [INF, 0.0], [0.0, 3.0], [0.0, 0.0]), (KL_X, [INF, 0.0], [-INF, 3.0], [0.0, 0.0]),
        (KL_X, [0.0, 0.0], [-INF, 3.0], [INF, -INF]), (KL_X, [0.0, 0.0], [INF, 3.0], [-INF, INF]),
        (KL_X, [0.0, 0.0, 1.0], [-INF, -INF, 3.0], [ANY, ANY, -INF]),
        (KL_X, [0.0, 0.0, 1.0], [-INF, INF, 3.0], [ANY, ANY, ANY]),
        (KL_X, [INF, INF, 1.0], [0.0, 0.0, 3.0], [ANY, ANY, 0.0]),
        (KL_X, [0.0, 1.0], [NAN, 3.0], [NAN, NAN]), (KL_X, [0.0], [-INF], [0.0]),
        (KL_JX, [0.0, 1.0], [-INF, 0.0], [ANY]), (KL_JX, [INF, 1.0], [0.0, 0.0], [0.0]),
        (KL_JX, [INF, INF], [0.0, 0.0], [ANY]), (KL_JX, [0.0, 1.0], [NAN, 0.0], [NAN]),
        (KL_JY, [0.0, 0.0], [-INF, 0.0], [0.5]), (KL_JY, [0.0, 0.0], [INF, 0.0], [-0.5]),
        (KL_JY, [INF, INF], [0.0, 0.0], [ANY]), (KL_JY, [0.0, 1.0], [NAN, 0.0], [NAN]),
        (KL_XX, [0.0, 1.0, -INF], [-INF, 0.0, 0.0], [ANY, ANY, 0.0]),
        (KL_XX, [INF, 1.0], [0.0, 0.0], [0.0, 0.0]), (KL_XX, [0.0, 1.0], [0.0, NAN], [NAN, NAN]),
        (KL_XY, [0.0, 0.0, -INF], [1.0, 2.0, 0.0], [0.25, -0.25, 0.0]),
        (KL_YX, [INF, 0.0], [1.0, 2.0], [0.0, 0.0]), (KL_YY, [INF, 0.0], [0.0, 0.0], [-0.25, 0.25]),
        (KL_YY, [1.0, 0.0, 0.0], [0.0, 0.0, -INF], [-0.25, 0.25, 0.0]),
        (KL_YY, [1.0, 0.0], [INF, INF], [ANY, ANY]), (KL_XY, [0.0, 0.0], [INF, INF], [0.25, -0.25]),
        (KL_XY, [1.0, 0.0], [NAN, 0.0], [ANY, ANY]),
    ],
)  # fmt: skip
def test_limits_of_its_derivatives(key: Any, x: Any, y: Any, expected: Any) -> None:
    agree(evaluate(key, x=x, y=y), expected, (key, x, y))


def test_a_zero_cotangent_settles_everything_that_is_linear_in_it() -> None:
    for key in (KL_X, KL_Y, KL_XX, KL_XY, KL_YX, KL_YY, H_X, H_XX):
        assert len(zeros(evaluate(key, x=[0.0, 1.0], y=[2.0, 5.0], g=0.0))) == 2
    assert zeros(evaluate(KL_X, x=[0.0, 1.0], y=[-INF, 5.0], g=0.0)) == [0, 1]


def test_no_rows() -> None:
    for key in MAPS:
        none = {k: np.zeros((0, 3)) for k in ("x", "y", "v_x", "v_y")} | {"g": np.zeros(0)}
        names = (*ops.get(key[0]).inputs, "g", "v_" + key[2].rsplit(".", maxsplit=1)[-1])
        refs = oracle.evaluate(*key, {k: none[k] for k in names if k in none}, FORMATS["float32"])
        assert refs.shape[0] == 0


# ---------------------------------------------------------------- what is known exactly

EXACT: list[tuple[Any, dict[str, Any], list[Any]]] = [
    (H, {"x": [3.0, -INF, -INF]}, [0]),
    (H_X, {"x": [3.0] * 3}, [0, 0, 0]),
    (H_J, {"x": [1, 2, 5], "v": [3, 3, 3]}, [0]),
    (H_J, {"x": [1, 1, 2, 2], "v": [0, 4, 3, 1]}, [0]),
    (H_XX, {"x": [1, 1], "v": [1, 4], "g": 2.0}, [Fraction(3, 2), Fraction(-3, 2)]),
    (H_XX, {"x": [1, 2], "v": [4, 4]}, [0, 0]),
    (KL, {"x": [0.1, 1.7], "y": [0.1, 1.7]}, [0]),
    (KL, {"x": [0, 2, -INF], "y": [5, 7, -INF]}, [0]),
    (KL_X, {"x": [0, 0], "y": [1, 4], "g": 3.0}, [Fraction(9, 4), Fraction(-9, 4)]),
    (KL_X, {"x": [0, 1, 5], "y": [2, 3, 7]}, [0, 0, 0]),
    (KL_Y, {"x": [0, 0], "y": [3, 3]}, [0, 0]),
    (KL_Y, {"x": [0, 0, 0, -INF], "y": [3, 3, -INF, -INF]},
     [Fraction(1, 6), Fraction(1, 6), Fraction(-1, 3), 0]),
    (KL_JX, {"x": [0, 0], "y": [1, 4], "v": [3, 0]}, [Fraction(9, 4)]),
    (KL_JX, {"x": [0, 1], "y": [1, 4], "v": [3, 3]}, [0]),
    (KL_JX, {"x": [0, 1], "y": [1, 2], "v": [3, 7]}, [0]),
    # two groups, each with covariance 3/4 and the same means: rational although x is not equal
    (KL_JX, {"x": [0, 0, 1, 1], "y": [1, -2, 2, -1], "v": [1, 2, 0, 1]}, [Fraction(3, 4)]),
    (KL_JY, {"x": [0, 1], "y": [5, 6], "v": [3, 7]}, [0]),
    (KL_JY, {"x": [0, 1, 1], "y": [0, 0, 1], "v": [2, 2, 2]}, [0]),
    (KL_JY, {"x": [0, 0, -INF], "y": [-INF, 0, 0], "v": [2, 5, 8]}, [3]),
    (KL_JY, {"x": [0, 1], "y": [1, 0], "v": [3, 3]}, [0]),
    (KL_XX, {"x": [0, 0], "y": [0, 0], "v": [1, 4]}, [Fraction(-3, 4), Fraction(3, 4)]),
    (KL_XX, {"x": [0, 1], "y": [0, 0], "v": [4, 4]}, [0, 0]),
    (KL_XY, {"x": [0, 0], "y": [0, 9], "v": [1, 4], "g": 2.0}, [Fraction(3, 2), Fraction(-3, 2)]),
    (KL_YX, {"x": [0, 0], "y": [0, 9], "v": [1, 4], "g": 2.0}, [Fraction(3, 2), Fraction(-3, 2)]),
    (KL_YY, {"x": [0, 9], "y": [0, 0], "v": [1, 4], "g": 2.0}, [Fraction(-3, 2), Fraction(3, 2)]),
]  # fmt: skip


@pytest.mark.parametrize("fmt", ["float64", "float32"])
@pytest.mark.parametrize("case", EXACT, ids=[f"{k}-{'-'.join(c[0])}" for k, c in enumerate(EXACT)])
def test_rational_results_are_settled_without_evaluation(case: Any, fmt: str) -> None:
    key, row, expected = case
    refs = evaluate(key, fmt, **row)
    assert not (refs.codes == 0).any()
    assert refs.rounded()[0].tolist() == [first.nearest(fmt, Fraction(v)) for v in expected]


def test_gradients_that_are_exactly_zero_at_single_entries() -> None:
    # s(y) is s(x) with two classes exchanged
    assert zeros(evaluate(KL_Y, x=[0, 1, 3, 4], y=[5, 8, 6, 9])) == [0, 3]
    assert zeros(evaluate(KL_Y, x=[0, 1, 3, 4], y=[5, 8, 6.5, 9])) == []
    # delta has the mean 2 in both groups
    assert zeros(evaluate(KL_X, x=[0, 0, 0, 1], y=[-1, -2, -3, -1])) == [1, 3]
    assert zeros(evaluate(KL_X, x=[0, 0, 0, 1], y=[-1, -2, -3, -1.5])) == []
    # differences that float64 cannot hold: x - y is constant to float64, and not constant
    x, y = [1.0, 2.0**-60], [0.0, -1.0 + 2.0**-53]
    assert zeros(evaluate(KL_X, x=x, y=y)) == []
    assert zeros(evaluate(KL, x=x, y=y)) == []
    assert float(evaluate(KL, x=x, y=y).rounded()[0, 0]) > 0


def test_the_entropy_of_equal_logits_is_log_k() -> None:
    for k in (2, 3, 10):
        with mpmath.workprec(400):
            assert textbook.close(evaluate(H, x=[7.5] * k), 0, 0, mpmath.log(k))


# ---------------------------------------------------------------- extremes


@pytest.mark.parametrize("gap", [40.0, 800.0, 1e4, 1e8, 1e30, 1e300])
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_gaps_up_to_1e300_are_decided(key: Any, gap: float) -> None:
    for x, y in (
        ([0.0, -gap, -gap / 2], [0.0, -gap / 4, -gap]), ([0.0, -gap, -gap / 2], [-gap, 0.0, 1.0]),
        ([0.0, 0.0, -gap], [0.0, 1.0, -gap]), ([0.0, 0.0, -gap], [1.0, 1.0, gap]),
        ([0.0, 1.0, -gap], [0.0, 1.0, -gap / 2]), ([0.0, 1.0, 2.0], [gap, 0.0, 0.0]),
    ):  # fmt: skip
        for fmt in ("float64", "float16"):
            refs = evaluate(key, fmt, x=x, y=y, v=[1.0, -3.0, 0.5])
            assert not np.isnan(refs.rounded()).any(), (x, y)
            assert ((refs.hi != 0) | (refs.codes == ZERO)).all(), (x, y)


@pytest.mark.parametrize("far", [-1e6, -1e300])
@pytest.mark.parametrize("key", [k for k in MAPS if k not in (H, KL, H_J)], ids="-".join)
def test_far_away_logits_decide_as_near_ones_do(key: Any, far: float) -> None:
    """Ties at the top, one class so far below that no precision reaches it."""
    rng = np.random.default_rng([12, MAPS.index(key)])
    count = 0
    for _ in range(12):
        tops = int(rng.choice((2, 4)))
        v = np.array([2.0**24 - 2 * rng.integers(0, 9), *rng.integers(-3, 4, tops)])
        # delta of the far class is 0 for all distances, lest the sign depends on them
        y = np.array([*rng.integers(-3, 4, tops - 1), 2.0**24 - 2 * rng.integers(0, 9), far]) * 1.0
        if key in (KL_Y, KL_JY, KL_YY):
            y = np.array([1.0] * tops + [far])
        row = {"x": np.array([0.0] * tops + [far]), "y": y, "g": rng.integers(1, 8) * 1.0,
               "v_x": v, "v_y": v}  # fmt: skip
        names = (*ops.get(key[0]).inputs, "g", "v_" + key[2].rsplit(".", maxsplit=1)[-1])
        row = {k: a for k, a in row.items() if k in names}
        near = {k: np.where(a == far, -350.0, a) if k in ("x", "y") else a for k, a in row.items()}
        made = {k: np.asarray(a)[None] for k, a in row.items()}
        values = oracle.evaluate(*key, made, FORMATS["float32"]).rounded()[0]
        for i, right in enumerate(against_arb.rounded(key, near, "float32")[0][:tops]):
            if right is not None and abs(right) > 1e-30:
                assert float(values[i]) == right, (row, i)
                count += 1
    assert count > 8 or key in (H_X, KL_Y, KL_JY)


def test_a_divergence_as_small_as_the_only_class_that_differs_is_decided() -> None:
    # the mean of delta = 1, ..., 1 in float64 is not 1
    x = np.array([3.844489812850952, 2.5289182662963867, -2.1395103931427, -3.4028234663852886e38,
                  3.3951680660247803, -1.159590482711792, 2.5762710571289062])  # fmt: skip
    for fmt in ("float32", "float64"):
        refs = evaluate(KL, fmt, x=x, y=np.where(x > -9, x - 1, x), v=x)
        assert refs.hi[0, 0] > 0
        assert refs.rounded()[0, 0] == 0


def test_the_largest_floats_are_decided() -> None:
    big = FORMATS["float64"].max_finite
    for key in MAPS:
        for x, y in (([-big, -INF], [big, -0.0]), ([-big, big], [big, -big]),
                     ([big, 0.0], [-big, 1.0]),
                     ([big, big, 0.0], [-big, -big, 0.0])):  # fmt: skip
            refs = evaluate(key, x=x, y=y, v=np.arange(len(x)) - 1.0)
            assert ((refs.hi != 0) | (refs.codes != 0)).all(), (key, x, y)
            assert not refs.nan.any()


def test_a_divergence_next_to_a_midpoint_is_decided_by_its_sign() -> None:
    # 2^24 + 1 is a midpoint of float32; the rest is below e^-(10^7)
    x = [0.0, -3e7]
    assert evaluate(KL, "float32", x=x, y=[0.0, 2.0**24 + 1]).rounded()[0, 0] == 2.0**24 + 2
    row = {"x": [-3e7, 0.0, -4e7], "y": [2.0**24 + 1, 0.0, 0.0]}
    assert evaluate(KL, "float32", **row).rounded()[0, 0] == 2.0**24 + 2


def test_a_single_infinity_in_x_is_bounded_by_the_formula_not_as_exact() -> None:
    """-l(y)_k is no exact answer: rows with one +inf have the bounds of the one-hot row."""
    fmt = FORMATS["float32"]
    y = np.array([[1.0, 5.0]])
    made = [bounds.evaluate(*KL, {"x": np.array([x]), "y": y}, fmt)
            for x in ([INF, 0.0], [0.0, -INF])]  # fmt: skip
    assert made[0].weak == made[1].weak
    assert made[0].weak[0, 0] > 4 * 2.0**-24


def test_pairs_know_their_kinds() -> None:
    b = Batch({"x": np.array([[0.0, 1.0], [0.0, INF], [0.0, -1e308]]),
               "y": np.array([[0.5, 1.5], [0.0, 1.0], [1e308, -1e308]])})  # fmt: skip
    pair = Pair(b)
    assert [pair.same(r) for r in range(3)] == [True, False, False]
    assert pair.kept.tolist() == [[True, True], [False, True], [True, True]]
    assert pair.near[:, 0].tolist() == [True, True, True]


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("key", [H, KL, KL_Y], ids="-".join)
def test_the_weak_bound_is_its_closed_form_within_a_factor(key: Any, n: int) -> None:
    for which in ("weak", "pairwise"):
        ratio = emulated_rows.ratios_to_closed(key, n, which)
        assert ratio.min() > 0.7, which
        assert ratio.max() < 1.02, which


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_implementations_that_round_every_step_are_within_weak(key: Any, name: str) -> None:
    fmt = FORMATS[name]
    for n in (1, 2, 5, 17):
        inputs = emulated_rows.hard_rows(key, fmt, n)
        for route in ("e/S", "exp(l)"):
            with np.errstate(all="ignore"):
                made = emulated_rows.Stepwise(fmt, pairwise=fmt.is_narrow)
                result = made.answer(key, inputs, route)
            ratio, row = emulated_rows.worst(key, fmt, inputs, result, "weak")
            assert ratio <= 1.01, (n, route, ratio, row)


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_an_entropy_by_log1p_is_within_strong_and_the_textbook_is_not(name: str) -> None:
    fmt = FORMATS[name]
    for n in (2, 5, 17):
        inputs = emulated_rows.hard_rows(H, fmt, n)
        made = emulated_rows.Stepwise(fmt, pairwise=True)
        with np.errstate(all="ignore"):
            _, d, e, t = made.tail(inputs["x"])
            total = made.r(1 + t)
            s = made.r(e / total)
            result = made.r(made.r(np.log1p(t)) - made.sum(made.r(s * d)))
        ratio, row = emulated_rows.worst(H, fmt, inputs, result, "strong")
        assert ratio <= 1.01, (n, ratio, row)
    dominated = {"x": np.array([[0.0, -float(fmt.precision)]])}
    with np.errstate(all="ignore"):
        result = made.answer(H, dominated, "e/S")
    assert emulated_rows.worst(H, fmt, dominated, result, "weak")[0] <= 1.01
    assert emulated_rows.worst(H, fmt, dominated, result, "strong")[0] > 2


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_bounds_are_finite_whatever_the_gaps(key: Any) -> None:
    fmt = FORMATS["float32"]
    for x, y in (
        ([0.0, -1e6], [-1e6, 0.0]), ([0.0, -3e4], [0.0, 3e4]), ([0.0, -1e30], [1e30, 0.0]),
        ([0.0, -2e4], [0.0, -1e4]), ([0.0, -1e4], [0.0, -2e4]), ([0.0, -1e30], [0.0, -2e30]),
    ):  # fmt: skip
        made = {"x": np.array([x]), "g": np.ones(1), "v_x": np.array([[1.0, -2.0]])}
        made |= {"y": np.array([y]), "v_y": np.array([[1.0, -2.0]])} if "kl" in key[0] else {}
        found = bounds.evaluate(*key, made, fmt)
        for which in ("weak", "pairwise", "strong", "magnitude"):
            assert np.isfinite(getattr(found, which)).all(), (which, x, y)
