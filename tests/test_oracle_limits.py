"""Limits at infinity and NaN, and rational results, of the first five ops.

The table of docs/contract.md, written out, with the special entries in every place.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import against_arb
import arb
import numpy as np
import pytest
from against_arb import same
from first_ops import (
    CE,
    CE_T,
    CE_X,
    INF,
    LOG,
    LOG_X,
    LSE,
    LSE_X,
    MAPS,
    NAN,
    SOFTMAX,
    SOFTMAX_X,
    SPARSE,
    SPARSE_X,
    evaluate,
    rounded,
)

from reference import ops, oracle
from reference.formats import FORMATS
from reference.ops.base import ZERO

# ---------------------------------------------------------------- the limit table

X = [0.5, -1.25, 2.0, 0.0, -3.0]
G = [1.0, -2.0, 0.5, 4.0, -0.25]
T = [0.5, 0.25, 2.0, 1.0, 0.125]

REST = "rest"  # what Arb gives, with the -inf entries left out of the sum
NAN_ = "nan"
ANY = "undefined"
G_I, MINUS_GT = "g_i", "-g t_i"

# kind of row -> op -> (at the special entries, at the others); per-row results have one entry
LIMITS: dict[str, dict[tuple[str, str, str], Any]] = {
    "some -inf": {
        SOFTMAX: (0.0, REST), SOFTMAX_X: (0.0, REST),
        LOG: (-INF, REST), LOG_X: (G_I, REST),
        LSE: REST, LSE_X: (0.0, REST),
        CE_X: (MINUS_GT, REST), CE_T: (INF, REST),
    },
    "all -inf": {
        SOFTMAX: (ANY, ANY), SOFTMAX_X: (ANY, ANY),
        LOG: (ANY, ANY), LOG_X: (ANY, ANY),
        LSE: -INF, LSE_X: (ANY, ANY),
        CE: ANY, CE_X: (ANY, ANY), CE_T: (ANY, ANY), SPARSE: ANY, SPARSE_X: (ANY, ANY),
    },
    "one +inf": {
        SOFTMAX: (1.0, 0.0), SOFTMAX_X: (0.0, 0.0),
        LOG: (0.0, -INF), LOG_X: ("-sum of the other g", G_I),
        LSE: INF, LSE_X: ("g", 0.0),
        CE: INF, CE_X: ("g sum of the other t", MINUS_GT), CE_T: (0.0, INF),
    },
    "several +inf": {
        SOFTMAX: (ANY, 0.0), SOFTMAX_X: (ANY, 0.0),
        LOG: (ANY, -INF), LOG_X: (ANY, G_I),
        LSE: INF, LSE_X: (ANY, 0.0),
        CE: INF, CE_X: (ANY, MINUS_GT), CE_T: (ANY, INF),
    },
    "NaN": {
        SOFTMAX: (NAN_, NAN_), SOFTMAX_X: (NAN_, NAN_),
        LOG: (NAN_, NAN_), LOG_X: (NAN_, NAN_),
        LSE: NAN_, LSE_X: (NAN_, NAN_),
        CE: NAN_, CE_X: (NAN_, NAN_), CE_T: (NAN_, NAN_), SPARSE: NAN_, SPARSE_X: (NAN_, NAN_),
    },
}  # fmt: skip
SPECIALS = {"some -inf": -INF, "all -inf": -INF, "one +inf": INF, "several +inf": INF, "NaN": NAN}


def places(kind: str) -> Iterator[tuple[int, list[int]]]:
    """(n, special entries): first, middle and last, alone and in pairs as the kind allows."""
    for n in (2, 3, 5):
        spots = sorted({0, n // 2, n - 1})
        if kind == "all -inf":
            yield n, list(range(n))
        elif kind == "several +inf":
            yield n, [0, n - 1]
            yield n, list(range(n))
            if n > 2:
                yield n, [0, n // 2]
        else:
            yield from ((n, [k]) for k in spots)
            if n == 5 and kind in ("some -inf", "NaN"):
                yield n, [0, n - 1]
                yield n, [0, 1, 3, 4]


@pytest.mark.parametrize("beside_masked", [False, True], ids=["plain", "beside -inf"])
@pytest.mark.parametrize(
    ("kind", "key"),
    [(kind, key) for kind, row in LIMITS.items() for key in row],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)
def test_limits(kind: str, key: tuple[str, str, str], beside_masked: bool) -> None:
    expected = LIMITS[kind][key]
    for n, special in places(kind):
        x = np.array(X[:n])
        others = [i for i in range(n) if i not in special]
        if not others and key == CE and kind == "several +inf":
            continue  # the sum of undefined terms
        if beside_masked:
            if not others or kind == "some -inf" or n == 2:
                continue
            x[others[0]] = -INF
        x[special] = SPECIALS[kind]
        per_row = ops.get(key[0]).per_row
        g: Any = 1.5 if per_row else np.array(G[:n])
        t = np.array(T[:n])
        refs = evaluate(key, "float32", x=x, g=g, target=t, label=0)
        if not isinstance(expected, tuple):
            check(refs, key, x, g, t, 0, expected)
            continue
        for i in range(n):
            check(refs, key, x, g, t, i, expected[0 if i in special else 1])


def check(
    refs: oracle.References, key: Any, x: Any, g: Any, t: Any, i: int, expected: float | str
) -> None:
    got = float(refs.rounded()[0, i])
    where = (key, x.tolist(), i, got, expected)
    assert bool(refs.undefined[0, i]) == (expected == ANY), where
    if expected == ANY:
        return
    if expected == REST:
        expected_value = against_arb.rounded(key, {"x": x, "g": g, "target": t, "label": 0}
                                     if "sparse" in key[0] else {"x": x, "g": g, "target": t},
                                     "float32")[0][i]  # fmt: skip
        assert expected_value is not None
    elif isinstance(expected, str):
        expected_value = {
            NAN_: NAN,
            G_I: np.ravel(g)[min(i, np.size(g) - 1)],
            MINUS_GT: -np.ravel(g)[0] * t[i],
            "g": np.ravel(g)[0],
            "-sum of the other g": -(np.sum(g) - np.ravel(g)[min(i, np.size(g) - 1)]),
            "g sum of the other t": np.ravel(g)[0] * (t.sum() - t[i]),
        }[expected]
    else:
        expected_value = expected
    assert same(got, float(expected_value)), where


@pytest.mark.parametrize(
    ("x", "label", "expected"),
    [
        ([-INF, 0.5], 0, INF), ([0.5, -INF], 0, 0.0), ([0.5, 1.0, -INF], 2, INF),
        ([INF, 0.5], 0, 0.0), ([INF, 0.5], 1, INF), ([0.5, 1.0, INF], 2, 0.0),
        ([INF, INF], 0, ANY), ([INF, 1.0, INF], 1, INF), ([INF, -INF, INF], 1, INF),
        ([0.5], 0, 0.0), ([INF], 0, ANY), ([-INF], 0, ANY), ([-INF, -INF], 1, ANY),
        ([NAN], 0, NAN_), ([NAN, INF], 1, NAN_), ([1e30, -1e30], 0, 0.0),
    ],
)  # fmt: skip
def test_limits_of_the_loss_of_a_label(x: list[float], label: int, expected: Any) -> None:
    refs = evaluate(SPARSE, x=x, label=label)
    soft = evaluate(CE, x=x, target=np.eye(len(x))[label])
    for r in (refs, soft):
        assert bool(r.undefined[0, 0]) == (expected == ANY)
        if expected != ANY:
            assert same(float(r.rounded()[0, 0]), NAN if expected == NAN_ else expected)


@pytest.mark.parametrize(
    ("x", "label", "expected"),
    [
        ([-INF, 0.0], 0, [-1.0, 1.0]), ([0.0, -INF], 0, [0.0, 0.0]),
        ([INF, 0.0], 0, [0.0, 0.0]), ([INF, 0.0], 1, [1.0, -1.0]),
        ([INF, INF, 0.0], 2, [ANY, ANY, -1.0]), ([0.0], 0, [0.0]), ([INF], 0, [ANY]),
        ([0.0, 0.0, -INF], 2, [0.5, 0.5, -1.0]),
    ],
)  # fmt: skip
def test_limits_of_the_gradient_of_a_label(x: list[float], label: int, expected: Any) -> None:
    refs = evaluate(SPARSE_X, x=x, label=label)
    for i, value in enumerate(expected):
        assert bool(refs.undefined[0, i]) == (value == ANY)
        if value != ANY:
            assert float(refs.rounded()[0, i]) == value


@pytest.mark.parametrize("x", [INF, -INF])
def test_a_single_infinite_logit_leaves_everything_open_but_logsumexp(x: float) -> None:
    for key in MAPS:
        refs = evaluate(key, x=[x], target=[1.0], g=1.0 if ops.get(key[0]).per_row else [1.0])
        if key == LSE:
            assert float(refs.rounded()[0, 0]) == x
        else:
            assert refs.undefined.all(), key


@pytest.mark.parametrize(
    ("x", "target", "expected"),
    [
        ([-INF, 0.0], [0.0, 3.0], 0.0), ([-INF, 0.0], [1e-40, 3.0], INF),
        ([-INF, 0.0], [-1.0, 3.0], ANY), ([INF, 0.0], [-1.0, 3.0], ANY),
        ([INF, 0.0], [2.0, 0.0], 0.0), ([INF, 0.0], [2.0, 0.5], INF),
        ([INF, INF, 0.0], [0.0, 0.0, 1.0], INF), ([INF, INF, 0.0], [1.0, 0.0, 1.0], INF),
        ([INF, INF, 0.0], [1.0, 0.0, 0.0], ANY), ([INF, INF], [0.0, 0.0], 0.0),
        ([-INF, -INF], [0.0, 0.0], 0.0), ([-1e38, 1e38], [0.0, 0.0], 0.0),
        ([0.0, 1.0], [NAN, 0.0], NAN_), ([NAN, 1.0], [0.0, 1.0], NAN_),
        ([0.0, 0.0], [NAN, 0.0], NAN_), ([0.0, 1.0], [INF, 0.0], ANY),
    ],
)  # fmt: skip
def test_limits_of_soft_targets(x: list[float], target: list[float], expected: Any) -> None:
    refs = evaluate(CE, x=x, target=target)
    assert bool(refs.undefined[0, 0]) == (expected == ANY)
    if expected != ANY:
        value = NAN if expected == NAN_ else expected
        assert same(float(refs.rounded()[0, 0]), value)


@pytest.mark.parametrize("big", [1e308, 1.5e308])
def test_targets_whose_sum_leaves_float64_on_the_way(big: float) -> None:
    """1e308 + 1e308 - 1e308 - 1e308 is 0: the gradient is -g t, exactly."""
    t = [big, big, -big, -big]
    refs = evaluate(CE_X, "float64", x=[0.0, 1.0, 2.0, 3.0], target=t, g=0.5)
    assert refs.rounded()[0].tolist() == [-0.5 * v for v in t]
    assert (refs.tier == 0).all()
    beyond = evaluate(CE_X, "float64", x=[0.0, 1.0, 2.0], target=[big, big, 0.0], g=0.125)
    assert beyond.rounded()[0, 2] == pytest.approx(0.25 * big * 0.6652409557748219)


@pytest.mark.parametrize("x", [[0.0, 0.0], [0.0, 1.0], [-INF, 1.0], [INF, 1.0]])
def test_a_nan_target_makes_the_gradient_nan_but_not_that_to_the_targets(x: list[float]) -> None:
    assert evaluate(CE_X, x=x, target=[NAN, 1.0]).nan.all()
    assert not evaluate(CE_T, x=x, target=[NAN, 1.0]).nan.any()
    assert evaluate(CE_X, x=x, target=[INF, -INF]).undefined.all()


def test_the_gradient_to_the_targets_at_a_masked_logit_has_the_sign_of_the_cotangent() -> None:
    assert rounded(CE_T, x=[-INF, 0.0], g=2.0) == [INF, 0.0]
    assert rounded(CE_T, x=[-INF, 0.0], g=-2.0) == [-INF, 0.0]
    assert rounded(CE_T, x=[-INF, 0.0, 1.0], g=0.0) == [0.0, 0.0, 0.0]


def test_no_classes_and_no_rows() -> None:
    fmt = FORMATS["float32"]
    none = {"x": np.zeros((2, 0)), "g": np.zeros((2, 0))}
    assert oracle.evaluate(*SOFTMAX, none, fmt).rounded().shape == (2, 0)
    assert oracle.evaluate(*LOG, none, fmt).rounded().shape == (2, 0)
    assert oracle.evaluate(*LSE, none, fmt).rounded().tolist() == [[-INF], [-INF]]
    for key in MAPS:
        per_row = ops.get(key[0]).per_row
        empty = {"x": np.zeros((0, 3)), "target": np.zeros((0, 3)),
                 "g": np.zeros(0) if per_row else np.zeros((0, 3))}  # fmt: skip
        if "label" in ops.get(key[0]).inputs:
            empty = {**empty, "label": np.zeros(0, np.int64)}
        shape = oracle.evaluate(*key, empty, fmt).rounded().shape
        assert shape == ((0, 1) if per_row and key[1] == "value" else (0, 3))


@pytest.mark.parametrize(
    "key",
    [(name, *k) for name, op in ops.OPS.items() for k in op.maps if "label" not in op.inputs],
    ids="-".join,
)
def test_rows_without_classes_end_in_every_map(key: Any) -> None:
    none = np.zeros((2, 0))
    per_row = ops.get(key[0]).per_row
    inputs: dict[str, Any] = dict.fromkeys(ops.get(key[0]).inputs, none)
    inputs |= {"g": np.ones(2) if per_row else none}
    inputs |= {f"v_{name}": none for name in ops.get(key[0]).differentiable}
    refs = oracle.evaluate(*key, inputs, FORMATS["float64"])
    assert refs.shape[0] == 2
    assert refs.shape[1] in (0, 1)
    assert not (refs.codes == 0).any()


@pytest.mark.parametrize("wrong", [NAN, INF])
def test_a_direction_that_is_not_finite_is_an_error_of_the_caller(wrong: float) -> None:
    fmt, x = FORMATS["float32"], np.array([[0.0, 1.0]])
    with pytest.raises(ValueError, match="g must be finite"):
        oracle.evaluate(*SOFTMAX_X, {"x": x, "g": np.array([[wrong, 1.0]])}, fmt)
    with pytest.raises(ValueError, match="v_x must be finite"):
        oracle.evaluate("logsumexp", "jvp", "x", {"x": x, "v_x": np.array([[wrong, 1.0]])}, fmt)
    dropped = {"x": x, "mask": np.array([[0.0, 1.0]]), "g": np.array([[wrong, 1.0]])}
    assert oracle.evaluate("masked_softmax", "vjp", "x", dropped, fmt).rounded().tolist() == [
        [0, 0]
    ]


@pytest.mark.parametrize("fmt", ["float64", "float32"])
def test_a_finite_row_never_gives_nan(fmt: str) -> None:
    top = FORMATS[fmt].max_finite
    for x in ([top, -top], [-top, -top], [top, top, 0.0], [-top, 0.0, top]):
        n = len(x)
        for key in MAPS:
            refs = evaluate(key, fmt, x=x, target=np.eye(n)[n - 1], label=n - 1)
            assert not np.isnan(refs.rounded()).any(), (key, x)
    assert rounded(LOG, "float32", x=[FORMATS["float32"].max_finite, -3e38]) == [0.0, -INF]
    assert rounded(CE, "float32", x=[3e38, -3e38], target=[1.0, 0.0]) == [0.0]


# ---------------------------------------------------------------- rational results


def exact_rows() -> Iterator[tuple[tuple[str, str, str], dict[str, Any], list[Fraction]]]:
    third = Fraction(1, 3)
    eta = 2.0**-149
    yield SOFTMAX, {"x": [7.0] * 3}, [third] * 3
    yield SOFTMAX, {"x": [7.0, -INF, 7.0, 7.0]}, [third, Fraction(0), third, third]
    yield SOFTMAX, {"x": [-1e38]}, [Fraction(1)]
    yield LOG, {"x": [3e38]}, [Fraction(0)]
    yield LOG, {"x": [3.0, -INF][:1]}, [Fraction(0)]
    yield LSE, {"x": [-INF, 3.25, -INF]}, [Fraction(13, 4)]
    yield SOFTMAX_X, {"x": [0.5, 0.5], "g": [2.0**24, -1.0]}, [
        Fraction(2**24 + 1, 4), Fraction(-(2**24) - 1, 4)]  # fmt: skip
    yield SOFTMAX_X, {"x": [0.5] * 3, "g": [1.0, 2.0, 6.0]}, [
        Fraction(-2, 3), Fraction(-1, 3), Fraction(1)]  # fmt: skip
    yield SOFTMAX_X, {"x": [1.0], "g": [5.0]}, [Fraction(0)]
    yield LOG_X, {"x": [0.5] * 2, "g": [2.0**24, -1.0]}, [
        Fraction(2**24 + 1, 2), Fraction(-(2**24) - 1, 2)]  # fmt: skip
    yield LOG_X, {"x": [0.0, 3.0, -7.5], "g": [1.0, 2.0, -3.0]}, [
        Fraction(1), Fraction(2), Fraction(-3)]  # fmt: skip
    yield LOG_X, {"x": [9.0], "g": [5.0]}, [Fraction(0)]
    yield LSE_X, {"x": [2.0] * 2, "g": 3 * eta}, [Fraction(3 * eta) / 2] * 2
    yield LSE_X, {"x": [2.0, 1.0], "g": 0.0}, [Fraction(0)] * 2
    yield CE, {"x": [0.5, 2.0], "target": [4097.0, -4097.0]}, [Fraction(3, 2) * 4097]
    yield CE, {"x": [2.0**24, -1.0], "target": [1.0, -1.0]}, [Fraction(-(2**24) - 1)]
    yield CE, {"x": [1.0, 2.0], "target": [0.0, 0.0]}, [Fraction(0)]
    yield CE, {"x": [1.0, -INF], "target": [3.0, 0.0]}, [Fraction(0)]
    yield CE_X, {"x": [0.5, 2.0], "target": [4097.0, -4097.0], "g": 4097.0}, [
        Fraction(-(4097**2)), Fraction(4097**2)]  # fmt: skip
    yield CE_X, {"x": [5.0, 5.0], "target": [1.0, 0.25], "g": 1.0}, [
        Fraction(5, 8) - 1, Fraction(5, 8) - Fraction(1, 4)]  # fmt: skip
    yield CE_X, {"x": [5.0, 1.0], "target": [1.0, 0.25], "g": 0.0}, [Fraction(0)] * 2
    yield CE_X, {"x": [5.0], "target": [0.7], "g": 3.0}, [Fraction(0)]
    yield CE_T, {"x": [5.0], "g": 3.0}, [Fraction(0)]
    yield SPARSE_X, {"x": [1.0] * 4, "label": 1, "g": 1.0}, [
        Fraction(1, 4), Fraction(-3, 4), Fraction(1, 4), Fraction(1, 4)]  # fmt: skip


@pytest.mark.parametrize("fmt", ["float64", "float32"])
def test_rational_results_are_rounded_from_the_fraction(fmt: str) -> None:
    for key, row, expected in exact_rows():
        refs = evaluate(key, fmt, **row)
        assert not (refs.codes == 0).any(), (key, row)  # settled without evaluation
        right = [arb.nearest(fmt, v) for v in expected]
        assert refs.rounded()[0].tolist() == right, (key, row)


@pytest.mark.parametrize(
    ("x", "g", "zeros"),
    [
        ([0.0, 1.0], [3.0, 3.0], [0, 1]),
        ([0.0, 0.0, 1.0], [1.0, 3.0, 2.0], [2]),
        # float64 sums make the first group's mean 1.25
        ([0.0, 0.0, 0.0, 0.0, 1.0], [2.0**54, 3.0, -(2.0**54), 1.0, 1.0], [3, 4]),
        ([0.0, 0.0, 0.0, 0.0, 1.0], [2.0**54, 4.0, -(2.0**54), 1.0, 1.25], [4]),
        ([-0.0, 0.0, 1.0], [1.0, 3.0, 2.0], [2]),
        ([0.0, -INF, 1.0], [3.0, 9.0, 3.0], [0, 1, 2]),
        ([0.0, 0.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1], [0, 1, 2, 3]),
        ([0.0, 1.0], [3.0, np.nextafter(3.0, 4)], []),
    ],
)
def test_softmax_gradients_that_are_exactly_zero(x: Any, g: Any, zeros: list[int]) -> None:
    refs = evaluate(SOFTMAX_X, "float64", x=x, g=g)
    assert np.flatnonzero(refs.codes[0] == ZERO).tolist() == zeros
    nonzero = [i for i in range(len(x)) if i not in zeros]
    assert (refs.hi[0, nonzero] != 0).all()
