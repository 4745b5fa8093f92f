"""Exact answers to situations and their bounds, held against the definition in plain mpmath.

The gradients are held against differences of the definition, so that no formula is shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import mpmath
import numpy as np
import pytest
from losses_by_definition import DIGITS, Loss, expected
from random_situations import SOFT, SPARSE, draw

from reference import formats, reduction_bounds, reductions, situations
from reference.cases import CaseError
from reference.ops.base import EXACT, NAN, NEG_INF, POS_INF, UNDEFINED, ZERO
from reference.references import References, round_element
from reference.situations import Situation
from reference.situations.base import DEFAULTS

ALL = frozenset({"reduction", "weight", "ignore_index", "label_smoothing"})
FORMATS = ("float32", "float64", "bfloat16", "float16")
EVERY = [
    (family, op, fmt)
    for family in situations.FAMILIES
    for op in situations.FAMILIES[family].ops
    for fmt in FORMATS
]


def situation(
    x: Any, *, weight: Any = None, g: Any = 1.0, fmt: str = "float64", **given: Any
) -> Situation:
    """A situation by hand: options and ``label`` or ``target`` by name."""
    inputs: dict[str, Any] = {"x": np.array(x, np.float64)}
    for name in ("label", "target"):
        if name in given:
            inputs[name] = np.asarray(given.pop(name))
    if weight is not None:
        inputs["weight"] = np.array(weight, np.float64)
    inputs["g"] = np.asarray(g, np.float64)
    op = SPARSE if "label" in inputs else SOFT
    return Situation("by hand", op, fmt, "none", inputs, MappingProxyType({**DEFAULTS, **given}))


def codes(of: Situation, derivative: str = "value", argument: str = "-") -> list[Any]:
    found: list[Any] = reductions.evaluate(of, derivative, argument).references.codes.tolist()
    return found


def close(refs: References, k: int, right: Any) -> bool:
    """Within 2^-18 ulp, and rounded alike by two routes."""
    row, index = divmod(k, refs.shape[1])
    with mpmath.workdps(DIGITS):
        scale = mpmath.mpf(2) ** int(refs.exponent[row, index])
        got = (mpmath.mpf(float(refs.hi[row, index])) + float(refs.lo[row, index])) * scale
        fmt = refs.format
        rounded = float(refs.rounded()[row, index])
        assert rounded == round_element(refs, row, index)
        leading = max(int(mpmath.frexp(right)[1]) - 1, fmt.emin) if right else fmt.emin
        ulp = mpmath.mpf(2) ** (leading - fmt.precision + 1)
        return bool(abs(got - right) <= ulp / 2**18 and abs(rounded - right) <= ulp * 0.5000001)


# --- against the definition -------------------------------------------------------------------


@pytest.mark.parametrize("op", [SPARSE, SOFT])
@pytest.mark.parametrize("fmt", FORMATS)
def test_random_situations_agree_with_the_definition(op: str, fmt: str) -> None:
    maps = [("value", "-"), ("vjp", "x"), *([("vjp", "target")] if op == SOFT else [])]
    compared = 0
    for number in range(60):
        drawn = draw(1, number, fmt, op, ALL - ({"ignore_index"} if op == SOFT else frozenset()))
        for derivative, argument in maps:
            exact = expected(drawn.inputs, drawn.options, argument)
            refs = reductions.evaluate(drawn, derivative, argument).references
            if exact is None:
                assert np.isin(refs.codes, (NAN, UNDEFINED, ZERO)).all()
                continue
            assert refs.codes.size == len(exact)
            for k, right in enumerate(exact):
                assert close(refs, k, right), (drawn.case_id, dict(drawn.options), argument, k)
            compared += 1
    assert compared > 100


def _differences(of: Situation, name: str) -> Iterator[Any]:
    """The gradient of <g, loss> to an input, by central differences at 120 digits."""
    h = mpmath.mpf(10) ** -40
    base = np.asarray(of.inputs[name])
    for index in np.ndindex(base.shape):
        sides = []
        for step in (h, -h):
            moved = np.array([[mpmath.mpf(float(v)) for v in row] for row in base], object)
            moved[index] += step
            loss = _Moved({**of.inputs, name: moved}, of.options)
            flat = loss.value()
            assert flat is not None
            weights = np.broadcast_to(of.inputs["g"], (len(flat),)).tolist()
            sides.append(mpmath.fsum(w * v for w, v in zip(weights, flat, strict=True)))
        yield (sides[0] - sides[1]) / (2 * h)


class _Moved(Loss):
    """A loss whose logits or targets have more digits than floats."""

    def __init__(self, inputs: Any, options: Any) -> None:
        plain = {k: np.asarray(v, np.int64 if k == "label" else np.float64)
                 for k, v in inputs.items()}  # fmt: skip
        super().__init__(plain, options)
        n, a = self.shape[1], self.a
        for r, row in enumerate(self.rows):
            if row is None:
                continue
            x = list(inputs["x"][r]) if inputs["x"].dtype == object else row[0]
            b = row[1]
            if "target" in inputs and inputs["target"].dtype == object:
                b = [w * ((1 - a) * t + a / n)
                     for w, t in zip(self.w, inputs["target"][r], strict=True)]  # fmt: skip
            self.rows[r] = (x, b)


@pytest.mark.parametrize("op", [SPARSE, SOFT])
def test_gradients_are_differences_of_the_value(op: str) -> None:
    names = ("x", "target") if op == SOFT else ("x",)
    for number in range(6):
        drawn = draw(2, number, "float64", op, ALL - ({"ignore_index"} if op == SOFT else set()))
        for name in names:
            if expected(drawn.inputs, drawn.options, name) is None:
                continue
            refs = reductions.evaluate(drawn, "vjp", name).references
            with mpmath.workdps(DIGITS):
                for k, slope in enumerate(_differences(drawn, name)):
                    row, index = divmod(k, refs.shape[1])
                    got = float(refs.rounded()[row, index])
                    assert abs(got - slope) <= abs(slope) * 2**-52 + mpmath.mpf(10) ** -60


# --- what is settled, one by one --------------------------------------------------------------


def test_an_ignored_row_is_exactly_nothing_whatever_it_holds() -> None:
    for poison in (np.nan, np.inf, -np.inf):
        x = [[poison, poison, 1.0], [0.5, 1.0, 2.0]]
        for smoothing in (0.0, 0.25):
            given: dict[str, Any] = {"label": [-100, 1], "ignore_index": -100,
                                     "label_smoothing": smoothing}  # fmt: skip
            assert codes(situation(x, g=[1.0, 1.0], **given))[0] == [ZERO]
            assert codes(situation(x, g=[1.0, 1.0], **given), "vjp", "x")[0] == [ZERO] * 3
            alone = situation([x[1]], reduction="mean", **{**given, "label": [1]})
            both = situation(x, reduction="mean", **given)
            pair = [
                reductions.evaluate(s, "value", "-").references.rounded() for s in (both, alone)
            ]
            assert pair[0] == pair[1]


def test_a_nan_in_a_row_that_counts_is_not_hidden() -> None:
    x = [[np.nan, 0.0], [1.0, 2.0]]
    assert codes(situation(x, label=[0, 1], g=[1.0, 1.0]))[0] == [NAN]
    assert codes(situation(x, label=[0, 1], reduction="sum")) == [[NAN]]
    gradient = codes(situation(x, label=[0, 1], reduction="sum"), "vjp", "x")
    assert gradient[0] == [NAN, NAN]
    assert NAN not in gradient[1]


@pytest.mark.parametrize("label", [-1, 3, 255])
def test_a_label_without_a_class_is_nan_and_may_raise(label: int) -> None:
    made = situation([[0.0, 1.0, 2.0]] * 2, label=[label, 1], g=[1.0, 1.0])
    answer = reductions.evaluate(made, "value", "-")
    assert answer.may_raise
    assert answer.references.codes[0] == NAN
    gradient = reductions.evaluate(made, "vjp", "x")
    assert gradient.kinds[0, 0] == "invalid_label"
    zeros = gradient.accepted(np.zeros((2, 3)))
    assert np.isnan(zeros[0]).all()  # accepted: as good as NaN
    assert (zeros[1] == 0).all()  # judged as it is


def test_a_mean_of_nothing_may_be_nan_or_infinite_and_nothing_else() -> None:
    made = situation([[0.0, 1.0]], label=[1], weight=[1.0, 0.0], reduction="mean")
    answer = reductions.evaluate(made, "value", "-")
    assert answer.references.codes == NAN
    assert answer.kinds == "zero_denominator"
    accepted = [float(answer.accepted(np.array([[v]]))[0, 0]) for v in (np.nan, np.inf, -np.inf)]
    assert np.isnan(accepted).all()
    assert answer.accepted(np.array([[0.0]])) == 0
    named = [str(answer.named(np.array([[v]]))[0, 0]) for v in (0.0, -0.0, 1.0, np.nan)]
    assert named == [*["zero_denominator.zero"] * 2, *["zero_denominator"] * 2]
    assert codes(made, "vjp", "x") == [[UNDEFINED, UNDEFINED]]


def test_gradients_of_ignored_rows_of_a_mean_of_nothing_are_zero_or_nan() -> None:
    made = situation([[0.0, 1.0]], label=[7], ignore_index=7, reduction="mean")
    answer = reductions.evaluate(made, "vjp", "x")
    assert answer.references.codes.tolist() == [[ZERO, ZERO]]
    assert answer.accepted(np.array([[np.nan, 0.0]])).tolist() == [[0.0, 0.0]]


def test_the_mean_divides_by_the_weights_of_the_labels_not_by_rows() -> None:
    x, weight = [[0.0, 1.0], [2.0, 0.5], [1.0, 1.5]], [3.0, 0.5]
    total = situation(x, label=[0, 1, 0], weight=weight, reduction="sum")
    mean = situation(x, label=[0, 1, 0], weight=weight, reduction="mean")
    of = [reductions.evaluate(s, "value", "-").references.approximate() for s in (total, mean)]
    assert of[1] == pytest.approx(of[0] / 6.5, rel=1e-15)


def test_a_mean_over_soft_targets_divides_by_rows_whatever_they_sum_to() -> None:
    x, target = [[0.0, 1.0], [2.0, 0.5]], [[0.25, 0.25], [2.0, 1.0]]
    of = [
        reductions.evaluate(situation(x, target=target, reduction=r), "value", "-")
        for r in ("sum", "mean")
    ]
    assert of[1].references.approximate() == of[0].references.approximate() / 2


def test_smoothing_adds_the_same_to_every_class_whatever_the_target_sums_to() -> None:
    x = [[0.0, 1.0, -2.0]]
    nothing = situation(x, target=[[0.0] * 3], label_smoothing=0.75, g=[1.0])
    quarter = situation(x, target=[[0.25] * 3], g=[1.0])
    pair = [reductions.evaluate(s, "value", "-").references for s in (nothing, quarter)]
    assert pair[0].rounded() == pair[1].rounded()


def test_targets_that_cancel_leave_something_rational() -> None:
    made = situation([[3.0, 1.0, 0.5]], target=[[1.0, -0.75, -0.25]], g=[1.0])
    refs = reductions.evaluate(made, "value", "-").references
    assert refs.codes == EXACT
    assert refs.approximate() == -(3.0 - 0.75 - 0.125)
    gradient = reductions.evaluate(made, "vjp", "x").references
    assert gradient.approximate().tolist() == [[-1.0, 0.75, 0.25]]


def test_a_weight_of_zero_silences_minus_infinity_and_smoothing_does_not() -> None:
    x = [[-np.inf, 1.0, 2.0]]
    finite = situation(x, label=[1], weight=[0.0, 1.0, 1.0], label_smoothing=0.5, g=[1.0])
    assert np.isfinite(reductions.evaluate(finite, "value", "-").references.rounded()).all()
    assert codes(situation(x, label=[1], label_smoothing=0.5, g=[1.0])) == [[POS_INF]]
    assert np.isfinite(
        reductions.evaluate(situation(x, label=[1], g=[1.0]), "value", "-").references.rounded()
    ).all()
    gradient = situation(x, label=[1], label_smoothing=0.75, g=[2.0])
    refs = reductions.evaluate(gradient, "vjp", "x").references
    assert refs.approximate()[0, 0] == -2.0 * 0.25


def test_gradients_to_targets_at_minus_infinity() -> None:
    x = [[-np.inf, 1.0, 2.0]]
    made = situation(x, target=[[0.0, 1.0, 0.0]], g=[1.0], weight=[1.0, 1.0, 0.0])
    assert codes(made, "vjp", "target")[0][0] == POS_INF
    assert codes(made, "vjp", "target")[0][2] == ZERO
    negative = situation(x, target=[[0.0, 1.0, 0.0]], g=[-1.0])
    assert codes(negative, "vjp", "target")[0][0] == NEG_INF


def test_of_one_finite_logit_only_its_own_logarithm_is_zero() -> None:
    made = situation([[-np.inf, 0.0, -np.inf]], target=[[0.0, 1.0, 0.0]], weight=[1.0, 1.0, 0.0],
                     g=[1.0])  # fmt: skip
    assert codes(made, "vjp", "target") == [[POS_INF, ZERO, ZERO]]


@pytest.mark.parametrize(("reduction", "value"), [("none", [[UNDEFINED], [POS_INF]]),
                                                   ("sum", [[UNDEFINED]]),
                                                   ("mean", [[UNDEFINED]])])  # fmt: skip
def test_a_row_that_counts_and_has_nothing_finite_is_undefined(
    reduction: str, value: list[list[int]]
) -> None:
    nothing = [-np.inf, -np.inf]
    g = [1.0, 1.0] if reduction == "none" else 1.0
    for given in ({"label": [1, 1]}, {"target": [[0.5, 0.5], [0.0, 1.0]]}):
        made = situation([nothing, [0.0, -np.inf]], reduction=reduction, g=g, **given)
        assert codes(made) == value
        assert codes(made, "vjp", "x")[0] == [UNDEFINED] * 2
        assert UNDEFINED not in codes(made, "vjp", "x")[1]
    assert codes(made, "vjp", "target") == [[UNDEFINED] * 2, [ZERO, POS_INF]]


def test_a_row_that_has_nothing_finite_and_nothing_that_bears_is_zero() -> None:
    made = situation([[-np.inf, -np.inf], [0.0, 0.0]], target=[[0.0, 0.0], [0.5, 0.5]],
                     reduction="sum")  # fmt: skip
    alone = situation([[0.0, 0.0]], target=[[0.5, 0.5]], reduction="sum")
    both = [reductions.evaluate(s, "value", "-").references.rounded() for s in (made, alone)]
    assert both[0] == both[1] > 0
    for argument in ("x", "target"):
        assert codes(made, "vjp", argument)[0] == [UNDEFINED] * 2


def test_beside_minus_infinity_weights_and_targets_below_zero_are_not_judged() -> None:
    x = [[3.0, -np.inf, 1.0]]
    assert codes(situation(x, target=[[0.5, -0.25, 0.25]], g=[1.0])) == [[UNDEFINED]]
    assert codes(situation(x, target=[[0.5, 0.25, 0.25]], g=[1.0])) == [[POS_INF]]
    for weight, g, code in ((1.0, 1.0, POS_INF), (-1.0, 1.0, NEG_INF), (-1.0, -1.0, POS_INF)):
        made = situation(x, target=[[0.5, 0.25, 0.25]], weight=[1.0, weight, 1.0], g=[g])
        assert codes(made, "vjp", "target")[0][1] == code


def test_a_nan_comes_before_what_is_undefined_and_that_before_infinity() -> None:
    rows = [[np.nan, 0.0], [-np.inf, -np.inf], [0.0, -np.inf]]
    assert codes(situation(rows, label=[0, 0, 1], reduction="sum")) == [[NAN]]
    assert codes(situation(rows[1:], label=[0, 1], reduction="sum")) == [[UNDEFINED]]


@pytest.mark.parametrize("given", [{"label": [1, 0]}, {"target": [[0.25, 0.5], [1.0, -1.0]]},
                                   {"label": [1, 0], "label_smoothing": 0.5}])  # fmt: skip
def test_a_cotangent_of_zero_gives_exactly_zero(given: dict[str, Any]) -> None:
    for reduction, g in (("none", [0.0, -0.0]), ("mean", 0.0)):
        made = situation([[0.3, 1.0], [2.0, -1.0]], reduction=reduction, g=g, **given)
        for argument in ("x", "target") if "target" in given else ("x",):
            assert codes(made, "vjp", argument) == [[ZERO] * 2] * 2


def test_plus_infinity_in_a_row_that_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="inf"):
        reductions.evaluate(situation([[np.inf, 0.0]], label=[0], g=[1.0]), "value", "-")


# --- families -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "op", "fmt"), EVERY)
def test_every_situation_is_decided_bounded_and_recreated(family: str, op: str, fmt: str) -> None:
    made = situations.make(family, op, fmt)
    assert len({s.case_id for s in made}) == len(made) > 30
    for each in made:
        assert situations.by_id(each.case_id).case_id == each.case_id
        assert formats.get(fmt).holds(each.inputs["x"]).all()
        if each.n > 1000:
            continue  # the suite itself runs these
        for derivative, argument in reductions.MAPS:
            if argument in ("-", *each.inputs):
                answer = reductions.evaluate(each, derivative, argument)
                limits = reduction_bounds.evaluate(each, derivative, argument)
                finite = answer.references.finite
                assert (limits.weak[finite] > 0).all()
                assert np.isfinite(limits.weak[finite]).all()
                if fmt == "float64":  # narrower formats' strong bound has another arithmetic
                    assert (limits.pairwise <= limits.weak)[finite].all()


def test_labels_above_every_narrow_type_and_outside_on_both_sides_are_there() -> None:
    made = [s for f in ("labels", "high_labels") for s in situations.make(f, SPARSE, "float32")]
    inside = [int(k) for s in made for k in s.inputs["label"] if 0 <= int(k) < s.n]
    assert max(inside) > 32767
    assert {s.inputs["label"].dtype.name for s in made} == {
        f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
    }
    outside = [(int(k), s.n) for s in made for k in s.inputs["label"] if not 0 <= int(k) < s.n]
    assert any(k < 0 for k, _ in outside)
    assert any(k >= n for k, n in outside)


def test_an_id_that_does_not_fit_is_refused() -> None:
    made = situations.make("weights", SPARSE, "float32")[0]
    wrong = made.case_id[:-1] + ("0" if made.case_id[-1] != "0" else "1")
    with pytest.raises(CaseError, match="digest"):
        situations.by_id(wrong)
    with pytest.raises(CaseError, match="no situation"):
        situations.by_id("softmax-float32-w.one_plus_inf-25fbff")
    with pytest.raises(CaseError, match="version"):
        situations.by_id(made.case_id.replace("weights1", "weights9"))


IDS = (
    "sparse_softmax_cross_entropy-float32-ignored1-s0-q9-38d062",
    "sparse_softmax_cross_entropy-float32-labels2-s0-q40-396d70",
    "sparse_softmax_cross_entropy-bfloat16-weights1-s0-q17-2cb70a",
    "softmax_cross_entropy-float32-soft_targets1-s0-q5-797e79",
)


@pytest.mark.parametrize("case_id", IDS)
def test_ids_stay_as_they_are(case_id: str) -> None:
    assert situations.by_id(case_id).case_id == case_id


def test_a_digest_covers_options_and_the_dtype_of_labels() -> None:
    from reference.situations.base import _digest

    made = situations.make("labels", SPARSE, "float32")[0]
    wide = {**made.inputs, "label": made.inputs["label"].astype(np.int32)}
    other = {**made.options, "label_smoothing": 0.5}
    digests = {_digest(made.inputs, {**made.options}), _digest(wide, {**made.options}),
               _digest(made.inputs, other)}  # fmt: skip
    assert len(digests) == 3


# --- bounds -------------------------------------------------------------------------------------


def test_flushing_only_widens_a_bound() -> None:
    for number in range(20):
        drawn = draw(3, number, "float32", SPARSE, ALL)
        for derivative, argument in (("value", "-"), ("vjp", "x")):
            plain = reduction_bounds.evaluate(drawn, derivative, argument)
            flushing = reduction_bounds.evaluate(drawn, derivative, argument, flushes=True)
            assert (flushing.weak >= plain.weak).all()


def test_a_wrong_denominator_is_far_beyond_the_bound() -> None:
    """Five rows of which one is ignored: a mean over all five is off by a fifth."""
    made = situations.make("ignored", SPARSE, "float32")
    one = next(s for s in made if s.reduction == "mean" and (s.inputs["label"] == 5).sum() == 1)
    answer = reductions.evaluate(one, "value", "-")
    right = float(answer.references.approximate()[0, 0])
    bound = float(reduction_bounds.evaluate(one, "value", "-").weak[0, 0])
    assert abs(right * 4 / 5 - right) > 1e4 * bound


def test_the_bound_of_a_sum_is_at_least_that_of_its_rows() -> None:
    drawn = draw(4, 0, "float32", SPARSE, frozenset())
    summed = replace(drawn, options={**DEFAULTS, "reduction": "sum"},
                     inputs={**drawn.inputs, "g": np.float64(1.0)})  # fmt: skip
    rows = reduction_bounds.evaluate(drawn, "value", "-").weak.sum()
    assert reduction_bounds.evaluate(summed, "value", "-").weak[0, 0] >= rows * 0.999
