"""One framework's part: everything that its children are asked, as verdicts."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from conformance.claims import losses, programs, properties, speed, training
from conformance.claims.article import LOSSES
from conformance.claims.ask import Ask, Unanswered
from conformance.claims.progress import Progress
from conformance.claims.trajectory import certified
from conformance.claims.verdicts import DOES_NOT_HOLD, HOLDS, NOT_MEASURED, Item
from conformance.execution.executor import Executor
from conformance.execution.protocol import clean_text
from conformance.frameworks import get_framework

__all__ = ["ChildFailed", "measure_ops", "measure_programs"]

DEADLINE = 300.0
"""Seconds for the child with the article's programs."""
_LOOK = 0.5
_TIMED_DTYPE = "float32"


class ChildFailed(RuntimeError):
    """The child with the article's programs ended without an answer."""


def measure_ops(framework: str, progress: Progress, *, timing: bool = True) -> list[Item]:
    """The verdicts on softmax and on the two losses, of an installed framework.

    Parameters
    ----------
    framework : str
    progress : Progress
        Told what is going on.
    timing : bool
        Whether the two losses are timed as well.
    """
    kind = get_framework(framework)
    items: list[Item] = []
    for context, dtypes in _contexts(framework).items():
        with Executor(framework, context) as executor:
            for mode in kind.modes:
                for dtype in dtypes:
                    progress.tell(f"{framework}: {mode} {dtype}")
                    items += _of_mode(Ask(executor, mode, dtype), timing)
    return items


def measure_programs(framework: str, progress: Progress) -> list[Item]:
    """The verdicts on the article's programs and on its training example.

    Parameters
    ----------
    framework, progress
        As for `measure_ops`.

    Raises
    ------
    ChildFailed
        If they could not be run at all.
    """
    items: list[Item] = []
    for context, dtypes in _contexts(framework).items():
        progress.tell(f"{framework}: the article's programs, {' '.join(dtypes)}")
        modes = get_framework(framework).modes
        items += _of_child(framework, context, modes, dtypes, progress)
    return items


def _contexts(framework: str) -> dict[str, list[str]]:
    """The dtypes by the context that they run in."""
    kind = get_framework(framework)
    found: dict[str, list[str]] = {}
    for dtype in kind.dtypes:
        found.setdefault(kind.context_for(dtype), []).append(dtype)
    return found


def _of_mode(ask: Ask, timing: bool) -> Iterator[Item]:
    # torch.compile takes seconds for each gradient: in one dtype only.
    costly = (ask.framework, ask.mode) == ("torch", "compiled")
    gradients = not costly or ask.dtype == _TIMED_DTYPE
    yield from _guarded(ask, ("logits", "order", "probabilities"), lambda: properties.judge(ask))
    yield from _guarded(
        ask,
        ("unstable", "avoids-log-0", "identical", "clipping"),
        lambda: losses.judge(ask, gradients=gradients),
    )
    # NumPy has no built-in to be faster than.
    if timing and ask.dtype == _TIMED_DTYPE and ask.framework != "numpy":
        yield from _guarded(ask, ("faster",), lambda: [speed.judge(ask)])


def _guarded(
    ask: Ask, claims: tuple[str, ...], judge: Callable[[], Iterable[Item]]
) -> Iterator[Item]:
    """What was judged, and `not measured` for what came after an answer that failed."""
    done = set()
    try:
        for item in judge():
            done.add(item.claim)
            yield item
    except Unanswered as failure:
        for claim in claims:
            if claim not in done:
                yield Item(claim, ask.framework, ask.mode, ask.dtype, NOT_MEASURED, short="error",
                           counter_example=clean_text(str(failure), 400))  # fmt: skip


# ---------------------------------------------------------------- the article's programs


def _of_child(
    framework: str, context: str, modes: Iterable[str], dtypes: list[str], progress: Progress
) -> Iterator[Item]:
    trains = training.DTYPE in dtypes
    job = {
        "programs": [[mode, dtype] for mode in modes for dtype in dtypes],
        "training": [[mode, loss] for mode in modes for loss in LOSSES] if trains else [],
        "operations": ["builtin", "manual"] if trains else [],
    }
    answers = _run_child(framework, context, job, progress)
    for answer in answers["programs"]:
        if "error" in answer:
            for claim in ("printed-softmax", "mean-loss"):
                yield Item(claim, framework, answer["mode"], answer["dtype"], NOT_MEASURED,
                           short="error", counter_example=str(answer["error"]))  # fmt: skip
        else:
            yield programs.judge_softmax(framework, answer)
            yield programs.judge_mean_loss(framework, answer)
    curves = answers["training"]
    if curves:
        exact = {scale: certified(scale) for scale in {int(c["scale"]) for c in curves}}
        yield from training.judge(framework, curves, exact)
        if all(answers["operations"].values()):
            yield _simpler(framework, answers["operations"])


def _simpler(framework: str, counts: Mapping[str, int]) -> Item:
    """The verdict on `simpler`: operations recorded for the mean loss and its gradient."""
    verdict = HOLDS if counts["builtin"] < counts["manual"] else DOES_NOT_HOLD
    told = f"{counts['builtin']} operations, {counts['manual']} by hand"
    return Item(
        "simpler", framework, "traced", training.DTYPE, verdict, short=told, figures=dict(counts),
        range=told if verdict == HOLDS else "",
        counter_example="" if verdict == HOLDS else told,
    )  # fmt: skip


def _run_child(
    framework: str, context: str, job: Mapping[str, Any], progress: Progress
) -> dict[str, Any]:
    """Start the child, hand it the job, and return its answers."""
    variables = dict(os.environ)
    for name, value in get_framework(framework).environment(context).items():
        if value is None:
            variables.pop(name, None)
        else:
            variables[name] = value
    root = str(Path(__file__).resolve().parents[2])
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [root, variables.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-m", "conformance.claims.child", framework, context, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=variables,
        start_new_session=True,
    ) as child:
        try:
            out, errors = _converse(child, json.dumps(job), framework, progress)
        finally:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
    if child.returncode != 0:
        last = clean_text(errors.strip().rpartition("\n")[2], 400)
        raise ChildFailed(f"{framework}: the child ended with {child.returncode}: {last}")
    answers: dict[str, Any] = json.loads(out)
    return answers


def _converse(
    child: subprocess.Popen[str], job: str, framework: str, progress: Progress
) -> tuple[str, str]:
    """What the child says until its end; between two looks, whether anybody still waits."""
    until = time.monotonic() + DEADLINE
    question: str | None = job
    while True:
        try:
            return child.communicate(question, min(_LOOK, DEADLINE))
        except subprocess.TimeoutExpired:
            question = None  # it has been given; communicate() goes on where it was
            progress.check()
            if time.monotonic() > until:
                raise ChildFailed(f"{framework}: no answer within {DEADLINE:g} s") from None
