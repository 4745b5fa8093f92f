"""TensorFlow: eager, ``tf.function``, ``tf.function(jit_compile=True)``, and TensorFlow 1 style."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from conformance.execution.protocol import Array
from conformance.frameworks.base import (
    CONSTANT_INPUTS,
    SCALED_INPUTS,
    THREADS,
    ExchangeError,
    Framework,
    GarbageError,
    Prepared,
    input_names,
    single_threaded_xla,
    tangent_name,
)
from conformance.frameworks.layouts import TRANSPOSED, stored
from conformance.registry import Implementation, distribution_version

__all__ = ["FRAMEWORK", "TensorFlow"]

NO_ONEDNN = "onednn=off"


class TensorFlow(Framework):
    """Eager tensors on the CPU; ``tf.GradientTape``, ``tf.autodiff.ForwardAccumulator``, and one
    around the other, inside the function. In TensorFlow 1 style ``tf.gradients``, twice."""

    name = "tensorflow"
    distributions = ("tensorflow", "tensorflow-cpu", "tensorflow_cpu", "tf-nightly")
    module = "tensorflow"
    dtypes = ("float64", "float32", "bfloat16", "float16")
    modes = ("eager", "graph", "xla", "session")
    compiling_modes = ("graph", "xla", "session")
    layouts = (TRANSPOSED,)
    switched = MappingProxyType(
        {
            THREADS: ("eager", "graph"),
            NO_ONEDNN: ("eager", "graph"),
            CONSTANT_INPUTS: ("graph", "xla"),
            SCALED_INPUTS: ("graph", "xla"),
        }
    )
    lacking = MappingProxyType({("jvp", "session"): "a tf.compat.v1.Session has no forward mode"})
    namespaces = ("tensorflow.nn", "tensorflow.math", "tensorflow.linalg", "tensorflow.Tensor")

    @classmethod
    def environment(cls, context: str) -> dict[str, str | None]:
        """One thread within and between ops; oneDNN as the user has it but in its context."""
        variables: dict[str, str | None] = {
            **super().environment(context),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_NUM_INTRAOP_THREADS": "2" if context == THREADS else "1",
            "TF_NUM_INTEROP_THREADS": "1",
            "XLA_FLAGS": single_threaded_xla(),
            "KERAS_BACKEND": "tensorflow",
        }
        return variables | ({"TF_ENABLE_ONEDNN_OPTS": "0"} if context == NO_ONEDNN else {})

    def load(self, context: str, *, own_process: bool = True) -> None:
        """Import TensorFlow; in a child also Keras, and pin it to one thread."""
        import tensorflow as tf

        self.tf, self.context = tf, context
        if own_process:
            # Here, so that the first Keras subject finds the switches that others leave.
            if importlib.util.find_spec("keras") is not None:
                importlib.import_module("keras")
            tf.random.set_seed(0)
            tf.config.threading.set_intra_op_parallelism_threads(2 if context == THREADS else 1)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def versions(self) -> dict[str, str]:
        """TensorFlow's, and Keras's where it is installed."""
        keras = distribution_version("keras")
        return {"tensorflow": str(self.tf.__version__)} | ({"keras": keras} if keras else {})

    def to_framework(self, array: Array, layout: str = "") -> Any:
        """By ``tf.constant`` of a copy, because TensorFlow may go on using NumPy's memory."""
        tensor = self.tf.constant(stored(array, layout).copy())
        if tensor.dtype.as_numpy_dtype != array.dtype.type:
            raise ExchangeError(f"TensorFlow made {tensor.dtype.name} of {array.dtype.name}")
        return tensor

    def from_framework(self, value: Any) -> Array:
        """The memory of the eager tensor."""
        if not isinstance(value, self.tf.Tensor) or not hasattr(value, "numpy"):
            raise GarbageError(f"returned {type(value).__name__}, not an eager tf.Tensor")
        array = np.asarray(value.numpy())
        if value.dtype == self.tf.bfloat16:
            array = array.view(ml_dtypes.bfloat16)
        return array

    def transposed(self, value: Any) -> Any:
        """Inside the function, where a compiler may choose a layout."""
        return self.tf.transpose(value)

    def value(self, implementation: Implementation, mode: str, axis: int) -> Prepared:
        """The function, traced in the graph modes."""
        names, function = input_names(implementation), self.bound(implementation, axis)
        if self.call_context == CONSTANT_INPUTS:
            return lambda arrays: self._of_constants(function, [arrays[n] for n in names], mode)
        return self._prepared(function, names, mode)

    def vjp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Forward and backward in one function, so that the graph modes see both."""
        symbolic = mode == "session"
        gradient = self._gradient(implementation, argument, axis, symbolic=symbolic)
        return self._prepared(gradient, ("g", *implementation.inputs), mode)

    def jvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """``tf.autodiff.ForwardAccumulator`` around the function."""
        along = self._along(self.bound(implementation, axis), implementation.inputs.index(argument))
        return self._prepared(along, (tangent_name(argument), *implementation.inputs), mode)

    def hvp(self, implementation: Implementation, argument: str, mode: str, axis: int) -> Prepared:
        """Forward over reverse; in TensorFlow 1 style reverse over reverse."""
        first, second = argument.split(".")
        names = (tangent_name(argument), "g", *implementation.inputs)
        if mode == "session":
            twice = self._gradient_of_gradient(implementation, first, second, axis)
            return self._prepared(twice, names, mode)
        gradient = self._gradient(implementation, first, axis, symbolic=False)
        along = self._along(gradient, 1 + implementation.inputs.index(second))
        return self._prepared(along, names, mode)

    # --- derivatives as functions -----------------------------------------------------------

    def _gradient(
        self, implementation: Implementation, argument: str, axis: int, *, symbolic: bool
    ) -> Callable[..., Any]:
        """The function of g and the inputs that is the gradient to one of them."""
        tf = self.tf
        position = implementation.inputs.index(argument)
        function = self.bound(implementation, axis)

        def checked(out: Any) -> Any:
            if not isinstance(out, tf.Tensor):
                raise GarbageError(f"returned {type(out).__name__}, not a tf.Tensor")
            return out

        def by_symbols(g: Any, *inputs: Any) -> Any:
            out = checked(function(*inputs))
            return tf.compat.v1.gradients(out, [inputs[position]], [tf.cast(g, out.dtype)])[0]

        def by_tape(g: Any, *inputs: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs[position])
                out = checked(function(*inputs))
            return tape.gradient(out, inputs[position], output_gradients=tf.cast(g, out.dtype))

        def gradient(g: Any, *inputs: Any) -> Any:
            found = (by_symbols if symbolic else by_tape)(g, *inputs)
            if found is None:
                raise ValueError(f"TensorFlow finds no gradient with respect to {argument}")
            return tf.convert_to_tensor(found)

        return gradient

    def _along(self, function: Callable[..., Any], position: int) -> Callable[..., Any]:
        """The derivative of a function along a tangent of one of its inputs."""
        tf = self.tf

        def along(v: Any, *inputs: Any) -> Any:
            with tf.autodiff.ForwardAccumulator(inputs[position], v) as accumulator:
                out = function(*inputs)
            return accumulator.jvp(out, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return along

    def _gradient_of_gradient(
        self, implementation: Implementation, first: str, second: str, axis: int
    ) -> Callable[..., Any]:
        """Of <v, gradient to b>, the gradient to a; zeros where a has no part in it."""
        tf = self.tf
        gradient = self._gradient(implementation, second, axis, symbolic=True)
        position = implementation.inputs.index(first)

        def twice(v: Any, g: Any, *inputs: Any) -> Any:
            (found,) = tf.compat.v1.gradients(gradient(g, *inputs), [inputs[position]], [v])
            x = inputs[position]
            return tf.zeros_like(x) if found is None else tf.convert_to_tensor(found)

        return twice

    # --- modes ------------------------------------------------------------------------------

    def _prepared(self, function: Callable[..., Any], names: Sequence[str], mode: str) -> Prepared:
        """The function in its mode, of arrays by name."""
        if mode == "session":
            return self._in_session(function, tuple(names))
        called = self._in_mode(function, mode)
        return lambda arrays: called(*(arrays[n] for n in names))

    def _of_constants(self, function: Callable[..., Any], inputs: list[Any], mode: str) -> Any:
        """A traced function of nothing, its inputs constants of the graph."""
        tf = self.tf
        constants = [(a.numpy(), a.dtype) for a in inputs]
        return self._in_mode(
            lambda: function(*(tf.constant(value, dtype) for value, dtype in constants)), mode
        )()

    def _in_session(self, function: Callable[..., Any], names: tuple[str, ...]) -> Prepared:
        """TensorFlow 1 style: placeholders in a graph of their own, run by a Session.

        A graph and its session are kept for each signature of the inputs. Nothing of it is the
        process's default, so eager mode beside it stays as it is.
        """
        tf = self.tf
        built: dict[tuple[Any, ...], Any] = {}

        def build(inputs: tuple[Any, ...]) -> tuple[Any, list[Any], Any]:
            graph = tf.Graph()
            with graph.as_default():
                placeholders = [tf.compat.v1.placeholder(a.dtype, a.shape) for a in inputs]
                out = function(*placeholders)
                if not isinstance(out, tf.Tensor):
                    raise GarbageError(f"returned {type(out).__name__}, not a tf.Tensor")
            config = tf.compat.v1.ConfigProto(
                intra_op_parallelism_threads=1, inter_op_parallelism_threads=1
            )
            return tf.compat.v1.Session(graph=graph, config=config), placeholders, out

        def call(arrays: Mapping[str, Any]) -> Any:
            inputs = tuple(arrays[n] for n in names)
            key = tuple((a.dtype, tuple(a.shape)) for a in inputs)
            if key not in built:
                built[key] = build(inputs)
            session, placeholders, out = built[key]
            feed = {p: a.numpy() for p, a in zip(placeholders, inputs, strict=True)}
            return tf.constant(session.run(out, feed))

        return call

    def _in_mode(self, function: Any, mode: str) -> Any:
        if mode == "eager":
            return function
        # autograph=False: the functions under test have no Python control flow on tensors, and
        # rewriting their source would put TensorFlow's words in place of their own errors.
        return self.tf.function(
            function, jit_compile=True if mode == "xla" else None, autograph=False
        )

    def state(self) -> dict[str, str]:
        """Threads, eager execution, the optimiser's switches, the seed and Keras's dtype."""
        config = self.tf.config
        return {
            "tensorflow intra-op threads": str(config.threading.get_intra_op_parallelism_threads()),
            "tensorflow inter-op threads": str(config.threading.get_inter_op_parallelism_threads()),
            "tensorflow functions run eagerly": str(config.functions_run_eagerly()),
            "tensorflow jit": str(config.optimizer.get_jit()),
            "tensorflow op determinism": str(
                self.tf.__internal__.is_op_determinism_enabled()  # no public getter
                if hasattr(self.tf.__internal__, "is_op_determinism_enabled")
                else "unknown"
            ),
            "tensorflow seed": _seed(),
            "keras default dtype": _keras_dtype(),
        }

    def restore(self, state: Mapping[str, str]) -> None:
        """Put back what has a setter."""
        self.tf.config.run_functions_eagerly(state["tensorflow functions run eagerly"] == "True")
        self.tf.config.optimizer.set_jit(
            "autoclustering" if state["tensorflow jit"] == "autoclustering" else False
        )


def _seed() -> str:
    """The global seed, and how many numbers were drawn from it; there is no public getter."""
    try:
        from tensorflow.python.eager import context

        drawn = getattr(context.context(), "_rng", None)
        return f"{context.global_seed()}, {drawn.getstate()[1][-1] if drawn else 0} drawn"
    except (ImportError, AttributeError):
        return "unknown"


def _keras_dtype() -> str:
    """Of Keras, where something has imported it."""
    keras = sys.modules.get("keras")
    try:
        return str(keras.config.floatx()) if keras is not None else "not imported"
    except AttributeError:
        return "unknown"


FRAMEWORK = TensorFlow
