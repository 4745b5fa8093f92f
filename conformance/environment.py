"""Where a run was measured: what a reader must know to believe or repeat its figures.

The bits of a framework's answer depend on the processor's instruction set, on thread counts and on
switches in the environment, so all of them are part of a record.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance import __version__
from conformance.frameworks import get_framework
from conformance.registry import FRAMEWORKS, Implementation, distribution_version

_LIBRARIES = ("jaxlib", "ml_dtypes", "mpmath")
"""Distributions that compute here beside the frameworks."""

# Named one by one or by a prefix that belongs to one library: an environment also holds secrets
# (TF_VAR_*, for one, is Terraform's), and records are published.
_VARIABLES = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "GOTO_NUM_THREADS",
        "LD_PRELOAD",
        "MALLOC_ARENA_MAX",
        "NUMEXPR_NUM_THREADS",
        "PYTHONHASHSEED",
        "TF_DETERMINISTIC_OPS",
        "TF_NUM_INTEROP_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_USE_LEGACY_KERAS",
        "XLA_FLAGS",
    }
)
_PREFIXES = (
    "ATEN_",
    "DNNL_",
    "JAX_",
    "KMP_",
    "MKL_",
    "NPY_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "TF_CPP_",
    "TF_ENABLE_",
    "TF_XLA_",
    "TORCH_",
    "TORCHDYNAMO_",
    "TORCHINDUCTOR_",
    "XLA_",
)


def cpu() -> dict[str, Any]:
    """Return the processor's model and instruction-set flags, as far as the system tells.

    From /proc/cpuinfo, where Linux lists one block per processor; the first one speaks for all.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    first: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if not name.strip():
            if first:
                break
            continue
        first.setdefault(name.strip(), value.strip())
    return {
        "vendor": first.get("vendor_id", first.get("CPU implementer", "")),
        "model": first.get("model name") or platform.processor() or platform.machine(),
        "flags": sorted(first.get("flags", first.get("Features", "")).split()),
        "logical": os.cpu_count(),
        "usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
    }


def variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables that the libraries under test listen to."""
    found = os.environ if environ is None else environ
    return {
        name: found[name]
        for name in sorted(found)
        if name in _VARIABLES or name.startswith(_PREFIXES)
    }


def versions() -> dict[str, str | None]:
    """Return the installed version of every framework, None where there is none."""
    return {name: get_framework(name).installed_version() for name in FRAMEWORKS}


def libraries(registry: Mapping[str, Implementation]) -> dict[str, str | None]:
    """Return the versions of what else computes, by distribution; what implementations require."""
    required = {name for entry in registry.values() for name in entry.requires}
    return {name: distribution_version(name) for name in sorted({*_LIBRARIES, *required})}


def present(registry: Mapping[str, Implementation], policy: str | int = "") -> dict[str, Any]:
    """Return the environment of this process, as a run.json of its runs holds it."""
    return environment(policy, versions(), {"each framework": 1}, libraries(registry))


def environment(
    policy_version: str | int,
    frameworks: Mapping[str, Mapping[str, str] | str | None],
    threads: Mapping[str, int] | None = None,
    libraries: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """Return the environment entry of a run.json.

    Parameters
    ----------
    policy_version
        Version of the rules that the judge applies.
    frameworks
        Versions by framework, as the executors report them (one text, or a text per library, e.g.
        torch and the capability that it dispatches to); None for one that is not installed.
    threads
        Threads per library that the executors were told to use; one each in context `default`.
    libraries
        Versions of what else computes, by distribution.
    """
    return {
        "tool_version": __version__,
        "policy_version": policy_version,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "os": platform.platform(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "machine": platform.machine(),
        "cpu": cpu(),
        "threads": dict(threads or {}),
        "variables": variables(),
        "frameworks": {
            name: dict(found) if isinstance(found, Mapping) else found
            for name, found in frameworks.items()
        },
        "libraries": dict(libraries or {}),
    }
