"""``conformance report``: records to pages."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="report")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Folder for index.html and report.md.  [default: RUN/report of the first]",
)
@click.option(
    "--claims",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="What `conformance claims --json` printed.  [default: claims.json in the first RUN]",
)
def command(runs: tuple[Path, ...], out: Path | None, claims: Path | None) -> int:
    """Turn one or several records into index.html and report.md.

    RUN is the folder that `conformance run` wrote. Several records stand side by side.
    """
    from conformance.record import RecordError, check_parquet, read_record
    from conformance.report import write_report
    from conformance.report.claims import CLAIMS_FILE, read_claims
    from conformance.text import printable

    records = [read_record(run) for run in runs]
    if claims is None and (runs[0] / CLAIMS_FILE).is_file():
        claims = runs[0] / CLAIMS_FILE
    article = None if claims is None else read_claims(claims)
    page = write_report(records, out or runs[0] / "report", article)
    for run, record in zip(runs, records, strict=True):
        if record.partial:
            click.echo(f"{printable(run)}: the record is partial", err=True)
        if record.path is not None:
            try:
                check_parquet(record.path, record.run)
            except RecordError as problem:
                click.echo(f"warning: {problem}", err=True)
    click.echo(f"report: {printable(page)}")
    return 0
