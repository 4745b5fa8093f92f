"""The bounds: against their closed forms, and against implementations that round every step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from reference import bounds, cases, formats, metrics, ops, oracle
from reference.arithmetic.bounds import BoundArithmetic, Constants
from reference.formats import FORMATS, Format

# The other ops, and their second derivatives, have test files of their own.
FIRST = ("log_softmax", "logsumexp", "softmax", "softmax_cross_entropy",
         "sparse_softmax_cross_entropy")  # fmt: skip
MAPS = [(op, *key) for op in FIRST for key in ops.get(op).maps if key[0] in ("value", "vjp")]
P, L = 4.0, 5.0

# ---------------------------------------------------------------- the closed forms


class Closed:
    """W of one row in units of u, as derived by hand: the quantities of the derivation by name."""

    def __init__(self, row: dict[str, Any], h: float, k: float = 0.0) -> None:
        """Of sums that cost h, and exponentials that are off by k u |exponent|."""
        x = np.asarray(row["x"], np.longdouble)
        self.h, self.g = h, np.asarray(row["g"], np.longdouble)
        self.target = np.asarray(row.get("target", np.zeros(x.size)), np.longdouble)
        if "label" in row:
            self.target = np.eye(x.size, dtype=np.longdouble)[int(row["label"])]
        self.top = int(np.argmax(x))
        self.D = np.abs(x - x.max())
        e = np.exp(-self.D)
        t = np.delete(e, self.top).sum()
        self.s, self.ell = e / (1 + t), np.log1p(t)
        self.q = t / (1 + t)
        self.l = -self.D - self.ell
        self.Db = (self.s * self.D).sum()
        self.r = x.max() + self.ell
        # Of any base, an exponent D is off by u D (1 + k), and one of l by k u |l| more.
        Db, based = (1 + k) * self.Db, k * np.abs(self.l)
        self.omega = self.D + L * self.ell + Db + P + h + np.abs(self.l)
        self.rho = self.D + Db + 2 * P + h + L * self.ell + np.abs(self.l) + based + 2
        self.B = (1 + k) * self.D + Db + 2 * P + h + 2
        self.Db_k = Db

    def weak(self, key: tuple[str, str, str]) -> Any:
        s, g, h, rho = self.s, self.g, self.h, self.rho
        match key:
            case ("softmax", "value", _):
                return s * self.B
            case ("softmax", "vjp", _):
                c = np.abs(g - (s * g).sum())
                return s * (c * (rho + 2) + (s * np.abs(g) * (rho + h + 2)).sum())
            case ("log_softmax", "value", _):
                return self.omega
            case ("log_softmax", "vjp", _):
                r = np.abs(g - s * g.sum())
                return r + s * (abs(g.sum()) * (rho + 2) + h * np.abs(g).sum())
            case ("logsumexp", "value", _):
                return np.array([abs(self.r) + L * self.ell + self.Db_k + P + h])
            case ("logsumexp", "vjp", _):
                return abs(g) * s * (rho + 1)
            case (_, "value", _):
                t = np.abs(self.target)
                return np.array([(t * (self.omega + (h + 2) * np.abs(self.l))).sum()])
            case (_, "vjp", "x"):
                t, total = np.abs(self.target), self.target.sum()
                r = np.abs(g * (s * total - self.target))
                return 2 * r + abs(g) * s * (abs(total) * (rho + 3) + h * t.sum())
            case _:
                return abs(g) * (self.omega + 2 * np.abs(self.l))

    def strong(self, key: tuple[str, str, str]) -> Any:
        s, g, h, q = self.s, self.g, self.h, self.q
        match key:
            case ("softmax", "value", _):
                return s * self.B
            case ("log_softmax", "value", _):
                return self.D + L * self.ell + self.Db + q * (P + h + 1) + np.abs(self.l)
            case ("logsumexp", "value", _):
                return np.array([abs(self.r) + L * self.ell + self.Db + q * (P + h + 1)])
            case ("softmax", "vjp", _):
                pairs = np.abs(g[:, None] - g) * (self.B[:, None] + self.B + h + 3)
                return s * (s * pairs).sum(axis=1)
        raise KeyError(key)


def random_rows(op: str, fmt: Format, n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, n, fmt.precision])
    count = 30
    x = rng.standard_normal((count, n)) * rng.choice([0.1, 1, 4, 12], (count, 1))
    x += rng.choice([0, 0, 30, -30], (count, 1))
    per_row = ops.get(op).per_row
    g = rng.standard_normal(count if per_row else (count, n))
    target = np.abs(rng.standard_normal((count, n)))
    inputs = {"x": x, "g": g, "target": target, "label": rng.integers(0, n, count)}
    names = (*ops.get(op).inputs, "g")
    return {
        k: v if k == "label" else formats.nearest(fmt, v) for k, v in inputs.items() if k in names
    }


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_the_weak_bound_is_its_closed_form_within_a_factor(
    key: tuple[str, str, str], n: int
) -> None:
    fmt = FORMATS["float64"]
    inputs = random_rows(key[0], fmt, n, 1)
    made = bounds.evaluate(*key, inputs, fmt)
    for name, h, k, bound in (
        ("recursive", n - 1.0, 2.0, made.weak),
        ("pairwise", math.ceil(math.log2(n)), 0.0, made.pairwise),
    ):
        w = bound / np.longdouble(fmt.unit_roundoff)
        for r in range(len(w)):
            closed = Closed({i: v[r] for i, v in inputs.items()}, h, k).weak(key)
            ratio = w[r] / closed
            assert ratio.min() > 0.7, (name, r, ratio)
            assert ratio.max() < 1.02, (name, r, ratio)


STRONG = [k for k in MAPS if k[0] in ("softmax", "log_softmax", "logsumexp") and k not in (
    ("log_softmax", "vjp", "x"), ("logsumexp", "vjp", "x"))]  # fmt: skip


@pytest.mark.parametrize("n", [2, 3, 10, 100])
@pytest.mark.parametrize("key", STRONG, ids="-".join)
def test_the_strong_bound_is_its_closed_form_within_a_factor(
    key: tuple[str, str, str], n: int
) -> None:
    fmt = FORMATS["float64"]
    inputs = random_rows(key[0], fmt, n, 2)
    w = bounds.evaluate(*key, inputs, fmt).strong / np.longdouble(fmt.unit_roundoff)
    for r in range(len(w)):
        closed = Closed({k: v[r] for k, v in inputs.items()}, math.ceil(math.log2(n))).strong(key)
        ratio = w[r] / closed
        # Below where t, the sum without the maximum, is small: the closed forms charge all of S.
        assert ratio.min() > 0.15, (r, ratio)
        assert ratio.max() < 1.6, (r, ratio)


# ---------------------------------------------------------------- the rules of the arithmetic


def test_every_rule_by_hand() -> None:
    c = Constants(2.0**-24, 2.0**-126)
    a = BoundArithmetic(c)
    x, y = (np.array([[v]], float) for v in (3.0, -2.0))
    p = a.difference(x, np.array([[1.0]]))  # 2 +- 2u
    q = a.exact(y)
    assert [v.item() for v in ((p + q).v, (p + q).e, (p * q).e, (p / q).e)] == [0, 2, 8, 3]
    assert (-p).e.item() == 2
    e = a.exp(p)
    assert e.e.item() == pytest.approx(math.exp(2) * 6)
    assert a.log(e).e.item() == pytest.approx(6 + 5 * 2)
    assert a.log1p(p).e.item() == pytest.approx(2 / 3 + 5 * math.log(3))
    assert a.expm1(p).e.item() == pytest.approx(math.exp(2) * 2 + 4 * math.expm1(2))
    assert a.phi(p).e.item() == pytest.approx(math.expm1(2) * 2 + 4 * (math.expm1(2) - 2))
    row = a.exact(np.array([[1.0, -2.0, 4.0]]))
    assert a.sum(row).e.item() == 2 * 7
    assert BoundArithmetic(Constants(2.0**-24, 2.0**-126, recursive=True)).sum(row).e.item() == 14
    assert BoundArithmetic(c.magnitude()).sum(row).e.item() == 0
    worse = a.worse(p, a.exact(np.array([[2.0]])))
    assert (worse.v.item(), worse.e.item()) == (2, 2)


def test_underflow_is_charged_where_a_result_can_underflow_and_nowhere_else() -> None:
    a = BoundArithmetic(Constants(2.0**-24, 2.0**-126))
    normal, tiny, zero = (a.exact(np.array([[v]])) for v in (1.0, 2.0**-100, 0.0))
    assert (normal * tiny).y.item() == 0
    assert (tiny * tiny).y.item() == 1
    assert (zero * tiny).y.item() == 0
    assert (tiny * tiny / tiny).y.item() == 2.0**100
    assert a.exp(a.exact(np.array([[-100.0]]))).y.item() == 1
    assert a.exp(a.exact(np.array([[-80.0]]))).y.item() == 0
    assert a.exp(a.exact(np.array([[-1e300]]))).y.item() == 1  # 0 in long double
    assert a.log1p(tiny * tiny).y.item() == pytest.approx(2)


def test_the_error_of_exp_grows_exponentially_in_narrow_formats() -> None:
    u = 2.0**-8
    linear, exact = (
        BoundArithmetic(Constants(u, 2.0**-126, exact_exp=flag)) for flag in (False, True)
    )
    x, m = np.array([[-66.25]]), np.array([[0.0]])
    errors = [a.exp(a.difference(x, m)).e.item() / math.exp(-66.25) for a in (linear, exact)]
    assert errors[0] == pytest.approx(70.25)
    assert errors[1] == pytest.approx(math.expm1(70.25 * u) / u)
    assert bounds.constants(FORMATS["bfloat16"])["weak"].exact_exp
    assert not bounds.constants(FORMATS["float32"])["weak"].exact_exp


@pytest.mark.parametrize("name", FORMATS)
def test_summation_is_recursive_in_wide_formats_only(name: str) -> None:
    used = bounds.constants(FORMATS[name])
    wide = name in ("float64", "float32")
    assert used["weak"].summation(1000) == (999 if wide else 10)
    assert used["pairwise"].summation(1000) == used["strong"].summation(1000) == 10
    assert used["magnitude"].summation(1000) == 0
    assert used["strong"].unit_roundoff == min(2.0**-24, FORMATS[name].unit_roundoff)


# ---------------------------------------------------------------- sound implementations


class Emulated:
    """NumPy as if it had the format: float64 inside one operation, one rounding after it."""

    def __init__(self, fmt: Format, *, pairwise: bool) -> None:
        self.fmt, self.pairwise = fmt, pairwise

    def r(self, v: Any) -> Any:
        rounded = formats.nearest(self.fmt, v)
        if self.fmt.has_infinity:
            return rounded
        largest = self.fmt.max_finite  # saturating, as is usual where there is no infinity
        return np.where(np.isnan(rounded), np.clip(v, -largest, largest), rounded)

    def sum(self, v: Any) -> Any:
        """Along the last axis, kept with length 1."""
        if self.pairwise:
            while v.shape[-1] > 1:
                if v.shape[-1] % 2:
                    v = np.concatenate([v, np.zeros_like(v[..., :1])], -1)
                v = self.r(v[..., ::2] + v[..., 1::2])
            return v
        total = v[..., :1]
        for k in range(1, v.shape[-1]):
            total = self.r(total + v[..., k : k + 1])
        return total

    def exp(self, v: Any) -> Any:
        return self.r(np.exp(v))

    def log(self, v: Any) -> Any:
        return self.r(np.log(v))

    def shifted(self, x: Any) -> Any:
        m = x.max(axis=-1, keepdims=True)
        d = self.r(x - m)
        e = self.exp(d)
        return m, d, e, self.sum(e)

    def softmax(self, x: Any) -> Any:
        _, _, e, total = self.shifted(x)
        return self.r(e / total)

    def log_softmax(self, x: Any) -> Any:
        _, d, _, total = self.shifted(x)
        return self.r(d - self.log(total))

    def logsumexp(self, x: Any) -> Any:
        m, _, _, total = self.shifted(x)
        return self.r(m + self.log(total))

    def tail(self, x: Any) -> Any:
        """(m, d, e, t): the sum without the first maximum."""
        m, d, e, _ = self.shifted(x)
        top = np.arange(x.shape[-1]) == np.argmax(x, axis=-1)[:, None]
        return m, d, e, self.sum(np.where(top, 0.0, e))

    def answer(self, key: tuple[str, str, str], inputs: dict[str, Any], route: str) -> Any:
        """Textbook (softmax inside a gradient by e / S or by exp(l)), or the log1p forms."""
        r, x = self.r, inputs["x"]
        g = inputs["g"].reshape(len(x), -1)
        t = inputs.get("target")
        if "label" in inputs:
            t = np.eye(x.shape[1])[inputs["label"]]
        if route == "log1p":
            m, d, _, rest = self.tail(x)
            log_total = r(np.log1p(rest))
            l, lse = r(d - log_total), r(m + log_total)  # noqa: E741
        else:
            l, lse = self.log_softmax(x), self.logsumexp(x)  # noqa: E741
        s = self.exp(l) if route == "exp(l)" else self.softmax(x)
        match key:
            case ("softmax", "value", _):
                return s
            case ("softmax", "vjp", _):
                return r(s * r(g - self.sum(r(s * g))))
            case ("log_softmax", "value", _):
                return l
            case ("log_softmax", "vjp", _):
                return r(g - r(s * self.sum(g)))
            case ("logsumexp", "value", _):
                return lse
            case ("logsumexp", "vjp", _):
                return r(g * s)
            case (_, "value", _):
                return -self.sum(np.where(t == 0, 0.0, r(np.where(t == 0, 0.0, t * l))))
            case (_, "vjp", "x"):
                return r(g * r(r(s * self.sum(t)) - t))
            case _:
                return r(-g * l)


def hard_rows(op: str, fmt: Format, n: int) -> dict[str, Any]:
    found = []
    for family in cases.FAMILIES:
        made = cases.make(family, op, fmt.name, n, seed=3, limit=16)
        found += [c for c in made if np.isfinite(c.inputs["x"]).all()]
    if "cross_entropy" in op:
        # An l that overflows the format makes t l and g l infinite however small t and g are.
        found = [c for c in found if np.ptp(c.inputs["x"]) <= fmt.max_finite]
    return dict(cases.stack(found))


def worst_ratio(
    key: tuple[str, str, str], fmt: Format, inputs: dict[str, Any], result: Any, which: str
) -> tuple[float, int]:
    refs = oracle.evaluate(*key, inputs, fmt)
    bound = getattr(bounds.evaluate(*key, inputs, fmt), which)
    ratio = metrics.errors(result, refs).ratio(bound)
    ratio = np.where(refs.finite & np.isfinite(refs.rounded()), ratio, 0.0)
    return float(ratio.max()), int(np.argmax(ratio.max(axis=1)))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_textbook_implementations_that_round_every_step_are_within_weak(
    key: tuple[str, str, str], name: str
) -> None:
    fmt = FORMATS[name]
    for n in (1, 2, 5, 33):
        inputs = hard_rows(key[0], fmt, n)
        for route in ("e/S", "exp(l)"):
            if route == "exp(l)" and (key[1] == "value" or key == ("softmax", "value", "-")):
                continue
            with np.errstate(all="ignore"):
                result = Emulated(fmt, pairwise=fmt.is_narrow).answer(key, inputs, route)
            ratio, row = worst_ratio(key, fmt, inputs, result, "weak")
            assert ratio <= 1.01, (n, route, ratio, inputs["x"][row], inputs["g"][row])


STRONG_VALUES = [("log_softmax", "value", "-"), ("logsumexp", "value", "-"),
                 ("sparse_softmax_cross_entropy", "value", "-"),
                 ("softmax_cross_entropy", "vjp", "target")]  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", STRONG_VALUES, ids="-".join)
def test_log1p_implementations_are_within_strong(key: tuple[str, str, str], name: str) -> None:
    """In narrower formats everything in float32, and one rounding at the end."""
    fmt = FORMATS[name]
    inner = FORMATS["float32"] if fmt.is_narrow else fmt
    for n in (1, 2, 5, 33):
        inputs = hard_rows(key[0], fmt, n)
        with np.errstate(all="ignore"):
            result = Emulated(inner, pairwise=True).answer(key, inputs, "log1p")
        ratio, row = worst_ratio(key, fmt, inputs, formats.nearest(fmt, result), "strong")
        assert ratio <= 1.01, (n, ratio, inputs["x"][row], inputs["g"][row])


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16", "float16"])
def test_a_log_softmax_that_loses_the_tail_is_within_weak_but_breaks_strong(name: str) -> None:
    fmt, key = FORMATS[name], ("log_softmax", "value", "-")
    gap = fmt.precision * math.log(2) + 3
    inputs = {"x": formats.nearest(fmt, np.array([[0.0, -gap], [-gap, 0.0]]))}
    result = Emulated(fmt, pairwise=True).answer(key, {**inputs, "g": np.ones((2, 2))}, "e/S")
    assert (result.max(axis=1) == 0).all()
    assert worst_ratio(key, fmt, inputs, result, "weak")[0] <= 1
    assert worst_ratio(key, fmt, inputs, result, "strong")[0] > 10


def test_bounds_of_exact_rows_are_small_and_finite() -> None:
    inf = np.inf
    inputs = {"x": np.array([[0.0, inf], [-inf, -inf], [np.nan, 0.0], [1.0, -inf]])}
    made = bounds.evaluate("softmax", "value", "-", inputs, FORMATS["float32"])
    for bound in (made.weak, made.pairwise, made.strong):
        assert np.isfinite(bound).all()
        assert (bound < 1e-5).all()
        assert (bound > 0).all()
    joined = bounds.join([made, made[[0]]])
    assert joined.weak.shape == (5, 2)
    assert joined.strong[4, 0] == made.strong[0, 0]


def test_a_flushing_implementation_is_allowed_the_smallest_normal() -> None:
    fmt = FORMATS["float32"]
    inputs = {"x": np.array([[0.0, -95.0]])}
    gradual = bounds.evaluate("softmax", "value", "-", inputs, fmt).weak[0, 1]
    flushing = bounds.evaluate("softmax", "value", "-", inputs, fmt, flushes=True).weak[0, 1]
    assert gradual < 1e-41 < 2.0**-126 <= flushing < 2.0**-124


@pytest.mark.parametrize("op", ops.OPS)
def test_inputs_that_a_map_does_not_take_change_no_bound(op: str) -> None:
    """Cases come with a cotangent and all tangents; rows with infinities count what they see."""
    fmt, definition = FORMATS["float32"], ops.get(op)
    rows = cases.stack(cases.make("infinity_lattice", op, fmt.name, 3, limit=40))
    for derivative, argument in definition.maps:
        taken = {name: rows[name] for name in definition.needs(derivative, argument)}
        every, few = (
            bounds.evaluate(op, derivative, argument, given, fmt) for given in (rows, taken)
        )
        for name in ("weak", "pairwise", "strong", "magnitude", "roundoff"):
            np.testing.assert_array_equal(getattr(every, name), getattr(few, name))
