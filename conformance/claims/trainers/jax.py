"""The training example in JAX: ``optax.adam`` and ``jax.value_and_grad``."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.claims.problem import BETA1, BETA2, EPSILON, RATE, Problem
from conformance.claims.trainers.base import Step, Trainer

__all__ = ["TRAINER", "JaxTrainer"]


class JaxTrainer(Trainer):
    """In compiled mode the whole step is under one ``jax.jit``."""

    def __init__(self, framework: Any) -> None:
        super().__init__(framework)
        self._updates: dict[tuple[str, str], Any] = {}

    def mean(self, values: Any) -> Any:
        """``jnp.mean``."""
        import jax.numpy as jnp

        return jnp.mean(values)

    def start(self, loss: str, mode: str, data: Problem) -> Step:
        """Fresh parameters and optimizer state; what was compiled is used again."""
        import jax.numpy as jnp

        optimizer, update = self._update_in(loss, mode)
        inputs, labels = jnp.asarray(data.inputs), jnp.asarray(data.labels)
        parameters = (jnp.asarray(data.weights), jnp.asarray(data.biases))
        state = optimizer.init(parameters)

        def step() -> Any:
            nonlocal parameters, state
            logits, value, gradients, parameters, state = update(parameters, state, inputs, labels)
            arrays = [np.asarray(g) for g in gradients]
            after = (np.asarray(p) for p in parameters)
            return np.asarray(logits), float(value), arrays, *after

        return step

    def _update_in(self, loss: str, mode: str) -> Any:
        import jax
        import optax

        def objective(parameters: Any, inputs: Any, labels: Any) -> Any:
            weights, biases = parameters
            logits = inputs @ weights + biases
            return self.mean_loss(loss, logits, labels), logits

        optimizer = optax.adam(RATE, b1=BETA1, b2=BETA2, eps=EPSILON)

        def update(parameters: Any, state: Any, inputs: Any, labels: Any) -> Any:
            with_logits = jax.value_and_grad(objective, has_aux=True)
            (value, logits), gradients = with_logits(parameters, inputs, labels)
            changes, state = optimizer.update(gradients, state)
            return logits, value, gradients, optax.apply_updates(parameters, changes), state

        key = loss, mode
        if key not in self._updates:
            run = jax.jit(update) if mode == "compiled" else update
            self._updates[key] = optimizer, run
        return self._updates[key]

    def operations(self, loss: str, data: Problem) -> int:
        """Equations of the jaxpr, those of inner jaxprs in place of the call."""
        import jax

        def value_and_gradient(logits: Any, labels: Any) -> Any:
            return jax.value_and_grad(lambda x: self.mean_loss(loss, x, labels))(logits)

        traced = jax.make_jaxpr(value_and_gradient)(data.inputs @ data.weights, data.labels)
        return _equations(traced.jaxpr)


def _equations(jaxpr: Any) -> int:
    count = 0
    for equation in jaxpr.eqns:
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        inner = [p for p in inner if hasattr(p, "eqns")]
        count += sum(_equations(p) for p in inner) if inner else 1
    return count


TRAINER = JaxTrainer
