"""Options that several commands share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_SELECTION = {
    "op": "An operator, e.g. softmax.",
    "framework": "numpy, torch, tensorflow or jax.",
    "implementation": "A name or a glob over names, e.g. 'torch.*'.",
    "dtype": "float64, float32, bfloat16 or float16.",
    "mode": "eager, compiled, graph, xla or session.",
    "family": "A family of cases; `conformance list families` shows them.",
    "derivative": "value, vjp, jvp or hvp.",
    "concern": "accuracy, special_values, underflow, reduction, contract or invariance.",
    "context": "default, or a set of switches such as x64=on.",
}


def selection_options(command: F) -> F:
    """``--op``, ``--framework`` and so on, each repeatable, and ``--cell``."""
    command = click.option(
        "--cell", multiple=True, metavar="KEY", help="Exactly this cell, by its key."
    )(command)
    for name, text in reversed(_SELECTION.items()):
        metavar = "GLOB" if name == "implementation" else "NAME"
        command = click.option(f"--{name}", multiple=True, metavar=metavar, help=text)(command)
    return command


def plugin_option(command: F) -> F:
    """``--plugin``."""
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="MODULE_OR_PATH",
        help="A module or .py file that registers implementations.",
    )(command)


_SIZE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*([KMGTkmgt])(?:i?[Bb])?")
_LEAST = 64 << 20


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """An amount of memory such as ``4G`` or ``512M`` in bytes; units are powers of 1024."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is not a size such as 4G or 512M")
    amount = int(float(found[1]) * 1024 ** (1 + "KMGT".index(found[2].upper())))
    if amount < _LEAST:
        raise click.BadParameter(f"{value} is less than {_LEAST >> 20}M")
    return amount


def limit_options(command: F) -> F:
    """``--timeout`` and ``--memory-limit``: what one call of an implementation may take."""
    command = click.option(
        "--memory-limit",
        callback=size,
        default=None,
        metavar="SIZE",
        help="Resident memory of one executor and what it starts, e.g. 4G.  "
        "[default: half of what there is]",
    )(command)
    return click.option(
        "--timeout",
        type=click.FloatRange(min=0.1, max=86400),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="For one call of an implementation; eight times as much where it is compiled first.",
    )(command)


def folder_option(command: F) -> F:
    """``--folder``: where the registry of deviations is."""
    return click.option(
        "--folder",
        type=click.Path(path_type=Path),
        default=None,
        metavar="DIR",
        help="A folder of TOML files with deviations.  [default: that of this version]",
    )(command)


def json_option(command: F) -> F:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON document on stdout, for machines."
    )(command)


def helped(ctx: click.Context) -> int:
    """What a group does on its own: without a command it shows its help, and that is a mistake."""
    if ctx.invoked_subcommand is not None:
        return 0
    click.echo(ctx.get_help(), err=True)
    return 2


def absolute_plugins(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of plug-ins made absolute: the processes of a run may work elsewhere."""
    return tuple(str(Path(p).resolve()) if p.endswith(".py") else p for p in plugins)


def print_json(document: Any) -> None:
    """One JSON document on stdout; numbers that JSON lacks as strings."""
    from conformance.columns import plain

    click.echo(json.dumps(plain(document), indent=2))
