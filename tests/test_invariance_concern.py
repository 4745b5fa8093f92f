"""Cells of concern invariance: what depends on nothing passes, and every dependence is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from commandline import conformance

from conformance import concerns
from conformance.bench import Bench
from conformance.cells import Cell, cells_of
from conformance.concerns import variants
from conformance.declarations import PROMISES, RegistrationError
from conformance.execution.protocol import Answer, Raised, Request, Result
from conformance.plan import make_plan
from conformance.profiles import CONCERNS, PROFILES
from conformance.registry import FRAMEWORKS, implementation, isolated_registry, load_builtin
from conformance.selection import Selection
from reference import arrangements, cases, formats, oracle
from reference.metrics import Underflow

KEY = "invariance/conformance.numpy.%s/%s/float32/eager/cpu/default/%s"
BATCHES = KEY % ("softmax", "value/-", "batches")
LAYOUTS = KEY % ("softmax", "value/-", "layouts")
SYMMETRIES = KEY % ("softmax", "value/-", "symmetries")

Function = Callable[[Request], np.ndarray]


class Fake:
    """An executor that answers by a function of the request and of its own context."""

    framework = "numpy"

    def __init__(self, respond: Callable[[Request, str], Answer], context: str) -> None:
        self.respond, self.context = respond, context

    def call(self, request: Request) -> Answer:
        return self.respond(request, self.context)

    def close(self) -> None:
        pass


def measured(
    key: str, respond: Callable[[Request, str], Answer], bitwise: Sequence[str] = ()
) -> dict[str, Any]:
    cell = Cell.from_key(key)
    registry = dict(load_builtin())
    entry = registry[cell.implementation]
    registry[cell.implementation] = replace(entry, bitwise=tuple(bitwise))
    plan = make_plan(registry, profile="standard", selection=Selection(cell=(key,)))
    bench = Bench(plan, executor=lambda name, context, plugins: Fake(respond, context))
    bench._policies[(cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
                     cell.context)] = Underflow("none", 0.0, float("inf"))  # fmt: skip
    return bench.measure(cell)


def by(function: Function) -> Callable[[Request, str], Answer]:
    return lambda request, context: Result({"out": function(request)})


def softmax(request: Request) -> np.ndarray:
    x = request.arrays["x"].astype(np.float64)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray((e / e.sum(axis=-1, keepdims=True)).astype(np.float32))


def nudged(out: np.ndarray, ulps: int = 1) -> np.ndarray:
    """Moved down by some ulps."""
    for _ in range(ulps):
        out = np.nextafter(out, np.float32(0))
    return out


def kinds(row: dict[str, Any]) -> set[str]:
    return {b["kind"] for b in row["breaches"]}


# --- what is planned ----------------------------------------------------------------------------


def test_the_families_of_the_concern_are_families_of_arrangements() -> None:
    assert set(CONCERNS["invariance"]) == set(concerns.OWN["invariance"].versions)
    every = set(arrangements.FAMILIES)
    assert every == set(CONCERNS["invariance"]) | set(CONCERNS["contract"])


def test_quick_stays_small() -> None:
    plan = make_plan(load_builtin(), profile="quick")
    cells = [c for c in plan.cells if c.concern == "invariance"]
    by_framework = [plan.entry(c).framework for c in cells]
    assert {f: by_framework.count(f) <= 18 for f in by_framework} == dict.fromkeys(FRAMEWORKS, True)


@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_no_cell_is_planned_that_has_nothing_to_ask(profile: str) -> None:
    plan = make_plan(load_builtin(), profile=profile)
    bench = Bench(plan)
    for cell in plan.cells:
        if cell.concern == "invariance" and cell.dtype == "float32":
            assert concerns.OWN["invariance"].cases(bench, cell), cell.key


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_standard_asks_every_subject_in_every_dtype(framework: str) -> None:
    for entry in load_builtin().values():
        if entry.framework != framework or entry.role != "subject":
            continue
        cells = [c for c in cells_of(entry, PROFILES["standard"]) if c.concern == "invariance"]
        dtypes = {c.dtype for c in cells}
        assert {c.dtype for c in cells if c.family == "batches" and c.mode == "eager"} == dtypes
        assert {c.context for c in cells if c.family == "threads"} <= {"threads=2"}
        assert all((c.mode == "eager") != (c.family == "modes") for c in cells
                   if c.family in ("modes",))  # fmt: skip


# --- what depends on nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("key", [BATCHES, LAYOUTS, SYMMETRIES])
def test_right_answers_pass(key: str) -> None:
    row = measured(key, by(softmax))
    assert (row["verdict"], row["breaches"], row["grade"]) == ("pass", [], "A+")
    assert set(row["flags"]) <= {"permutation_variant", "shift_variant"}


def online(request: Request) -> np.ndarray:
    x = request.arrays["x"]
    m = np.full(x.shape[:-1], -np.inf, np.float32)
    total = np.zeros(x.shape[:-1], np.float32)
    for k in range(x.shape[-1]):
        larger = np.maximum(m, x[..., k])
        total = total * np.exp(m - larger) + np.exp(x[..., k] - larger)
        m = larger
    return np.asarray(np.exp(x - m[..., None]) / total[..., None])


def base_two(request: Request) -> np.ndarray:
    x = request.arrays["x"]
    e = np.exp2((x - x.max(axis=-1, keepdims=True)) * np.float32(np.log2(np.e)))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def chunked(request: Request) -> np.ndarray:
    x = request.arrays["x"]
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    parts = [e[..., k : k + 4].sum(axis=-1, keepdims=True) for k in range(0, x.shape[-1], 4)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return np.asarray(e / total)


@pytest.mark.parametrize("form", [online, base_two, chunked], ids=lambda f: f.__name__)
@pytest.mark.parametrize("key", [BATCHES, LAYOUTS, SYMMETRIES])
def test_no_sound_form_is_accused(form: Function, key: str) -> None:
    with np.errstate(invalid="ignore"):
        row = measured(key, by(form))
    assert row["verdict"] == "pass"
    assert row["grade"] in ("A+", "A", "B")
    # NumPy's own loops differ by the length of what is left of a vector: not for rows alike.
    assert set(row["flags"]) <= {"permutation_variant", "shift_variant", "batch_variant",
                                 "position_variant", "ties_variant"}  # fmt: skip


# --- what depends on something --------------------------------------------------------------------


def leaning(where: Callable[[Request], bool], change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Right but where a request fulfils something."""

    def function(request: Request) -> np.ndarray:
        out = softmax(request)
        return change(out) if where(request) else out

    return by(function)


def _first(request: Request) -> float:
    return float(request.arrays["x"][0, 0])


PLAIN = arrangements.make("batches", "softmax", "float32")[0].inputs["x"]
WAYS = [
    ("batch_variant", BATCHES, lambda r: len(r.arrays["x"]) < 16),
    ("batch_variant", BATCHES, lambda r: bool(np.isnan(r.arrays["x"]).any())),
    ("position_variant", BATCHES, lambda r: _first(r) == PLAIN[-1, 0] != PLAIN[0, 0]),
    ("lane_variant", LAYOUTS, lambda r: r.layout == "offset_3"),
    ("layout_variant", LAYOUTS, lambda r: r.layout == "columns"),
    ("layout_variant", LAYOUTS, lambda r: r.layout == "broadcast"),
    ("layout_variant", LAYOUTS, lambda r: r.layout == "backwards"),
    ("shift_variant", SYMMETRIES, lambda r: bool(r.arrays["x"].max() > 4)),
]
IDS = [f"{k}-{flag}" for k, (flag, *_) in enumerate(WAYS)]


@pytest.mark.parametrize(("flag", "key", "where"), WAYS, ids=IDS)
def test_other_bits_are_a_flag_and_no_breach(flag: str, key: str, where: Any) -> None:
    row = measured(key, leaning(where, nudged))
    assert row["verdict"] == "pass"
    assert flag in row["flags"]


@pytest.mark.parametrize(("flag", "key", "where"), WAYS, ids=IDS)
def test_more_than_the_bounds_is_a_breach(flag: str, key: str, where: Any) -> None:
    row = measured(key, leaning(where, lambda out: np.asarray(out * np.float32(0.999))))
    assert row["verdict"] == "fail"
    assert flag in kinds(row)


@pytest.mark.parametrize(("flag", "key", "where"), WAYS[:-1], ids=IDS[:-1])
def test_other_bits_are_a_breach_where_equal_ones_are_promised(
    flag: str, key: str, where: Any
) -> None:
    row = measured(key, leaning(where, nudged), bitwise=PROMISES)
    assert row["verdict"] == "fail"
    assert kinds(row) == {flag}


def test_repeated_calls_are_compared() -> None:
    answers: list[int] = []

    def drifting(request: Request, context: str) -> Answer:
        answers.append(1)
        out = softmax(request)
        plain = np.array_equal(request.arrays["x"], PLAIN.astype(np.float32))
        return Result({"out": nudged(out) if plain and len(answers) > 1 else out})

    row = measured(BATCHES, drifting)
    assert "repeat_variant" in row["flags"]


def test_a_neighbour_that_is_nan_must_not_leak() -> None:
    def leaking(request: Request) -> np.ndarray:
        x = request.arrays["x"]
        return softmax(request) * np.float32(np.nan if np.isnan(x).any() else 1)

    row = measured(BATCHES, by(leaking))
    assert kinds(row) == {"nan@finite", "batch_variant"}


def test_threads_are_compared_with_one_of_them() -> None:
    key = "invariance/torch.nn.functional.softmax/value/-/float32/eager/cpu/threads=2/threads"

    def respond(request: Request, context: str) -> Answer:
        out = softmax(request)
        return Result({"out": nudged(out) if context == "threads=2" else out})

    row = measured(key, respond)
    assert (row["verdict"], row["flags"]) == ("pass", ["thread_variant"])


def test_compiled_modes_are_compared_with_eager() -> None:
    key = "invariance/torch.nn.functional.softmax/value/-/float32/compiled/cpu/default/modes"

    def respond(request: Request, context: str) -> Answer:
        out = softmax(request)
        return Result({"out": nudged(out) if request.mode == "compiled" else out})

    row = measured(key, respond)
    assert (row["verdict"], row["flags"]) == ("pass", ["mode_variant"])


# --- order, ties, probabilities -----------------------------------------------------------------


def test_equal_logits_and_their_order() -> None:
    def uneven(request: Request) -> np.ndarray:
        out = softmax(request)
        out[..., ::2] = nudged(out[..., ::2], 3)
        return out

    row = measured(SYMMETRIES, by(uneven))
    assert row["verdict"] == "pass"
    assert "ties_variant" in row["flags"]

    def swapped(request: Request) -> np.ndarray:
        x, out = request.arrays["x"], softmax(request)
        for r in range(len(out)):
            least, largest = int(np.argmin(x[r])), int(np.argmax(x[r]))
            out[r, [least, largest]] = out[r, [largest, least]]
        return out

    row = measured(SYMMETRIES, by(swapped))
    assert "order_variant" in kinds(row)


@pytest.mark.parametrize("change", [1.0001, -1.0])
def test_no_probability_lies_outside_0_and_1(change: float) -> None:
    def beyond(request: Request) -> np.ndarray:
        out = softmax(request)
        out[0, 0] = change
        return out

    assert "outside_0_1" in kinds(measured(BATCHES, by(beyond)))


# --- relations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", sorted(oracle.ops.OPS))
@pytest.mark.parametrize(("derivative", "dtype"), [("value", "float64"), ("vjp", "float64")])
def test_what_is_said_to_follow_follows_from_the_definitions(
    op: str, derivative: str, dtype: str
) -> None:
    fmt = formats.get(dtype)
    for argument in {a for d, a in oracle.ops.get(op).maps if d == derivative}:
        for each in arrangements.make("symmetries", op, dtype):
            if each.name == "ordered" or (derivative == "vjp" and each.name == "swapped"):
                continue
            if each.name == "mirrored" and argument == "pos_weight":
                continue
            cell = Cell("invariance", "-", derivative, argument, dtype, "eager", "cpu", "default",
                        each.family)  # fmt: skip
            variant = variants.variant(each, cell)
            assert variant is not None
            own = arrangements.as_cases(each, variant.inputs)
            plain, other = (
                oracle.evaluate(op, derivative, argument, cases.stack(list(rows)), fmt).rounded()
                for rows in (each.cases, own)
            )
            if variant.classes is not None and plain.shape[1] > 1:
                plain = plain[:, variant.classes]
            expected = variant.scale * plain + variant.offset
            assert np.allclose(other, expected, rtol=1e-12, atol=1e-13), (each.name, argument)


# --- declarations, and end to end ---------------------------------------------------------------


def test_only_known_promises_can_be_made() -> None:
    with isolated_registry(), pytest.raises(RegistrationError, match="promise"):
        implementation(op="softmax", framework="numpy", name="mine.softmax",
                       bitwise=("weather",))(softmax)  # fmt: skip


def test_one_that_raises_in_some_layout_is_an_error() -> None:
    def respond(request: Request, context: str) -> Answer:
        if request.layout == "columns":
            return Raised("ValueError", "not contiguous")
        return by(softmax)(request, context)

    row = measured(LAYOUTS, respond)
    assert row["verdict"] == "error"
    assert row["cases"] == 6


def test_numpy_passes_and_its_mutant_is_caught() -> None:
    chosen = Selection(framework=("numpy",), concern=("invariance",))
    plan = make_plan(load_builtin(), profile="quick", selection=chosen)
    bench = Bench(plan)
    rows = [bench.measure(c) for c in plan.cells if c.concern == "invariance"]
    bench.close()
    assert {r["verdict"] for r in rows if r["role"] == "subject"} == {"pass"}
    (mutant,) = (r for r in rows if r["role"] == "mutant")
    assert (mutant["implementation"], mutant["verdict"]) == (
        "mutant.numpy.shared_maximum_softmax", "fail")  # fmt: skip


def test_explain_shows_the_other_way() -> None:
    made = next(a for a in arrangements.make("batches", "logsumexp", "float32")
                if a.name == "reversed")  # fmt: skip
    ran = conformance("explain", made.case_id, "--framework", "numpy", "--json")
    assert ran.returncode == 0, ran.stderr
    value = json.loads(ran.stdout)["maps"][0]
    for answer in value["answers"]:
        assert answer["other"]["flag"] == "position_variant"
        assert np.allclose(np.ravel(answer["other"]["result"])[::-1], answer["result"])
