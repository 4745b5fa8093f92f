"""More of `fault_matrix.py`: what an implementation returns, raises, and does to its inputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent))

from fault_matrix import (
    EVERYWHERE,
    FAULTS,
    IN_TORCH_TOO,
    JAX,
    NOTHING,
    NUMPY,
    TORCH,
    fault,
    framework_of,
    register_all,
    right,
)

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e\u200b\x00\udc80\r\n::error::../../x"
"""What no text of an implementation may do to a terminal, a report or a file system."""


# --- what it returns ------------------------------------------------------------------------


@fault("error", "NoneType", EVERYWHERE)
def returns_none(x: Any) -> Any:
    return NOTHING


@fault("error", "list", EVERYWHERE)
def returns_a_list(x: Any) -> Any:
    return np.asarray(x).tolist()


@fault("error", "str", EVERYWHERE)
def returns_a_megabyte_of_text(x: Any) -> Any:
    return HOSTILE * 25_000


@fault("error", "generator", EVERYWHERE)
def returns_a_generator(x: Any) -> Any:
    return (row for row in np.asarray(x))


@fault("error", "dtype object")
def returns_objects(x: Any) -> Any:
    return x.astype(object)


@fault("error", "dtype str")
def returns_texts(x: Any) -> Any:
    return np.full(x.shape, "0.5")


@fault("error", "ndarray", (TORCH, JAX))
def returns_an_array_of_numpy(x: Any) -> Any:
    return np.asarray(x)


@fault("dtype", "float16", EVERYWHERE)
def returns_another_dtype(x: Any) -> Any:
    out = right(framework_of(x), x)
    return out.half() if framework_of(x) == TORCH else out.astype("float16")


@fault("shape", "shape (1000, 2)", EVERYWHERE)
def returns_the_transpose(x: Any) -> Any:
    return right(framework_of(x), x).T


@fault("shape", "shape ()", EVERYWHERE)
def returns_a_scalar(x: Any) -> Any:
    return right(framework_of(x), x).sum()


@fault("error", "bytes, of shape")
def returns_what_would_fill_gigabytes(x: Any) -> Any:
    return np.broadcast_to(x, (1 << 20, *x.shape))


class Untouchable:
    """Raises on every access, also on those that look at its class."""

    def __getattribute__(self, name: str) -> Any:
        raise KeyboardInterrupt(HOSTILE)


@fault("error", "", EVERYWHERE)
def returns_what_raises_on_every_access(x: Any) -> Any:
    return Untouchable()


class Lazy:
    """Computes when somebody asks for an array."""

    def __init__(self, x: Any) -> None:
        self.shape, self.dtype = x.shape, x.dtype

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise SystemExit("never computed")


@fault("error", "Lazy", EVERYWHERE)
def returns_a_lazy_object(x: Any) -> Any:
    return Lazy(x)


class Sabotaged(np.ndarray):
    """An array whose attributes lie."""

    @property
    def dtype(self) -> Any:  # type: ignore[override]
        raise SystemExit("no dtype")

    def __array_finalize__(self, made_from: Any) -> None:
        pass


@fault(None)
def returns_an_array_of_a_class_that_lies(x: Any) -> Any:
    """Its memory is right, and that is what counts."""
    return right(NUMPY, x).view(Sabotaged)


@fault("error", "meta", (TORCH,))
def returns_a_tensor_without_memory(x: Any) -> Any:
    return right(TORCH, x).to("meta")


@fault("error", "", (TORCH,))
def returns_a_fake_tensor(x: Any) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode().from_tensor(x)


@fault("error", "traced", (JAX,))
def returns_a_tracer(x: Any) -> Any:
    import jax

    leaked = []
    jax.make_jaxpr(lambda y: leaked.append(y) or y)(x)
    return leaked[0]


@fault("error", "deleted", (JAX,))
def returns_a_deleted_array(x: Any) -> Any:
    out = right(JAX, x)
    out.delete()
    return out


# --- what it does with its inputs -----------------------------------------------------------


@fault("mutates_inputs", "x was modified", IN_TORCH_TOO)
def mutates_its_input(x: Any) -> Any:
    out = right(framework_of(x), x)
    x[...] = 0
    return out


@fault("mutates_inputs", "x")
def mutates_the_type_of_its_input(x: Any) -> Any:
    out = right(NUMPY, x)
    x.dtype = np.int32  # type: ignore[misc]
    return out


@fault("mutates_inputs", "x", (TORCH,))
def resizes_its_input(x: Any) -> Any:
    out = right(TORCH, x)
    x.resize_(1)
    return out


@fault("mutates_inputs", "x was modified", (JAX,))
def mutates_an_array_that_cannot_be(x: Any) -> Any:
    """JAX's arrays are immutable, their memory is not."""
    import ctypes

    out = right(JAX, x)
    out.block_until_ready()
    ctypes.memset(x.unsafe_buffer_pointer(), 0, x.nbytes)
    return out


_kept: dict[Any, Any] = {}


@fault("reused", "same answer", EVERYWHERE, always=True)
def caches_its_result_by_shape(x: Any) -> Any:
    return _kept.setdefault((framework_of(x), tuple(x.shape)), right(framework_of(x), x))


# --- what it raises -------------------------------------------------------------------------


@fault("error", "ValueError: no such luck", EVERYWHERE)
def raises(x: Any) -> Any:
    raise ValueError("no such luck")


@fault("error", "KeyboardInterrupt", EVERYWHERE)
def raises_keyboard_interrupt(x: Any) -> Any:
    raise KeyboardInterrupt


@fault("error", "SystemExit: 0", EVERYWHERE)
def calls_sys_exit(x: Any) -> Any:
    sys.exit(0)


@fault("error", "GeneratorExit", EVERYWHERE)
def raises_generator_exit(x: Any) -> Any:
    raise GeneratorExit


@fault("error", "StopIteration")
def raises_stop_iteration(x: Any) -> Any:
    raise StopIteration


@fault("error", "MemoryError")
def raises_memory_error(x: Any) -> Any:
    raise MemoryError


@fault("error", "RecursionError", EVERYWHERE)
def recurses_without_end(x: Any) -> Any:
    return recurses_without_end(x)


class Rude(BaseException):
    """Cannot be printed, compared or asked for anything."""

    def __str__(self) -> str:
        raise Rude

    __repr__ = __str__


@fault("error", "Rude: <cannot be printed>", EVERYWHERE)
def raises_what_cannot_be_printed(x: Any) -> Any:
    raise Rude


class Text(str):
    """A text that lies about itself."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        raise Rude

    def encode(self, *_: Any, **__: Any) -> Any:
        raise Rude


class LyingMessage(Exception):
    def __str__(self) -> str:
        return Text(HOSTILE * 25_000)


@fault("error", "LyingMessage: <script>", EVERYWHERE)
def raises_a_message_that_lies(x: Any) -> Any:
    raise LyingMessage


@fault("error", "::error::", EVERYWHERE)
def raises_under_a_hostile_name(x: Any) -> Any:
    raise type(HOSTILE.replace("\x00", "").replace("\udc80", ""), (Exception,), {})(HOSTILE)


class Meta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise Rude


@fault("error", "Nameless")
def raises_an_exception_whose_class_has_no_name(x: Any) -> Any:
    raise Meta("Nameless", (Exception,), {})


if __name__.startswith("_conformance_plugin_"):
    register_all(name for name, entry in FAULTS.items() if entry.body.__module__ == __name__)
