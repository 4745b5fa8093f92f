"""Entries about the implementations of `deviating`, one for each rule; and a package of them.

In that copy of the package a run of everything takes seconds.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from commandline import PACKAGES, python

PLUGIN = str(Path(__file__).with_name("deviating.py"))
WITNESS = "softmax-float32-w.one_plus_inf-7d53c4"
ENTRY = """\
[[deviation]]
id = "{name}"
versions = ">=2,<3"
# Worst seen 69.
allows = {{ "nan@one_plus_inf" = 1e6, "nan@several_plus_inf" = 1e6 }}
witnesses = ["{witness}"]
reason = "upstream-bug"
summary = "x - max x is inf - inf."
upstream = "unreported"
since = "2026-12-01"
review_by = "2027-06-01"
[deviation.match]
implementation = "deviating.{name}"
"""


def entry(name: str, *changes: tuple[str, str]) -> str:
    """An entry about ``deviating.NAME``, with texts of it replaced by others."""
    text = ENTRY.format(name=name, witness=WITNESS)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


SMALL = ('one_plus_inf" = 1e6', 'one_plus_inf" = 3')
"""Less than the implementation shows."""
OTHER_VERSION = (">=2,<3", ">=1,<2")
"""Not the one that is installed."""
NO_CELL = ("[deviation.match]", '[deviation.match]\ndtype = "float16"')
"""Which the implementation does not take."""
ELSEWHERE = ("[deviation.match]", '[deviation.facts]\nmachine = "pdp11"\n[deviation.match]')
"""Not this machine."""
NO_WITNESS = (WITNESS, "softmax-float16-w.one_plus_inf-7d53c4")
"""A case that runs in none of its cells."""

EVERYTHING = (
    entry("shows"),
    entry("worse", SMALL),
    entry("elsewhere", OTHER_VERSION),
    entry("mended"),
    entry("absent", NO_CELL),
)


def package(folder: Path, *entries: str) -> str:
    """Make a copy of the package with `deviating` alone under test, and these entries."""
    for name in ("conformance", "reference"):
        shutil.copytree(Path(PACKAGES, name), folder / name,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    under_test = folder / "conformance/implementations"
    shutil.rmtree(under_test)
    under_test.mkdir()
    (under_test / "__init__.py").write_text("")
    shutil.copy(PLUGIN, under_test)
    for file in (folder / "conformance/deviations").glob("*.toml"):
        file.unlink()
    (folder / "conformance/deviations/numpy.toml").write_text("\n".join(entries))
    (folder / "conformance/floor.toml").write_text("")  # it is about all that ships
    return str(folder)


def conformance(where: str, *arguments: str) -> Any:
    """Run the command line of such a copy."""
    return python("-m", "conformance", *arguments, path=(where,))
