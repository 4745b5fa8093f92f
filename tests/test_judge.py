"""The judge: grades, breaches, and the traps in which a judge accuses the honest or acquits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from conformance import judge, policy
from conformance.judge import Answered, Judgement
from reference import bounds, cases, formats, metrics, ops, oracle
from reference.cases import Case
from reference.formats import FORMATS
from reference.metrics import Underflow

GRADUAL, FLUSH = Underflow("gradual", 0.0, 0.0), Underflow("flush", 0.0, 0.0)
PARTIAL = Underflow("partial", 0.0, 0.0)
SOFTMAX, LOG, LSE = ((op, "value", "-") for op in ("softmax", "log_softmax", "logsumexp"))
SOFTMAX_X, LOG_X, LSE_X = ((op, "vjp", "x") for op in ("softmax", "log_softmax", "logsumexp"))
CE_X = ("softmax_cross_entropy", "vjp", "x")
INF, NAN = math.inf, math.nan


def answered(
    key: tuple[str, str, str],
    fmt: str,
    x: Any,
    result: Any = None,
    policy: Underflow = GRADUAL,
    **others: Any,
) -> Answered:
    """Rows with their references; without a result, the correctly rounded one."""
    rows = np.atleast_2d(np.asarray(x, np.float64))
    per_row = ops.get(key[0]).per_row
    g = np.ones(len(rows)) if per_row else (np.arange(rows.shape[1]) == 0) * np.ones((len(rows), 1))
    inputs = {"x": rows, "g": g, **{k: np.asarray(v, float) for k, v in others.items()}}
    inputs["g"] = inputs["g"].reshape(g.shape)
    refs = oracle.evaluate(*key, inputs, FORMATS[fmt])
    limits = bounds.evaluate(*key, inputs, FORMATS[fmt], flushes=policy.flushes)
    made = [
        Case(f"case-{r}", key[0], fmt, "made", {k: v[r] for k, v in inputs.items()})
        for r in range(len(rows))
    ]
    values = refs.rounded() if result is None else np.asarray(result, float).reshape(refs.shape)
    return Answered(made, refs, limits, values)


def judged(
    key: tuple[str, str, str],
    fmt: str,
    x: Any,
    result: Any = None,
    policy: Underflow = GRADUAL,
    role: str = "subject",
    **others: Any,
) -> Judgement:
    rows = answered(key, fmt, x, result, policy, **others)
    return judge.judge(FORMATS[fmt], [rows], policy, role=role)


def kinds(judgement: Judgement) -> list[str]:
    return [b.kind for b in judgement.breaches]


# ---------------------------------------------------------------- the traps


@pytest.mark.parametrize("n", [1, 2])
def test_trap_the_rounding_of_one_half_and_of_one_is_exact(n: int) -> None:
    right = judged(SOFTMAX, "float32", [[0.0] * n], role="control")
    assert (right.grade, right.verdict, right.breaches) == ("A+", "pass", [])
    assert right.figures["correctly_rounded"] == 1
    below = formats.step(FORMATS["float32"], np.full((1, n), 1 / n), -1)
    wrong = judged(SOFTMAX, "float32", [[0.0] * n], below, role="control")
    assert wrong.figures["max_ulp"] == 0.5
    assert wrong.figures["correctly_rounded"] == 0
    assert kinds(wrong) == ["control"]
    assert judged(SOFTMAX, "float32", [[0.0] * n], below).verdict == "pass"


def test_trap_infinity_is_right_for_6e38_in_float32() -> None:
    made = judged(LOG, "float32", [[3e38, -3e38]])
    assert made.figures["correctly_rounded"] == 1
    assert (made.grade, made.breaches) == ("A+", [])
    finite = judged(LOG, "float32", [[3e38, -3e38]], [[0.0, -FORMATS["float32"].max_finite]])
    assert finite.figures["correctly_rounded"] == 0.5
    assert finite.figures["inf_mismatches"] == 0  # an error of an ulp at the edge of the range


def test_trap_seventy_thousand_equal_float16_logits_must_not_come_back_as_zeros() -> None:
    x = np.zeros((1, 70000))
    named = cases.witnesses("softmax", "float16", "near_ties")
    assert any(np.array_equal(c.inputs["x"], x[0]) for c in named)
    zeros = judged(SOFTMAX, "float16", x, np.zeros_like(x))
    assert (zeros.verdict, kinds(zeros)) == ("fail", ["accuracy"])
    assert zeros.figures["lost"] == 70000
    assert zeros.figures["ratio_weak"] > 10
    assert judged(SOFTMAX, "float16", x).grade == "A+"


def test_trap_a_bfloat16_row_correct_at_every_step_passes_at_66_25() -> None:
    fmt = FORMATS["bfloat16"]
    x = np.array([[0.0, -66.25], [1.0, -65.25], [0.0625, -66.0]])

    def r(v: Any) -> Any:
        return formats.nearest(fmt, v)

    e = r(np.exp(r(x - x.max(axis=1, keepdims=True))))
    made = judged(SOFTMAX, "bfloat16", x, r(e / r(e.sum(axis=1, keepdims=True))))
    assert made.verdict == "pass"
    assert made.grade in ("A", "B", "A+")


def test_trap_logsumexp_near_zero_may_come_back_with_the_other_sign() -> None:
    x = formats.nearest(FORMATS["float32"], np.full((1, 2), -math.log(2)))
    right = float(judged(LSE, "float32", x).figures["worst"]["rounded"])
    assert abs(right) < 1e-7
    other = judged(LSE, "float32", x, [[-math.copysign(6e-8, right)]])
    assert (other.verdict, other.figures["sign_mismatches"]) == ("pass", 0)
    far = judged(LSE, "float32", x, [[-math.copysign(6e-5, right)]])
    assert (far.verdict, far.figures["sign_mismatches"]) == ("fail", 1)


def test_trap_the_log_softmax_gradient_at_a_masked_entry_is_its_cotangent() -> None:
    x, g = [[-INF, 0.0, 1.0]], [[5.0, 1.0, 0.5]]
    made = judged(LOG_X, "float32", x, g=g)
    assert made.grade == "A+"
    result = answered(LOG_X, "float32", x, g=g).result
    assert result[0, 0] == 5.0
    zero = result.copy()
    zero[0, 0] = 0
    assert kinds(judged(LOG_X, "float32", x, zero, g=g)) == ["accuracy"]
    zero[0, 0] = NAN
    assert kinds(judged(LOG_X, "float32", x, zero, g=g)) == ["nan@some_minus_inf"]


def test_trap_a_large_cotangent_times_a_subnormal_probability_is_honest_at_seven_percent() -> None:
    fmt = FORMATS["float32"]
    x = np.array([[0.0, -float(np.float32(101.271))]])
    g = float(np.float32(4e37))
    s = float(np.float32(math.exp(x[0, 1])))  # a few subnormal units
    assert 0 < s < 20 * fmt.smallest_subnormal
    honest = np.array([[g, float(np.float32(g * s))]])
    made = judged(LSE_X, "float32", x, honest, g=[g])
    error = abs(honest[0, 1] / (g * math.exp(x[0, 1])) - 1)
    assert 0.05 < error < 0.08
    assert made.verdict == "pass"
    assert judged(LSE_X, "float32", x, honest * [1, 1.5], g=[g]).verdict == "fail"


# ---------------------------------------------------------------- grades

GAP = 18.0  # beyond 2^-24: a tail that 1 + t loses


def test_grade_a_plus_is_less_than_one_ulp_everywhere() -> None:
    rng = np.random.default_rng(1)
    x = formats.nearest(FORMATS["float32"], rng.standard_normal((5, 9)))
    right = answered(SOFTMAX, "float32", x).result
    assert judged(SOFTMAX, "float32", x, right).grade == "A+"
    nudged = right.copy()
    nudged[2, 3] = formats.step(FORMATS["float32"], right[2, 3], 2)
    assert judged(SOFTMAX, "float32", x, nudged).grade == "A"


def test_grade_a_is_within_the_strong_bound() -> None:
    x = [[0.0, -1.0, -2.0, 3.0]]
    rows = answered(SOFTMAX, "float32", x)
    slack = np.asarray(rows.bounds.strong, float)
    assert judged(SOFTMAX, "float32", x, rows.result + 0.9 * slack).grade == "A"


def test_grade_b_loses_the_tail_of_log_softmax_within_the_weak_bound() -> None:
    made = judged(LOG, "float32", [[0.0, -GAP]], [[0.0, -GAP]])
    assert (made.grade, made.verdict) == ("B", "pass")
    assert made.figures["ratio_strong"] > 1.01 >= made.figures["ratio_weak"]


def test_grade_c_has_half_of_the_digits_and_does_not_pass() -> None:
    x = [[0.0, -1.0, -2.0, 3.0]]
    result = answered(SOFTMAX, "float32", x).result * (1 + 1e-5)
    made = judged(SOFTMAX, "float32", x, result)
    assert (made.grade, made.verdict, kinds(made)) == ("C", "fail", ["accuracy"])
    figures = made.figures
    assert 1e-7 < figures["normwise"] < 2.0**-12
    assert made.breaches[0].figure == figures["ratio_weak"] > 1.01
    assert "ULP from the exact value" in made.breaches[0].detail


def test_grade_f_has_less() -> None:
    x = [[0.0, -1.0, -2.0, 3.0]]
    result = answered(SOFTMAX, "float32", x).result * 1.01
    assert judged(SOFTMAX, "float32", x, result).grade == "F"
    assert policy.load().normwise(FORMATS["float32"]) == 2.0**-12


def test_a_grade_is_that_of_the_worst_row_of_any_length() -> None:
    fmt = FORMATS["float32"]
    good = answered(LOG, "float32", [[0.0, -1.0, 2.0]])
    lossy = answered(LOG, "float32", [[0.0, -GAP]], [[0.0, -GAP]])
    made = judge.judge(fmt, [good, lossy], GRADUAL)
    assert made.grade == "B"
    assert made.figures["cases"] == 2
    assert made.figures["elements"] == 5
    assert judge.judge(fmt, [], GRADUAL).verdict == "pass"


# ---------------------------------------------------------------- special values


@pytest.mark.parametrize(
    ("x", "name"),
    [
        ([0.0, 1.0], "finite"), ([0.0, -INF], "some_minus_inf"), ([-INF, -INF], "all_minus_inf"),
        ([0.0, INF], "one_plus_inf"), ([INF, INF], "several_plus_inf"), ([NAN, INF], "nan_input"),
    ],
)  # fmt: skip
def test_breaches_of_special_values_name_the_class_of_the_row(x: list[float], name: str) -> None:
    assert judge.row_class(np.array(x)) == name
    everywhere_nan = judged(LSE, "float32", [x], [[NAN]])
    if name == "nan_input":
        assert everywhere_nan.verdict == "pass"
    else:
        assert kinds(everywhere_nan) == [f"nan@{name}"]
        assert everywhere_nan.grade == "F"
    wrong = judged(LSE, "float32", [x], [[123.0]])
    expected = {"nan_input": f"nan@{name}", "finite": "accuracy", "some_minus_inf": "accuracy"}
    assert kinds(wrong) == [expected.get(name, f"inf@{name}")]


def test_nan_is_compared_element_by_element() -> None:
    x = [[NAN, 0.0], [0.0, 1.0]]
    right = answered(SOFTMAX, "float32", x).result
    assert np.isnan(right).tolist() == [[True, True], [False, False]]
    assert judged(SOFTMAX, "float32", x).verdict == "pass"
    hidden, leaked = right.copy(), right.copy()
    hidden[0, 1] = 0.5
    leaked[1, 1] = NAN
    assert kinds(judged(SOFTMAX, "float32", x, hidden)) == ["nan@nan_input"]
    leak = judged(SOFTMAX, "float32", x, leaked)
    assert kinds(leak) == ["nan@finite"]
    assert leak.figures["nan_mismatches"] == 1
    both = answered(SOFTMAX, "float32", x, leaked)
    evidence = judge.judge(FORMATS["float32"], [both], GRADUAL, witnesses=("case-0", "case-1"))
    assert {name: e["broken"] for name, e in evidence.evidence.items()} == {
        "case-0": 0,
        "case-1": 1,
    }
    assert leak.figures["worst_case"] == "case-1"
    swapped = judged(SOFTMAX, "float32", x, right[::-1])
    assert kinds(swapped) == ["nan@finite", "nan@nan_input"]


def test_an_infinity_of_the_wrong_sign_or_in_the_wrong_place_is_a_breach() -> None:
    assert kinds(judged(LOG, "float32", [[0.0, -INF]], [[0.0, INF]])) == ["inf@some_minus_inf"]
    assert kinds(judged(LOG, "float32", [[0.0, -INF]], [[0.0, -1e30]])) == ["inf@some_minus_inf"]
    assert kinds(judged(LOG, "float32", [[0.0, -1.0]], [[-0.3132617, -INF]])) == ["inf@finite"]


def test_what_the_contract_leaves_open_is_never_a_breach_but_a_flag() -> None:
    for answer in ([NAN, NAN], [0.0, 0.0], [0.5, 0.5]):
        made = judged(SOFTMAX, "float32", [[-INF, -INF]], [answer])
        assert made.verdict == "pass"
        assert made.flags == ([] if math.isnan(answer[0]) else ["answers_undefined"])


def test_the_sign_of_zero_is_a_column_and_no_grade() -> None:
    made = judged(LOG, "float32", [[0.0, -200.0]], [[0.0, -200.0]])
    assert made.figures["zero_sign_mismatches"] == 1
    assert (made.grade, made.verdict) == ("A+", "pass")


def test_a_float64_gradient_lost_to_rounding_is_within_its_bound() -> None:
    """g - s G = 100 - 100 (1 - u) where the truth underflows: 2^1028 ulps, and honest."""
    s = 1 - 2.0**-53
    made = judged(LOG_X, "float64", [[0.0, -800.0]], [[100 - 100 * s, 0.0]], g=[[100.0, 0.0]])
    assert made.verdict == "pass"
    assert math.isfinite(made.figures["max_ulp"])


# ---------------------------------------------------------------- underflow


def flushing(threshold: float) -> tuple[Any, Any]:
    """(x, result) of a correctly rounded softmax that loses what is below a threshold."""
    gaps = formats.nearest(FORMATS["float32"], np.arange(60.0, 110.0, 0.5))
    x = np.stack([np.zeros_like(gaps), -gaps], axis=1)
    right = answered(SOFTMAX, "float32", x).result
    return x, np.where(right < threshold, 0.0, right)


def measured(x: Any, result: Any) -> Underflow:
    both = [
        bounds.evaluate(*SOFTMAX, {"x": x}, FORMATS["float32"], flushes=f) for f in (False, True)
    ]
    refs = oracle.evaluate(*SOFTMAX, {"x": x}, FORMATS["float32"])
    return metrics.underflow(result, refs, *both)


@pytest.mark.parametrize(
    ("threshold", "policy", "grade"),
    [(0.0, "gradual", "A+"), (2.0**-126, "flush", "A+"), (2.0**-130, "partial", "A+"),
     (2.0**-115, "premature", "B")],
)  # fmt: skip
def test_flushed_results_are_excused_as_far_as_the_policy_goes(
    threshold: float, policy: str, grade: str
) -> None:
    x, result = flushing(threshold)
    found = measured(x, result)
    assert found.policy == policy
    made = judged(SOFTMAX, "float32", x, result, found)
    assert made.figures["underflow_policy"] == policy
    if policy == "premature":
        assert made.verdict == "fail"
        assert made.figures["lost"] > 0
        return
    assert (made.grade, made.verdict) == (grade, "pass")
    assert made.flags == ([] if policy == "gradual" else [policy])
    assert (made.figures["flushed"] > 0) == (policy != "gradual")


def test_a_flushing_policy_does_not_excuse_normal_results_or_nonsense() -> None:
    x, result = flushing(2.0**-126)
    wrong = result.copy()
    wrong[10, 1] = 0.0  # e^-65
    assert judged(SOFTMAX, "float32", x, wrong, FLUSH).verdict == "fail"
    wrong = result.copy()
    wrong[-1, 1] = 1e-36
    assert judged(SOFTMAX, "float32", x, wrong, FLUSH).verdict == "fail"
    assert judged(SOFTMAX, "float32", x, result, PARTIAL).verdict == "pass"


def test_a_softmax_that_flushes_is_not_excused_by_a_gradual_policy() -> None:
    x, result = flushing(2.0**-126)
    assert judged(SOFTMAX, "float32", x, result, GRADUAL).verdict == "fail"


# ---------------------------------------------------------------- instruments, figures


def test_a_control_has_to_be_bit_equal() -> None:
    x = [[0.0, -1.0, 2.0], [1.0, 5.0, -2.0]]
    right = answered(SOFTMAX, "float32", x).result
    assert judged(SOFTMAX, "float32", x, right, role="control").breaches == []
    off = right.copy()
    off[1, 2] = formats.step(FORMATS["float32"], right[1, 2], 1)
    made = judged(SOFTMAX, "float32", x, off, role="control")
    assert kinds(made) == ["control"]
    assert made.breaches[0].case_id == "case-1"
    assert made.breaches[0].figure == 1
    assert made.verdict == "fail"


# The other ops, and their second derivatives, have test files of their own.
FIRST = ("log_softmax", "logsumexp", "softmax", "softmax_cross_entropy",
         "sparse_softmax_cross_entropy")  # fmt: skip
ROW_MAPS = [(op, *key) for op in FIRST for key in ops.get(op).maps if key[0] in ("value", "vjp")]


@pytest.mark.parametrize("family", cases.FAMILIES)
@pytest.mark.parametrize("format_name", FORMATS)
def test_the_correctly_rounded_answer_is_graded_a_plus_on_every_family(
    family: str, format_name: str
) -> None:
    fmt = FORMATS[format_name]
    for op, derivative, argument in ROW_MAPS:
        parts = []
        for n in (2, 7):
            made = cases.make(family, op, format_name, n, limit=12)
            inputs = cases.stack(made)
            refs = oracle.evaluate(op, derivative, argument, inputs, fmt)
            limits = bounds.evaluate(op, derivative, argument, inputs, fmt)
            parts.append(Answered(made, refs, limits, refs.rounded()))
        found = judge.judge(fmt, parts, GRADUAL, role="control")
        where = (op, derivative, argument)
        assert (found.grade, found.verdict, found.breaches) == ("A+", "pass", []), where
        assert found.figures["correctly_rounded"] == 1, where
        assert found.figures["max_ulp"] <= 0.5 + 1e-6, where


def test_the_gradient_of_the_loss_is_not_s_minus_t() -> None:
    """A mutant: right for targets that sum to one, caught by the others."""
    x = [[0.5, -1.0, 2.0]]
    s = answered(SOFTMAX, "float32", x).result
    good, half = np.array([[0.25, 0.25, 0.5]]), np.array([[0.125, 0.125, 0.25]])
    for target, verdict in ((good, "pass"), (half, "fail")):
        made = judged(CE_X, "float32", x, formats.nearest(FORMATS["float32"], s - target),
                      target=target)  # fmt: skip
        assert made.verdict == verdict


def test_breaches_and_figures_are_plain_data() -> None:
    made = judged(SOFTMAX, "float32", [[0.0, 1.0]], [[0.5, 0.5]])
    assert set(made.breaches[0].row()) == {"kind", "case_id", "detail", "figure"}
    worst = made.figures["worst"]
    assert worst["exact"].startswith(("0.2689414213", "0.7310585786"))
    assert made.figures["worst_case"] == "case-0"
    assert made.figures["worst_index"] in (0, 1)
    assert worst["result"] == 0.5


@pytest.mark.parametrize("kind", ["crash", "timeout", "error"])
def test_what_did_not_answer_is_named_before_what_answered_wrongly(kind: str) -> None:
    made = Judgement(grade="C", breaches=[judge.Breach("accuracy", "", "", 2.0)])
    assert made.verdict == "fail"
    made.breaches.append(judge.Breach(kind, "", "", 1.0))
    assert made.verdict == kind
