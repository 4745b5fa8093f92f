"""Options that several commands share."""

from __future__ import annotations

import json
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
    "derivative": "value or vjp.",
    "concern": "accuracy, special_values or underflow.",
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


def json_option(command: F) -> F:
    """``--json``."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON document on stdout, for machines."
    )(command)


def absolute_plugins(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of plug-ins made absolute, each imported once in a process of its own.

    The processes of a run may work elsewhere, and an import that crashes or never ends must not
    take the command with it.
    """
    from conformance.registry import probe_plugin

    found = tuple(str(Path(p).resolve()) if p.endswith(".py") else p for p in plugins)
    for plugin in found:
        probe_plugin(plugin)
    return found


def print_json(document: Any) -> None:
    """One JSON document on stdout; numbers that JSON lacks as strings."""
    from conformance.columns import plain

    click.echo(json.dumps(plain(document), indent=2))
