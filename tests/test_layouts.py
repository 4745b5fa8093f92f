"""Layouts: the same numbers at other addresses, in the frameworks that have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.cells import Cell
from conformance.concerns.arranged import rows_of
from conformance.execution.executor import Executor
from conformance.execution.inprocess import InProcessExecutor
from conformance.execution.protocol import Raised, Request, Result
from conformance.execution.wire import request_from, request_header
from conformance.frameworks import get_framework
from conformance.frameworks.layouts import (
    BACKWARDS,
    STRIDED,
    TRANSPOSED,
    aligned_copy,
    laid_out,
    stored,
)
from conformance.registry import FRAMEWORKS, load_builtin
from reference import arrangements, formats

DTYPES = [formats.get(name).dtype for name in ("float64", "float32", "bfloat16", "float16")]
ROWS = np.repeat(np.arange(5.0)[None], 4, axis=0)


@pytest.mark.parametrize("layout", STRIDED)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_numbers_are_the_same_and_lie_elsewhere(layout: str, dtype: Any) -> None:
    for array in (ROWS.astype(dtype), np.ones(3, dtype), np.ones((2, 1, 3), dtype)):
        view = laid_out(array, layout)
        assert view.shape == array.shape
        assert view.dtype == array.dtype
        assert view.tobytes() == array.tobytes()
        assert not np.shares_memory(view, array)
        assert view.flags.writeable


def test_how_each_of_them_lies() -> None:
    size = ROWS.itemsize
    strides = {layout: laid_out(ROWS, layout).strides for layout in STRIDED}
    assert strides == {
        "offset_1": (5 * size, size),
        "offset_3": (5 * size, size),
        "columns": (size, 4 * size),
        "strided": (10 * size, 2 * size),
        "padded": (8 * size, size),
        "broadcast": (0, size),
        BACKWARDS: (-5 * size, -size),
    }
    for offset in (0, 1, 3):
        assert aligned_copy(ROWS, offset).ctypes.data % 64 == offset * size


def test_what_lies_between_the_numbers_is_nan() -> None:
    view = laid_out(ROWS, "strided")
    base = np.lib.stride_tricks.as_strided(view, (4, 9), (10 * 8, 8))
    assert np.isnan(base[:, 1::2]).all()
    labels = laid_out(np.zeros((2, 2), np.int64), "strided")
    assert np.lib.stride_tricks.as_strided(labels, (2, 3), (32, 8))[:, 1].all()


def test_rows_that_differ_cannot_be_broadcast() -> None:
    with pytest.raises(ValueError, match="cannot lie broadcast"):
        laid_out(np.arange(6.0).reshape(2, 3), "broadcast")
    with pytest.raises(ValueError, match="no layout"):
        laid_out(ROWS, "diagonal")


def test_a_request_travels_with_its_layout() -> None:
    sent = Request("mine", "softmax", "value", "-", "float32", "eager", {}, layout="strided")
    back = request_from(request_header(sent), {})
    assert back.layout == "strided"
    assert back.function == sent.function
    assert stored(ROWS, TRANSPOSED).shape == (5, 4)
    assert stored(ROWS, "") is ROWS


NAMES = {
    "numpy": "conformance.numpy.softmax",
    "torch": "torch.nn.functional.softmax",
    "tensorflow": "tensorflow.nn.softmax",
    "jax": "jax.nn.softmax",
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_framework_answers_in_its_layouts(framework: str) -> None:
    entry = load_builtin()[NAMES[framework]]
    known = get_framework(framework)
    mode = "eager" if known.layouts != (TRANSPOSED,) else known.modes[1]
    with Executor(framework) as executor:
        for dtype in ("float32", "bfloat16"):
            fmt = formats.get(dtype)
            cell = Cell("invariance", entry.name, "value", "-", dtype, mode, "cpu", "default",
                        "layouts")  # fmt: skip
            for each in arrangements.make("layouts", "softmax", dtype):
                if each.name not in known.layouts:
                    continue
                sent = rows_of(cell, entry, fmt, each.inputs, layout=each.name)
                answer, plain = executor.call(sent), executor.call(replace(sent, layout=""))
                assert isinstance(plain, Result)
                assert isinstance(answer, Result), (each.name, answer)
                assert answer.breaches == ()
                assert answer.out.shape == plain.out.shape
                values = [np.asarray(a.out).astype(np.float64) for a in (answer, plain)]
                assert np.allclose(*values, rtol=1e-2), each.name


def test_what_a_framework_has_not_is_our_own_fault() -> None:
    load_builtin()
    x = np.zeros((2, 3), np.float32)
    request = Request("jax.nn.softmax", "softmax", "value", "-", "float32", "eager", {"x": x},
                      layout="strided")  # fmt: skip
    answer = InProcessExecutor("jax").call(request)
    assert isinstance(answer, Raised)
    assert answer.kind == "harness"
