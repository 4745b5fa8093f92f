"""``conformance deviations update``: what a record says should change, as a diff."""

from __future__ import annotations

from pathlib import Path

import click

from conformance.cli.options import folder_option, json_option, print_json


@click.command(name="update")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--apply", "apply", is_flag=True, help="Make the edits in the files.")
@folder_option
@json_option
def command(run: Path, apply: bool, folder: Path | None, as_json: bool) -> int:
    """Propose the edits that a record calls for, as a diff.

    \b
    conformance deviations update RUN               a unified diff, and on stderr why
    conformance deviations update RUN | git apply   in a checkout; or --apply

    \b
    an entry that is     gets
    stale                versions that end before the measured one, or is removed
    unmatched            removed
    worse                a larger bound, four times what was seen
    not for its version  versions that accept it, if its witnesses break the contract
    partly met           fewer witnesses: those that met it go (not from profile quick)

    The record is judged again by the present rules. Comments stay; read the diff, because a
    comment may speak of the old figure. No file is changed without --apply, and nothing is
    proposed for breaches that no entry is about: those have to be understood first.
    """
    from dataclasses import asdict

    from conformance import policy
    from conformance.deviations import Registry
    from conformance.deviations.edits import difference, edited
    from conformance.deviations.reading import entries_in, packaged, read_folder
    from conformance.deviations.updating import propose
    from conformance.record import read_record
    from conformance.text import printable

    texts = read_folder(folder or packaged())
    entries = entries_in(folder or packaged())
    found = propose(Registry(tuple(d for _, d in entries)), read_record(run), policy.load())
    new = {file: edited(text, found.proposals) for file, text in texts.items()}
    # The path in a checkout, so that the diff applies at its root.
    where = Path("conformance/deviations") if folder is None else folder
    diff = "".join(
        difference((where / file).as_posix().lstrip("/"), texts[file], text)
        for file, text in new.items()
    )
    if apply:
        _write(folder or packaged(), {f: text for f, text in new.items() if text != texts[f]})
    if as_json:
        items = [asdict(p) for p in found.proposals]
        print_json(
            {"schema": 1, "items": items, "notes": found.notes, "diff": diff, "applied": apply}
        )
        return 0
    click.echo(diff, nl=False)
    for p in found.proposals:
        what = " ".join(part for part in (p.edit, p.kind, p.value) if part)
        click.echo(printable(f"{p.id}: {what}: {p.why}", 400), err=True)
    for note in found.notes:
        click.echo(printable(note, 400), err=True)
    done = "made" if apply else "proposed"
    click.echo(f"{len(entries)} entries, {len(found.proposals)} edits {done}", err=True)
    return 0


def _write(folder: Path, texts: dict[str, str]) -> None:
    from conformance.files import explained, replace_text

    for file, text in texts.items():
        try:
            replace_text(folder / file, text)
        except OSError as problem:
            raise click.ClickException(
                f"cannot write {folder / file}: {explained(problem)}"
            ) from None
        click.echo(f"changed {folder / file}", err=True)
