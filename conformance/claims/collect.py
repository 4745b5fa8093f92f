"""All verdicts of all installed frameworks, and the document that holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from conformance.claims import expected
from conformance.claims.article import CLAIMS
from conformance.claims.expected import Change, Expectation
from conformance.claims.measure import measure_ops, measure_programs
from conformance.claims.problem import SCALES
from conformance.claims.programs import exact_mean, exact_softmax
from conformance.claims.progress import Progress
from conformance.claims.trajectory import certified
from conformance.claims.verdicts import Item
from conformance.frameworks import installed_version
from conformance.registry import FRAMEWORKS

__all__ = ["SCHEMA", "Findings", "collect"]

SCHEMA = 1
_WORKERS = 2
# The slow ones first, so that two workers end at about the same time.
_ORDER = ("torch", "tensorflow", "jax", "numpy")


@dataclass(frozen=True)
class Findings:
    """What one call of `conformance claims` found."""

    items: Sequence[Item]
    changes: Sequence[Change]
    versions: Mapping[str, Mapping[str, str]]
    """Of the frameworks that were measured."""
    other_versions: Mapping[str, Mapping[str, tuple[str, str | None]]]
    """Frameworks that no expectation is for: expected and installed version by library."""
    not_installed: Sequence[str]

    @property
    def exit_code(self) -> int:
        """1 when a verdict changed."""
        return 1 if self.changes else 0

    def document(self) -> dict[str, Any]:
        """The machine-readable form, which `conformance report --claims` reads."""
        trajectories = {
            str(scale): {
                "loss": list(found.loss),
                "accuracy": found.accuracy,
                "bits": list(found.bits),
                "digits_agreed": round(found.digits, 1),
            }
            for scale in SCALES
            for found in [certified(scale)]
        }
        return {
            "schema": SCHEMA,
            "kind": "claims",
            "versions": self.versions,
            "not_installed": list(self.not_installed),
            "other_versions": {
                name: {k: {"expected": a, "installed": b} for k, (a, b) in found.items()}
                for name, found in self.other_versions.items()
            },
            "exact": {"softmax": exact_softmax(), "mean_loss": exact_mean()},
            "trajectories": trajectories,
            "claims": [{"claim": c.name, "says": c.says, "figure": c.figure,
                        "compared": c.compared} for c in CLAIMS.values()],
            "items": [item.to_json() for item in self.items],
            "changes": [change.to_json() for change in self.changes],
            "exit_code": self.exit_code,
        }  # fmt: skip


def collect(
    frameworks: Sequence[str],
    tell: Callable[[str], None],
    *,
    timing: bool = True,
    expectation: Expectation | None = None,
) -> Findings:
    """Measure the frameworks, two at a time, and compare with the expectation.

    Parameters
    ----------
    frameworks : sequence of str
        Those that are not installed are named, and nothing else.
    tell : callable
        Told what is going on, from several threads.
    timing : bool
        Whether the losses are timed.
    expectation : Expectation, optional
        Default: the committed one.

    Raises
    ------
    ChildFailed, Uncertified, ExpectationError
        The instrument is broken.
    """
    expectation = expected.read() if expectation is None else expectation
    here = [name for name in frameworks if installed_version(name) is not None]
    order = sorted(here, key=_ORDER.index)
    progress = Progress(tell)
    with ThreadPoolExecutor(_WORKERS) as pool:
        futures = [pool.submit(measure_ops, name, progress, timing=timing) for name in order]
        futures += [pool.submit(measure_programs, name, progress) for name in order]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what failed first
            items = [item for future in futures for item in future.result()]
        except BaseException:
            # Ctrl-C, or one of them failed: the others' children are not worth waiting for.
            progress.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    ranks = list(CLAIMS)
    items.sort(key=lambda i: (ranks.index(i.claim), FRAMEWORKS.index(i.framework)))
    return Findings(
        items,
        expected.changes(items, expectation),
        {name: expected.installed(name) for name in here},
        {name: other for name in here if (other := expectation.other_versions(name))},
        [name for name in frameworks if name not in here],
    )
