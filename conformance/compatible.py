"""Would two runs have given the same figures? What differs between their records, in words.

Compared is what the bits of an answer depend on: versions, rules, cases, the processor's
instruction set, threads, and the variables that libraries listen to. Not compared is what they do
not depend on: the processor's model (but its maker, by which libraries choose kernels), folders,
the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.record import RecordError
from conformance.text import printable

_ENTRIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("the tool's version", ("environment", "tool_version")),
    ("the policy", ("policy",)),
    ("the registry of deviations", ("rules",)),
    ("the profile", ("profile",)),
    ("the seed", ("seed",)),
    ("Python", ("environment", "python")),
    ("the Python implementation", ("environment", "implementation")),
    ("the C library", ("environment", "libc")),
    ("the machine", ("environment", "machine")),
    ("the CPU's maker", ("environment", "cpu", "vendor")),
    ("the cases", ("case_set",)),
)
_MAPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("environment", "frameworks")),
    ("", ("environment", "libraries")),
    ("threads of ", ("environment", "threads")),
    ("the plug-in ", ("plugins",)),
)

# Instruction sets that libraries choose kernels by; the other flags of /proc/cpuinfo change with
# microcode and kernel.
_CAPABILITY = re.compile(
    r"(s?sse|ssse|avx|amx|fma|f16c|bmi|abm|asimd|fp$|fphp|sve|sme|bf16|i8mm|neon|vfp)"
)
# Variables that say where files are and not what is computed.
_PLACES = re.compile(r".*(_DIR|_HOME|_PATH|_FILE|_CACHE|_LOGS?|_LOG_LEVEL)")
# Settings that are compared by what they select, or that only say which part of it was run.
_NO_LIMITS = frozenset({"profile", "seed", "selection", "plugins", "shard"})
_SHORT = 12


class NotComparable(RecordError):
    """Measurements that must not stand in one record."""

    hint = "figures of different circumstances do not belong into one record"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What differs between the run.json of two records, each as ``what: one -> other``.

    Empty if figures of the two may stand in one record.
    """
    return list(_differences(one, other))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for what, path in _ENTRIES:
        yield from _pair(what, _at(one, path), _at(other, path))
    for what, path in _MAPS:
        yield from _pairs(what, _mapping(_at(one, path)), _mapping(_at(other, path)))
    place = ("environment", "variables")
    yield from _pairs("the variable ", _settings(_at(one, place)), _settings(_at(other, place)))
    yield from _pairs("the limit ", *(_limits(_at(run, ("settings",))) for run in (one, other)))
    before, after = (_capability(_at(run, ("environment", "cpu", "flags"))) for run in (one, other))
    if before != after:
        parts = [
            f"{word} {printable(' '.join(sorted(flags)))}"
            for word, flags in (("without", before - after), ("with", after - before))
            if flags
        ]
        yield f"CPU capability: {', '.join(parts)}"


def _pair(what: str, before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _pairs(f"{what}'s ", before, after)
    else:
        yield f"{what}: {_word(before)} -> {_word(after)}"


def _pairs(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        yield from _pair(f"{what}{printable(name, 60)}", before.get(name), after.get(name))


def _at(run: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    found: Any = run
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _settings(value: Any) -> dict[str, Any]:
    return {k: v for k, v in _mapping(value).items() if not _PLACES.fullmatch(k)}


def _limits(value: Any) -> dict[str, Any]:
    return {k: v for k, v in _mapping(value).items() if k not in _NO_LIMITS}


def _capability(flags: Any) -> set[str]:
    if not isinstance(flags, list):
        return set()
    return {str(flag) for flag in flags if _CAPABILITY.match(str(flag))}


def _word(value: Any) -> str:
    if value is None:
        return "none"
    text = printable(value, 80)
    # Of a digest the beginning tells as much.
    return text[:_SHORT] if re.fullmatch(r"[0-9a-f]{64}", text) else text
