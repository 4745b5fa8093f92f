"""NumPy's shifted formulas at the limits, and against the definition in mpmath."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from conformance.execution.executor import numpy_dtype
from conformance.registry import load_builtin

INF, NAN = np.inf, np.nan
FORMATS = ("float64", "float32", "bfloat16", "float16")
DIGITS = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}


def call(op: str, *inputs: Any, dtype: str = "float32") -> np.ndarray[Any, Any]:
    arrays = [_array(value, dtype) for value in inputs]
    out = load_builtin()[f"conformance.numpy.{op}"].function(*arrays, axis=-1)
    assert out.dtype == numpy_dtype(dtype)
    return np.asarray(out, np.float64)


def vjp(
    op: str, argument: str, g: Any, *inputs: Any, dtype: str = "float32"
) -> np.ndarray[Any, Any]:
    function = load_builtin()[f"conformance.numpy.{op}"].vjp
    assert function is not None
    arrays = [_array(value, dtype) for value in inputs]
    out = function(_array(g, dtype), *arrays, axis=-1)[argument]
    assert out.dtype == numpy_dtype(dtype)
    return np.asarray(out, np.float64)


def _array(value: Any, dtype: str) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    return array if array.dtype == np.int64 else array.astype(numpy_dtype(dtype))


LIMITS = [
    # x, softmax, log_softmax, logsumexp
    ([-INF, 0.0, 0.0], [0, 0.5, 0.5], [-INF, -np.log(2), -np.log(2)], np.log(2)),
    ([INF, 0.0, -INF], [1, 0, 0], [0, -INF, -INF], INF),
    ([INF, 0.0, INF], [NAN, 0, NAN], [NAN, -INF, NAN], INF),
    ([-INF, -INF], [NAN, NAN], [NAN, NAN], -INF),
    ([5.0], [1], [0], 5),
    ([INF], [NAN], [NAN], INF),
    ([-INF], [NAN], [NAN], -INF),
    ([0.0, NAN, INF], [NAN] * 3, [NAN] * 3, NAN),
    ([], [], [], -INF),
]


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize(("x", "s", "l", "lse"), LIMITS)
def test_the_limit_table_holds(x: Any, s: Any, l: Any, lse: float, dtype: str) -> None:  # noqa: E741
    """The limits of docs/contract.md; NaN stands where the table says undefined."""
    rows = [x, x]
    tolerance = {"rtol": 2.0 ** (1 - DIGITS[dtype]), "atol": 0.0}
    np.testing.assert_allclose(call("softmax", rows, dtype=dtype), [s, s], **tolerance)
    np.testing.assert_allclose(call("log_softmax", rows, dtype=dtype), [l, l], **tolerance)
    np.testing.assert_allclose(call("logsumexp", rows, dtype=dtype), [lse, lse], **tolerance)


def test_derivatives_are_limits_too() -> None:
    x = [[-INF, 0.0, 0.0], [INF, 0.0, 0.0], [INF, INF, 0.0]]
    g = [[3.0, 1.0, 2.0]] * 3
    np.testing.assert_allclose(
        vjp("softmax", "x", g, x), [[0, -0.25, 0.25], [0, 0, 0], [NAN, NAN, 0]]
    )
    np.testing.assert_allclose(
        vjp("log_softmax", "x", g, x), [[3, -2, -1], [-3, 1, 2], [NAN, NAN, 2]]
    )
    np.testing.assert_allclose(
        vjp("logsumexp", "x", [2.0] * 3, x), [[0, 1, 1], [2, 0, 0], [NAN, NAN, 0]]
    )


def test_a_zero_target_silences_an_infinity_and_no_nan() -> None:
    x = [[-INF, 0.0, 0.0], [-INF, 0.0, 0.0], [INF, 0.0, 0.0], [0.0, NAN, 0.0], [INF, INF, 0.0]]
    t = [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.5]]
    log2 = np.log(2)
    np.testing.assert_allclose(
        call("softmax_cross_entropy", x, t), [log2, INF, 0, NAN, INF], rtol=1e-6
    )
    gradient = vjp("softmax_cross_entropy", "x", [1.0] * 5, x, t)
    np.testing.assert_allclose(gradient[:3], [[0, -0.5, 0.5], [-1, 0.5, 0.5], [0, 0, 0]])
    to_target = vjp("softmax_cross_entropy", "target", [1.0, 0.0], x[:2], t[:2])
    np.testing.assert_allclose(to_target, [[INF, log2, log2], [0, 0, 0]], rtol=1e-6)
    assert vjp("softmax_cross_entropy", "x", [1.0], x[4:], t[4:])[0, 2] == -0.5


def test_sparse_cross_entropy_at_the_limits() -> None:
    x = [[-INF, 0.0, 0.0], [INF, 0.0, 0.0], [INF, 0.0, 0.0], [INF, INF, 0.0], [7.0, -INF, -INF]]
    loss = call("sparse_softmax_cross_entropy", x, np.array([0, 0, 1, 2, 0]))
    np.testing.assert_allclose(loss, [INF, 0, INF, INF, 0])


@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_outside_the_classes_is_the_callers_error(label: int) -> None:
    with pytest.raises(ValueError, match="label"):
        call("sparse_softmax_cross_entropy", [[0.0, 1.0, 2.0]], np.array([label]))


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_finite_row_of_any_range_gives_no_nan(dtype: str) -> None:
    import ml_dtypes

    top = float(ml_dtypes.finfo(numpy_dtype(dtype)).max)
    rows = [[top, -top, 0.0], [-top, -top, top], [top, top, top], [-top, -top, -top]]
    target = [[0.0, 0.25, 0.75], [1.0, -1.0, 1.0], [1.0, 2.0, 0.0], [0.5, 0.25, 0.25]]
    ones = np.ones((4, 3))
    for op in ("softmax", "log_softmax", "logsumexp"):
        assert not np.isnan(call(op, rows, dtype=dtype)).any()
        g = ones[:, 0] if op == "logsumexp" else ones
        assert not np.isnan(vjp(op, "x", g, rows, dtype=dtype)).any()
    loss = call("softmax_cross_entropy", rows, target, dtype=dtype)
    assert not np.isnan(loss).any()
    # 0.25 * 2 max + 0.75 max, although the log-probability itself is beyond the format
    assert loss[0] == np.inf or loss[0] == pytest.approx(1.25 * top)
    assert loss[1] == pytest.approx(0.0, abs=2.0 ** -DIGITS[dtype] * 4 * top)
    for argument in ("x", "target"):
        gradient = vjp("softmax_cross_entropy", argument, ones[:, 0], rows, target, dtype=dtype)
        assert not np.isnan(gradient).any()


def test_a_log_probability_beyond_the_format_times_a_small_weight_is_finite() -> None:
    top = float(np.finfo(np.float32).max)
    np.testing.assert_allclose(
        call("softmax_cross_entropy", [[top, -top]], [[0.0, 0.25]]), [top / 2], rtol=1e-6
    )
    np.testing.assert_allclose(
        vjp("softmax_cross_entropy", "target", [0.25], [[top, -top]], [[0.0, 0.25]]),
        [[0, top / 2]],
        rtol=1e-6,
    )


def test_nothing_is_lost_where_one_class_dominates() -> None:
    """log1p(t) and q keep the digits that log(S) and 1 - s do not have."""
    gap = 60.0
    with mpmath.workprec(200):
        q = float(mpmath.exp(-gap) / (1 + mpmath.exp(-gap)))
        log = float(-mpmath.log1p(mpmath.exp(-gap)))
    row = [[gap, 0.0]]
    label = np.array([0])
    for dtype in ("float64", "float32"):
        close = {"rtol": 8 * 2.0 ** -DIGITS[dtype]}
        np.testing.assert_allclose(call("log_softmax", row, dtype=dtype)[0, 0], log, **close)
        np.testing.assert_allclose(
            call("sparse_softmax_cross_entropy", row, label, dtype=dtype), [-log], **close
        )
        gradient = vjp("sparse_softmax_cross_entropy", "x", [1.0], row, label, dtype=dtype)
        np.testing.assert_allclose(gradient, [[-q, q]], **close)
        gradient = vjp("softmax", "x", [[1.0, 3.0]], row, dtype=dtype)
        np.testing.assert_allclose(gradient, [[-2 * q, 2 * q]], **close)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shift", [0.0, 100.0, -1000.0])
def test_values_agree_with_the_definition(dtype: str, shift: float) -> None:
    """The rows are mild, only the shift is not."""
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(3, 33)) * 3 + shift).astype(numpy_dtype(dtype))
    u = 2.0 ** -DIGITS[dtype]
    with mpmath.workprec(400):
        for row in x:
            exact = [mpmath.mpf(float(value)) for value in row]
            total = mpmath.fsum(mpmath.exp(value) for value in exact)
            s = [float(mpmath.exp(value) / total) for value in exact]
            l = [float(value - mpmath.log(total)) for value in exact]  # noqa: E741
            np.testing.assert_allclose(call("softmax", row, dtype=dtype), s, rtol=40 * u)
            np.testing.assert_allclose(call("log_softmax", row, dtype=dtype), l, rtol=8 * u)
            np.testing.assert_allclose(
                call("logsumexp", row, dtype=dtype), float(mpmath.log(total)), rtol=4 * u
            )


def test_seventy_thousand_equal_float16_logits_are_not_lost() -> None:
    assert call("softmax", np.zeros((1, 70_000)), dtype="float16")[0, 0] == pytest.approx(
        1 / 70_000, rel=0.01
    )


def test_a_single_row_needs_no_batch() -> None:
    x, g = np.array([0.0, 0.0]), np.array(2.0)
    log2 = pytest.approx(np.log(2), rel=1e-6)
    assert call("logsumexp", x).shape == ()
    assert call("softmax_cross_entropy", x, np.array([0.0, 1.0])) == log2
    assert call("sparse_softmax_cross_entropy", x, np.array(1)) == log2
    np.testing.assert_array_equal(vjp("logsumexp", "x", g, x), [1, 1])
    gradient = vjp("sparse_softmax_cross_entropy", "x", g, x, np.array(1))
    np.testing.assert_array_equal(gradient, [1, -1])


def test_empty_batches_are_empty() -> None:
    empty = np.zeros((0, 3))
    assert call("softmax", empty).shape == (0, 3)
    assert call("logsumexp", empty).shape == (0,)
    assert call("softmax_cross_entropy", empty, empty).shape == (0,)
    assert vjp("softmax", "x", empty, empty).shape == (0, 3)
