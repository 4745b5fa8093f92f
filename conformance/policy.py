"""The judge's policy: how figures become a grade and a verdict.

==  ==========================================================================
A+  every error below 1 ULP
A   within the strong bound
B   within the weak bound, and the digits of C
C   normwise at least half of the format's digits
F   less, a NaN or infinity that is not the contract's, or any other breach
==  ==========================================================================

A cell passes with B or better and without a breach. The numbers in this are data
(``policy.toml``), so that a record can be judged again under others; the order of the rules is
code. Pure functions of figures: nothing here measures.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from conformance.columns import GRADES
from reference.formats import Format

_LARGEST = 1e300
"""Of a policy's numbers; infinity is no limit."""
_LONGEST = 1 << 20
"""Bytes of a policy file that are read; a device such as /dev/zero has no end."""


class PolicyError(ValueError):
    """A policy file that cannot be read as one."""


@dataclass(frozen=True)
class Policy:
    """The numbers of the rules; ``policy.toml`` says what each is.

    Attributes
    ----------
    version : int
    ratio : float
        Largest test ratio within a bound.
    ulp : float
        Errors of A+ are smaller.
    digits : float
        Share of the format's digits for C.
    passing : str
        The worst passing grade.
    """

    version: int
    ratio: float
    ulp: float
    digits: float
    passing: str

    def row(self) -> dict[str, Any]:
        """As a record holds it."""
        return asdict(self)

    @property
    def passes(self) -> tuple[str, ...]:
        """The grades that pass."""
        return GRADES[: GRADES.index(self.passing) + 1]

    def normwise(self, fmt: Format) -> float:
        """Normwise error up to which enough of the format's digits are right."""
        return float(2.0 ** (-fmt.precision * self.digits))

    def grade(self, fmt: Format, figures: Mapping[str, Any]) -> str:
        """The grade that the figures of a cell earn, before other breaches are looked at.

        Parameters
        ----------
        fmt : Format
        figures : mapping
            ``nan_mismatches``, ``inf_mismatches``, ``normwise``, ``max_ulp``, ``ratio_weak`` and
            ``ratio_strong`` of a measurement.
        """
        if figures["nan_mismatches"] or figures["inf_mismatches"]:
            return "F"
        if not figures["normwise"] <= self.normwise(fmt):
            return "F"
        if figures["max_ulp"] < self.ulp:
            return "A+"
        if not figures["ratio_weak"] <= self.ratio:
            return "C"
        return "A" if figures["ratio_strong"] <= self.ratio else "B"

    def accurate(self, fmt: Format, ratio: float, normwise: float) -> bool:
        """Are errors of this test ratio and normwise size such that pass?"""
        bounded = ratio <= self.ratio or self.passing == "C"
        return bounded and normwise <= self.normwise(fmt)

    def inaccurate(self, fmt: Format, figures: Mapping[str, Any]) -> bool:
        """Do the finite results of a cell break the contract?"""
        if not self.accurate(fmt, figures["ratio_weak"], figures["normwise"]):
            return True
        finite = {**figures, "nan_mismatches": 0, "inf_mismatches": 0}
        return self.grade(fmt, finite) not in self.passes

    def size(self, fmt: Format, figures: Mapping[str, Any]) -> float:
        """How large a breach of accuracy is: the test ratio, or the normwise error likewise."""
        return float(max(figures["ratio_weak"], figures["normwise"] / self.normwise(fmt)))

    def verdict(self, grade: str | None, kinds: Iterable[str]) -> str:
        """crash, timeout and error win over fail; without a breach a passing grade is a pass."""
        kinds = set(kinds)
        for kind in ("crash", "timeout", "error"):
            if kind in kinds:
                return kind
        return "fail" if kinds or grade not in (*self.passes, None) else "pass"


@cache
def load() -> Policy:
    """The policy of this version of the tool."""
    return parse((files("conformance") / "policy.toml").read_text(encoding="utf-8"), "policy.toml")


def read(path: Path) -> Policy:
    """A policy from a file.

    Raises
    ------
    PolicyError
        Saying what is wrong with the file.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_LONGEST + 1)
        text = data[:_LONGEST].decode("utf-8")
    except (OSError, ValueError) as problem:
        raise PolicyError(f"cannot read the policy {path}: {problem}") from None
    if len(data) > _LONGEST:
        raise PolicyError(f"{path} is no policy: it is longer than {_LONGEST} bytes")
    return parse(text, str(path))


def parse(text: str, name: str) -> Policy:
    """Read a policy from TOML; PolicyError names the key that is wrong."""
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise PolicyError(f"{name} is no policy: it is nested too deeply") from None
    except ValueError as problem:  # also a number of more digits than Python reads
        raise PolicyError(f"{name} is not TOML: {problem}") from None
    return _policy(found, name)


def from_row(found: Mapping[str, Any]) -> Policy:
    """A policy as a record holds it; PolicyError names the key that is wrong."""
    return _policy(found, "the record's policy")


def _policy(found: Mapping[str, Any], name: str) -> Policy:
    known = [f.name for f in fields(Policy)]
    if unknown := [key for key in found if key not in known]:
        raise PolicyError(f"{name}: unknown key {unknown[0]!r} (known: {', '.join(known)})")
    if missing := [key for key in known if key not in found]:
        raise PolicyError(f"{name}: the key {missing[0]} is missing")
    version, passing = found["version"], found["passing"]
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**31:
        raise PolicyError(f"{name}: version is a whole number from 1, below 2**31")
    if passing not in GRADES[:-1]:
        raise PolicyError(f"{name}: passing is one of {', '.join(GRADES[:-1])}")
    numbers = {}
    for key, most in (("ratio", _LARGEST), ("ulp", _LARGEST), ("digits", 1.0)):
        value = found[key]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PolicyError(f"{name}: {key} is a number")
        if not 0 < value <= most:
            raise PolicyError(f"{name}: {key} is above 0 and at most {most:g}")
        numbers[key] = float(value)
    return Policy(version=version, passing=str(passing), **numbers)
