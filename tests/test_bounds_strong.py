"""The strong bounds of derivatives and divergences against implementations that should meet them.

Narrower formats compute in float32 and round once at the end, as their strong bound assumes.

REFERENCE_LONG=1 takes every row instead of each fourth one.
"""

from __future__ import annotations

import os
from typing import Any

import emulated_rows
import numpy as np
import pytest
from emulated_careful import Careful

from reference import formats, ops
from reference.formats import FORMATS

STRIDE = 1 if os.environ.get("REFERENCE_LONG") else 4
NAMES = ("softmax", "log_softmax", "logsumexp", "softmax_cross_entropy",
         "sparse_softmax_cross_entropy", "categorical_entropy", "kl_divergence")  # fmt: skip
MAPS = [
    (name, *key) for name in NAMES for key in ops.get(name).maps
    if key[0] in ("jvp", "hvp") or name in ("categorical_entropy", "kl_divergence")
]  # fmt: skip


@pytest.mark.parametrize("name", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("key", MAPS, ids="-".join)
def test_careful_implementations_are_within_strong(key: Any, name: str) -> None:
    fmt = FORMATS[name]
    inner = FORMATS["float32"] if fmt.is_narrow else fmt
    for n in (2, 5, 17):
        inputs = {
            k: a[n % STRIDE :: STRIDE] for k, a in emulated_rows.hard_rows(key, fmt, n).items()
        }
        with np.errstate(all="ignore"):
            result = formats.nearest(fmt, Careful(inner, inputs).answer(key))
        ratio, row = emulated_rows.worst(key, fmt, inputs, result, "strong")
        assert ratio <= 1.01, (n, ratio, row)
