"""``conformance deviations``: the registry of documented deviations, and what records say of it."""

from __future__ import annotations

import click

from conformance.cli.deviations import check, cross, listing, update
from conformance.cli.options import helped


@click.group(name="deviations", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Known, documented deviations: what excuses a breach, and is it still true?

    \b
    conformance deviations list                  what is documented
    conformance deviations list torch-plus-inf   one entry in full
    conformance deviations check                 is the registry itself right?
    conformance deviations cross RUN             what every framework deviates in
    conformance deviations update RUN            what a record says should change, as a diff

    An entry excuses the breaches that it names, up to its bound, on the versions that it names.
    docs/deviations.md says what the fields are and how a run holds entries to them.
    """
    return helped(ctx)


for _module in (listing, check, cross, update):
    command.add_command(_module.command)
