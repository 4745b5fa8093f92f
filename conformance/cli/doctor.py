"""``conformance doctor``: what this machine is, and whether a run can be trusted on it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from conformance.cli.options import json_option, print_json


@click.command(name="doctor")
@click.option("--no-start", is_flag=True, help="Do not start the frameworks (about ten seconds).")
@json_option
def command(no_start: bool, as_json: bool) -> int:
    """Show versions, CPU capability, threads, switches, caches and free disk.

    Starts every installed framework once, as a run does, and asks it what it computes with.
    Exit code 3 if this process flushes subnormal numbers, because no reference can then be right.
    """
    found = diagnose(start=not no_start)
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0 if found["subnormals"] == "kept" else 3


def diagnose(*, start: bool) -> dict[str, Any]:
    """Everything that `doctor` shows."""
    from conformance.environment import environment
    from conformance.frameworks import get_framework
    from conformance.policy import load
    from conformance.registry import FRAMEWORKS
    from reference import oracle

    versions = {name: get_framework(name).installed_version() for name in FRAMEWORKS}
    try:
        oracle.check_subnormals()
        subnormals = "kept"
    except oracle.FlushToZero as error:
        subnormals = str(error)
    frameworks = {
        name: _framework(name, version) if start and version else {"version": version}
        for name, version in versions.items()
    }
    return {
        "schema": 1,
        "environment": environment(load().version, versions),
        "frameworks": frameworks,
        "subnormals": subnormals,
        "caches": _caches(),
        "disk_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
        "temporary_free_gb": round(shutil.disk_usage(tempfile.gettempdir()).free / 1e9, 1),
    }


def _framework(name: str, version: str | None) -> dict[str, Any]:
    from conformance.execution.executor import Executor
    from conformance.execution.protocol import Hello

    with Executor(name) as executor:
        hello = executor.start()
    if isinstance(hello, Hello):
        return {"version": version, "libraries": dict(hello.versions), "state": dict(hello.state)}
    return {"version": version, "problem": str(hello)}


def _caches() -> dict[str, str]:
    """Where compilers keep what they compiled; an empty cache makes a first run slower."""
    from conformance.frameworks.torch import compile_cache

    inductor = compile_cache()
    jax = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    return {
        "torch.compile": f"{inductor} ({'there' if Path(inductor).exists() else 'empty'})",
        "jax": jax or "none",
    }


def _print(found: dict[str, Any]) -> None:
    from conformance.text import printable

    environment = found["environment"]
    cpu = environment["cpu"]
    wanted = ("avx2", "avx512f", "avx512_bf16", "fma", "asimd", "sve")
    click.echo(
        f"tool         {environment['tool_version']}, policy {environment['policy_version']}"
    )
    click.echo(f"python       {environment['python']} on {environment['os']}")
    click.echo(f"cpu          {printable(cpu['model'])}, {cpu['usable']} usable, "
               f"{' '.join(f for f in wanted if f in cpu['flags'])}")  # fmt: skip
    click.echo(f"subnormals   {found['subnormals']}")
    for name, info in found["frameworks"].items():
        click.echo(f"{name:<12} {info['version'] or 'not installed'}")
        for key, value in {**info.get("libraries", {}), **info.get("state", {})}.items():
            if key != name:
                click.echo(f"  {printable(key, 30):<20} {printable(value, 56)}")
        if "problem" in info:
            click.echo(f"  does not start: {printable(info['problem'], 200)}")
    for name, value in environment["variables"].items():
        click.echo(f"switch       {name}={printable(value, 60)}")
    for name, value in found["caches"].items():
        click.echo(f"cache        {name}: {printable(value, 60)}")
    click.echo(f"free disk    {found['disk_free_gb']} GB here, "
               f"{found['temporary_free_gb']} GB for temporary files")  # fmt: skip
