"""Verdicts held to the committed ones: `expected.toml`, for the pinned versions.

A verdict has changed when its words differ, or when the figure of its range moved by more than
`SLACK`: rounding moves it a little from one processor to the next, and a change of algorithm by
much more (the gap at which probabilities vanish is 87 where subnormal numbers are flushed, 104
where they are kept).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from conformance.claims.article import CLAIMS
from conformance.claims.verdicts import VERDICTS, Item
from conformance.files import replace_text
from conformance.registry import distribution_version

__all__ = [
    "FILE",
    "LIBRARIES",
    "SLACK",
    "Change",
    "Expectation",
    "ExpectationError",
    "changes",
    "installed",
    "read",
    "write",
]

FILE = Path(__file__).with_name("expected.toml")
SLACK = 0.15

LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy", "ml_dtypes"),
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "keras"),
    "jax": ("jax", "optax"),
}
"""The distributions that a framework's verdicts depend on."""

Key = tuple[str, str, str, str]


class ExpectationError(Exception):
    """The file of expected verdicts cannot be read."""


@dataclass(frozen=True)
class Expectation:
    """The committed verdicts, and the versions that they are for."""

    versions: Mapping[str, Mapping[str, str]]
    """By framework, then library."""
    verdicts: Mapping[Key, tuple[str, float | None]]
    """Verdict and limit by claim, framework, mode and dtype."""

    def other_versions(self, framework: str) -> dict[str, tuple[str, str | None]]:
        """Libraries whose installed version is another one: the expected and the installed."""
        here = installed(framework)
        return {
            name: (wanted, here.get(name))
            for name, wanted in self.versions.get(framework, {}).items()
            if here.get(name) != wanted
        }


@dataclass(frozen=True)
class Change:
    """A verdict that is not the committed one; None where there is none."""

    claim: str
    framework: str
    mode: str
    dtype: str
    expected: str | None
    found: str | None

    def to_json(self) -> dict[str, Any]:
        """For the machine-readable document."""
        return asdict(self)


def installed(framework: str) -> dict[str, str]:
    """The installed versions of a framework's libraries, without local parts such as ``+cpu``."""
    found = {}
    for name in LIBRARIES[framework]:
        version = distribution_version(name)
        if version is None:
            continue
        try:
            found[name] = Version(version).public
        except InvalidVersion:
            found[name] = version
    return found


def changes(items: Iterable[Item], expectation: Expectation) -> list[Change]:
    """The verdicts that changed, of frameworks at the expected versions.

    What is not compared (times) and frameworks at other versions are left out. A verdict that is
    expected and missing has changed, and so has one that nobody expected.
    """
    found = {item.key: item for item in items if CLAIMS[item.claim].compared}
    judged = {
        framework
        for framework in dict.fromkeys(key[1] for key in found)
        if not expectation.other_versions(framework)
    }
    keys = dict.fromkeys([*found, *expectation.verdicts])
    return [
        Change(*key, _text(expected), _text(mine))
        for key in keys
        if key[1] in judged
        for mine in [(found[key].verdict, found[key].limit) if key in found else None]
        for expected in [expectation.verdicts.get(key)]
        if not _same(mine, expected)
    ]


def _same(mine: tuple[str, float | None] | None, expected: tuple[str, float | None] | None) -> bool:
    if mine is None or expected is None or mine[0] != expected[0]:
        return False
    here, there = mine[1], expected[1]
    if here is None or there is None:
        return here is there
    return abs(here - there) <= SLACK * abs(there)


def _text(verdict: tuple[str, float | None] | None) -> str | None:
    if verdict is None:
        return None
    return verdict[0] if verdict[1] is None else f"{verdict[0]} ({verdict[1]:.4g})"


# ---------------------------------------------------------------- the file


def read(path: str | os.PathLike[str] = FILE) -> Expectation:
    """The committed expectation.

    Raises
    ------
    ExpectationError
        If the file is missing or not of this form.
    """
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ExpectationError(f"expected verdicts: {path}: {problem}") from None
    verdicts: dict[Key, tuple[str, float | None]] = {}
    for claim, entries in document.get("verdicts", {}).items():
        if claim not in CLAIMS:
            raise ExpectationError(f"expected verdicts: there is no claim {claim!r}")
        for name, entry in entries.items():
            parts = name.split()
            limit = entry[1] if len(entry) == 2 else None
            if len(parts) != 3 or not entry or entry[0] not in VERDICTS:
                raise ExpectationError(f"expected verdicts: {claim}: {name!r} = {entry!r}")
            verdicts[claim, parts[0], parts[1], parts[2]] = entry[0], limit
    return Expectation(document.get("versions", {}), verdicts)


_HEAD = """\
# The verdicts of `conformance claims` at these versions, on x86-64. Written by
# `conformance claims --write-expected`; look at every line that changes before committing it.
#
# "framework mode dtype" = [verdict, limit]. What the limit is depends on the claim
# (conformance/claims/article.py): a logit gap, or a scale of the logits.
"""


def write(items: Sequence[Item], path: str | os.PathLike[str] = FILE) -> None:
    """Write the verdicts as the expectation, with the installed versions."""
    lines = [_HEAD]
    for framework in dict.fromkeys(item.framework for item in items):
        lines.append(f"[versions.{framework}]")
        lines += [f'{name} = "{version}"' for name, version in installed(framework).items()]
        lines.append("")
    for claim in (c for c in CLAIMS.values() if c.compared):
        lines.append(f"[verdicts.{claim.name}]")
        for item in items:
            if item.claim == claim.name:
                limit = "" if item.limit is None else f", {_toml(item.limit)}"
                lines.append(
                    f'"{item.framework} {item.mode} {item.dtype}" = ["{item.verdict}"{limit}]'
                )
        lines.append("")
    replace_text(Path(path), "\n".join(lines[:-1]) + "\n")


def _toml(value: float) -> str:
    text = f"{value:.5g}"
    return text if any(c in text for c in ".e") else f"{text}.0"
