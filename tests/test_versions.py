"""The installed versions are those of constraints.txt.

Published figures are statements about versions. Where this fails, the environment was not made by
tox, or not with the constraints.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"


def pins() -> dict[str, Version]:
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "=="
            found[canonicalize_name(requirement.name)] = Version(specifier.version)
    return found


def installed() -> dict[str, Version]:
    return {
        canonicalize_name(d.metadata["Name"]): Version(d.version) for d in metadata.distributions()
    }


def needed(name: str, seen: set[str]) -> set[str]:
    """Names of all that an installed distribution needs here, itself included."""
    name = canonicalize_name(name)
    if name in seen:
        return seen
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return seen
    seen.add(name)
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed(requirement.name, seen)
    return seen


def test_what_is_installed_is_what_is_pinned() -> None:
    found = installed()
    wrong = {
        name: (str(found[name]), str(pinned))
        for name, pinned in pins().items()
        # A local label (+cpu) names a build of the pinned version.
        if name in found and found[name].public != pinned.public
    }
    assert wrong == {}


def test_everything_that_the_suite_computes_with_is_pinned() -> None:
    pinned = pins()
    wanted: set[str] = set()
    for root in ("numpy", "ml_dtypes", "mpmath", "pytest", "pytest-xdist", "torch", "tensorflow"):
        needed(root, wanted)
    for root in ("jax", "optax", "click", "rich", "jinja2", "hypothesis", "python-flint"):
        needed(root, wanted)
    # A CUDA build of torch brings NVIDIA's libraries along; the tested build is the CPU one.
    unpinned = {n for n in wanted - set(pinned) if not n.startswith(("nvidia-", "cuda-", "triton"))}
    assert unpinned == set()
    assert "numpy" in wanted


def test_the_pins_are_sorted_and_each_is_given_once() -> None:
    lines = [
        line
        for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert lines == sorted(lines)
    assert len(lines) == len(pins())
