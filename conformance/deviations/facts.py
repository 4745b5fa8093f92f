"""Facts of a machine and its settings that an entry may depend on, as a record holds them.

==============  =====================================================================
machine         ``x86_64``, ``aarch64``, ...
system          ``Linux``, ``macOS``, ...
cpu             an instruction set that the processor has, or with ``!`` one that it lacks
variable.NAME   value of an environment variable that libraries listen to, or ``unset``
library.NAME    version specifier of a distribution that computes beside the framework
==============  =====================================================================

Each has one or several accepted values; all of an entry's facts have to hold. They are read from
the ``environment`` entry of a run.json, so that an old record is ruled on by the facts of its own
machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

__all__ = ["UNSET", "Conditions", "faults", "hold", "read"]

Conditions = Mapping[str, tuple[str, ...]]
"""Accepted values by the name of a fact, such as ``library.keras``."""

UNSET = "unset"
_PLAIN = ("machine", "system", "cpu")
_TABLES = ("variable", "library")


def read(given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The conditions of an entry's ``facts``, of which `faults` found nothing wrong."""
    found = {}
    for name, value in given.items():
        named = {f"{name}.{k}": v for k, v in value.items()} if name in _TABLES else {name: value}
        for key, accepted in named.items():
            found[key] = (accepted,) if isinstance(accepted, str) else tuple(accepted)
    return found


def is_texts(value: Any) -> bool:
    """Is it a list of texts, none of them empty, and at least one?"""
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v for v in value)


def faults(given: Any) -> list[str]:
    """What is wrong with an entry's ``facts``."""
    if not isinstance(given, Mapping) or not given.keys() <= {*_PLAIN, *_TABLES}:
        return [f"facts takes {', '.join((*_PLAIN, *_TABLES))}"]
    found = []
    for name, value in given.items():
        if name in _TABLES and not isinstance(value, Mapping):
            found.append(f"facts: {name} is a table")
            continue
        named = {f"{name}.{k}": v for k, v in value.items()} if name in _TABLES else {name: value}
        for key, accepted in named.items():
            values = [accepted] if isinstance(accepted, str) else accepted
            if not is_texts(values):
                found.append(f"facts: {key} takes a text or a list of them")
            elif name == "library":
                found += [f"facts: {key}: {why}" for why in _bad_specifiers(values)]
    return found


def _bad_specifiers(values: list[str]) -> list[str]:
    found = []
    for value in values:
        try:
            SpecifierSet(value)
        except InvalidSpecifier as error:
            found.append(str(error))
    return found


def hold(conditions: Conditions, environment: Mapping[str, Any] | None) -> bool:
    """Do all conditions hold? Of an unknown environment none does.

    Parameters
    ----------
    conditions : mapping
    environment : mapping or None
        As run.json holds it; it may come from elsewhere and hold anything.
    """
    if environment is None:
        return not conditions
    return all(_holds(name, accepted, environment) for name, accepted in conditions.items())


def _holds(name: str, accepted: tuple[str, ...], environment: Mapping[str, Any]) -> bool:
    kind, _, of = name.partition(".")
    if kind == "machine":
        return environment.get("machine") in accepted
    if kind == "system":
        return str(environment.get("os", "")).partition("-")[0] in accepted
    if kind == "cpu":
        flags = _at(environment, "cpu", "flags")
        known = set(map(str, flags)) if isinstance(flags, list) else set()
        # What is not known to be there is not known to be missing either.
        return bool(known) and any(
            (flag[1:] not in known) if flag.startswith("!") else flag in known for flag in accepted
        )
    if kind == "variable":
        return str(_at(environment, "variables", of) or UNSET) in accepted
    version = _at(environment, "libraries", of) or _at(environment, "frameworks", of)
    try:
        return isinstance(version, str) and any(
            SpecifierSet(s).contains(Version(version), prereleases=True) for s in accepted
        )
    except InvalidVersion:
        return False


def _at(environment: Mapping[str, Any], entry: str, name: str) -> Any:
    found = environment.get(entry)
    return found.get(name) if isinstance(found, Mapping) else None
