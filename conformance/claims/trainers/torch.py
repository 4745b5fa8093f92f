"""The training example in PyTorch: ``torch.optim.Adam`` and ``backward``."""

from __future__ import annotations

from typing import Any

from conformance.claims.problem import BETA1, BETA2, EPSILON, RATE, Problem
from conformance.claims.trainers.base import Step, Trainer

__all__ = ["TRAINER", "TorchTrainer"]


class TorchTrainer(Trainer):
    """In compiled mode the forward pass, and with it the backward pass, is compiled."""

    def __init__(self, framework: Any) -> None:
        super().__init__(framework)
        self._forward: dict[tuple[str, str], Any] = {}

    def mean(self, values: Any) -> Any:
        """``Tensor.mean``."""
        return values.mean()

    def start(self, loss: str, mode: str, data: Problem) -> Step:
        """A fresh optimizer; what was compiled is used again."""
        import torch

        inputs, labels = torch.from_numpy(data.inputs), torch.from_numpy(data.labels)
        weights = torch.nn.Parameter(torch.tensor(data.weights))
        biases = torch.nn.Parameter(torch.tensor(data.biases))
        optimizer = torch.optim.Adam([weights, biases], lr=RATE, betas=(BETA1, BETA2), eps=EPSILON)
        forward = self._forward_in(loss, mode)

        def step() -> Any:
            optimizer.zero_grad()
            logits, value = forward(inputs, labels, weights, biases)
            value.backward()
            gradients = [p.grad.numpy().copy() for p in (weights, biases)]
            optimizer.step()
            after = (p.detach().numpy() for p in (weights, biases))
            return logits.detach().numpy(), value.item(), gradients, *after

        return step

    def _forward_in(self, loss: str, mode: str) -> Any:
        import torch

        def forward(inputs: Any, labels: Any, weights: Any, biases: Any) -> Any:
            logits = inputs @ weights + biases
            return logits, self.mean_loss(loss, logits, labels)

        key = loss, mode
        if key not in self._forward:
            self._forward[key] = torch.compile(forward) if mode == "compiled" else forward
        return self._forward[key]

    def operations(self, loss: str, data: Problem) -> int:
        """Calls of ATen operators, as ``make_fx`` traces them."""
        import torch
        from torch.fx.experimental.proxy_tensor import make_fx

        def value_and_gradient(logits: Any, labels: Any) -> Any:
            value = self.mean_loss(loss, logits, labels)
            return value, torch.autograd.grad(value, logits)

        logits = torch.from_numpy(data.inputs @ data.weights).requires_grad_(True)
        graph = make_fx(value_and_gradient)(logits, torch.from_numpy(data.labels)).graph
        return sum(node.op == "call_function" for node in graph.nodes)


TRAINER = TorchTrainer
