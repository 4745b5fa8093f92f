"""Forward and second derivatives of softmax, log_softmax, logsumexp and the cross-entropies.

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
from against_arb import same

from reference import ops, oracle
from reference.arithmetic.multiprecision import Multiprecision
from reference.formats import FORMATS
from reference.ops import exponential
from reference.ops.base import UNDEFINED, ZERO

INF, NAN = math.inf, math.nan
ANY = "undefined"
ROW_OPS = ("softmax", "log_softmax", "logsumexp", "softmax_cross_entropy",
           "sparse_softmax_cross_entropy")  # fmt: skip
MAPS = [(op, *key) for op in ROW_OPS for key in ops.get(op).maps if key[0] in ("jvp", "hvp")]

SOFTMAX_J, SOFTMAX_H = ("softmax", "jvp", "x"), ("softmax", "hvp", "x.x")
LOG_J, LOG_H = ("log_softmax", "jvp", "x"), ("log_softmax", "hvp", "x.x")
LSE_J, LSE_H = ("logsumexp", "jvp", "x"), ("logsumexp", "hvp", "x.x")
CE = "softmax_cross_entropy"
CE_JX, CE_JT = (CE, "jvp", "x"), (CE, "jvp", "target")
CE_XX, CE_XT, CE_TX, CE_TT = ((CE, "hvp", p) for p in
                              ("x.x", "x.target", "target.x", "target.target"))  # fmt: skip
SPARSE_J = ("sparse_softmax_cross_entropy", "jvp", "x")
SPARSE_H = ("sparse_softmax_cross_entropy", "hvp", "x.x")


def evaluate(key: Any, fmt: str = "float64", **row: Any) -> oracle.References:
    """One row; g, v and the targets as given, else ones."""
    x = np.asarray(row["x"], np.float64)
    per_row = ops.get(key[0]).per_row
    made: dict[str, Any] = {"x": x[None]}
    for name in ops.get(key[0]).inputs[1:]:
        made[name] = np.asarray(row.get(name, 0 if name == "label" else np.ones(x.size)))[None]
    v = np.asarray(row.get("v", np.ones(x.size)), np.float64)[None]
    made["v_" + key[2].rsplit(".", maxsplit=1)[-1]] = v
    made["g"] = np.asarray(row.get("g", 1.0 if per_row else np.ones(x.size)), np.float64)[None]
    return oracle.evaluate(*key, made, FORMATS[fmt])


# ---------------------------------------------------------------- limits

X, G, V, T = [0.5, -1.25, 2.0, 0.0], [1.0, -2.0, 0.5, 4.0], [3.0, 1.0, -2.0, 7.0], [1, 0.5, 2, 0.25]
W = "v_i - <s, v> of the others"

# at the special entries, at the others; REST: as if the special ones were absent
REST = "rest"
LIMITS: dict[str, dict[Any, Any]] = {
    "some -inf": {
        SOFTMAX_J: (0.0, REST), SOFTMAX_H: (0.0, REST), LOG_J: (W, W), LOG_H: (0.0, REST),
        LSE_J: REST, LSE_H: (0.0, REST), CE_JX: REST, CE_XX: (0.0, REST),
        CE_XT: ("-g v_i", REST), CE_TX: ("-g w_i", "-g w_i"), CE_TT: (0.0, 0.0),
        SPARSE_J: REST, SPARSE_H: (0.0, REST),
    },
    "one +inf": {
        SOFTMAX_J: (0.0, 0.0), SOFTMAX_H: (0.0, 0.0), LOG_J: (0.0, "v_i - v_k"),
        LOG_H: (0.0, 0.0), LSE_J: "v_k", LSE_H: (0.0, 0.0), CE_JX: "T v_k - sum t v",
        CE_XX: (0.0, 0.0), CE_XT: ("g (V - v_k)", "-g v_i"), CE_TX: (0.0, "-g (v_i - v_k)"),
        CE_TT: (0.0, 0.0), SPARSE_J: "v_k - v_0", SPARSE_H: (0.0, 0.0),
    },
    "several +inf": {
        SOFTMAX_J: (ANY, 0.0), SOFTMAX_H: (ANY, 0.0), LOG_J: (ANY, ANY), LOG_H: (ANY, 0.0),
        LSE_J: ANY, LSE_H: (ANY, 0.0), CE_JX: ANY, CE_XX: (ANY, 0.0), CE_XT: (ANY, "-g v_i"),
        CE_TX: (ANY, ANY), CE_TT: (0.0, 0.0), SPARSE_J: ANY, SPARSE_H: (ANY, 0.0),
    },
    "all -inf": {key: ANY if len(key) and key in (LSE_J, CE_JX, CE_JT, SPARSE_J) else
                 ((0.0, 0.0) if key == CE_TT else (ANY, ANY)) for key in MAPS},
    "NaN": {key: NAN if key in (LSE_J, CE_JX, CE_JT, SPARSE_J) else
            ((ANY, ANY) if key == CE_TT else (NAN, NAN)) for key in MAPS},
}  # fmt: skip
SPECIALS = {"some -inf": -INF, "one +inf": INF, "several +inf": INF, "all -inf": -INF, "NaN": NAN}
PLACES = {"some -inf": [[0], [2], [0, 3]], "one +inf": [[0], [1], [3]], "NaN": [[0], [2]],
          "several +inf": [[0, 1], [1, 3]], "all -inf": [[0, 1, 2, 3]]}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "key"), [(kind, key) for kind, row in LIMITS.items() for key in row],
    ids=lambda v: v if isinstance(v, str) else "-".join(v),
)  # fmt: skip
def test_limits(kind: str, key: Any) -> None:
    expected = LIMITS[kind][key]
    for special in PLACES[kind]:
        x = np.array(X)
        x[special] = SPECIALS[kind]
        per_row = ops.get(key[0]).per_row
        row: dict[str, Any] = {"x": x, "v": V, "g": 1.5 if per_row else G, "target": T}
        refs = evaluate(key, **row)
        for i in range(refs.shape[1]):
            wanted = expected[0 if i in special else 1] if isinstance(expected, tuple) else expected
            check(refs, key, row, i, special[0], wanted)


def check(refs: Any, key: Any, row: Any, i: int, k: int, wanted: Any) -> None:
    where = (key, row["x"], i, wanted)
    assert bool(refs.undefined[0, i]) == (wanted == ANY), where
    if wanted == ANY:
        return
    v, t = np.array(V), np.array(T)
    if wanted in (REST, W, "-g w_i"):
        tangent = "v_" + key[2].rsplit(".", maxsplit=1)[-1]
        asked = {"x": row["x"], "g": row["g"], tangent: v}
        asked |= {"label": 0} if "sparse" in key[0] else {"target": t}
        wanted = against_arb.rounded(key, asked, "float64")[0][i]
        assert wanted is not None
    elif isinstance(wanted, str):
        wanted = {
            "-g v_i": -1.5 * v[i], "v_i - v_k": v[i] - v[k], "v_k": v[k],
            "-g (v_i - v_k)": -1.5 * (v[i] - v[k]), "g (V - v_k)": 1.5 * (v.sum() - v[k]),
            "T v_k - sum t v": t.sum() * v[k] - (t * v).sum(), "v_k - v_0": v[k] - v[0],
        }[wanted]  # fmt: skip
    assert same(float(refs.rounded()[0, i]), float(wanted)), where


@pytest.mark.parametrize(
    ("x", "v", "expected"),
    [
        ([-INF, 0.0], [1.0, 3.0], INF), ([-INF, 0.0], [-1.0, 3.0], -INF),
        ([-INF, 0.0], [0.0, 3.0], 0.0), ([-INF, -INF, 0.0], [1.0, 2.0, -1.0], INF),
        ([-INF, -INF, 0.0], [1.0, -2.0, -1.0], ANY), ([INF, 0.0], [3.0, 0.0], 0.0),
        ([INF, 0.0], [-3.0, 2.0], INF), ([INF, 0.0], [3.0, -2.0], -INF),
        ([INF, INF, 0.0], [1.0, 0.0, 1.0], INF), ([INF, INF, 0.0], [-1.0, 0.0, 1.0], ANY),
        ([INF, INF, 0.0], [1.0, 0.0, 0.0], ANY), ([-INF, -INF], [1.0, 1.0], ANY),
        ([-INF, -INF], [0.0, 0.0], 0.0), ([NAN, 0.0], [0.0, 0.0], NAN),
    ],
)  # fmt: skip
def test_limits_of_the_loss_along_a_tangent_of_the_targets(x: Any, v: Any, expected: Any) -> None:
    refs = evaluate(CE_JT, x=x, v=v)
    assert bool(refs.undefined[0, 0]) == (expected == ANY)
    if expected != ANY:
        assert same(float(refs.rounded()[0, 0]), expected)


@pytest.mark.parametrize("x", [INF, -INF])
def test_a_single_infinite_logit_leaves_everything_open(x: float) -> None:
    for key in MAPS:
        assert (evaluate(key, x=[x]).codes == UNDEFINED).all(), key


def test_targets_matter_only_where_the_block_depends_on_them() -> None:
    for key in (CE_JX, CE_XX):
        assert evaluate(key, x=[0.0, 1.0], target=[NAN, 1.0]).nan.all()
        assert evaluate(key, x=[0.0, 1.0], target=[INF, 1.0]).undefined.all()
        assert evaluate(key, x=[-INF, 1.0], target=[-1.0, 1.0]).undefined.all()
    for key in (CE_JT, CE_XT, CE_TX, CE_TT):
        assert evaluate(key, x=[0.0, 1.0], target=[NAN, 1.0], v=[1.0, 2.0]).finite.all()
    assert evaluate(CE_XT, x=[-INF, 1.0], v=[-1.0, 3.0], g=2.0).rounded()[0].tolist() == [2.0, -2.0]


def test_no_classes_and_no_rows() -> None:
    for key in MAPS:
        per_row, argument = ops.get(key[0]).per_row, key[2].rsplit(".", maxsplit=1)[-1]
        none = np.zeros((0, 3))
        made = {"x": none, "target": none, f"v_{argument}": none, "label": np.zeros(0, int),
                "g": np.zeros(0) if per_row else none}  # fmt: skip
        names = (*ops.get(key[0]).inputs, f"v_{argument}", "g")
        refs = oracle.evaluate(*key, {k: made[k] for k in names}, FORMATS["float32"])
        assert refs.shape[0] == 0
        if key[0] in ("softmax", "log_softmax"):
            none = {k: np.zeros((2, 0)) for k in ("x", "v_x", "g")}
            assert oracle.evaluate(*key, none, FORMATS["float32"]).shape == (2, 0)


# ---------------------------------------------------------------- what is known exactly

big = 2.0**24
EXACT: list[tuple[Any, dict[str, Any], list[Any]]] = [
    (SOFTMAX_J, {"x": [0.5] * 3, "v": [1, 2, 6]}, [Fraction(-2, 3), Fraction(-1, 3), 1]),
    (SOFTMAX_H, {"x": [0.5, 0.5], "g": [1, 3], "v": [2, -1]}, [0, 0]),
    (SOFTMAX_H, {"x": [1.0] * 3, "g": [1, 2, 6], "v": [0, 1, 0]},
     [Fraction(1, 3) * (Fraction(2, 3) + Fraction(1, 3)), Fraction(-1, 9), Fraction(-2, 9)]),
    (LOG_J, {"x": [0, 3], "v": [5, 5]}, [0, 0]),
    (LOG_J, {"x": [0, 0, 3, 3, -7], "v": [1, 3, 0, 4, 2]}, [-1, 1, -2, 2, 0]),
    (LOG_J, {"x": [0, 0, -INF], "v": [1, 4, 9]},
     [Fraction(-3, 2), Fraction(3, 2), Fraction(13, 2)]),
    (LOG_H, {"x": [0, 3, 1], "g": [1, 2, -3], "v": [1, 2, 3]}, [0, 0, 0]),
    (LOG_H, {"x": [2, 2], "g": [1, 2], "v": [1, 4]}, [Fraction(9, 4), Fraction(-9, 4)]),
    (LSE_J, {"x": [0, 0, 3, 3], "v": [1, 3, 0, 4]}, [2]),
    (LSE_J, {"x": [0, 5], "v": [0, 0]}, [0]),
    (LSE_H, {"x": [0, 1], "v": [1, 2], "g": 0.0}, [0, 0]),
    (LSE_H, {"x": [0, 0], "v": [1, 2], "g": 4.0}, [-1, 1]),
    (CE_JX, {"x": [0, 1], "target": [2, -2], "v": [3, 5]}, [4]),
    (CE_JX, {"x": [0, 1], "target": [2, 1], "v": [3, 3]}, [0]),
    (CE_JX, {"x": [0, 0], "target": [2, 1], "v": [3, 0]}, [Fraction(9, 2) - 6]),
    (CE_JT, {"x": [0.5, 2], "v": [4097, -4097]}, [Fraction(3, 2) * 4097]),
    (CE_JT, {"x": [0.5, 2], "v": [0, 0]}, [0]),
    (CE_XX, {"x": [0, 1], "target": [1, -1], "v": [1, 2]}, [0, 0]),
    (CE_XT, {"x": [0.5, 2], "v": [4097, -4097], "g": 4097.0}, [-(4097**2), 4097**2]),
    (CE_XT, {"x": [5, 5], "v": [1, 0.25]}, [Fraction(5, 8) - 1, Fraction(3, 8)]),
    (CE_TX, {"x": [0, 0, 1], "v": [1, 3, 2], "g": 3.0}, [3, -3, 0]),
    (CE_TX, {"x": [0, 1], "v": [1, 3], "g": 0.0}, [0, 0]),
    (CE_TT, {"x": [0, 1], "v": [1, 3]}, [0, 0]),
    (SPARSE_J, {"x": [0, 1], "label": 1, "v": [3, 3]}, [0]),
    (SPARSE_H, {"x": [4, 4], "label": 1, "v": [3, 1]}, [Fraction(1, 2), Fraction(-1, 2)]),
]  # fmt: skip


@pytest.mark.parametrize("fmt", ["float64", "float32"])
@pytest.mark.parametrize("case", EXACT, ids=[f"{k}-{'-'.join(c[0])}" for k, c in enumerate(EXACT)])
def test_rational_results_are_settled_without_evaluation(case: Any, fmt: str) -> None:
    key, row, expected = case
    refs = evaluate(key, fmt, **row)
    assert not (refs.codes == 0).any()
    assert refs.rounded()[0].tolist() == [first.nearest(fmt, Fraction(v)) for v in expected]


def zeros(refs: oracle.References) -> list[int]:
    return np.flatnonzero(refs.codes[0] == ZERO).tolist()


def test_products_are_collected_by_the_sum_of_exponents() -> None:
    powers = exponential.Powers(np.array([0.0, 1.0, 2.0, 2.5]), np.ones(4, bool))
    e = [powers.e(i) for i in range(4)]
    assert (e[0] * e[2] - e[1] * e[1]).is_zero
    assert not (e[0] * e[3] - e[1] * e[1]).is_zero
    assert (powers.S * e[1]).over(e[1] * powers.S.times(Fraction(3, 8))) == Fraction(8, 3)
    assert (powers.S * e[1]).over(powers.S * e[0]) is None


def test_second_derivatives_that_are_exactly_zero() -> None:
    # at i = 1: c_i w_i is <s, c w>, in every group
    x, g, v = [0, 0, 1, 1], [0, -3, -3, -3], [0, -3, -3, 0]
    assert zeros(evaluate(SOFTMAX_H, x=x, g=g, v=v)) == [1, 2]
    near = evaluate(SOFTMAX_H, x=x, g=g, v=[0, -3, -3, 2.0**-50])
    assert zeros(near) == []
    assert zeros(evaluate(SOFTMAX_H, x=[0, 1, 2], g=[1, 1, 1], v=[1, 2, 5])) == [0, 1, 2]
    assert zeros(evaluate(SOFTMAX_H, x=[0, 1, 2], g=[1, 2, 5], v=[3, 3, 3])) == [0, 1, 2]
    assert zeros(evaluate(SOFTMAX_H, x=[0, 1, -INF], g=[1, 1, 7], v=[3, 4, 9])) == [0, 1, 2]


@pytest.mark.parametrize("n", [100, 3000])
def test_constant_tangents_give_zero_at_any_length(n: int) -> None:
    x = np.linspace(-3, 4, n)
    g = np.linspace(-1, 2, n)
    for key in (SOFTMAX_J, SOFTMAX_H, LOG_J, LOG_H):
        assert len(zeros(evaluate(key, "float32", x=x, g=g, v=np.full(n, 0.1)))) == n
    assert len(zeros(evaluate(SOFTMAX_H, "float32", x=x, g=np.full(n, 0.1), v=g))) == n
    assert evaluate(LSE_J, x=x, v=np.full(n, 0.1)).rounded()[0, 0] == 0.1


# ---------------------------------------------------------------- next to a boundary


@pytest.mark.parametrize("far", [-400.0, -1e6, -1e30, -1e300])
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_far_away_logits_decide_as_near_ones_do(key: Any, far: float) -> None:
    """Ties at the top and one class so far below that no precision reaches it.

    On which side of a boundary the results at the top fall does not depend on how far.
    """
    rng = np.random.default_rng([12, MAPS.index(key)])
    count = 0
    for _ in range(12):
        tops = int(rng.choice((2, 4)))
        n = tops + 1
        v = np.array([2.0**24 - 2 * rng.integers(0, 9), *rng.integers(-3, 4, tops)])
        g = rng.integers(1, 8, n) * 1.0
        t = rng.integers(0, 4, n) * 1.0
        name = "v_" + key[2].rsplit(".", maxsplit=1)[-1]
        rows = []
        for low in (far, -350.0):
            row = {"x": np.array([0.0] * tops + [low]), name: v, "target": t, "label": 1,
                   "g": g[0] if ops.get(key[0]).per_row else g}  # fmt: skip
            rows.append({k: a for k, a in row.items() if k in (*ops.get(key[0]).inputs, name, "g")})
        made = {k: np.asarray(a)[None] for k, a in rows[0].items()}
        values = oracle.evaluate(*key, made, FORMATS["float32"]).rounded()[0]
        results, _ = against_arb.rounded(key, rows[1], "float32")
        for i, right in enumerate(results[:tops]):
            if right is not None and key != CE_JT:
                assert float(values[i]) == right, (v.tolist(), g.tolist(), t.tolist(), i)
                count += 1
    assert count > 10 or key == CE_JT


@pytest.mark.parametrize(
    ("key", "row", "expected"),
    [
        # v_0 - <s, v> = (v_0 - v_1)(1 - s_0): just below the midpoint, or above
        (LOG_J, {"x": [-1e9, 0.0], "v": [big + 1, 0.0]}, [big, -0.0]),
        (LOG_J, {"x": [-1e9, 0.0], "v": [-big - 1, 0.0]}, [-big, 0.0]),
        (LSE_J, {"x": [0.0, -1e9], "v": [big + 1, 2 * big]}, [big + 2]),
        (LSE_J, {"x": [0.0, -1e9], "v": [big + 1, 0.0]}, [big]),
        (LSE_J, {"x": [0.0, 0.0, -1e9], "v": [2 * big, 2.0, 0.0]}, [big]),
        (LSE_J, {"x": [0.0, 0.0, -1e9], "v": [2 * big, 2.0, 8 * big]}, [big + 2]),
        (SOFTMAX_J, {"x": [0.0, 0.0, -1e6], "v": [big, -1.0, 0.0]}, [4194304.0, -4194304.0, -0.0]),
        (LSE_H, {"x": [0.0, 0.0, -1e6], "v": [big, -1.0, 0.0]}, [4194304.0, -4194304.0, -0.0]),
        (SPARSE_J, {"x": [0.0, -1e9], "label": 1, "v": [big + 1, 0.0]}, [big]),
    ],
)  # fmt: skip
def test_an_exponentially_small_term_decides(key: Any, row: Any, expected: Any) -> None:
    got = evaluate(key, "float32", **row).rounded()[0]
    assert got.tolist() == expected
    assert np.signbit(got).tolist() == np.signbit(expected).tolist()


def test_what_cancels_beside_something_far_smaller_ends() -> None:
    """Terms of e^-6.09e23 cancel, and e^-6.14e23 is left: ends of balls 10^21 bits apart."""
    x = [-6.139e23, -6.0918e23, -6.0918e23, 0.0]
    got = evaluate(LOG_J, "bfloat16", x=x, v=[-1.0, -2.0, 2.0, 0.0]).rounded()[0]
    assert got.tolist() == [-1.0, -2.0, 2.0, 0.0]
    assert not np.signbit(got[3])
    assert np.signbit(evaluate(LOG_J, x=x, v=[1.0, -2.0, 2.0, 0.0]).rounded()[0, 3])


def test_sums_of_exponentials_are_evaluated_to_their_sign() -> None:
    a = Multiprecision(2048)
    for low, coefficients, sign in (
        (-1e300, [1.0, -1e-300], 1), (-1e300, [0.0, -1e-300], -1), (-1.0, [1.0, -2.0], 1),
        (-1.0, [1.0, -3.0], -1), (-0.5, [0.0, 0.0], 0),
    ):  # fmt: skip
        powers = exponential.Powers(np.array([0.0, low]), np.ones(2, bool))
        total = powers.sum(exponential.exact(np.array(coefficients)))
        ball = total.sign(a)
        assert mpmath.libmp.mpf_sign(ball.mid[0, 0]) == sign
        assert total.is_zero == (sign == 0)
        value = total.value(a)
        mid, rad = (mpmath.mp.make_mpf(v[0, 0]) for v in (value.mid, value.rad))
        with mpmath.workprec(3000):
            e = mpmath.exp(mpmath.mpf(low))
            truth = coefficients[0] + mpmath.mpf(coefficients[1]) * e
            assert abs(mid - truth) <= rad
            assert rad <= abs(truth) * mpmath.mpf(2) ** -2000
            assert (rad > 0) == (sign != 0)  # also where e^-1e300 is all that is left out


# ---------------------------------------------------------------- bounds

CLOSED = [SOFTMAX_J, LOG_J, LSE_J]


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("key", CLOSED, ids="-".join)
def test_the_bounds_are_their_closed_forms_within_a_factor(key: Any, n: int) -> None:
    for which in ("weak", "pairwise"):
        ratio = emulated_rows.ratios_to_closed(key, n, which)
        assert ratio.min() > 0.7, which
        assert ratio.max() < 1.02, which
    if key == LOG_J:
        # Below where v_i - v_top dominates, which is rounded once: the closed form charges B_top.
        ratio = emulated_rows.ratios_to_closed(key, n, "strong")
        assert ratio.min() > 0.04
        assert ratio.max() < 1.6


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


def test_strong_is_no_looser_than_weak_where_the_top_has_an_outlying_tangent() -> None:
    """The top class's tangent is subtracted only where it has half of the probability."""
    fmt, n = FORMATS["float64"], 200
    inputs = {"x": np.zeros((1, n)), "v_x": np.ones((1, n)), "g": np.ones((1, n))}
    inputs["x"][0, 0], inputs["v_x"][0, 0] = 1e-3, 1e6
    for key in (LOG_J, SOFTMAX_J):
        made = emulated_rows.bounds.evaluate(*key, inputs, fmt)
        assert (made.strong[0, 1:] <= 2 * made.pairwise[0, 1:]).all()
