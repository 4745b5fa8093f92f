"""The elementwise ops: all bfloat16 inputs, limits, and what is known exactly.

Against Arb: test_against_arb.py. Against the definitions: test_definitions.py.
"""

from __future__ import annotations

import math
import time
from fractions import Fraction
from typing import Any

import against_arb
import arb
import numpy as np
import pytest
from against_arb import needed, same
from arb_inputs import TANGENTS, elements
from flint import ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import formats, ops, oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO
from reference.references import MULTIPRECISION

INF, NAN = math.inf, math.nan
NAMES = ("sigmoid", "log_sigmoid", "softplus", "logaddexp", "sigmoid_cross_entropy")
MAPS = [(op, *key) for op in NAMES for key in ops.get(op).maps]
UNARY = NAMES[:3]


def evaluate(key: tuple[str, str, str], fmt: str = "float32", **given: Any) -> oracle.References:
    """One row; an argument that is not given is 1, and g and the tangents are."""
    x = np.atleast_2d(np.asarray(given["x"], np.float64))
    made = {}
    for name in needed(key):
        if name in given or name not in ("pos_weight",):
            made[name] = np.broadcast_to(np.asarray(given.get(name, 1.0), np.float64), x.shape)
    return oracle.evaluate(*key, made, FORMATS[fmt])


def rounded(key: tuple[str, str, str], fmt: str = "float32", **given: Any) -> list[Any]:
    """Results; ``undefined`` where there is none."""
    refs = evaluate(key, fmt, **given)
    return [
        "undefined" if open_ else float(v)
        for v, open_ in zip(refs.rounded()[0], refs.undefined[0], strict=True)
    ]


# ---------------------------------------------------------------- against Arb


@given(
    key=st.sampled_from(MAPS),
    values=st.lists(st.floats(-100, 100, width=32), min_size=7, max_size=7),
    name=st.sampled_from(sorted(FORMATS)),
)
@settings(max_examples=200, deadline=None)
def test_whatever_hypothesis_thinks_of(
    key: tuple[str, str, str], values: list[float], name: str
) -> None:
    fmt = FORMATS[name]
    numbers = formats.nearest(fmt, np.array(values))
    names = ("x", "y", "target", "pos_weight", "g", "v_x", "v_y")
    made = {n: np.array([[v]]) for n, v in zip(names, numbers, strict=True)}
    made |= {"v_target": made["v_x"], "v_pos_weight": made["v_y"]}
    tally = against_arb.compare(key, made, fmt)
    assert tally.wrong == tally.missed == []


@pytest.mark.parametrize("derivative", ["value", "vjp"])
@pytest.mark.parametrize("op", UNARY)
def test_all_bfloat16_inputs_are_rounded_as_arb_rounds_them(op: str, derivative: str) -> None:
    fmt = FORMATS["bfloat16"]
    key = (op, derivative, "-" if derivative == "value" else "x")
    x = formats.from_bits(fmt, np.arange(1 << 16))
    inputs = {"x": x.reshape(256, 256), "g": np.ones((256, 256))}
    values = oracle.evaluate(*key, inputs, fmt).rounded().reshape(-1)
    checked = np.isfinite(x)
    assert checked.sum() == 2 * 255 * 128
    x, values = x[checked], values[checked].tolist()
    before, ctx.prec = ctx.prec, arb.FIRST
    try:
        balls = against_arb.balls(key, {"x": x, "g": np.ones(x.size)})
        ends = [arb.rounding_interval(fmt.name, v, False) for v in values]
        sure = [low <= b <= high for (low, high), b in zip(ends, balls, strict=True)]
    finally:
        ctx.prec = before
    slow = np.flatnonzero(~np.array(sure))
    assert slow.size < 1500
    for k in slow.tolist():
        right, candidates = against_arb.rounded(key, {"x": x[[k]], "g": np.ones(1)}, fmt.name)
        assert values[k] in ([right[0]] if candidates[0] is None else candidates[0]), x[k]


@pytest.mark.parametrize("key", [k for k in MAPS if k[0] in UNARY], ids="-".join)
def test_all_bfloat16_inputs_are_decided_in_under_a_second(key: tuple[str, str, str]) -> None:
    fmt = FORMATS["bfloat16"]
    x = formats.from_bits(fmt, np.arange(1 << 16)).reshape(16, -1)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        refs = oracle.evaluate(*key, {"x": x, "g": np.ones_like(x), "v_x": np.ones_like(x)}, fmt)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
    assert (refs.tier == MULTIPRECISION).sum() < 200
    assert refs.nan.sum() == np.isnan(x).sum()


# ---------------------------------------------------------------- limits


def keys(op: str, derivative: str, *arguments: str) -> list[tuple[str, str, str]]:
    return [(op, derivative, a) for a in arguments]


def first(op: str, argument: str) -> list[tuple[str, str, str]]:
    return [(op, "vjp", argument), (op, "jvp", argument)]


@pytest.mark.parametrize(
    ("maps", "right", "left"),
    [
        (keys("sigmoid", "value", "-"), 1.0, 0.0),
        (first("sigmoid", "x"), 0.0, 0.0),
        (keys("sigmoid", "hvp", "x.x"), 0.0, 0.0),
        (keys("log_sigmoid", "value", "-"), 0.0, -INF),
        (first("log_sigmoid", "x"), 0.0, 1.0),
        (keys("log_sigmoid", "hvp", "x.x"), 0.0, 0.0),
        (keys("softplus", "value", "-"), INF, 0.0),
        (first("softplus", "x"), 1.0, 0.0),
        (keys("softplus", "hvp", "x.x"), 0.0, 0.0),
    ],
)
def test_limits_of_one_argument(maps: Any, right: float, left: float) -> None:
    for key in maps:
        for g in (1.0, -3.0):
            factor = 1.0 if key[1] == "value" else g
            got = rounded(key, x=[INF, -INF, NAN], g=g, v_x=1.0 if key[1] == "hvp" else g)
            assert [same(a, b * factor) for a, b in zip(got, (right, left, NAN), strict=True)] == [
                True] * 3, (key, got)  # fmt: skip


PAIRS = [  # x, y, value, to x, to y, second derivative
    (-INF, -INF, -INF, "undefined", "undefined", "undefined"),
    (INF, INF, INF, "undefined", "undefined", "undefined"),
    (1.5, INF, INF, 0.0, 1.0, 0.0),
    (INF, 1.5, INF, 1.0, 0.0, 0.0),
    (1.5, -INF, 1.5, 1.0, 0.0, 0.0),
    (-INF, 1.5, 1.5, 0.0, 1.0, 0.0),
    (INF, -INF, INF, 1.0, 0.0, 0.0),
    (-INF, INF, INF, 0.0, 1.0, 0.0),
    (NAN, 1.5, NAN, NAN, NAN, NAN),
    (INF, NAN, NAN, NAN, NAN, NAN),
    (-INF, NAN, NAN, NAN, NAN, NAN),
]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_limits_of_logaddexp(pair: Any) -> None:
    x, y, value, to_x, to_y, second = pair
    expected = {("value", "-"): value}
    for derivative in ("vjp", "jvp"):
        expected |= {(derivative, "x"): to_x, (derivative, "y"): to_y}
    expected |= {("hvp", f"{a}.{b}"): second for a in "xy" for b in "xy"}
    for key, right in expected.items():
        assert same(rounded(("logaddexp", *key), x=x, y=y)[0], right), key


ANY = "undefined"
LOSS = [  # x, z, w, value, to x, to z, to w
    (INF, 1.0, 2.0, 0.0, 0.0, -INF, 0.0),
    (INF, 0.25, 2.0, INF, 0.75, -INF, 0.0),
    (INF, 0.0, 2.0, INF, 1.0, -INF, 0.0),
    (-INF, 0.0, 2.0, 0.0, 0.0, INF, 0.0),
    (-INF, 0.25, 2.0, INF, -0.5, INF, INF),
    (-INF, 1.0, 2.0, INF, -2.0, INF, INF),
    (-INF, 1.0, 0.0, 0.0, 0.0, 0.0, INF),
    (-INF, 0.25, 0.0, 0.0, 0.0, 0.0, INF),
    (INF, 1.0, 0.0, 0.0, 0.0, -INF, 0.0),
    (INF, 0.5, INF, INF, ANY, ANY, 0.0),
    (INF, 1.0, INF, ANY, ANY, ANY, 0.0),
    (INF, 0.0, INF, INF, 1.0, ANY, 0.0),
    (-INF, 0.0, INF, 0.0, 0.0, INF, 0.0),
    (-INF, 0.5, INF, INF, -INF, INF, INF),
    (0.0, 0.5, INF, INF, -INF, INF, 0.34657359),
    (0.0, 0.0, INF, 0.6931472, 0.5, INF, 0.0),
    (INF, 1.5, 1.0, ANY, ANY, ANY, ANY),
    (-INF, -0.5, 1.0, ANY, ANY, ANY, ANY),
    (INF, 0.5, -1.0, ANY, ANY, ANY, ANY),
    (1.0, 1.5, INF, ANY, ANY, ANY, ANY),
    (1.0, INF, 1.0, ANY, ANY, ANY, ANY),
    (NAN, 0.0, 1.0, NAN, NAN, NAN, NAN),
    (NAN, 1.0, 0.0, NAN, NAN, NAN, NAN),
    (0.0, NAN, 1.0, NAN, NAN, 0.0, NAN),
    (0.0, 0.0, NAN, NAN, NAN, NAN, 0.0),
]


@pytest.mark.parametrize("case", LOSS, ids=str)
def test_limits_of_the_logistic_loss(case: Any) -> None:
    x, z, w, value, to_x, to_z, to_w = case
    expected = {("value", "-"): value}
    for derivative in ("vjp", "jvp"):
        expected |= {(derivative, "x"): to_x, (derivative, "target"): to_z}
        expected |= {(derivative, "pos_weight"): to_w}
    for key, right in expected.items():
        for g in (1.0, -1.0) if key[0] != "value" else (1.0,):
            v = dict.fromkeys(("g", *TANGENTS), g)
            got = rounded(("sigmoid_cross_entropy", *key), x=x, target=z, pos_weight=w, **v)[0]
            signed = right if right == ANY else np.float32(right * g)
            assert same(got, signed), (key, got, signed)


@pytest.mark.parametrize(
    ("x", "z", "w", "expected"),
    [  # xx, xz, xw, zw
        (INF, 0.25, 2.0, (0.0, -1.0, 0.0, 0.0)),
        (-INF, 0.25, 2.0, (0.0, -2.0, -0.25, INF)),
        (-INF, 0.0, 2.0, (0.0, -2.0, 0.0, INF)),
        (0.0, 0.25, INF, (INF, -INF, -0.125, 0.6931472)),
        (INF, 0.25, INF, (ANY, ANY, 0.0, 0.0)),
        (-INF, 0.25, INF, (ANY, -INF, -0.25, INF)),
        (-INF, 0.0, INF, (0.0, -INF, 0.0, INF)),
        (NAN, 0.0, 1.0, (NAN, NAN, NAN, NAN)),
        (1.0, NAN, 1.0, (NAN, -1.0, NAN, 0.3132617)),
        (1.0, 0.25, NAN, (NAN, NAN, -0.067235358, 0.3132617)),
    ],
)
def test_limits_of_the_second_derivatives_of_the_loss(
    x: float, z: float, w: float, expected: Any
) -> None:
    blocks = (["x.x"], ["x.target", "target.x"], ["x.pos_weight", "pos_weight.x"],
              ["target.pos_weight", "pos_weight.target"])  # fmt: skip
    for names, right in zip(blocks, expected, strict=True):
        for block in names:
            got = rounded(("sigmoid_cross_entropy", "hvp", block), x=x, target=z, pos_weight=w)[0]
            assert same(got, right if right == ANY else np.float32(right)), (block, got)


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_a_cotangent_of_zero_gives_zero_and_nan_stays_nan(key: tuple[str, str, str]) -> None:
    if key[1] == "value":
        return
    zero = dict.fromkeys(("g", *TANGENTS), 0.0)
    given_ = {"y": 2.0, "target": 0.5, "pos_weight": 2.0}
    assert rounded(key, x=[1.0, -300.0, 0.0], **given_, **zero) == [0.0] * 3
    assert rounded(key, x=[INF, -INF], **given_, **zero) == [0.0] * 2
    assert math.isnan(rounded(key, x=1.0, **given_, **dict.fromkeys(zero, NAN))[0])
    assert rounded(key, x=1.0, **given_, **dict.fromkeys(zero, INF)) == [ANY]


def test_the_second_derivative_of_what_is_linear_is_zero_and_beside_nan_open() -> None:
    for block in ("target.target", "pos_weight.pos_weight"):
        key = ("sigmoid_cross_entropy", "hvp", block)
        assert rounded(key, x=[1.0, INF, NAN], target=0.5) == [0.0, 0.0, ANY]


def test_a_second_derivative_that_does_not_depend_on_the_logit_is_open_beside_nan() -> None:
    for block in ("x.target", "target.x"):
        key = ("sigmoid_cross_entropy", "hvp", block)
        assert rounded(key, x=[1.0, INF, NAN], target=0.5) == [-1.0, -1.0, ANY]
        assert rounded(key, x=[1.0, INF, 1.0], target=[0.5, 0.5, NAN]) == [-1.0] * 3
        assert math.isnan(rounded(key, x=NAN, target=0.5, pos_weight=1.0)[0])
        assert math.isnan(rounded(key, x=NAN, target=0.5, g=NAN)[0])


def test_shapes_and_nothing_at_all() -> None:
    for key in MAPS:
        for shape in ((0, 3), (2, 0), (0, 0), (2, 3), (1, 1)):
            made = {name: np.full(shape, 0.5) for name in needed(key)}
            refs = oracle.evaluate(*key, made, FORMATS["float32"])
            assert refs.rounded().shape == refs.tier.shape == shape


def test_an_argument_that_is_missing_is_named() -> None:
    with pytest.raises(KeyError, match="y"):
        oracle.evaluate("logaddexp", "value", "-", {"x": np.zeros((1, 1))}, FORMATS["float32"])


def test_pos_weight_may_be_left_out() -> None:
    for key in MAPS:
        if key[0] != "sigmoid_cross_entropy":
            continue
        made = {**elements(FORMATS["float32"], 60, 5), "pos_weight": np.ones((1, 60))}
        ones = oracle.evaluate(*key, {n: made[n] for n in needed(key)}, FORMATS["float32"])
        del made["pos_weight"]
        inputs = {n: made[n] for n in needed(key) if n in made}
        without = oracle.evaluate(*key, inputs, FORMATS["float32"])
        np.testing.assert_array_equal(ones.rounded(), without.rounded())
        np.testing.assert_array_equal(ones.codes, without.codes)


# ---------------------------------------------------------------- rational results

BCE = "sigmoid_cross_entropy"
BIG = 2.0**24 - 1


@pytest.mark.parametrize(
    ("key", "row", "expected"),
    [
        (("sigmoid", "value", "-"), {"x": 0.0}, Fraction(1, 2)),
        (("sigmoid", "vjp", "x"), {"x": 0.0, "g": BIG}, Fraction(BIG) / 4),
        (("sigmoid", "hvp", "x.x"), {"x": -0.0, "g": BIG}, Fraction(0)),
        (("log_sigmoid", "jvp", "x"), {"x": 0.0, "v_x": -BIG}, Fraction(-BIG) / 2),
        (("log_sigmoid", "hvp", "x.x"), {"x": 0.0, "g": BIG, "v_x": BIG}, -Fraction(BIG) ** 2 / 4),
        (("softplus", "hvp", "x.x"), {"x": 0.0, "g": 2e-45, "v_x": 0.75},
         Fraction(2e-45) * 3 / 16),
        (("logaddexp", "vjp", "x"), {"x": 1e38, "y": 1e38, "g": BIG}, Fraction(BIG) / 2),
        (("logaddexp", "hvp", "x.y"), {"x": 3.0, "y": 3.0, "g": BIG}, -Fraction(BIG) / 4),
        (("logaddexp", "value", "-"), {"x": 3.25, "y": -INF}, Fraction(13, 4)),
        # K = 1 - z + w z = 0
        ((BCE, "value", "-"), {"x": 3.0, "target": 2.0, "pos_weight": 0.5}, Fraction(-3)),
        ((BCE, "value", "-"), {"x": -BIG, "target": -1.0, "pos_weight": 2.0}, 2 * Fraction(-BIG)),
        ((BCE, "value", "-"), {"x": 3.0, "target": 1.0, "pos_weight": 0.0}, Fraction(0)),
        ((BCE, "vjp", "x"), {"x": 3.0, "target": 2.0, "pos_weight": 0.5, "g": BIG}, Fraction(-BIG)),
        ((BCE, "hvp", "x.x"), {"x": 3.0, "target": 2.0, "pos_weight": 0.5}, Fraction(0)),
        # w = 1
        ((BCE, "vjp", "target"), {"x": BIG, "target": 0.3, "g": BIG}, -Fraction(BIG) ** 2),
        ((BCE, "jvp", "target"), {"x": 5.0, "pos_weight": 1.0, "v_target": 0.1},
         Fraction(0.1) * -5),
        ((BCE, "hvp", "x.target"), {"x": 0.3, "g": BIG, "v_target": 3.0}, -3 * Fraction(BIG)),
        # x = 0
        ((BCE, "vjp", "x"), {"x": 0.0, "target": 0.25, "pos_weight": 3.0}, Fraction(0)),
        ((BCE, "vjp", "x"), {"x": 0.0, "target": 1e-30, "pos_weight": 1.0, "g": 3.0},
         3 * (1 - 2 * Fraction(1e-30)) / 2),
        ((BCE, "jvp", "x"), {"x": 0.0, "target": 0.0, "v_x": BIG}, Fraction(BIG) / 2),
        ((BCE, "jvp", "x"), {"x": 0.0, "target": 1.0, "v_x": BIG}, Fraction(-BIG) / 2),
        ((BCE, "hvp", "x.x"), {"x": 0.0, "target": 0.5, "pos_weight": 3.0, "g": 3.0},
         Fraction(3, 2)),
        ((BCE, "hvp", "target.x"), {"x": 0.0, "pos_weight": 2.0, "g": 3.0}, Fraction(-9, 2)),
        ((BCE, "hvp", "x.pos_weight"), {"x": 0.0, "target": 0.1, "g": 3.0},
         Fraction(0.1) * Fraction(-3, 2)),
        ((BCE, "vjp", "pos_weight"), {"x": 3.0, "target": 0.0}, Fraction(0)),
        # at infinity
        ((BCE, "vjp", "x"), {"x": INF, "target": 1e-30, "g": 3.0}, 3 * (1 - Fraction(1e-30))),
        ((BCE, "vjp", "x"), {"x": -INF, "target": 0.1, "pos_weight": 0.1, "g": 0.1},
         -Fraction(0.1) ** 3),
        ((BCE, "hvp", "x.target"), {"x": -INF, "target": 0.1, "pos_weight": 0.1, "g": 0.1,
                                    "v_target": 0.1}, -Fraction(0.1) ** 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fmt", ["float64", "float32"])
def test_rational_results_are_rounded_from_the_fraction(
    key: tuple[str, str, str], row: dict[str, float], expected: Fraction, fmt: str
) -> None:
    refs = evaluate(key, fmt, **{"target": 0.5, **row})
    assert refs.codes[0, 0] != 0  # settled without evaluation
    assert refs.rounded()[0, 0] == arb.nearest(fmt, expected)


# ---------------------------------------------------------------- next to a boundary

ETA = 2.0**-149


@pytest.mark.parametrize("far", [800.0, 1e6, 3e38])
@pytest.mark.parametrize(
    ("key", "row", "expected"),
    [
        (("sigmoid", "value", "-"), {"x": 1}, 1.0),
        (("log_sigmoid", "value", "-"), {"x": 1}, -0.0),
        (("softplus", "vjp", "x"), {"x": 1, "g": 3 * ETA}, 3 * ETA),
        (("logaddexp", "vjp", "y"), {"x": -1, "g": -1.0}, -1.0),
        (("logaddexp", "value", "-"), {"x": -1, "y": 1.0}, 1.0),
        # z = 1/2: (1 - z) g = (2^24 - 1) 2^-150, a midpoint of subnormals, less a little; plus one
        ((BCE, "vjp", "x"), {"x": 1, "target": 0.5, "g": 3 * ETA}, ETA),
        ((BCE, "vjp", "x"), {"x": -1, "target": 0.5, "g": 3 * ETA}, -ETA),
        ((BCE, "vjp", "x"), {"x": 1, "target": 1.5, "pos_weight": -2.0, "g": 3 * ETA}, -ETA),
        ((BCE, "vjp", "x"), {"x": 1, "target": 1.5, "pos_weight": 2.0, "g": 3 * ETA}, -2 * ETA),
        ((BCE, "hvp", "x.target"), {"x": -1, "pos_weight": 0.5, "g": 3 * ETA}, -2 * ETA),
        ((BCE, "hvp", "x.target"), {"x": -1, "pos_weight": 1.5, "g": 3 * ETA}, -4 * ETA),
        ((BCE, "hvp", "x.pos_weight"), {"x": -1, "target": 0.5, "g": 3 * ETA}, -ETA),
        ((BCE, "value", "-"), {"x": 1, "target": 1.0}, 0.0),
    ],
)  # fmt: skip
def test_an_exponentially_small_term_decides(
    key: tuple[str, str, str], row: dict[str, float], expected: float, far: float
) -> None:
    made = {**row, "x": row["x"] * float(np.float32(far))}
    refs = evaluate(key, "float32", **{"target": 0.5, **made})
    assert refs.rounded()[0, 0] == expected
    assert refs.hi[0, 0] != 0
    assert same(float(refs.rounded()[0, 0]), oracle.round_element(refs, 0, 0))


def test_the_vectorised_tiers_and_the_last_one_agree_beside_boundaries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ``between`` the elements that lie there go to mpmath, and to the polynomials."""
    fmt = FORMATS["float32"]
    rng = np.random.default_rng(3)
    n = 24
    for key in MAPS:
        made = {name: rng.choice([1.0, 0.5, 2.0, -1.0, 3.0], (1, n)) for name in needed(key)}
        made["x"] = rng.choice([1e3, -1e3, 1e-20, 1e5, -1e5, 40.0], (1, n))
        if "target" in made:
            made["target"] = rng.choice([0.0, 1.0, 0.5, 0.25], (1, n))
        if "g" in made:
            made["g"] = rng.choice([3 * ETA, 1.0, -1.0, BIG, -7 * ETA], (1, n))
        quick = oracle.evaluate(*key, made, fmt)
        with monkeypatch.context() as patch:
            patch.setattr(oracle, "_vector_tiers", lambda fmt: [])
            slow = oracle.evaluate(*key, made, fmt)
        np.testing.assert_array_equal(quick.rounded(), slow.rounded())
        leading = [
            r.exponent - ((np.abs(r.hi) == 0.5) & (np.sign(r.lo) * np.sign(r.hi) < 0))
            for r in (quick, slow)
        ]
        normal = np.abs(quick.rounded()) > 2.0**-126
        np.testing.assert_array_equal(leading[0][normal], leading[1][normal])


@pytest.mark.parametrize("name", ["float64", "float32"])
def test_gaps_up_to_the_largest_number_are_decided(name: str) -> None:
    top = FORMATS[name].max_finite
    x = np.array([[top, -top, top / 2, 1e-300, -5e-324, 0.0]])
    x = formats.nearest(FORMATS[name], x)
    for key in MAPS:
        made = {name_: np.full(x.shape, 0.75) for name_ in needed(key)}
        refs = oracle.evaluate(*key, {**made, "x": x, "y": -x[:, ::-1]}, FORMATS[name])
        assert refs.finite.all(), key
        assert ((refs.hi != 0) | (refs.codes == ZERO)).all(), key


# ---------------------------------------------------------------- identities, decimals


def test_mirrored_inputs_give_mirrored_results() -> None:
    fmt = FORMATS["float32"]
    made = elements(fmt, 400, 9)
    x, one = made["x"], np.ones_like(made["x"])

    def f(op: str, derivative: str = "value", argument: str = "-", **inputs: Any) -> Any:
        return oracle.evaluate(op, derivative, argument, inputs, fmt).rounded()

    np.testing.assert_array_equal(f("softplus", x=x), -f("log_sigmoid", x=-x))
    np.testing.assert_array_equal(f("softplus", x=x), f("logaddexp", x=x, y=0 * x))
    np.testing.assert_array_equal(f("softplus", x=x), f(BCE, x=x, target=0 * x))
    np.testing.assert_array_equal(f("softplus", x=-x), f(BCE, x=x, target=one))
    np.testing.assert_array_equal(f("sigmoid", x=x), f("softplus", "vjp", "x", x=x, g=one))
    np.testing.assert_array_equal(
        f("logaddexp", x=x, y=made["y"]), f("logaddexp", x=made["y"], y=x)
    )
    np.testing.assert_array_equal(
        f("sigmoid", "vjp", "x", x=x, g=made["g"]), f("sigmoid", "vjp", "x", x=-x, g=made["g"])
    )
