"""What a claim comes to in one framework, mode and dtype."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "DOES_NOT_HOLD",
    "HOLDS",
    "HOLDS_WITHIN",
    "NOT_MEASURED",
    "VERDICTS",
    "Item",
    "number",
    "slashed",
]

HOLDS = "holds"
HOLDS_WITHIN = "holds within"
DOES_NOT_HOLD = "does not hold"
NOT_MEASURED = "not measured"
VERDICTS = (HOLDS, HOLDS_WITHIN, DOES_NOT_HOLD, NOT_MEASURED)


@dataclass(frozen=True)
class Item:
    """A verdict and the figures that it rests on.

    Attributes
    ----------
    claim, framework, mode, dtype : str
    verdict : str
        One of `VERDICTS`.
    range : str
        Where the claim holds (or, for a warning, from where on it does), in words.
    short : str
        The same in a table's cell.
    more : mapping of str to str
        Further cells, by what they say; every item of a claim has the same ones.
    limit : float or None
        The figure of that range which is held to the expectation.
    counter_example : str
        Where it does not hold: inputs, what came out, what is right.
    figures : mapping
        Everything that was measured.
    """

    claim: str
    framework: str
    mode: str
    dtype: str
    verdict: str
    range: str = ""
    short: str = ""
    more: Mapping[str, str] = field(default_factory=dict)
    limit: float | None = None
    counter_example: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What the verdict is about."""
        return self.claim, self.framework, self.mode, self.dtype

    def to_json(self) -> dict[str, Any]:
        """For the machine-readable document."""
        return asdict(self)


def slashed(values: Iterable[float | None]) -> str:
    """Several figures in one cell, three digits each; one, where they are all the same."""
    texts = ["never" if v is None else f"{v:.3g}" for v in values]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)


def number(value: float | None) -> str:
    """A figure in four digits, as a table and a sentence show it."""
    if value is None:
        return "none"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return f"{value:.4g}"
