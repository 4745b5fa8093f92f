"""The first five ops, value and vjp: their maps by short names, and rows of them as batches."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from reference import ops, oracle
from reference.formats import FORMATS

INF, NAN = math.inf, math.nan
# The other ops, and their second derivatives, have test files of their own.
FIRST = ("log_softmax", "logsumexp", "softmax", "softmax_cross_entropy",
         "sparse_softmax_cross_entropy")  # fmt: skip
MAPS = [(op, *key) for op in FIRST for key in ops.get(op).maps if key[0] in ("value", "vjp")]
SCALE = 10 if os.environ.get("REFERENCE_LONG") else 1

SOFTMAX, SOFTMAX_X = ("softmax", "value", "-"), ("softmax", "vjp", "x")
LOG, LOG_X = ("log_softmax", "value", "-"), ("log_softmax", "vjp", "x")
LSE, LSE_X = ("logsumexp", "value", "-"), ("logsumexp", "vjp", "x")
CE = ("softmax_cross_entropy", "value", "-")
CE_X, CE_T = ("softmax_cross_entropy", "vjp", "x"), ("softmax_cross_entropy", "vjp", "target")
SPARSE = ("sparse_softmax_cross_entropy", "value", "-")
SPARSE_X = ("sparse_softmax_cross_entropy", "vjp", "x")


def batch(op: str, **row: Any) -> dict[str, Any]:
    """One row as a batch; what the op needs and is not given gets a default."""
    x = np.asarray(row["x"], np.float64)
    definition = ops.get(op)
    made: dict[str, Any] = {"x": x[None]}
    if "target" in definition.inputs:
        made["target"] = np.asarray(row.get("target", np.eye(x.size)[0]), np.float64)[None]
    if "label" in definition.inputs:
        made["label"] = np.array([row.get("label", 0)], np.int64)
    default = 1.0 if definition.per_row else np.eye(x.size)[0]
    made["g"] = np.asarray(row.get("g", default), np.float64)[None]
    return made


def evaluate(key: tuple[str, str, str], fmt: str = "float32", **row: Any) -> oracle.References:
    return oracle.evaluate(*key, batch(key[0], **row), FORMATS[fmt])


def rounded(key: tuple[str, str, str], fmt: str = "float32", **row: Any) -> list[float]:
    return [float(v) for v in evaluate(key, fmt, **row).rounded()[0]]
