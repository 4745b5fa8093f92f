"""A plug-in whose every text is made to harm whoever shows it."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance import implementation

EVIL = (
    "<script>alert(1)</script>\"'`|[x](javascript:y)&#x202e;\x1b[31m\x1b]0;title\x07\x9b2J"
    "\r\n::error file=a::b\n# top\n../../../etc/passwd\u202e\u2066"
    "\u200b\u2028\ufeff\U000e0041\u3164"
)
NAME = EVIL.replace("/", "-")
MEGABYTE = EVIL * 5000


def fault(body: Callable[[Any], Any]) -> None:
    """Register under the body's name; it acts on rows of 1000 logits."""

    @implementation(
        op="softmax",
        framework="numpy",
        name=f"hostile.{body.__name__}",
        variant="composition",
        url=f"javascript:{EVIL}",
    )
    def function(x: Any, *, axis: int) -> Any:
        out = np.exp(x - x.max(axis=-1, keepdims=True))
        answer = body(x) if x.shape[-1] == 1000 else None
        return out / out.sum(axis=-1, keepdims=True) if answer is None else answer


@fault
def message(x: Any) -> None:
    raise RuntimeError(MEGABYTE + "\x00\udc80")


@fault
def exception_name(x: Any) -> None:
    raise type(EVIL, (Exception,), {})(EVIL)


@fault
def type_name(x: Any) -> Any:
    return type(MEGABYTE, (), {})()


@fault
def printed(x: Any) -> None:
    print(MEGABYTE)
    warnings.warn(EVIL, stacklevel=2)
    os.write(2, MEGABYTE.encode())
    raise RuntimeError(EVIL)


@fault
def last_words(x: Any) -> None:
    os.write(1, MEGABYTE.encode())
    os.abort()


@fault
def variable(x: Any) -> None:
    os.environ[EVIL.replace("=", "-")] = MEGABYTE[:10_000]


@fault
def thread(x: Any) -> None:
    threading.Thread(target=time.sleep, args=(600,), name=MEGABYTE, daemon=True).start()


@fault
def directory(x: Any) -> None:
    folder = os.path.join(tempfile.gettempdir(), NAME[:60])
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)


@fault
def process_name(x: Any) -> None:
    pid = os.fork()
    if not pid:
        with open("/proc/self/comm", "w") as file:
            file.write("\x1b[31m\n::e\u202e")
        time.sleep(600)
    while open(f"/proc/{pid}/comm").read() == open("/proc/self/comm").read():  # noqa: SIM115
        time.sleep(0.01)


@fault
def switch(x: Any) -> None:
    np.set_printoptions(nanstr=EVIL)
    sys.setswitchinterval(0.01)
