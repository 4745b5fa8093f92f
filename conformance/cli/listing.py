"""``conformance list``: what there is."""

from __future__ import annotations

from typing import Any

import click

from conformance.cli.options import absolute_plugins, json_option, plugin_option, print_json

_WHAT = ("ops", "implementations", "families", "dtypes")


@click.command(name="list")
@click.argument("what", type=click.Choice(_WHAT))
@plugin_option
@json_option
def command(what: str, plugins: tuple[str, ...], as_json: bool) -> int:
    """List ops, implementations, families or dtypes. Imports no framework."""
    items = {
        "ops": _ops,
        "implementations": lambda: _implementations(absolute_plugins(plugins)),
        "families": _families,
        "dtypes": _dtypes,
    }[what]()
    if as_json:
        data = [{k: v for k, v in item.items() if k != "line"} for item in items]
        print_json({"schema": 1, "items": data})
        return 0
    lines = [item["line"] for item in items]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    for line in lines:
        cells = (f"{text:<{width}}" for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    return 0


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _ops() -> list[dict[str, Any]]:
    import importlib

    from reference.ops import OPS

    return [
        {
            "name": op.name,
            "inputs": list(op.inputs),
            "differentiable": list(op.differentiable),
            "derivatives": sorted({derivative for derivative, _ in op.maps}),
            "definition": _first_line(importlib.import_module(f"reference.ops.{op.name}").__doc__),
            "line": (op.name, ", ".join(op.inputs),
                     f"derivatives to {', '.join(op.differentiable)}"),
        }
        for op in OPS.values()
    ]  # fmt: skip


def _implementations(plugins: tuple[str, ...]) -> list[dict[str, Any]]:
    from conformance.frameworks import get_framework
    from conformance.registry import DERIVATIVES
    from conformance.settings import Settings

    items = []
    for entry in Settings(plugins=plugins).registry().values():
        framework = get_framework(entry.framework)
        installed = framework.installed_version() if not entry.missing_requirements() else None
        items.append(
            {
                "name": entry.name,
                "framework": entry.framework,
                "op": entry.op,
                "role": entry.role,
                "variant": entry.variant,
                "dtypes": list(entry.dtypes or framework.dtypes),
                "modes": list(entry.modes or framework.modes),
                "derivatives": list(entry.derivatives or DERIVATIVES),
                "url": entry.url,
                "installed": installed is not None,
                "line": (entry.name, entry.op, entry.framework, entry.role,
                         "" if installed else "not installed"),
            }
        )  # fmt: skip
    return items


def _families() -> list[dict[str, Any]]:
    import importlib

    from reference import arrangements, cases, situations

    found = []
    for package in (cases, situations):
        for family in package.FAMILIES.values():
            module = importlib.import_module(f"{package.__name__}.{family.name}")
            summary = _first_line(module.__doc__).partition(": ")[2]
            found.append((family.name, family.version, summary))
    found += [(f.name, f.version, f.summary) for f in arrangements.FAMILIES.values()]
    return [
        {"name": name, "version": version, "summary": summary, "line": (name, summary)}
        for name, version, summary in found
    ]


def _dtypes() -> list[dict[str, Any]]:
    from conformance.frameworks import get_framework
    from conformance.registry import FRAMEWORKS
    from reference.formats import FORMATS

    items = []
    for fmt in FORMATS.values():
        users = [name for name in FRAMEWORKS if fmt.name in get_framework(name).dtypes]
        items.append(
            {
                "name": fmt.name,
                "precision": fmt.precision,
                "emin": fmt.emin,
                "emax": fmt.emax,
                "max": fmt.max_finite,
                "frameworks": users,
                "line": (fmt.name, f"p = {fmt.precision}, exponents {fmt.emin}..{fmt.emax}",
                         ", ".join(users) or "oracle only"),
            }
        )  # fmt: skip
    return items
