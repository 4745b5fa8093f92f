"""``conformance deviations check``: is the registry itself right?"""

from __future__ import annotations

from pathlib import Path

import click

from conformance.cli.options import folder_option, json_option, print_json


@click.command(name="check")
@click.option("--exit-zero", is_flag=True, help="Exit with 0 although something is wrong.")
@folder_option
@json_option
def command(exit_zero: bool, folder: Path | None, as_json: bool) -> int:
    """Is the registry itself right? Exit code 1 if it is not.

    Measures nothing: every entry is held to the implementations, cells and cases that there are. A
    line for each problem says the file, the entry and the rule. Errors:

    \b
    schema      the file or the entry cannot be read
    repeated    an id is used twice
    unknown     it matches a name that does not exist
    mixed       it is about another framework than that of its file
    unmatched   it, or a value of its match, matches no cell of the full matrix
    witness     a case does not recreate, or runs in no cell of its entry
    unbounded   versions without an end, or an error of any size in a wide match
    overdue     its review date is past: look at it again, and move the date
    redundant   another entry excuses all that it excuses

    Warnings, which leave the exit code at 0:

    \b
    overlap     two entries bound one kind in one cell differently
    rare        it matches no cell of profile standard
    """
    from datetime import UTC, datetime

    from conformance.deviations.checking import check
    from conformance.deviations.reading import packaged, read_folder
    from conformance.registry import load_builtin
    from conformance.text import printable

    found = check(read_folder(folder or packaged()), load_builtin(), datetime.now(UTC).date())
    errors, total = len(found.errors), len(found.problems)
    code = 1 if errors and not exit_zero else 0
    if as_json:
        print_json(
            {
                "schema": 1,
                "files": found.files,
                "entries": found.entries,
                "errors": errors,
                "items": [p.row() for p in found.problems],
                "exit_code": code,
            }
        )
        return code
    for p in found.problems:
        parts = (p.severity, p.file, p.id, p.rule, p.detail)
        click.echo(printable(": ".join(part for part in parts if part), 600))
    click.echo(f"{found.entries} entries in {found.files} files: "
               f"{errors} errors, {total - errors} warnings")  # fmt: skip
    return code
