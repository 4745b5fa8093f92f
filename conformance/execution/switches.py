"""Switches of Python, NumPy, the processor and the operating system that everybody shares.

Each has a name, a way to read it and, where there is one, a way to put it back. The switches of a
framework are its own file's matter (`conformance.frameworks`).
"""

from __future__ import annotations

import ctypes
import gc
import locale
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["STREAMS", "SWITCHES", "Switch"]


@dataclass(frozen=True)
class Switch:
    """One thing that is watched.

    Attributes
    ----------
    name : str
    read : callable
        Gives a value that is compared with ``==``; a dict is compared entry by entry.
    write : callable or None
        Puts a value back.
    show : callable or None
        Says what a value is; None where that is not fit to be read.
    summary : callable or None
        Says the same of the whole value, where the doctor shows it.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None
    show: Callable[[Any], str] | None = str
    summary: Callable[[Any], str] | None = None

    def changes(self, old: Any, new: Any) -> list[str]:
        """What differs, one line each."""
        if old == new:
            return []
        if isinstance(old, dict) and isinstance(new, dict):
            return [
                self._line(f"{self.name} {key}", old.get(key), new.get(key))
                for key in {**old, **new}
                if old.get(key) != new.get(key)
            ]
        return [self._line(self.name, old, new)]

    def _line(self, name: str, old: Any, new: Any) -> str:
        told = None if self.show is None else (self.show(old), self.show(new))
        if told is None or told[0] == told[1]:
            return f"{name}: changed"
        return f"{name}: {told[0]} -> {told[1]}"

    def restore(self, value: Any) -> None:
        """Put `value` back if something else is there."""
        if self.write is not None and self.read() != value:
            self.write(value)


# --- floating point -------------------------------------------------------------------------

# Python's floats: NumPy's would raise where an implementation has made underflow an error. As
# names, so that no compiler multiplies them in advance.
_TINY, _ONE, _HALF_ULP = 2.0**-1074, 1.0, 2.0**-53


def _subnormals() -> str:
    """A switched-on flush-to-zero bit makes this product 0."""
    return "kept" if _TINY * _ONE != 0 else "flushed to zero"


def _rounding() -> str:
    """Each sum is halfway between two numbers; to nearest, they are 1 in magnitude."""
    if _ONE + _HALF_ULP > _ONE:
        return "upwards"
    if -_ONE - _HALF_ULP < -_ONE:
        return "downwards"
    return "to nearest" if _ONE - _HALF_ULP / 2 == _ONE else "towards zero"


# --- NumPy ----------------------------------------------------------------------------------


def _errstate() -> dict[str, str]:
    return {name: str(how) for name, how in np.geterr().items()}


_KEYS = 624
_WORDS = np.dtype(np.uint32).itemsize * (_KEYS + 1)


def _numpy_random() -> bytes:
    """The state that ``np.random.seed`` sets: the Mersenne twister's keys and its position.

    From memory, where NumPy says that it is: `np.random.get_state` takes a hundred times as long,
    and this is read twice in every call.
    """
    generator = np.random.get_bit_generator()  # type: ignore[attr-defined]  # NumPy's types lack it
    if type(generator) is not np.random.MT19937:
        return type(generator).__name__.encode()
    return ctypes.string_at(generator.ctypes.state_address, _WORDS)


def _set_numpy_random(state: bytes) -> None:
    if len(state) == _WORDS:
        *keys, position = np.frombuffer(state, np.uint32).tolist()
        restored = ("MT19937", np.array(keys, np.uint32), position, 0, 0.0)
        np.random.set_state(restored)  # noqa: NPY002 - the one that `np.random.seed` sets


# --- Python and the operating system --------------------------------------------------------


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "<deleted>"


_SIGNALS = tuple((number.name, number) for number in signal.Signals)


def _handlers() -> dict[str, Any]:
    return {name: signal.getsignal(number) for name, number in _SIGNALS}


def _set_handlers(handlers: dict[str, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for name, number in _SIGNALS:
        old = handlers[name]
        if old is not None and signal.getsignal(number) is not old:
            signal.signal(number, old)


def _handler(handler: Any) -> str:
    return str(handler.name) if isinstance(handler, signal.Handlers) else "a handler"


_KERNEL = {b"SigBlk": "blocked", b"SigIgn": "ignored", b"SigCgt": "caught", b"Umask": "umask"}
_OF_THE_C_LIBRARY = 0b11 << 31
"""Signals 32 and 33, which it takes for itself when a thread needs them."""


def _kernel() -> dict[str, str]:
    """What the kernel knows of this thread, with the signals that C code has taken."""
    try:
        with open("/proc/thread-self/status", "rb") as file:
            pairs = [line.partition(b":") for line in file.read().splitlines()]
    except OSError:
        return {}
    found = {_KERNEL[name]: value.strip().decode() for name, _, value in pairs if name in _KERNEL}
    return {
        name: value if name == "umask" else f"{int(value, 16) & ~_OF_THE_C_LIBRARY:016x}"
        for name, value in found.items()
    }


_TIMERS = {
    name: getattr(signal, name)
    for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
    if hasattr(signal, name)
}


def _timers() -> dict[str, str]:
    return {
        name: "off" if signal.getitimer(which) == (0.0, 0.0) else "on"
        for name, which in _TIMERS.items()
    }


def _stop_timers(timers: dict[str, str]) -> None:
    for name, which in _TIMERS.items():
        if timers[name] == "off":
            signal.setitimer(which, 0)


def _limits() -> dict[str, Any]:
    try:
        import resource
    except ImportError:
        return {}
    names = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE",
             "RLIMIT_NPROC", "RLIMIT_STACK")  # fmt: skip
    return {n: resource.getrlimit(getattr(resource, n)) for n in names if hasattr(resource, n)}


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0


def _collector() -> tuple[Any, ...]:
    return gc.isenabled(), gc.get_threshold()


def _set_collector(state: tuple[Any, ...]) -> None:
    enabled, threshold = state
    (gc.enable if enabled else gc.disable)()
    gc.set_threshold(*threshold)


SWITCHES = (
    Switch("subnormals", _subnormals, summary=str),
    Switch("rounding", _rounding, summary=str),
    Switch("working directory", _directory, os.chdir, summary=str),
    Switch("numpy errstate", _errstate, lambda v: np.seterr(**v),
           summary=lambda v: ", ".join(f"{name}={how}" for name, how in v.items())),
    Switch("numpy error callback", np.geterrcall, np.seterrcall, None),
    Switch("numpy buffer size", np.getbufsize, np.setbufsize),
    Switch("numpy print options", np.get_printoptions, lambda v: np.set_printoptions(**v)),
    Switch("random state of numpy", _numpy_random, _set_numpy_random, None),
    Switch("random state of Python", random.getstate, random.setstate, None),
    Switch("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Switch("switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Switch("trace function", sys.gettrace, sys.settrace, None),
    Switch("profile function", sys.getprofile, sys.setprofile, None),
    Switch("garbage collector", _collector, _set_collector),
    Switch("locale", lambda: locale.setlocale(locale.LC_ALL),
           lambda v: locale.setlocale(locale.LC_ALL, v)),
    Switch("signal handler", _handlers, _set_handlers, _handler),
    Switch("signals and umask", _kernel),
    Switch("timer", _timers, _stop_timers),
    Switch("resource limit", _limits),
    Switch("processors", _processors, lambda v: os.sched_setaffinity(0, v)),
    Switch("priority", _priority),
)  # fmt: skip
"""What is watched in every process, in the order in which changes are named."""


# --- the standard streams -------------------------------------------------------------------


def _stream(name: str, fd: int) -> Callable[[], tuple[str, int, tuple[int, int]]]:
    """Whether a stream is open, which object it is, and which file it leads to."""

    def read() -> tuple[str, int, tuple[int, int]]:
        stream = getattr(sys, name, None)
        try:
            file = os.fstat(fd)
            closed = stream is None or stream.closed
        except (OSError, AttributeError, ValueError):
            return "closed", id(stream), (0, 0)
        return "closed" if closed else "open", id(stream), (file.st_dev, file.st_ino)

    return read


STREAMS = tuple(
    Switch(name, _stream(name, fd), show=lambda value: str(value[0]))
    for fd, name in enumerate(("stdin", "stdout", "stderr"))
)
"""Watched where they are the process's own: in an executor's child."""
