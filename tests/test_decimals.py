"""The oracle's decimal answers, for every map: against the definitions and in cases by hand."""

from __future__ import annotations

import decimal
import math
import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from first_ops import CE, LOG, LSE, SOFTMAX, batch

from reference import cases, decimals, escalation, ops, oracle
from reference.ops.base import FORMULA, Batch

INF, NAN = math.inf, math.nan
MAPS = [(op, *key) for op, definition in ops.OPS.items() for key in definition.maps]
WORDS = ("nan", "undefined", "inf", "-inf")
Key = tuple[str, str, str]


def answer(key: Key, row: Mapping[str, Any], digits: int, **options: Any) -> list[str]:
    """The texts of one row."""
    inputs = {name: np.asarray(values)[None] for name, values in row.items()}
    return oracle.decimal(*key, inputs, digits, **options)[0]


def defined(key: Key, row: Mapping[str, Any], digits: int, bits: int) -> list[decimal.Decimal]:
    """The textbook definition at a precision that outweighs its cancellation, rounded by Python."""
    mp = mpmath.MPContext()
    mp.prec = bits
    context = decimal.Context(
        prec=digits,
        rounding=decimal.ROUND_HALF_EVEN,
        Emax=decimal.MAX_EMAX,
        Emin=decimal.MIN_EMIN,
    )
    out = []
    for value in ops.get(key[0]).maps[key[1:]].definition(mp, row):
        sign, man, exp, _ = value._mpf_
        top = decimal.Decimal(int(-man if sign else man) << max(exp, 0))
        out.append(context.divide(top, decimal.Decimal(1 << max(-exp, 0))))
    return out


def parts(text: str) -> tuple[str, int]:
    """Digits, and the place of the first one, of a number that may be beyond Python's Decimal."""
    number, _, power = text.lstrip("-").partition("e")
    whole, _, rest = number.partition(".")
    significant = (whole + rest).lstrip("0")
    return significant, int(power or 0) + len(significant) - len(rest)


def compare(key: Key, row: Mapping[str, Any], digits: int, bits: int, **options: Any) -> int:
    """How many elements were compared; a settled 0 is compared with what cancels to nothing."""
    compared = 0
    made = answer(key, row, digits, **options)
    for text, right in zip(made, defined(key, row, digits, bits), strict=True):
        if text in WORDS:
            continue
        compared += 1
        if text == "0":
            assert abs(right) < decimal.Decimal(2) ** (400 - bits), (key, row, digits)
        else:
            assert decimal.Decimal(text) == right, (key, row, digits, text)
    return compared


# ---------------------------------------------------------------- every map


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_ordinary_rows_have_the_digits_of_their_definition(key: Key) -> None:
    compared = 0
    for family in ("realistic", "near_ties", "shift_ladder"):
        for case in cases.make(family, key[0], "bfloat16", 4, seed=2, limit=4):
            row = case.inputs
            if all(np.isfinite(v).all() and np.abs(v).max() < 300 for v in row.values()):
                compared += compare(key, row, 45, 3000)
    assert compared >= 3


def hard_row(op: str, n: int, gap: float, rng: random.Random) -> dict[str, Any]:
    """Ties, gaps, and small integers and halves as everything else: what cancels exactly."""
    definition = ops.get(op)

    def some(*values: float) -> Any:
        return np.array([rng.choice(values) for _ in range(n)])

    made = {
        "x": some(0.0, 0.0, 0.0, -gap, -2 * gap, -gap - 1, 1.0),
        "y": some(0.0, 0.0, -gap, -gap - 1, 1.0, -2 * gap),
        "mask": some(1.0, 1.0, 1.0, 0.0) != 0,
        "target": some(0.0, 1.0, 0.5, 0.25, 2.0, -1.0),
        "label": np.int64(rng.randrange(n)),
        "pos_weight": some(0.0, 1.0, 2.0, 0.5, 10.0),
        "g": some(1.0, 2.0, -1.0, 3.0, 0.5, 0.0),
        **{f"v_{name}": some(0.0, 1.0, 2.0, 3.0, -1.0, 0.5) for name in definition.differentiable},
    }
    if definition.per_row:
        made["g"] = np.float64(rng.choice([1.0, -2.0, 3.0, 0.5]))
    tangents = [f"v_{name}" for name in definition.differentiable]
    return {name: made[name] for name in (*definition.inputs, "g", *tangents)}


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_what_no_precision_tells_is_decided(key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results within e^-500 of a boundary, or e^-500 as large as what cancels, in 700 bits."""
    monkeypatch.setattr(decimals, "QUOTIENT_BITS", 1)
    rng = random.Random("-".join(key))
    compared = sum(
        compare(key, hard_row(key[0], rng.choice([2, 3, 5]), 500.0, rng), digits, 6500,
                max_bits=700)
        for digits in (1, 1, 2, 2, 3, 3, 4, 30)
    )  # fmt: skip
    assert compared >= 6


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_twenty_times_as_many_digits_begin_alike(key: Key) -> None:
    """On the wildest rows there are: nothing is left open, and no digit changes its mind."""
    for family in ("infinity_lattice", "gap_ladder", "subnormals"):
        for case in cases.make(family, key[0], "float64", 3, seed=1, limit=3):
            few, many = (answer(key, case.inputs, digits) for digits in (50, 1000))
            for short, long in zip(few, many, strict=True):
                if short in (*WORDS, "0"):
                    assert short == long
                    continue
                assert short.startswith("-") == long.startswith("-")
                (digits, place), (shown, at) = parts(long), parts(short)
                if digits[50:].rstrip("0") == "5":
                    continue  # nearly 51 digits: a thousand do not tell the side
                rounded = decimal.Context(prec=50).create_decimal("0." + digits)
                assert rounded == decimal.Decimal(f"0.{shown}e{at - place}")


# ---------------------------------------------------------------- nearly rational

TENTH = "0.1000000000000000055511151231257827021181583404541015625"  # 0.1 of float64, 55 digits
DOWN, UP = TENTH[:-2] + "2", TENTH[:-2] + "3"


@pytest.mark.parametrize(
    ("key", "row", "i", "text"),
    [
        (LSE, {"x": [0.1, -1e6]}, 0, UP),
        (("softplus", "value", "-"), {"x": [-1e6, 1e6]}, 1, "1000000." + "0" * 47),
        (("logaddexp", "value", "-"), {"x": [0.1], "y": [-1e300]}, 0, UP),
        (("log_softmax", "vjp", "x"), {"x": [-1e6, 0.0], "g": [0.1, 1.0]}, 0, DOWN),
        (("log_softmax", "vjp", "x"), {"x": [-1e6, 0.0], "g": [0.1, -1.0]}, 0, UP),
        (("log_softmax", "jvp", "x"), {"x": [0.0, -1e6], "v_x": [0.0, 0.1]}, 1, DOWN),
        (("log_softmax", "jvp", "x"), {"x": [0.0, -1e6], "v_x": [0.0, -0.1]}, 1, "-" + DOWN),
        (("logsumexp", "jvp", "x"), {"x": [0.0, -1e300], "v_x": [0.1, 0.0]}, 0, DOWN),
        (("logsumexp", "vjp", "x"), {"x": [0.0, -1e300], "g": 0.1}, 0, DOWN),
        (("sigmoid", "value", "-"), {"x": [1e6]}, 0, "1." + "0" * 53),
        (("softplus", "vjp", "x"), {"x": [1e300], "g": [0.1]}, 0, DOWN),
        (("softplus", "jvp", "x"), {"x": [1e300], "v_x": [-0.1]}, 0, "-" + DOWN),
        (("kl_divergence", "vjp", "y"), {"x": [-1e6, 0.0], "y": [0.0, -1e6], "g": 0.1}, 0, DOWN),
        (("softmax_cross_entropy", "vjp", "x"),
         {"x": [0.0, -1e9], "target": [0.0, 0.1], "g": 1.0}, 0, DOWN),
    ],
)  # fmt: skip
def test_a_digit_less_than_the_nearly_exact_result_has_is_a_boundary(
    key: Key, row: Mapping[str, Any], i: int, text: str
) -> None:
    assert answer(key, {name: np.asarray(v) for name, v in row.items()}, 54)[i] == text


@pytest.mark.parametrize(
    ("key", "row", "i", "digits", "text"),
    [
        # four equal logits and one far below: 1/4 - tiny; twenty: 3/20 - tiny, no dyadic number
        (SOFTMAX, {"x": [0.0] * 4 + [-1e6]}, 0, 1, "0.2"),
        (SOFTMAX, {"x": [0.0] * 4 + [-1e6]}, 0, 2, "0.25"),
        (SOFTMAX, {"x": [0.0] * 8 + [-1e300]}, 0, 2, "0.12"),
        (SOFTMAX, {"x": [0.0] * 5 + [-1e300]}, 4, 30, "0.2" + "0" * 29),
        (("logsumexp", "vjp", "x"), {"x": [0.0] * 20 + [-1e6], "g": 3.0}, 0, 1, "0.1"),
        (("logsumexp", "vjp", "x"), {"x": [0.0] * 20 + [-1e6], "g": -3.0}, 0, 1, "-0.1"),
        (("logsumexp", "jvp", "x"), {"x": [0.0] * 20 + [-1e6], "v_x": [3.0] + [0.0] * 20}, 0, 1,
         "0.1"),
        (("logsumexp", "jvp", "x"), {"x": [0.0] * 20 + [-1e6], "v_x": [3.0] + [0.0] * 19 + [1.0]},
         0, 1, "0.2"),
        (("logsumexp", "hvp", "x.x"),
         {"x": [0.0] * 10 + [-1e6], "g": 1.0, "v_x": [5.0] + [0.0] * 10}, 0, 1, "0.4"),  # 0.45
        (("softmax", "hvp", "x.x"),
         {"x": [0.0, 0.0, -1e6], "g": [1.0, 0.0, 0.0], "v_x": [0.5, 0.0, 7.0]}, 0, 30, None),
        # what the larger terms leave over: (e / 2) / (1 + e / 2) of e^-1e6
        (("log_softmax", "vjp", "x"), {"x": [0.0, 0.0, -1e6], "g": [1.0, 1.0, 0.0]}, 0, 20,
         "1.6484157390442792895e-434295"),
        (("softmax_cross_entropy", "vjp", "x"),
         {"x": [0.0, 0.0, -1e6], "target": [0.5, 0.5, 0.0], "g": 1.0}, 0, 20,
         "-8.2420786952213964474e-434296"),
        (SOFTMAX, {"x": [0.0, -1e6]}, 0, 30, "1." + "0" * 29),
        (SOFTMAX, {"x": [0.0, -1e6]}, 1, 20, "3.2968314780885585790e-434295"),
        (("sigmoid", "value", "-"), {"x": [800.0]}, 0, 347, "1." + "0" * 346),
        (("sigmoid", "value", "-"), {"x": [800.0]}, 0, 348, "0." + "9" * 347 + "6"),
        (("sigmoid", "value", "-"), {"x": [800.0]}, 0, 30, "1." + "0" * 29),
    ],
)  # fmt: skip
def test_results_that_are_exponentially_close_to_something(
    key: Key, row: Mapping[str, Any], i: int, digits: int, text: str | None
) -> None:
    made = answer(key, {name: np.asarray(v) for name, v in row.items()}, digits)[i]
    if text is not None:
        assert made == text
    else:
        assert abs(decimal.Decimal(made)) < decimal.Decimal("1e-400000")


def test_the_digits_of_what_is_e_to_the_minus_1e6() -> None:
    """The constants above, by logarithms."""
    with mpmath.workdps(60):
        log = mpmath.mpf(-1_000_000) / mpmath.log(10)
        place = int(mpmath.floor(log))
        e = 10 ** (log - place)
        assert place == -434295
        assert mpmath.nstr(e, 20, strip_zeros=False) == "3.2968314780885585790"
        assert mpmath.nstr(e / 2, 20, strip_zeros=False) == "1.6484157390442792895"
        assert mpmath.nstr(e / 4 * 10, 20, strip_zeros=False) == "8.2420786952213964474"


def test_gaps_up_to_the_end_of_float64_with_many_digits() -> None:
    x = {"x": np.array([1e308, 0.0, -1e308, 5e-324, -INF])}
    softmax, logs = answer(SOFTMAX, x, 1000), answer(LOG, x, 1000)
    assert softmax[0] == "1." + "0" * 999
    assert (softmax[4], logs[4]) == ("0", "-inf")
    assert int(logs[1].partition(".")[0]) == -int(1e308)
    # s_1 = e^-1e308, and l_0 = -2 e^-1e308, for 5e-324 is as good as 0 there
    assert logs[0].startswith("-")
    (digits, place), (twice, at) = parts(softmax[1]), parts(logs[0])
    assert str(2 * int(digits[:300]))[:299] == twice[:299]
    assert at - place in (0, 1)
    assert all(len(parts(text)[0]) == 1000 for text in softmax[:4] + logs[:4])
    assert answer(LSE, x, 1000)[0].startswith("10000000000000000109790636294404554")


def test_five_thousand_digits_of_every_kind_of_map() -> None:
    row = batch("softmax_cross_entropy", x=[0.1, -0.7], target=[0.3, 0.6])
    row |= {"v_x": np.array([[1.0, 0.2]]), "v_target": np.array([[0.1, 0.4]])}
    for derivative, argument in (("value", "-"), ("jvp", "x"), ("hvp", "x.target")):
        key = ("softmax_cross_entropy", derivative, argument)
        compared = compare(key, {k: a[0] for k, a in row.items()}, 5000, 18_000)
        assert compared == (2 if derivative == "hvp" else 1)


# ---------------------------------------------------------------- settled, and as text


@pytest.mark.parametrize("digits", [1, 6, 17, 50, 333, 1000])
def test_decimals_of_a_softmax(digits: int) -> None:
    x = [0.1, 0.3, 0.5, 0.9]
    text = oracle.decimal(*SOFTMAX, batch("softmax", x=x), digits)[0]
    with mpmath.workprec(4 * 1000 + 200):
        e = [mpmath.exp(mpmath.mpf(v)) for v in x]
        expected = [mpmath.nstr(v / mpmath.fsum(e), digits, strip_zeros=False) for v in e]
    assert text == expected
    assert all(len(t) == len("0.") + digits for t in text)


def test_decimals_of_special_and_rational_results() -> None:
    text = oracle.decimal(*SOFTMAX, batch("softmax", x=[1.0, 1.0, 1.0, -INF]), 30)[0]
    assert text == ["0." + "3" * 30] * 3 + ["0"]
    assert (
        oracle.decimal(*SOFTMAX, batch("softmax", x=[0.0] * 6), 20)[0]
        == ["0.1" + "6" * 18 + "7"] * 6
    )
    assert oracle.decimal(*SOFTMAX, batch("softmax", x=[0.0] * 8), 2)[0] == ["0.12"] * 8  # to even
    assert oracle.decimal(*LOG, batch("log_softmax", x=[0.0, -INF, INF, INF]), 9) == [
        ["-inf", "-inf", "undefined", "undefined"]
    ]
    assert oracle.decimal(*LSE, batch("logsumexp", x=[NAN]), 9) == [["nan"]]
    assert oracle.decimal(*LSE, batch("logsumexp", x=[INF]), 9) == [["inf"]]


def test_elements_of_elementwise_ops_keep_their_places() -> None:
    x = np.array([[0.0, 1.0], [INF, -2.0]])
    with mpmath.workdps(60):
        one = mpmath.nstr(1 / (1 + mpmath.exp(-1)), 40, strip_zeros=False)
        two = mpmath.nstr(1 / (1 + mpmath.exp(2)), 40, strip_zeros=False)
    assert oracle.decimal("sigmoid", "value", "-", {"x": x}, 40) == [["0.5", one], ["1.0", two]]
    made = {"x": np.array([[3.0, 0.1]]), "target": np.ones((1, 2)), "g": np.full((1, 2), 0.1)}
    text = oracle.decimal("sigmoid_cross_entropy", "vjp", "target", made, 30)[0]
    assert [float(v) for v in text] == pytest.approx([-0.3, -0.01])
    assert len(text[1]) > 25
    assert oracle.decimal("sigmoid", "value", "-", {"x": np.zeros((2, 0))}, 5) == [[], []]


def test_decimals_that_cannot_be_decided_say_so() -> None:
    with pytest.raises(oracle.Undecided, match="not decided to 100 digits at 200 bits"):
        oracle.decimal(*LOG, batch("log_softmax", x=[0.0, 1.0]), 100, max_bits=200)


# ---------------------------------------------------------------- sums and means


def test_the_mean_loss_of_two_rows() -> None:
    inputs = {
        "x": np.array([[0.5, 1.5, 0.1], [2.2, 1.3, 1.7]]),
        "target": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    }
    with mpmath.workdps(700):
        losses = [
            mpmath.log(mpmath.fsum(map(mpmath.exp, map(mpmath.mpf, row)))) - mpmath.mpf(row[k])
            for row, k in zip(inputs["x"].tolist(), (1, 2), strict=True)
        ]
        total = mpmath.fsum(losses)
        for digits in (6, 30, 600):
            for mean, right in ((True, total / 2), (False, total)):
                made = decimals.reduced(CE[0], inputs, digits, mean=mean)
                assert made == mpmath.nstr(right, digits, strip_zeros=False)
    assert decimals.reduced(CE[0], inputs, 6, mean=True) == "0.839343"


def test_sums_of_rational_and_special_losses() -> None:
    def total(op: str, mean: bool = False, **inputs: Any) -> str:
        made = {name: np.array(values, float) for name, values in inputs.items()}
        return decimals.reduced(op, made, 10, mean=mean)

    assert total("logsumexp", x=[[3.0], [0.25]]) == "3.25"
    assert total("logsumexp", True, x=[[1.0], [0.0], [0.0]]) == "0.3333333333"
    assert total("logsumexp", x=[[3.0], [-3.0]]) == "0"
    assert total("logsumexp", x=[[3.0], [INF]]) == "inf"
    assert total("logsumexp", x=[[-INF], [INF]]) == "undefined"
    assert total("logsumexp", x=[[NAN], [INF]]) == "nan"
    one = {"x": [[0.0, INF], [INF, INF]], "target": [[0.0, 1.0], [1.0, 0.0]]}
    assert total("softmax_cross_entropy", **one) == "undefined"
    # elements of an elementwise loss, a settled one among them
    with mpmath.workdps(30):
        right = mpmath.nstr((3 + mpmath.log1p(mpmath.exp(-3)) + 0) / 2, 10, strip_zeros=False)
    binary = {"x": [[3.0, INF]], "target": [[0.0, 1.0]]}
    assert total("sigmoid_cross_entropy", True, **binary) == right


def test_losses_that_cancel_are_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decimals, "MAX_BITS", 500)
    inputs = {"x": np.array([[0.0, 1.0]] * 2), "target": np.array([[1.0, 0.0], [-1.0, 0.0]])}
    with pytest.raises(oracle.Undecided, match="the sum is not decided to 30 digits"):
        decimals.reduced("softmax_cross_entropy", inputs, 30)


# ---------------------------------------------------------------- the exact forms


@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_quotients_are_their_results(key: Key) -> None:
    """Where a map has an exact form, it is the definition; and it, or a ball, tells sides."""
    map_ = ops.get(key[0]).maps[key[1:]]
    rng, compared = random.Random(7), 0
    a = escalation.Multiprecision(200)
    for _ in range(12):
        row = hard_row(key[0], 3, 3.0, rng)
        inputs = {name: np.asarray(v)[None] for name, v in row.items()}
        rows = Batch(ops.get(key[0]).rows_of(inputs))
        settled = map_.settle(rows)
        mp = mpmath.MPContext()
        mp.prec = 300
        values = map_.definition(mp, row)
        for k, value in enumerate(values):
            r, i = (k, 0) if ops.get(key[0]).elementwise else (0, k)
            if settled.codes[r, i] != FORMULA:
                continue
            part = Batch({name: np.asarray(v)[[r]] for name, v in rows.inputs.items()})
            truth = Fraction(int(value.man) * (-1) ** (value < 0)) * Fraction(2) ** value.exp
            for boundary in (Fraction(0), truth * Fraction(10, 11), truth * Fraction(11, 10)):
                found = escalation.side(map_, a, part, i, boundary)
                if map_.quotient is not None or map_.excess is not None:
                    assert found == (1 if truth > boundary else -1), (row, i, boundary)
                else:
                    assert found == 0
            if map_.quotient is not None:
                ball = map_.quotient(part, i).value(a)
                mid, rad = (mp.make_mpf(part_.flat[0]) for part_ in (ball.mid, ball.rad))
                assert abs(mid - value) <= rad + abs(value) * mp.mpf(2) ** -250
                assert rad <= abs(value) * mp.mpf(2) ** -150
            compared += 1
    assert compared >= 5 or map_.definition(mpmath.mp, row) == [0] * len(row["x"])
