"""The child that runs the article's programs: ``python -m conformance.claims.child``.

Arguments: framework, context, the parent's process id. A job comes as JSON on stdin, its answers
go as JSON to what was stdout; what a framework prints meanwhile goes to stderr. Infinities and NaN
travel as Python's JSON writes them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from conformance.claims.article import (
    MEAN_LOSS_LABELS,
    MEAN_LOSS_LOGITS,
    SOFTMAX_LOGITS,
    implementation_names,
)
from conformance.claims.problem import SCALES, follow, problem
from conformance.claims.trainers import Trainer, trainer_for
from conformance.execution.child import leave_no_core
from conformance.execution.guard import die_with
from conformance.execution.protocol import clean_text, numpy_dtype
from conformance.frameworks import get_framework
from conformance.registry import Implementation, load_builtin


def main(arguments: list[str]) -> None:
    """Load the framework, do the job, write the answers."""
    name, context, parent = arguments
    die_with(int(parent))
    leave_no_core()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job: dict[str, Any] = json.load(sys.stdin)
    framework = get_framework(name)()
    framework.load(context)
    trainer = trainer_for(framework)
    found = {
        "versions": framework.versions(),
        "programs": [
            _answer(_program, trainer, mode=mode, dtype=dtype) for mode, dtype in job["programs"]
        ],
        "training": [
            _answer(_training, trainer, mode=mode, method=method, scale=scale)
            for mode, method in job["training"]
            for scale in SCALES
        ],
        "operations": {loss: _operations(trainer, loss) for loss in job["operations"]},
    }
    json.dump(found, answers)
    answers.close()


def _answer(function: Any, trainer: Trainer, **what: Any) -> dict[str, Any]:
    """What the function found, or how it failed."""
    try:
        return {**what, **function(trainer, **what)}
    except Exception as error:
        return {**what, "error": clean_text(f"{type(error).__name__}: {error}", 400)}


def _operations(trainer: Trainer, loss: str) -> int | None:
    try:
        return trainer.operations(loss, problem(1))
    except ImportError:  # a library that the loss needs beside the framework
        return None


def _program(trainer: Trainer, mode: str, dtype: str) -> dict[str, Any]:
    """The article's two programs: softmax of four logits, and the mean loss by both methods."""
    kind = numpy_dtype(dtype)
    softmax = load_builtin()[implementation_names(trainer.framework.name)["softmax"]]
    row = {"x": np.array([SOFTMAX_LOGITS], kind)}
    rows = {"x": np.array(MEAN_LOSS_LOGITS, kind), "target": np.array(MEAN_LOSS_LABELS, kind)}
    found: dict[str, Any] = {"softmax": _call(trainer, softmax, mode, row)[0]}
    for loss in ("builtin", "manual"):
        entry = trainer.losses[loss]
        mean = Implementation(f"article.{loss}", entry.op, entry.framework, _mean_of(trainer, loss))
        found[loss] = _call(trainer, mean, mode, rows)
    return found


def _mean_of(trainer: Trainer, loss: str) -> Any:
    return lambda x, target, *, axis: trainer.mean_loss(loss, x, target)


def _call(trainer: Trainer, entry: Implementation, mode: str, arrays: dict[str, Any]) -> Any:
    framework = trainer.framework
    inputs = {name: framework.to_framework(array) for name, array in arrays.items()}
    value = framework.prepare(entry, "value", "-", mode)(inputs)
    # Every format's values are exactly float64 values.
    return framework.from_framework(value).astype(np.float64).tolist()


def _training(trainer: Trainer, mode: str, method: str, scale: int) -> dict[str, Any]:
    data = problem(scale)
    return asdict(follow(trainer.start(method, mode, data), data))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as error:
        sys.stderr.write(clean_text(f"{type(error).__name__}: {error}", 600) + "\n")
        os._exit(1)
    os._exit(0)  # frameworks can hang in their exit handlers
