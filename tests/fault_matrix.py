"""A plug-in of right implementations, each of which does one thing wrong on one row.

`FAULTS` says of each what it must come to: the breach that its cell must show and words of its
detail. Beside each stands a neighbour that does nothing wrong and looks at as much shared state as
it can. With ``CONFORMANCE_NO_FAULTS`` set nobody does anything wrong.

The table can be imported by tests; implementations are registered only where this is loaded as a
plug-in. `fault_matrix_state.py` and `fault_matrix_answers.py` add to it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance import implementation

Function = Callable[..., Any]

NUMPY, TORCH, JAX = "numpy", "torch", "jax"
NOTHING = object()
"""What a body returns whose implementation returns None."""
IN_JAX_TOO, IN_TORCH_TOO, EVERYWHERE = (NUMPY, JAX), (NUMPY, TORCH), (NUMPY, TORCH, JAX)
WORD = os.environ.get("CONFORMANCE_FAULT_WORD", "conformance-fault")
"""In the command line of every process that a fault starts, and the name of shared memory."""


@dataclass(frozen=True)
class Fault:
    """One way to misbehave."""

    name: str
    body: Function
    """Called with the input; what it returns, if anything, is the implementation's answer."""
    breach: str | None
    """The kind of breach that the cell must show; None where the fault must be harmless."""
    text: str
    frameworks: tuple[str, ...]
    always: bool
    """Whether it acts on every row, and not only where `fires`."""
    breaks_its_own_call: tuple[str, ...]
    """The frameworks that then cannot end the very call, so that the verdict is an error."""

    def verdict(self, framework: str) -> str:
        """What the cell must come to."""
        if self.breach is None:
            return "pass"
        if framework in self.breaks_its_own_call:
            return "error"
        return self.breach if self.breach in ("crash", "timeout", "error") else "fail"


FAULTS: dict[str, Fault] = {}


def fault(
    breach: str | None,
    text: str = "",
    frameworks: tuple[str, ...] = (NUMPY,),
    *,
    always: bool = False,
    breaks_its_own_call: tuple[str, ...] = (),
) -> Callable[[Function], Function]:
    """Add the decorated body to the table, under its own name."""

    def add(body: Function) -> Function:
        name = body.__name__
        FAULTS[name] = Fault(name, body, breach, text, frameworks, always, breaks_its_own_call)
        return body

    return add


# --- the implementations --------------------------------------------------------------------


def right(framework: str, x: Any) -> Any:
    """Softmax along the last axis."""
    if framework == TORCH:
        import torch

        return torch.softmax(x, dim=-1)
    if framework == JAX:
        import jax

        return jax.nn.softmax(x, axis=-1)
    with np.errstate(all="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def framework_of(x: Any) -> str:
    """The framework that an array belongs to."""
    return {"numpy": NUMPY, "torch": TORCH}.get(type(x).__module__.partition(".")[0], JAX)


def fires(x: Any) -> bool:
    """True for one row of all that the family shift_ladder has in profile quick."""
    if os.environ.get("CONFORMANCE_NO_FAULTS"):
        return False
    return x.shape[-1] == 1000 and bool((np.abs(np.asarray(x)) > 1e38).any())


def register(entry: Fault, framework: str) -> None:
    """Register a fault and its neighbour; in order of their names they run one after the other."""
    name = f"matrix.{framework}.{entry.name}"

    def faulty(x: Any, *, axis: int) -> Any:
        if fires(x) or (entry.always and not os.environ.get("CONFORMANCE_NO_FAULTS")):
            answer = entry.body(x)
            if answer is not None:
                return None if answer is NOTHING else answer
        return right(framework, x)

    def beside(x: Any, *, axis: int) -> Any:
        return sensitive(framework, x)

    for each, function in ((name, faulty), (f"{name}.beside", beside)):
        implementation(op="softmax", framework=framework, name=each, variant="composition")(
            function
        )


def register_all(names: Iterable[str]) -> None:
    """Register these faults in all their frameworks."""
    for name in names:
        for framework in FAULTS[name].frameworks:
            register(FAULTS[name], framework)


def sensitive(framework: str, x: Any) -> Any:
    """Softmax that comes out differently, or not at all, where shared state is not as it was."""
    assert len(os.environ) == sum(isinstance(name, str) for name in os.environ)
    open(os.devnull, "rb").close()
    if framework == TORCH:
        import torch

        drawn = torch.get_rng_state()
        order = torch.randperm(x.shape[-1])
        torch.set_rng_state(drawn)
        e = torch.exp(x - x.max(dim=-1, keepdim=True).values) * torch.tensor(1.0)
        return e / e[..., order].sum(dim=-1, keepdim=True)
    if framework == JAX:
        import jax

        return jax.nn.softmax(x * np.float32(1), axis=-1)
    # The generator that `np.random.seed` seeds, left as it was.
    drawn = np.random.get_state()  # noqa: NPY002 - see above
    order = np.random.permutation(x.shape[-1])  # noqa: NPY002
    np.random.set_state(drawn)  # noqa: NPY002
    with np.errstate(over="ignore", under="ignore"):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / np.cumsum(e[..., order], axis=-1)[..., -1:]


# --- the process dies -----------------------------------------------------------------------


@fault("crash", "SIGSEGV", IN_JAX_TOO)
def segfault(x: Any) -> None:
    ctypes.string_at(0)


@fault("crash", "SIGABRT", IN_JAX_TOO)
def abort(x: Any) -> None:
    os.abort()


@fault("crash", "code 7", IN_JAX_TOO)
def os_exit(x: Any) -> None:
    os._exit(7)


@fault("crash", "code 0")
def os_exit_as_if_nothing_were_wrong(x: Any) -> None:
    os._exit(0)


@fault("crash", "SIGKILL")
def kills_itself(x: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@fault("crash", "SIGKILL", IN_JAX_TOO)
def kills_its_group(x: Any) -> None:
    os.killpg(0, signal.SIGKILL)


@fault("crash", "SIGSEGV")
def overruns_a_buffer(x: Any) -> None:
    ctypes.memset(ctypes.create_string_buffer(8), 0, 1 << 34)


@fault("crash", "code 0")
def becomes_another_program(x: Any) -> None:
    os.execv("/bin/sh", ["sh", "-c", "exit 0"])


@fault("crash")
def closes_every_pipe(x: Any) -> None:
    os.closerange(3, 256)


@fault("crash", "protocol")
def writes_into_every_pipe(x: Any) -> None:
    for fd in range(3, 64):
        try:
            os.set_blocking(fd, False)
            os.write(fd, b"garbage, and more of it than a prefix has\n")
        except OSError:
            continue


@fault("crash", "protocol")
def claims_a_terabyte(x: Any) -> None:
    """An answer by its first bytes, from somebody who knows the protocol."""
    import struct

    for fd in range(3, 64):
        try:
            os.write(fd, struct.pack("<4sIQ", b"LGC1", 2, 1 << 40))
        except OSError:
            continue


@fault("crash", "memory", IN_JAX_TOO)
def hogs_memory(x: Any) -> None:
    kept = []
    while True:
        kept.append(b"x" * (1 << 25))
        time.sleep(0.002)


@fault("crash", "memory", IN_JAX_TOO)
def starts_a_process_that_hogs_memory(x: Any) -> None:
    pid = os.fork()
    if not pid:
        os.setsid()
        hogs_memory(x)
    os.waitpid(pid, 0)


# --- the call does not end ------------------------------------------------------------------


@fault("timeout", "no answer", IN_TORCH_TOO)
def endless_loop(x: Any) -> None:
    while True:
        pass


@fault("timeout", "no answer", IN_TORCH_TOO)
def hangs_with_the_gil(x: Any) -> None:
    ctypes.PyDLL(None).sleep(3600)  # a PyDLL call keeps the GIL


@fault("timeout", "no answer", IN_TORCH_TOO)
def stops_itself(x: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@fault("timeout", "no answer")
def waits_for_a_lock_of_its_own(x: Any) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@fault("timeout", "no answer")
def ignores_signals_and_sleeps(x: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(1)


# --- something stays when the call is over --------------------------------------------------

SLEEP = "import time; time.sleep(3600)"


@fault("leak", "thread left running", IN_JAX_TOO)
def leaves_a_thread(x: Any) -> None:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


@fault("leak", "thread left running")
def leaves_a_spinning_thread(x: Any) -> None:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()


@fault("leak", "process left running", IN_JAX_TOO)
def leaves_a_process(x: Any) -> None:
    subprocess.Popen([sys.executable, "-c", SLEEP, WORD])


def daemon() -> None:
    """An orphan in a session of its own, with nothing in its environment."""
    code = (
        "import os, subprocess, sys; subprocess.Popen("
        f"[sys.executable, '-c', {SLEEP!r}, {WORD!r}], env={{}}, start_new_session=True)"
    )
    subprocess.run([sys.executable, "-c", code], env={}, start_new_session=True, check=True)


@fault("leak", "process left running", IN_JAX_TOO)
def leaves_a_daemon(x: Any) -> None:
    daemon()


@fault("crash", "SIGSEGV", IN_JAX_TOO)
def leaves_a_daemon_and_crashes(x: Any) -> None:
    daemon()
    ctypes.string_at(0)


@fault("leak", "process left", IN_JAX_TOO)
def forks_and_returns_twice(x: Any) -> None:
    os.fork()


@fault("leak", "nobody waited")
def leaves_a_zombie(x: Any) -> None:
    process = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    process.returncode = 0  # or Python would say so on stderr


@fault("leak", "process left running")
def leaves_shared_memory(x: Any) -> None:
    from multiprocessing import shared_memory

    block = shared_memory.SharedMemory(WORD, create=True, size=1 << 20)
    block.buf[0] = 1


@fault(None)
def leaves_temporary_files(x: Any) -> None:
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "left"), "wb") as file:
        file.write(b"x" * 100_000)
    os.chmod(folder, 0)


if __name__.startswith("_conformance_plugin_"):
    register_all(FAULTS)
