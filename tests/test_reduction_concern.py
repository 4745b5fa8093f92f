"""Cells of concern reduction: planned by content, a call for each situation, judged like others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from commandline import conformance

from conformance import concerns
from conformance.bench import Bench
from conformance.cells import Cell, cells_of
from conformance.concerns import reduction
from conformance.concerns.reduction import RAISES, answerable
from conformance.declarations import RegistrationError, with_options
from conformance.execution.protocol import Answer, Crashed, Raised, Request, Result, TimedOut
from conformance.execution.wire import request_from, request_header
from conformance.plan import make_plan
from conformance.profiles import CONCERNS, PROFILES
from conformance.record import read_record
from conformance.registry import Implementation, implementation, isolated_registry, load_builtin
from conformance.selection import Selection
from reference import formats, reductions, situations

NAME = "conformance.numpy.sparse_softmax_cross_entropy"
SPARSE = "sparse_softmax_cross_entropy"
KEY = f"reduction/{NAME}/%s/float32/eager/cpu/default/%s"
VALUE = KEY % ("value/-", "ignored")

Respond = Callable[[Request, np.ndarray], Answer]


class Fake:
    """An executor that gives the right answer to whatever it is asked, or another one."""

    framework, context = "numpy", "default"

    def __init__(self, respond: Respond, right: Mapping[bytes, np.ndarray]) -> None:
        self.respond, self.right = respond, right
        self.requests: list[Request] = []

    def call(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.respond(request, self.right[_mark(request.arrays, request.options)])

    def close(self) -> None:
        pass


def _mark(arrays: Mapping[str, Any], options: Mapping[str, Any]) -> bytes:
    told = sorted((k, v) for k, v in options.items())
    return repr(told).encode() + b"".join(arrays[k].tobytes() for k in ("x", "label"))


def measured(key: str, respond: Respond) -> tuple[dict[str, Any], Fake]:
    cell = Cell.from_key(key)
    plan = make_plan(load_builtin(), profile="standard", selection=Selection(cell=(key,)))
    fmt = formats.get(cell.dtype)
    right = {}
    for each in situations.make(cell.family, SPARSE, cell.dtype):
        rounded = reductions.evaluate(each, cell.derivative, cell.argument).references.rounded()
        shape = (each.rows, each.n) if cell.derivative == "vjp" else (
            (each.rows,) if each.reduction == "none" else ())  # fmt: skip
        sent = {"x": fmt.cast(each.inputs["x"]), "label": each.inputs["label"]}
        right[_mark(sent, each.options)] = np.asarray(fmt.cast(rounded.reshape(shape)))
    fake = Fake(respond, right)
    bench = Bench(plan, executor=lambda name, context, plugins: fake)
    bench._policies[(cell.implementation, cell.derivative, cell.argument, cell.dtype, cell.mode,
                     cell.context)] = _no_policy()  # fmt: skip
    return bench.measure(cell), fake


def _no_policy() -> Any:
    from reference.metrics import Underflow

    return Underflow("none", 0.0, float("inf"))


def right(request: Request, out: np.ndarray) -> Answer:
    return Result({"out": out})


# --- what is planned --------------------------------------------------------------------------


def test_the_families_of_the_concern_are_those_of_situations() -> None:
    assert set(CONCERNS["reduction"]) == set(situations.FAMILIES)
    assert set(concerns.OWN["reduction"].versions) == set(situations.FAMILIES)


def test_cells_are_for_losses_their_values_and_gradients() -> None:
    entries = load_builtin()
    for entry in entries.values():
        for cell in cells_of(entry, PROFILES["exhaustive"]):
            if cell.concern == "reduction":
                assert entry.op in situations.FAMILIES[cell.family].ops
                assert cell.derivative in ("value", "vjp")
                assert entry.role != "antipattern"


def test_who_lacks_the_parameter_has_no_cell_of_its_family() -> None:
    entry = load_builtin()["torch.nn.functional.log_softmax.gather"]
    families = {c.family for c in cells_of(entry, PROFILES["standard"]) if c.concern == "reduction"}
    assert families == {"labels", "high_labels"}


@pytest.mark.parametrize("framework", ["numpy", "torch", "tensorflow", "jax"])
def test_every_framework_answers_every_family(framework: str) -> None:
    chosen = Selection(framework=(framework,), concern=("reduction",))
    plan = make_plan(load_builtin(), profile="standard", selection=chosen)
    bench = Bench(plan)
    counts: dict[tuple[str, str], int] = {}
    for cell in plan.cells:
        if cell.concern == "reduction" and cell.mode == "eager":
            key = cell.family, plan.entry(cell).role
            counts[key] = max(counts.get(key, 0), len(reduction.REDUCTION.cases(bench, cell)))
    assert {family for family, role in counts if role == "subject"} == set(situations.FAMILIES)
    # torch takes int64 labels only, JAX is asked few
    assert min(counts.values()) >= (4 if framework == "jax" else 5)
    bench.close()


def test_quick_stays_small() -> None:
    plan = make_plan(load_builtin(), profile="quick")
    cells = [c for c in plan.cells if c.concern == "reduction"]
    assert 24 <= len(cells) <= 40
    assert {plan.entry(c).framework for c in cells} == {"numpy", "torch", "tensorflow", "jax"}


def test_labels_that_do_not_fit_do_not_go_to_jax_without_x64() -> None:
    entry = load_builtin()["jax.nn.log_softmax.gather"]
    for fmt, wide in (("float32", False), ("float64", True)):
        made = situations.make("labels", SPARSE, fmt)
        large = [s for s in made if any(abs(int(k)) > 2**31 for k in s.inputs["label"])
                 and s.inputs["label"].dtype.itemsize == 8]  # fmt: skip
        assert large
        assert {answerable(entry, s) for s in large} == {wide}
        ordinary = [s for s in made if s.inputs["label"].dtype == np.int64 and s not in large]
        assert all(answerable(entry, s) for s in ordinary)


# --- how it is judged --------------------------------------------------------------------------


def test_right_answers_pass_and_every_situation_is_one_call() -> None:
    row, fake = measured(VALUE, right)
    assert (row["verdict"], row["breaches"]) == ("pass", [])
    assert row["cases"] == len(fake.requests) == len(situations.make("ignored", SPARSE, "float32"))
    assert row["grade"] == "A+"
    sent = {(r.options["reduction"], r.options["ignore_index"]) for r in fake.requests}
    assert ("mean", -100) in sent
    assert all("g" not in r.arrays for r in fake.requests)


def test_gradients_are_asked_with_a_cotangent_of_the_shape_of_the_loss() -> None:
    row, fake = measured(KEY % ("vjp/x", "weights"), right)
    assert row["verdict"] == "pass"
    assert {r.arrays["g"].ndim for r in fake.requests} == {0, 1}
    with_weight = [r for r in fake.requests if r.keywords == ("weight",)]
    assert with_weight
    assert all(r.arrays["weight"].shape == (r.arrays["x"].shape[1],) for r in with_weight)


def test_nan_from_an_ignored_row_is_a_breach_that_names_it() -> None:
    def leaking(request: Request, out: np.ndarray) -> Answer:
        poisoned = ~np.isfinite(request.arrays["x"]).all(axis=1)
        return Result({"out": np.where(poisoned[:, None], np.float32(np.nan), out)})

    row, _ = measured(KEY % ("vjp/x", "ignored"), leaking)
    assert row["verdict"] == "fail"
    assert {b["kind"] for b in row["breaches"]} == {
        "nan@ignored.nan_input", "nan@ignored.plus_inf", "nan@ignored.minus_inf"
    }  # fmt: skip


def test_zero_for_a_mean_of_nothing_is_a_breach_and_infinity_is_none() -> None:
    def zero(request: Request, out: np.ndarray) -> Answer:
        nothing = bool(np.all(request.arrays["label"] == request.options["ignore_index"]))
        of = request.options["reduction"] == "mean" and nothing
        return Result({"out": np.asarray(np.float32(value)) if of else out})

    value = 0.0
    row, _ = measured(VALUE, zero)
    assert [b["kind"] for b in row["breaches"]] == ["nan@zero_denominator.zero"]
    value = 1.0
    row, _ = measured(VALUE, zero)
    assert [b["kind"] for b in row["breaches"]] == ["nan@zero_denominator"]
    value = np.inf
    row, _ = measured(VALUE, zero)
    assert row["breaches"] == []


LABELS = KEY % ("value/-", "labels")


def _invalid(request: Request) -> bool:
    n = request.arrays["x"].shape[1]
    return any(not 0 <= int(k) < n for k in request.arrays["label"])


def test_raising_on_a_label_without_a_class_is_right_and_a_number_is_not() -> None:
    def raising(request: Request, out: np.ndarray) -> Answer:
        return Raised("IndexError", "out of bounds") if _invalid(request) else right(request, out)

    row, fake = measured(LABELS, raising)
    assert row["verdict"] == "pass"
    assert RAISES in row["flags"]
    assert row["cases"] == len(fake.requests) - sum(map(_invalid, fake.requests))

    row, _ = measured(LABELS, lambda r, out: Result({"out": np.nan_to_num(out, nan=1.5)}))
    assert [b["kind"] for b in row["breaches"]] == ["nan@invalid_label"]


def test_raising_on_a_good_label_is_an_error() -> None:
    def raising(request: Request, out: np.ndarray) -> Answer:
        wide = request.arrays["label"].dtype == np.uint16
        return Raised("TypeError", "no such dtype") if wide else right(request, out)

    row, _ = measured(LABELS, raising)
    assert row["verdict"] == "error"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Crashed("signal", "SIGSEGV", text="killed by SIGSEGV"), "crash"),
        (TimedOut(3.0), "timeout"),
    ],
)
def test_a_crash_is_a_verdict_and_other_situations_keep_theirs(
    answer: Answer, verdict: str
) -> None:
    def once(request: Request, out: np.ndarray) -> Answer:
        return answer if request.options["ignore_index"] == 255 else right(request, out)

    row, _ = measured(VALUE, once)
    assert row["verdict"] == verdict
    assert row["cases"] > 10

    row, fake = measured(VALUE, lambda request, out: answer)
    assert row["verdict"] == verdict
    assert "stopped_early" in row["flags"]
    assert len(fake.requests) < 12


@pytest.mark.parametrize(
    ("respond", "kind"),
    [
        (lambda r, out: Result({"out": out.astype(np.float64)}), "dtype"),
        (lambda r, out: Result({"out": out[..., None]}), "shape"),
        (lambda r, out: Result({"out": out}, leaks=("errstate: a -> b",)), "leak"),
    ],
)
def test_breaches_of_the_call_are_named(respond: Respond, kind: str) -> None:
    row, _ = measured(VALUE, respond)
    assert kind in {b["kind"] for b in row["breaches"]}
    assert row["verdict"] == "fail"


def test_a_mean_over_all_rows_is_caught() -> None:
    plan = make_plan(load_builtin(), profile="quick",
                     selection=Selection(framework=("numpy",), op=(SPARSE,)))  # fmt: skip
    bench = Bench(plan)
    (cell,) = (c for c in plan.cells if c.implementation == "mutant.numpy.mean_of_all_rows")
    row = bench.measure(cell)
    bench.close()
    assert (row["verdict"], row["must_catch"]) == ("fail", True)
    assert "accuracy" in {b["kind"] for b in row["breaches"]}


# --- options on their way -----------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[None]:
    load_builtin()
    with isolated_registry():
        yield


def test_options_reach_the_function_and_arrays_come_as_keywords() -> None:
    def loss(x: Any, label: Any, *, weight: Any, reduction: str, axis: int) -> Any:
        return x, label, weight, reduction, axis

    def vjp(g: Any, x: Any, label: Any, *, weight: Any, reduction: str, axis: int) -> Any:
        return g, x, label, weight, reduction, axis

    entry = Implementation("mine", SPARSE, "numpy", loss, vjp=vjp,
                           parameters=("reduction", "weight"))  # fmt: skip
    bound = with_options(entry, {"reduction": "sum"}, ("weight",))
    assert bound.inputs == ("x", "label", "weight")
    assert bound.function(1, 2, 3, axis=-1) == (1, 2, 3, "sum", -1)
    assert bound.vjp is not None
    assert bound.vjp(0, 1, 2, 3, axis=-1) == (0, 1, 2, 3, "sum", -1)
    assert with_options(entry, {}, ()) is entry


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"parameters": ("temperature",)}, "parameter"),
        ({"parameters": "reduction"}, "tuple of strings"),
        ({"label_dtypes": ("float32",)}, "dtype of labels"),
    ],
)
def test_unknown_parameters_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(RegistrationError, match=text):
        implementation(op=SPARSE, framework="numpy", name="mine.loss", **options)(right)


def test_a_request_travels_with_its_options() -> None:
    options = {"reduction": "mean", "ignore_index": None, "label_smoothing": 0.1}
    sent = Request("mine", SPARSE, "value", "-", "float32", "eager", {}, options=options,
                   keywords=("weight",))  # fmt: skip
    back = request_from(json.loads(json.dumps(request_header(sent))), {})
    assert (back.options, back.keywords) == (options, ("weight",))
    assert back.function == sent.function
    assert hash(sent.function) != hash(request_from(request_header(Request(
        "mine", SPARSE, "value", "-", "float32", "eager", {})), {}).function)  # fmt: skip


# --- end to end -----------------------------------------------------------------------------------

SMALL = ("--framework", "numpy", "--concern", "reduction", "--dtype", "bfloat16")


def test_shards_of_the_concern_merge_to_the_whole(tmp_path: Any) -> None:
    whole = conformance("run", *SMALL, "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    for k in (1, 2):
        part = conformance("run", *SMALL, "--shard", f"{k}/2", "--out", str(tmp_path / f"{k}"))
        assert part.returncode == 0, part.stderr
    merged = conformance("merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out",
                         str(tmp_path / "merged"))  # fmt: skip
    assert merged.returncode == 0, merged.stderr
    rows = [
        {
            r["key"]: (r["verdict"], r["max_ulp"], r["cases"])
            for r in read_record(folder).measurements
        }
        for folder in (tmp_path / "whole", tmp_path / "merged")
    ]
    assert rows[0] == rows[1]
    assert any(key.startswith("reduction/conformance.numpy") for key in rows[0])


def test_explain_recreates_a_situation() -> None:
    case_id = situations.make("weights", SPARSE, "float32")[5].case_id
    ran = conformance("explain", case_id, "--framework", "numpy", "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["options"]["label_smoothing"] == 0.25
    value = next(item for item in told["maps"] if item["derivative"] == "value")
    (answer,) = (a for a in value["answers"] if a["implementation"] == NAME)
    assert np.allclose(answer["result"], value["rounded"])
