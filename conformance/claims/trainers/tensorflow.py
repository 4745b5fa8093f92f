"""The training example in TensorFlow: Keras's Adam, and TensorFlow 1's in a Session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.claims.problem import BETA1, BETA2, EPSILON, RATE, Problem
from conformance.claims.trainers.base import Step, Trainer

__all__ = ["TRAINER", "TensorFlowTrainer"]

Reset = Callable[[Problem], Step]


class TensorFlowTrainer(Trainer):
    """One set of variables per loss and mode; starting again puts them back."""

    def __init__(self, framework: Any) -> None:
        super().__init__(framework)
        self._resets: dict[tuple[str, str], Reset] = {}

    def mean(self, values: Any) -> Any:
        """``tf.reduce_mean``."""
        import tensorflow as tf

        return tf.reduce_mean(values)

    def start(self, loss: str, mode: str, data: Problem) -> Step:
        """Variables at the problem's beginning, the optimizer with no memory."""
        key = loss, mode
        if key not in self._resets:
            build = self._session if mode == "session" else self._keras
            self._resets[key] = build(loss, mode, data)
        return self._resets[key](data)

    def _keras(self, loss: str, mode: str, data: Problem) -> Reset:
        import tensorflow as tf

        weights, biases = tf.Variable(data.weights), tf.Variable(data.biases)
        optimizer = tf.keras.optimizers.Adam(RATE, beta_1=BETA1, beta_2=BETA2, epsilon=EPSILON)
        optimizer.build([weights, biases])
        fresh = [tf.identity(v) for v in optimizer.variables]

        def update(inputs: Any, labels: Any) -> Any:
            with tf.GradientTape() as tape:
                logits = inputs @ weights + biases
                value = self.mean_loss(loss, logits, labels)
            gradients = tape.gradient(value, [weights, biases])
            optimizer.apply_gradients(zip(gradients, [weights, biases], strict=True))
            return logits, value, gradients

        if mode != "eager":
            update = tf.function(update, jit_compile=mode == "xla" or None, autograph=False)

        def reset(data: Problem) -> Step:
            weights.assign(data.weights)
            biases.assign(data.biases)
            for variable, value in zip(optimizer.variables, fresh, strict=True):
                variable.assign(value)
            inputs, labels = tf.constant(data.inputs), tf.constant(data.labels)

            def step() -> Any:
                logits, value, gradients = update(inputs, labels)
                arrays = [g.numpy() for g in gradients]
                return logits.numpy(), float(value), arrays, weights.numpy(), biases.numpy()

            return step

        return reset

    def _session(self, loss: str, mode: str, data: Problem) -> Reset:
        import tensorflow as tf

        v1 = tf.compat.v1
        with tf.Graph().as_default() as graph:
            inputs = v1.placeholder(tf.float32, data.inputs.shape)
            labels = v1.placeholder(tf.float32, data.labels.shape)
            weights = v1.get_variable("weights", initializer=data.weights)
            biases = v1.get_variable("biases", initializer=data.biases)
            logits = tf.matmul(inputs, weights) + biases
            value = self.mean_loss(loss, logits, labels)
            optimizer = v1.train.AdamOptimizer(RATE, BETA1, BETA2, EPSILON)
            pairs = optimizer.compute_gradients(value, [weights, biases])
            train = optimizer.apply_gradients(pairs)
            with tf.control_dependencies([train]):
                after = [weights.read_value(), biases.read_value()]
            initial = v1.global_variables_initializer()
        config = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        session = v1.Session(graph=graph, config=config)
        fetches = [logits, value, [gradient for gradient, _ in pairs], after]

        def reset(data: Problem) -> Step:
            session.run(initial)
            feed = {inputs: data.inputs, labels: data.labels}

            def step() -> Any:
                out, number, gradients, (new_weights, new_biases) = session.run(fetches, feed)
                return out, float(number), gradients, new_weights, new_biases

            return step

        return reset

    def operations(self, loss: str, data: Problem) -> int:
        """Nodes of the graph that TensorFlow 1 style builds, constants and inputs left out."""
        import tensorflow as tf

        with tf.Graph().as_default() as graph:
            logits = tf.compat.v1.placeholder(tf.float32, data.labels.shape)
            labels = tf.compat.v1.placeholder(tf.float32, data.labels.shape)
            tf.compat.v1.gradients(self.mean_loss(loss, logits, labels), [logits])
            return sum(op.type not in ("Const", "Placeholder") for op in graph.get_operations())


TRAINER = TensorFlowTrainer
