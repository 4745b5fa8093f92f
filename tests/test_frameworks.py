"""Arrays go through every framework bit for bit, and derivatives come out of every mode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from conformance.execution.executor import Executor, Raised, Request, Result, numpy_dtype
from conformance.frameworks import get_framework, installed_version
from conformance.frameworks.base import array_names
from conformance.registry import FRAMEWORKS, OPS, load_builtin
from reference import formats, ops, oracle

FLOAT64 = formats.get("float64")

FORMATS = ("float64", "float32", "bfloat16", "float16")
INTEGERS = {8: np.uint64, 4: np.uint32, 2: np.uint16}


class Executors:
    """Executors by framework and context, started when first asked for."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], Executor] = {}

    def __call__(self, framework: str, dtype: str) -> Executor:
        if installed_version(framework) is None:
            pytest.skip(f"{framework} is not installed")
        key = framework, get_framework(framework).context_for(dtype)
        if key not in self._open:
            self._open[key] = Executor(*key)
        return self._open[key]

    def close(self) -> None:
        for executor in self._open.values():
            executor.close()


@pytest.fixture(scope="module")
def executors() -> Iterator[Executors]:
    opened = Executors()
    yield opened
    opened.close()


def bit_patterns(dtype: str) -> np.ndarray[Any, Any]:
    """All of a 16-bit format; of a wider one its corners and a random sample of all bits."""
    kind = numpy_dtype(dtype)
    integer = INTEGERS[kind.itemsize]
    if kind.itemsize == 2:
        bits = np.arange(1 << 16, dtype=integer)
    else:
        width = 8 * kind.itemsize
        fraction = {"float32": 23, "float64": 52}[dtype]
        one = 1
        exponent = ((one << (width - 1 - fraction)) - 1) << fraction
        quiet = one << (fraction - 1)
        corners = [
            0,
            1,
            2,
            (one << fraction) - 1,  # zero, the smallest and the largest subnormal
            one << fraction,
            exponent - 1,
            exponent,  # smallest normal, largest, infinity
            exponent | quiet,
            exponent | 1,
            exponent | (quiet - 1),  # quiet and signalling NaN
            exponent | quiet | 0x1234,
            exponent | ((one << fraction) - 1),
        ]
        sign = one << (width - 1)
        rng = np.random.default_rng(7)
        sample = rng.integers(0, 1 << 63, 4096, dtype=np.uint64) >> np.uint64(64 - width)
        sample = np.concatenate([sample, sample | np.uint64(sign)]).astype(integer)
        bits = np.concatenate(
            [np.array(corners + [c | sign for c in corners], dtype=integer), sample]
        )
        bits = np.resize(bits, (len(bits) // 8 + 1) * 8)
    return bits.view(kind).reshape(8, -1)


def ask(
    executor: Executor,
    name: str,
    derivative: str,
    argument: str,
    dtype: str,
    mode: str,
    arrays: dict[str, np.ndarray[Any, Any]],
) -> Result:
    op = load_builtin()[name].op
    answer = executor.call(Request(name, op, derivative, argument, dtype, mode, arrays))
    assert isinstance(answer, Result), answer
    assert answer.leaks == ()
    assert answer.breaches == ()
    return answer


EXCHANGES = [
    pytest.param(framework, mode, dtype, id=f"{framework}-{mode}-{dtype}")
    for framework in FRAMEWORKS
    for mode in get_framework(framework).modes
    # Compilers may do to an identity what they like; what must be exact is the exchange.
    if mode == "eager"
    for dtype in FORMATS
]


@pytest.mark.parametrize(("framework", "mode", "dtype"), EXCHANGES)
def test_every_bit_survives_the_way_in_and_out(
    executors: Executors, framework: str, mode: str, dtype: str
) -> None:
    """NaN payloads, subnormals and the sign of zero included; the inputs are compared too."""
    answer = bit_patterns(dtype)
    result = ask(
        executors(framework, dtype),
        f"conformance.control.{framework}.softmax",
        "value",
        "-",
        dtype,
        mode,
        {"x": answer, "answer": answer},
    )
    assert result.out.dtype == answer.dtype
    assert result.out.tobytes() == answer.tobytes()


COMPILED = [
    pytest.param(framework, mode, dtype, id=f"{framework}-{mode}-{dtype}")
    for framework in FRAMEWORKS
    for mode in get_framework(framework).modes
    if mode != "eager"
    for dtype in FORMATS
]


@pytest.mark.parametrize(("framework", "mode", "dtype"), COMPILED)
def test_a_control_is_bit_equal_in_every_mode(
    executors: Executors, framework: str, mode: str, dtype: str
) -> None:
    """Everything but the payload of a NaN, which no compiler promises."""
    answer = bit_patterns(dtype)
    result = ask(
        executors(framework, dtype),
        f"conformance.control.{framework}.softmax",
        "vjp",
        "x",
        dtype,
        mode,
        {"x": answer, "g": answer, "answer": answer},
    )
    integer = INTEGERS[answer.itemsize]
    with np.errstate(invalid="ignore"):  # ml_dtypes warns of signalling NaNs
        nan = np.isnan(answer)
        assert np.array_equal(np.isnan(result.out), nan)
    assert np.array_equal(result.out.view(integer)[~nan], answer.view(integer)[~nan])


# --- values and derivatives -----------------------------------------------------------------

X = np.array([[0.5, 1.5, 0.125], [2.25, -1.5, 1.75]])
# Each row sums to 1: TensorFlow documents nothing else, and its gradient is s - t (a deviation).
TARGET = np.array([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
LABEL = np.array([1, 2])


SECOND = np.array([[-0.5, 0.25, 1.0], [1.5, -0.75, 0.5]])
WEIGHT = np.array([[1.0, 2.0, 0.5], [0.25, 1.0, 4.0]])
MASK = np.array([[True, False, True], [True, True, True]])
TANGENT = np.array([[1.0, -0.5, 0.25], [0.5, 2.0, -1.0]])
COTANGENT = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]])

SUBJECTS = [
    pytest.param(entry.name, mode, id=f"{entry.name}-{mode}")
    for entry in load_builtin().values()
    if entry.role == "subject"
    for mode in get_framework(entry.framework).modes
    if mode != "compiled" or entry.framework == "jax" or entry.op == "softmax_cross_entropy"
]
TOLERANCE = {"float64": 1e-14, "float32": 1e-5, "bfloat16": 0.06, "float16": 0.008}
NO_SECOND_DERIVATIVE = (
    "tensorflow.nn.softmax_cross_entropy_with_logits",
    "keras.ops.categorical_crossentropy",
    "keras.losses.CategoricalCrossentropy",
)


def is_lost(name: str, mode: str, derivative: str, argument: str) -> bool:
    """Where the deviation tensorflow-cross-entropy-second-derivative gives zeros."""
    lost = "target.x" if mode == "session" else "x.target"
    return name in NO_SECOND_DERIVATIVE and (derivative, argument) == ("hvp", lost)


@pytest.mark.parametrize(("name", "mode"), SUBJECTS)
def test_subjects_compute_their_op_and_its_derivatives(
    executors: Executors, name: str, mode: str
) -> None:
    """Where the inputs are exact in every dtype, up to that dtype's digits."""
    entry = load_builtin()[name]
    if missing := entry.missing_requirements():
        pytest.skip(f"{missing[0]} is not installed")
    framework = get_framework(entry.framework)
    signature = OPS[entry.op]
    every = {"x": X, "y": SECOND, "target": TARGET, "label": LABEL, "mask": MASK,
             "pos_weight": WEIGHT, "g": COTANGENT if signature.keeps_axis else COTANGENT[:, 0],
             **{f"v_{n}": TANGENT for n in signature.differentiable}}  # fmt: skip
    asked = 0
    for dtype in FORMATS if mode == "eager" else ("float32",):
        for derivative, argument in ops.get(entry.op).maps:
            if framework.unsupported_reason(entry, derivative, argument, dtype, mode):
                continue
            needed = {n: every[n] for n in array_names(entry, derivative, argument)}
            arrays = {
                n: a if a.dtype.kind in "ib" else a.astype(numpy_dtype(dtype))
                for n, a in needed.items()
            }
            answer = executors(entry.framework, dtype).call(
                Request(name, entry.op, derivative, argument, dtype, mode, arrays)
            )
            if isinstance(answer, Raised) and answer.kind == "unsupported":
                continue
            assert isinstance(answer, Result), (derivative, argument, dtype, answer)
            assert (answer.leaks, answer.breaches) == ((), ())
            exact = oracle.evaluate(entry.op, derivative, argument, needed, FLOAT64).rounded()
            assert answer.out.dtype == numpy_dtype(dtype)
            if is_lost(name, mode, derivative, argument):
                assert exact.all()
                assert not answer.out.any()
                continue
            expected = exact[:, 0] if signature.is_per_row(derivative) else exact
            np.testing.assert_allclose(
                answer.out.astype(np.float64), expected, rtol=0, atol=TOLERANCE[dtype],
                err_msg=f"{derivative} {argument} {dtype}",
            )  # fmt: skip
            asked += 1
    assert asked


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_any_axis_works(executors: Executors, framework: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    label = rng.integers(0, 5, size=(2, 3))
    every = {"x": x, "target": np.full_like(x, 0.25), "label": label, "y": x[::-1] / 2,
             "mask": x > -1}  # fmt: skip
    for entry in load_builtin().values():
        if entry.framework != framework or entry.role != "subject":
            continue
        if not OPS[entry.op].has_axis:
            continue
        if entry.missing_requirements():
            continue
        arrays = {n: every[n] for n in entry.inputs}
        last = {n: np.moveaxis(a, 1, -1) if a.ndim == 3 else a for n, a in arrays.items()}
        outs = []
        for axis, given in ((1, arrays), (-1, last)):
            answer = executors(framework, "float32").call(
                Request(entry.name, entry.op, "value", "-", "float32", "eager", given, axis)
            )
            assert isinstance(answer, Result), answer
            outs.append(answer.out)
        middle = np.moveaxis(outs[0], 1, -1) if outs[0].ndim == 3 else outs[0]
        np.testing.assert_allclose(middle, outs[1], rtol=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_mutants_are_wrong_where_they_say(executors: Executors, framework: str) -> None:
    executor = executors(framework, "float32")
    high = np.array([[100.0, 101.0]], np.float32)
    overflowing = ask(
        executor,
        f"mutant.{framework}.unshifted_softmax",
        "value",
        "-",
        "float32",
        "eager",
        {"x": high},
    )
    assert np.isnan(overflowing.out).any()
    target = np.array([[0.5, 1.0, 0.25], [0.0, 0.0, 2.0]])
    arrays = {"x": X.astype(np.float32), "target": target.astype(np.float32)}
    g = np.array([0.5, 2.0], np.float32)
    name = f"mutant.{framework}.softmax_minus_target"
    value = ask(executor, name, "value", "-", "float32", "eager", arrays)
    gradient = ask(executor, name, "vjp", "x", "float32", "eager", {**arrays, "g": g})
    s = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
    np.testing.assert_allclose(value.out, -(target * np.log(s)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(gradient.out, g[:, None] * (s - target), rtol=1e-4)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_executor_computes_with_one_thread(executors: Executors, framework: str) -> None:
    from conformance.execution.protocol import Hello

    hello = executors(framework, "float32").start()
    assert isinstance(hello, Hello)
    threads = {name: text for name, text in hello.state.items() if "threads" in name}
    assert set(threads.values()) <= {"1"}
    assert hello.state["subnormals"] == "kept"
    assert hello.versions[framework] == installed_version(framework)


def test_compiling_leaves_the_child_as_it_was(executors: Executors) -> None:
    """torch.compile raises the recursion limit for good; each call used to cost a new child."""
    executor = executors("torch", "float32")
    executor.start()
    before = executor.starts
    arrays = {"x": np.zeros((3, 5), np.float32)}
    for name in ("torch.nn.functional.softmax", "torch.nn.functional.log_softmax"):
        ask(executor, name, "value", "-", "float32", "compiled", arrays)
    assert executor.starts == before


def test_compilation_is_timed_apart(executors: Executors) -> None:
    executor = executors("jax", "float32")
    arrays = {"x": np.zeros((2, 41), np.float32)}
    name = "jax.nn.softmax"
    first = ask(executor, name, "value", "-", "float32", "compiled", arrays)
    second = ask(executor, name, "value", "-", "float32", "compiled", arrays)
    assert first.compile_seconds > 0
    assert second.compile_seconds == 0
    assert first.seconds < first.compile_seconds


def test_a_label_that_does_not_fit_is_our_own_error_and_not_another_label(
    executors: Executors,
) -> None:
    from conformance.execution.protocol import Raised

    arrays = {"x": np.zeros((1, 3), np.float32), "label": np.array([2**40])}
    answer = executors("jax", "float32").call(
        Request(
            "jax.nn.log_softmax.gather",
            "sparse_softmax_cross_entropy",
            "value",
            "-",
            "float32",
            "eager",
            arrays,
        )
    )
    assert isinstance(answer, Raised)
    assert answer.kind == "harness"


def test_a_session_leaves_eager_mode_as_it_is(executors: Executors) -> None:
    executor = executors("tensorflow", "float32")
    x = np.array([[0.1, 0.3, 0.5, 0.9]], np.float32)

    def ask(mode: str) -> Result:
        answer = executor.call(
            Request("tensorflow.nn.softmax", "softmax", "value", "-", "float32", mode, {"x": x})
        )
        assert isinstance(answer, Result)
        assert answer.leaks == ()
        return answer

    before, session, after = ask("eager"), ask("session"), ask("eager")
    assert before.out.tobytes() == after.out.tobytes()
    # The graph has the same kernel.
    assert session.out.tobytes() == before.out.tobytes()
