"""More of `fault_matrix.py`: shared state that an implementation leaves changed.

Each must be named as a leak, and must not be there any more for the neighbour.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import json
import locale
import os
import random
import resource
import signal
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))

from fault_matrix import FAULTS, IN_JAX_TOO, JAX, NUMPY, TORCH, fault, register_all


def leaks(text: str, *others: str, only: str = "", **options: Any) -> Any:
    """A fault in NumPy and `others`, or in one framework only, that shows as the leak `text`."""
    return fault("leak", text, (only,) if only else (NUMPY, *others), **options)


# --- Python and the operating system --------------------------------------------------------


@leaks("working directory", JAX)
def changes_directory(x: Any) -> None:
    os.chdir("/")


@leaks("environment variable OMP_NUM_THREADS: changed", JAX)
def changes_environment(x: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "7"


@leaks("environment variable MATRIX: added")
def adds_to_the_environment(x: Any) -> None:
    os.environ["MATRIX"] = "\x1b[31m<script>"


@leaks("warnings filters", JAX)
def ignores_warnings(x: Any) -> None:
    warnings.simplefilter("ignore")


@leaks("random state of Python", JAX)
def seeds_python(x: Any) -> None:
    random.seed(7)


@leaks("signal handler SIGTERM", JAX)
def handles_a_signal(x: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: None)


@leaks("signals and umask blocked")
def blocks_a_signal(x: Any) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


@leaks("timer ITIMER_REAL")
def sets_an_alarm(x: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 600)


@leaks("signals and umask umask")
def changes_the_umask(x: Any) -> None:
    os.umask(0o777)


@leaks("resource limit RLIMIT_NOFILE")
def lowers_a_limit(x: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@leaks("priority")
def lowers_its_priority(x: Any) -> None:
    os.nice(1)


@leaks("recursion limit")
def changes_the_recursion_limit(x: Any) -> None:
    sys.setrecursionlimit(200)


@leaks("garbage collector")
def disables_the_garbage_collector(x: Any) -> None:
    gc.disable()


@leaks("trace function")
def traces(x: Any) -> None:
    sys.settrace(lambda *_: None)


@leaks("locale")
def changes_the_locale(x: Any) -> None:
    # One that every C library has, and that is not the one in force.
    now = locale.setlocale(locale.LC_NUMERIC)
    locale.setlocale(locale.LC_ALL, "POSIX" if now not in ("C", "POSIX") else "C.UTF-8")


# --- the standard streams -------------------------------------------------------------------


@fault(None, "", IN_JAX_TOO)
def prints_megabytes(x: Any) -> None:
    for _ in range(300):
        print("spam \x1b[2J" * 2000)
    os.write(2, b"\xff\xfe the end of it\n")


@leaks("stdout: open -> closed", JAX)
def closes_stdout(x: Any) -> None:
    sys.stdout.close()


@leaks("stdin: open -> closed")
def closes_its_standard_descriptors(x: Any) -> None:
    for fd in (0, 1, 2):
        os.close(fd)


@leaks("stdout: changed")
def redirects_stdout(x: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


@leaks("stderr: changed")
def replaces_stderr(x: Any) -> None:
    import io

    sys.stderr = io.StringIO()


# --- arithmetic -----------------------------------------------------------------------------


def change_mxcsr(mask: int) -> None:
    """Set bits of the SSE control register, for this thread."""
    libm = ctypes.CDLL("libm.so.6")
    environment = (ctypes.c_uint32 * 8)()  # fenv_t of glibc on x86-64: the last word is MXCSR
    libm.fegetenv(environment)
    environment[7] |= mask
    libm.fesetenv(environment)


@leaks("subnormals: kept -> flushed to zero", JAX)
def flushes_subnormals(x: Any) -> None:
    change_mxcsr(0x8040)


@leaks("rounding: to nearest -> downwards")
def rounds_downwards(x: Any) -> None:
    change_mxcsr(0x2000)


@leaks("numpy errstate over: warn -> raise", JAX)
def changes_errstate(x: Any) -> None:
    np.seterr(over="raise")


@leaks("numpy error callback")
def sets_an_error_callback(x: Any) -> None:
    np.seterrcall(lambda *_: None)


@leaks("numpy buffer size")
def changes_the_buffer_size(x: Any) -> None:
    np.setbufsize(16)


@leaks("random state of numpy", JAX)
def seeds_numpy(x: Any) -> None:
    np.random.seed(7)  # noqa: NPY002 - the fault


# --- names that everybody uses --------------------------------------------------------------


def refuse(*_: Any, **__: Any) -> Any:
    """What stands in for everything that is replaced."""
    raise RuntimeError("replaced")


@leaks("builtins.len: replaced", JAX)
def replaces_len(x: Any) -> None:
    builtins.len = refuse  # type: ignore[assignment]


@leaks("builtins.isinstance: replaced", JAX, breaks_its_own_call=(JAX,))
def replaces_isinstance(x: Any) -> None:
    builtins.isinstance = refuse  # type: ignore[assignment]


@leaks("builtins.open: replaced")
def replaces_open(x: Any) -> None:
    builtins.open = refuse


@leaks("builtins.print: replaced")
def replaces_print(x: Any) -> None:
    builtins.print = refuse  # type: ignore[assignment]


@leaks("builtins.sum: replaced")
def replaces_sum(x: Any) -> None:
    builtins.sum = lambda values: 0  # type: ignore[assignment,misc]


@fault("error", "RuntimeError: replaced")
def replaces_every_builtin(x: Any) -> None:
    for name in [n for n in vars(builtins) if n.islower() and not n.startswith("_")]:
        setattr(builtins, name, refuse)


@leaks("json.dumps: replaced", JAX)
def replaces_json_dumps(x: Any) -> None:
    json.dumps = lambda *_, **__: "{}"


@leaks("struct.pack: replaced")
def replaces_struct_pack(x: Any) -> None:
    struct.pack = refuse


@leaks("os.write: replaced", JAX)
def replaces_os_write(x: Any) -> None:
    os.write = refuse


@leaks("os.environ: replaced")
def replaces_environ(x: Any) -> None:
    os.environ = {}  # type: ignore[assignment]  # noqa: B003 - the fault


@leaks("numpy.exp: replaced", JAX)
def replaces_numpy_exp(x: Any) -> None:
    np.exp = np.expm1


@leaks("numpy.asarray: replaced")
def replaces_numpy_asarray(x: Any) -> None:
    np.asarray = refuse


@leaks("torch.softmax: replaced", only=TORCH)
def replaces_torch_softmax(x: Any) -> None:
    import torch

    torch.softmax = torch.log_softmax


@leaks("torch.Tensor.sum: replaced", only=TORCH)
def replaces_a_method_of_tensors(x: Any) -> None:
    import torch

    torch.Tensor.sum = refuse


@leaks("jax.nn.softmax: replaced", only=JAX)
def replaces_jax_softmax(x: Any) -> None:
    import jax

    jax.nn.softmax = jax.nn.log_softmax


# --- the frameworks' own --------------------------------------------------------------------


@leaks("torch default dtype", only=TORCH)
def changes_the_default_dtype(x: Any) -> None:
    import torch

    torch.set_default_dtype(torch.float64)


@leaks("torch threads: 1 -> 3", only=TORCH)
def changes_torch_threads(x: Any) -> None:
    import torch

    torch.set_num_threads(3)


@leaks("torch random state", only=TORCH)
def seeds_torch(x: Any) -> None:
    import torch

    torch.manual_seed(7)


@leaks("torch deterministic", only=TORCH)
def makes_torch_deterministic(x: Any) -> None:
    import torch

    torch.use_deterministic_algorithms(True)


@leaks("torch grad enabled", only=TORCH)
def disables_gradients(x: Any) -> None:
    import torch

    torch.set_grad_enabled(False)


@leaks("flushed to zero", only=TORCH)
def flushes_subnormals_in_torch(x: Any) -> None:
    import torch

    torch.set_flush_denormal(True)


@leaks("jax enable_x64", only=JAX)
def enables_x64(x: Any) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)


@leaks("jax debug_nans", only=JAX)
def debugs_nans(x: Any) -> None:
    import jax

    jax.config.update("jax_debug_nans", True)


if __name__.startswith("_conformance_plugin_"):
    register_all(name for name, entry in FAULTS.items() if entry.body.__module__ == __name__)
