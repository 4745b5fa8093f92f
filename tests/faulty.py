"""Requests to `faults`, and what is expected of the answers."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import conformance
from conformance.execution.executor import (
    Crashed,
    Executor,
    Raised,
    Request,
    Result,
)
from conformance.execution.protocol import Answer
from conformance.frameworks import installed_version

FAULTS = str(Path(__file__).with_name("faults.py"))
TRIGGER = 666.0
ROOT = Path(conformance.__file__).resolve().parent.parent

needs_torch = pytest.mark.skipif(
    installed_version("torch") is None, reason="torch is not installed"
)


def request(name: str, *bad: int, rows: int = 4, n: int = 3, derivative: str = "value") -> Request:
    """A batch for ``fault.NAME`` in which the rows `bad` trigger it."""
    x = np.arange(rows * n, dtype=np.float32).reshape(rows, n) / 7
    x[list(bad), 0] = TRIGGER
    arrays = {"x": x} if derivative == "value" else {"x": x, "g": np.ones_like(x)}
    argument = "-" if derivative == "value" else "x"
    return Request(f"fault.{name}", "softmax", derivative, argument, "float32", "eager", arrays)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_gone_soon(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return not is_alive(pid)


def works(executor: Executor) -> bool:
    """Whether a good call still comes back right."""
    asked = request("raises")
    answer = executor.call(asked)
    return isinstance(answer, Result) and np.array_equal(answer.out, 2 * asked.arrays["x"])


def raised(answer: Answer) -> Raised:
    assert isinstance(answer, Raised), answer
    return answer


def crashed(answer: Answer) -> Crashed:
    assert isinstance(answer, Crashed), answer
    return answer
