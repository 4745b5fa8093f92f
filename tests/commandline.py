"""The command line in processes of its own, and what a test asks of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import conformance as package
from conformance.record import Record

PACKAGES = str(Path(package.__file__).parents[1])
EVERY_FAMILY = tuple(
    part
    for family in ("realistic", "gap_ladder", "shift_ladder", "near_ties", "subnormals", "masks",
                   "infinity_lattice")
    for part in ("--family", family)
)  # fmt: skip
"""More cells than the quick profile has."""
SMALL = ("--framework", "numpy", "--op", "softmax", "--dtype", "float32", "--derivative", "value")


def python(
    *arguments: str,
    cwd: Path | None = None,
    path: tuple[str, ...] = (),
    seconds: float = 300,
    **variables: str,
) -> Any:
    """Run Python on the package that is under test; its output and exit code."""
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*path, PACKAGES]), **variables},
    )


def conformance(
    *arguments: str, cwd: Path | None = None, seconds: float = 300, **variables: str
) -> Any:
    """Run the command line."""
    return python("-m", "conformance", *arguments, cwd=cwd, seconds=seconds, **variables)


def measured(result: Any) -> dict[str, dict[str, Any]]:
    """The cells of a run with --json, by key."""
    return {row["key"]: row for row in json.loads(result.stdout)["cells"]}


def figures(row: dict[str, Any]) -> dict[str, Any]:
    """A measurement without its times."""
    return {k: v for k, v in row.items() if not k.startswith("seconds_")}


def all_figures(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Measurements without their times, by key."""
    return {row["key"]: figures(row) for row in rows}


def changed(found: Record, *path: str, to: Any) -> Record:
    """A record with one entry of its run.json changed."""
    run = json.loads(json.dumps(found.run))
    of = run
    for name in path[:-1]:
        of = of[name]
    of[path[-1]] = to
    return replace(found, run=run)
