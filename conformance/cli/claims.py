"""``conformance claims``: what the article claims, measured."""

from __future__ import annotations

import click

from conformance.cli.options import json_option, print_json


@click.command(name="claims")
@click.option("--framework", "frameworks", multiple=True, metavar="NAME",
              help="numpy, torch, tensorflow or jax; repeatable.  [default: all]")  # fmt: skip
@click.option("--no-timing", is_flag=True, help="Leave out the claim about speed.")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 although a verdict changed.")
@click.option("--write-expected", is_flag=True, hidden=True,
              help="Write the verdicts as the committed expectation (all frameworks).")  # fmt: skip
@json_option
def command(
    frameworks: tuple[str, ...],
    no_timing: bool,
    exit_zero: bool,
    write_expected: bool,
    as_json: bool,
) -> int:
    """Check the claims of the article on logits, softmax and cross-entropy.

    Each claim gets a verdict per framework, mode and dtype: holds, holds within a range, or does
    not hold. Takes one to two minutes for all four frameworks on two cores.

    Exit code 1 if a verdict is not the committed one for the pinned versions; times are shown and
    not compared. docs/article.md explains the results; `--json` has all figures, and
    `conformance report RUN --claims FILE` puts them into a report.
    """
    from conformance.claims import expected
    from conformance.claims.collect import collect
    from conformance.claims.terminal import lines
    from conformance.registry import FRAMEWORKS
    from conformance.selection import unknown
    from conformance.text import printable

    for name in frameworks:
        if name not in FRAMEWORKS:
            raise click.UsageError(unknown("framework", name, FRAMEWORKS))
    if write_expected and frameworks:
        raise click.UsageError("--write-expected is for all frameworks at once")
    chosen = [name for name in FRAMEWORKS if not frameworks or name in frameworks]
    findings = collect(
        chosen, lambda text: click.echo(printable(text, 100), err=True), timing=not no_timing
    )
    if write_expected:
        if findings.not_installed:
            raise click.UsageError(f"not installed: {', '.join(findings.not_installed)}")
        expected.write(findings.items)
        click.echo(f"wrote {expected.FILE}", err=True)
    if as_json:
        print_json(findings.document())
    else:
        for line in lines(findings):
            click.echo(line)
    return 0 if exit_zero or write_expected else findings.exit_code
