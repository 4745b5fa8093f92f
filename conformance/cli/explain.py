"""``conformance explain``: one case, and everybody's answer to it."""

from __future__ import annotations

from typing import Any

import click

from conformance.cli.numbers import as_json as input_as_json
from conformance.cli.numbers import as_text
from conformance.cli.options import absolute_plugins, json_option, plugin_option, print_json

_SHOWN = 8


@click.command(name="explain")
@click.argument("case_id")
@click.option("--derivative", multiple=True, default=("value", "vjp"), show_default=True,
              metavar="D", help="Of value, vjp, jvp and hvp.")  # fmt: skip
@click.option("--framework", multiple=True, metavar="NAME", help="Only this framework's answers.")
@click.option("--mode", multiple=True, default=("eager",), show_default=True, metavar="M",
              help="Modes that answer.")  # fmt: skip
@click.option("--digits", type=click.IntRange(1, 1000), default=50, show_default=True)
@plugin_option
@json_option
def command(
    case_id: str,
    derivative: tuple[str, ...],
    framework: tuple[str, ...],
    mode: tuple[str, ...],
    digits: int,
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Recreate a case from its id and show every installed implementation's answer.

    A situation (a batch with labels, weights and options) is shown with its options, an arrangement
    (rows in arrays of some shape) in its shape. Prints the inputs (decimal and hexadecimal), the
    exact answer, the correctly rounded one, and
    for each implementation its answer with ULP error and test ratio, worst element first. Case
    ids come from reports and records.
    """
    from conformance.bench import Bench
    from conformance.cells import SelectionError
    from conformance.frameworks import get_framework
    from conformance.registry import DERIVATIVES, FRAMEWORKS
    from conformance.selection import unknown
    from conformance.settings import Settings
    from reference import arrangements, cases, ops, oracle, situations

    case: Any
    if situations.is_id(case_id):
        case = situations.by_id(case_id)
    elif arrangements.is_id(case_id):
        case = arrangements.by_id(case_id)
    else:
        case = cases.by_id(case_id)
    for name in framework:
        if name not in FRAMEWORKS:
            raise SelectionError(unknown("framework", name, FRAMEWORKS))
    known_modes = tuple(dict.fromkeys(m for f in FRAMEWORKS for m in get_framework(f).modes))
    for name in mode:
        if name not in known_modes:
            raise SelectionError(unknown("mode", name, known_modes))
    for name in derivative:
        if name not in DERIVATIVES:
            raise SelectionError(unknown("derivative", name, DERIVATIVES))
    settings = Settings(plugins=absolute_plugins(plugins))
    registry = settings.registry()
    entries = [
        e
        for e in registry.values()
        if e.op == case.op
        and e.role in ("subject", "antipattern")
        and (not framework or e.framework in framework)
    ]
    bench = Bench(settings.plan(), plugins=settings.loaded)
    if not isinstance(case, cases.Case):
        from conformance.cli import explain_arrangement, explain_situation

        of = explain_situation if situations.is_id(case_id) else explain_arrangement
        try:
            made = of.document(case, bench, entries, derivative, mode)
        finally:
            bench.close()
        if as_json:
            print_json(made)
        else:
            of.show(made)
        return 0
    maps = [
        (d, a)
        for d, a in ops.get(case.op).maps
        if d in derivative and (d == "value" or set(a.split(".")) <= case.inputs.keys())
    ]
    needed = {name for d, a in maps for name in ops.get(case.op).needs(d, a)}
    inputs = {name: value for name, value in case.inputs.items() if name in needed}
    document: dict[str, Any] = {
        "schema": 1,
        "case_id": case.case_id,
        "op": case.op,
        "dtype": case.format,
        "family": case.family,
        "inputs": {name: input_as_json(value) for name, value in inputs.items()},
        "maps": [],
    }
    try:
        for d, a in maps:
            exact = oracle.decimal(case.op, d, a, cases.stack([case]), digits)[0]
            answers = [
                answer
                for entry in entries
                for m in mode
                if (answer := bench.answer(case, entry, d, a, m)) is not None
            ]
            rounded = oracle.evaluate(
                case.op, d, a, cases.stack([case]), _format(case.format)
            ).rounded()[0]
            document["maps"].append(
                {
                    "derivative": d,
                    "argument": a,
                    "exact": exact,
                    "rounded": rounded.tolist(),
                    "answers": answers,
                }
            )
    finally:
        bench.close()
    if as_json:
        print_json(document)
    else:
        _print(case, inputs, document)
    return 0


def _format(name: str) -> Any:
    from reference import formats

    return formats.get(name)


def _print(case: Any, inputs: dict[str, Any], document: dict[str, Any]) -> None:
    click.echo(f"{case.op} in {case.format}, family {case.family}, {case.n} classes")
    for line in as_text(inputs):
        click.echo(line)
    for item in document["maps"]:
        click.echo(f"\n{_map_name(item['derivative'], item['argument'])}")
        shown = _elements(item)
        for i in shown:
            click.echo(f"  exact [{i}]   {item['exact'][i]}")
            click.echo(f"  rounded [{i}] {float(item['rounded'][i])!r}")
        if len(shown) < len(item["exact"]):
            click.echo(f"  ({len(item['exact']) - len(shown)} more elements, see --json)")
        for answer in item["answers"]:
            _print_answer(answer)


def _map_name(derivative: str, argument: str) -> str:
    """In words: vjp to x, jvp along x, hvp to x along target."""
    if derivative == "value":
        return "value"
    to, _, along = argument.rpartition(".")
    words = {"vjp": f"to {along}", "jvp": f"along {along}", "hvp": f"to {to} along {along}"}
    return f"{derivative} {words[derivative]}"


def _elements(item: dict[str, Any]) -> list[int]:
    """The elements to show: the first few, and everybody's worst."""
    count = len(item["exact"])
    worst = {a["worst"] for a in item["answers"] if a.get("worst") is not None}
    return sorted({*range(min(_SHOWN, count)), *worst} if count > _SHOWN else range(count))


def _print_answer(answer: dict[str, Any]) -> None:
    from conformance.text import printable

    name = f"{answer['implementation']} ({answer['mode']})"
    if answer.get("result") is None:
        click.echo(f"  {name}: {printable(answer['message'], 200)}")
        return
    i = answer["worst"]
    click.echo(
        f"  {name}: [{i}] {answer['result'][i]!r}, {answer['ulp']:.4g} ULP, "
        f"test ratio {answer['ratio_weak']:.3g}"
    )
