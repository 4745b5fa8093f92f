"""The article, restated: its claims, its inputs and the numbers that it prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "CLAIMS",
    "LOSSES",
    "MEAN_LOSS_LABELS",
    "MEAN_LOSS_LOGITS",
    "PRINTED_MEAN_LOSS",
    "PRINTED_SOFTMAX",
    "SOFTMAX_LOGITS",
    "THREE_LOGITS",
    "Claim",
    "implementation_names",
]


@dataclass(frozen=True)
class Claim:
    """One thing that the article says, or that its reader asks next.

    Attributes
    ----------
    name : str
        The key of its verdicts.
    says : str
        The claim in a sentence.
    figure : str
        What the figures of its table are.
    compared : bool
        Whether verdicts are held to the committed expectation; times depend on the machine.
    """

    name: str
    says: str
    figure: str
    compared: bool = True


THREE_LOGITS = (0.5, 1.5, 0.1)
SOFTMAX_LOGITS = (0.1, 0.3, 0.5, 0.9)
PRINTED_SOFTMAX = ("0.16838508", "0.205666", "0.25120102", "0.37474789")
MEAN_LOSS_LOGITS = ((0.5, 1.5, 0.1), (2.2, 1.3, 1.7))
MEAN_LOSS_LABELS = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
PRINTED_MEAN_LOSS = "0.839343"

LOSSES = ("builtin", "manual", "clipped")
"""The framework's own cross-entropy, the hand-written one, and the same with its probabilities
clipped."""

_CLAIMS = (
    Claim(
        "logits",
        "Logits are unnormalised log-probabilities and may be any real number.",
        "log_softmax(z) against z minus one number for all classes, in ULP of that number",
    ),
    Claim(
        "order",
        "The higher the logit, the higher the probability.",
        "the gap below the largest logit from which logits 1 apart get equal probabilities",
    ),
    Claim(
        "probabilities",
        "The outputs of softmax lie in [0, 1] and sum to 1.",
        "the largest distance of a sum of 3 to 1000 probabilities from 1, in ULP of 1",
    ),
    Claim(
        "printed-softmax",
        "softmax of [0.1, 0.3, 0.5, 0.9] prints [0.16838508 0.205666 0.25120102 0.37474789].",
        "how many of the four numbers are printed as the article has them",
    ),
    Claim(
        "unstable",
        "softmax and log by hand: for very large logits the log overflows or underflows.",
        "the smallest logit gap at which the loss or its gradient is NaN or infinite",
    ),
    Claim(
        "avoids-log-0",
        "The built-in cross-entropy avoids log(0).",
        "the smallest logit gap at which its loss or its gradient is NaN or infinite",
    ),
    Claim(
        "mean-loss",
        "Both methods give the mean loss 0.839343.",
        "what is printed instead, by the built-in and, where it differs, by hand",
    ),
    Claim(
        "identical",
        "Both methods give identical results.",
        "the logit gap from which they differ in a digit that the format has",
    ),
    Claim(
        "simpler",
        "The built-in reduces complexity.",
        "operations that the framework records for loss and gradient: built-in, by hand",
    ),
    Claim(
        "faster",
        "The built-in performs better.",
        "time by hand divided by time of the built-in: loss, then loss and gradient, for 128 x 10 "
        "logits and for 64 x 5000",
        compared=False,
    ),
    Claim(
        "training",
        "The training example (logits = inputs @ weights + biases, Adam) works with the built-in.",
        "the largest scale of the logits at which it trains",
    ),
    Claim(
        "training-fails",
        "With the hand-written loss, training fails for very large logits.",
        "the smallest scale at which it fails: the step, and the logit gap then",
    ),
    Claim(
        "clipping",
        "Clipping the probabilities keeps the log finite (the usual advice, not the article's): "
        "the loss is then right.",
        "the logit gap from which the clipped loss has lost a digit that the format has",
    ),
    Claim(
        "clipping-trains",
        "With the clipped loss, training works (again the usual advice).",
        "the smallest scale at which it does not learn what the built-in learns",
    ),
)

CLAIMS: Mapping[str, Claim] = MappingProxyType({claim.name: claim for claim in _CLAIMS})
"""By name, in the article's order."""


def implementation_names(framework: str) -> dict[str, str]:
    """The implementations that the claims are about, by what they are to the article.

    NumPy has no built-in functions of this kind; the suite's own take their place.
    """
    own = {
        "numpy": ("conformance.numpy.softmax", "conformance.numpy.log_softmax",
                  "conformance.numpy.softmax_cross_entropy"),
        "torch": ("torch.nn.functional.softmax", "torch.nn.functional.log_softmax",
                  "torch.nn.functional.cross_entropy.probabilities"),
        "tensorflow": ("tensorflow.nn.softmax", "tensorflow.nn.log_softmax",
                       "tensorflow.nn.softmax_cross_entropy_with_logits"),
        "jax": ("jax.nn.softmax", "jax.nn.log_softmax", "optax.losses.softmax_cross_entropy"),
    }[framework]  # fmt: skip
    return {
        **dict(zip(("softmax", "log_softmax", "builtin"), own, strict=True)),
        "manual": f"antipattern.{framework}.log_of_softmax",
        "clipped": f"antipattern.{framework}.clipped_log_of_softmax",
    }
