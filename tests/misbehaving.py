"""A plug-in: a right softmax that crashes, hangs or leaves on rows with an entry above 1e5."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance import implementation

FAULTS: dict[str, Callable[[], Any]] = {
    "segfault": lambda: ctypes.string_at(0),
    "hang_with_gil": lambda: ctypes.PyDLL(None).sleep(3600),  # a PyDLL call keeps the GIL
    "os_exit": lambda: os._exit(7),
}


def _softmax(x: Any) -> Any:
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def _register(name: str, fault: Callable[[], Any]) -> None:
    @implementation(
        op="softmax", framework="numpy", name=f"misbehaving.{name}", variant="composition"
    )
    def softmax(x: Any, *, axis: int) -> Any:
        if (x > 1e5).any():
            fault()
        return _softmax(x)


for _name, _fault in FAULTS.items():
    _register(_name, _fault)


@implementation(
    op="softmax", framework="numpy", name="misbehaving.wrong_dtype", variant="composition"
)
def wrong_dtype(x: Any, *, axis: int) -> Any:
    return _softmax(x).astype(np.float64)


@implementation(
    op="softmax", framework="numpy", name="misbehaving.hostile_text", variant="composition"
)
def hostile_text(x: Any, *, axis: int) -> Any:
    raise RuntimeError("<script>alert(1)</script>\x1b[31m\u202e" + "x" * 100_000)
