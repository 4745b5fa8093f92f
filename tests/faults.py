"""A plug-in of implementations that misbehave, one way each, so that tests read like prose.

Most of them do so only in a row whose first logit is `TRIGGER`, and are the identity elsewhere:
a batch can then have one bad row among good ones.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance import implementation

TRIGGER = 666.0

Function = Callable[..., Any]


def fault(name: str, framework: str = "numpy") -> Callable[[Function], Function]:
    """Register as ``fault.NAME``; the body runs when a row says so, then x is returned."""

    def register(body: Function) -> Function:
        def function(x: Any, *, axis: int) -> Any:
            if bool((x[..., 0] == TRIGGER).any()):
                returned = body(x)
                if returned is not None:
                    return returned
            return x + x

        implementation(
            op="softmax", framework=framework, name=f"fault.{name}", variant="composition"
        )(function)
        return body

    return register


@fault("segfault")
def _(x: Any) -> None:
    ctypes.string_at(0)


@fault("hang_with_gil")
def _(x: Any) -> None:
    ctypes.PyDLL(None).sleep(3600)  # a PyDLL call keeps the GIL


@fault("hang_in_python")
def _(x: Any) -> None:
    while True:
        pass


@fault("hang_and_ignore_signals")
def _(x: Any) -> None:
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


@fault("exit_at_once")
def _(x: Any) -> None:
    os._exit(3)


@fault("sys_exit")
def _(x: Any) -> None:
    sys.exit("leaving")


@fault("keyboard_interrupt")
def _(x: Any) -> None:
    raise KeyboardInterrupt


@fault("raises")
def _(x: Any) -> None:
    raise ValueError("no such luck")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


@fault("raises_unprintable")
def _(x: Any) -> None:
    raise Unprintable


@fault("raises_at_length")
def _(x: Any) -> None:
    raise ValueError("\x1b[31mred\udc80" + "x" * 1_000_000)


@fault("endless_recursion")
def _(x: Any) -> Any:
    def again() -> Any:
        return again()

    return again()


@fault("hogs_memory")
def _(x: Any) -> None:
    kept = []
    while True:
        kept.append(np.ones(1 << 22))
        time.sleep(0.005)


@fault("prints_megabytes")
def _(x: Any) -> None:
    for _ in range(300):
        print("spam " * 2000)
    sys.stdout.flush()
    os.write(2, b"\xff\xfe the end of it\n")


@fault("prints_and_crashes")
def _(x: Any) -> None:
    os.write(1, b"famous last words\n")
    ctypes.string_at(0)


@fault("closes_stdout")
def _(x: Any) -> None:
    sys.stdout.close()
    os.close(2)


@fault("closes_every_pipe")
def _(x: Any) -> None:
    os.closerange(3, 256)
    time.sleep(3600)


@fault("writes_into_the_pipe")
def _(x: Any) -> None:
    for fd in range(3, 64):
        try:
            os.write(fd, b"garbage, and more than a prefix of it\n")
        except OSError:
            continue
    time.sleep(3600)


@fault("leaves_a_grandchild")
def _(x: Any) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    print("grandchild", process.pid, flush=True)
    ctypes.string_at(0)


def daemon() -> int:
    """An orphan in a session of its own, with nothing in its environment; its number."""
    code = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(3600)'], env={}, start_new_session=True,"
        "stdout=subprocess.DEVNULL).pid)"
    )
    started = subprocess.run(
        [sys.executable, "-c", code], env={}, start_new_session=True, check=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    return int(started.stdout)


@fault("leaves_a_daemon")
def _(x: Any) -> None:
    print("daemon", daemon(), tempfile.gettempdir(), flush=True)
    ctypes.string_at(0)


@fault("starts_a_daemon_and_hangs")
def _(x: Any) -> None:
    print("daemon", daemon(), tempfile.gettempdir(), flush=True)
    ctypes.PyDLL(None).sleep(3600)


@fault("leaves_a_marked_process_and_sleeps")
def _(x: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(3600)"], start_new_session=True
    )
    print("daemon", process.pid, tempfile.gettempdir(), flush=True)
    time.sleep(3600)


@fault("plants_a_bomb")
def _(x: Any) -> None:
    """A watchdog in C, of which Python knows nothing, ends the process in a moment."""
    import faulthandler

    faulthandler.dump_traceback_later(0.3, exit=True)


@fault("takes_its_time")
def _(x: Any) -> None:
    time.sleep(0.6)


@fault("mutates_inputs")
def _(x: Any) -> Any:
    out = x.copy()
    x[x[..., 0] == TRIGGER] = 0
    return out


@fault("returns_none", "numpy")
def _(x: Any) -> Any:
    return type("Nothing", (), {})()


@fault("returns_a_list")
def _(x: Any) -> Any:
    return x.tolist()


@fault("returns_objects")
def _(x: Any) -> Any:
    return x.astype(object)


@fault("returns_a_wider_dtype")
def _(x: Any) -> Any:
    return x.astype(np.float64)


@fault("returns_another_shape")
def _(x: Any) -> Any:
    return x.sum()


@fault("leaks_errstate")
def _(x: Any) -> None:
    np.seterr(over="raise")


@fault("leaks_directory")
def _(x: Any) -> None:
    os.chdir("/")


@fault("leaks_environment")
def _(x: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "7"


@fault("leaks_filters")
def _(x: Any) -> None:
    warnings.simplefilter("ignore")


@fault("leaks_and_raises")
def _(x: Any) -> None:
    np.seterr(over="raise")
    raise ValueError("after the leak")


@fault("flushes_subnormals", "torch")
def _(x: Any) -> None:
    import torch

    torch.set_flush_denormal(True)


@fault("leaks_default_dtype", "torch")
def _(x: Any) -> None:
    import torch

    torch.set_default_dtype(torch.float64)


@fault("torch_mutates_inputs", "torch")
def _(x: Any) -> Any:
    out = x.clone()
    x.zero_()
    return out


@fault("torch_returns_numpy", "torch")
def _(x: Any) -> Any:
    return x.numpy()


@fault("torch_segfault", "torch")
def _(x: Any) -> None:
    ctypes.string_at(0)


@implementation(op="softmax", framework="numpy", name="fault.no_derivative")
def _(x: Any, *, axis: int) -> Any:
    return x


def _wrong_vjp(g: Any, x: Any, *, axis: int) -> Any:
    return g


@implementation(op="softmax", framework="numpy", name="fault.vjp_without_names", vjp=_wrong_vjp)
def _(x: Any, *, axis: int) -> Any:
    return x
