"""``conformance judge``: an old record under the present rules, or under given ones."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from conformance.cli.options import json_option, print_json

if TYPE_CHECKING:
    from conformance.rejudge import Rejudged

# More changes than a person reads; --json has them all.
_MOST = 40


@click.command(name="judge")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Rules as a TOML file.  [default: those of this version]",
)
@json_option
def command(run: Path, policy_file: Path | None, as_json: bool) -> int:
    """Judge the figures of a record again, and show what comes out differently.

    \b
    conformance judge RUN                      the present policy and documented deviations
    conformance judge RUN --policy mine.toml   other numbers, such as ratio = 2

    Nothing is measured and the record stays as it is. A policy file has the keys version, ratio,
    ulp, digits and passing; conformance/policy.toml is the present one, and says what each is.
    """
    from conformance import deviations, policy
    from conformance.deviations.extent import recorded
    from conformance.outcome import outcome
    from conformance.record import read_record
    from conformance.rejudge import rejudge

    rules = policy.load() if policy_file is None else policy.read(policy_file)
    record = read_record(run)
    found = rejudge(record, rules, deviations.load())
    planned = record.run.get("coverage", {}).get("planned")
    ended = outcome(
        found.rows,
        planned if isinstance(planned, int) else len(found.rows),
        rules,
        shard=record.run.get("shard") is not None,
        incomplete=record.partial,
        environment=record.run.get("environment"),
        extents=recorded(record.run, deviations.load()),
    )
    told = {
        "run": str(run),
        "policy": {"recorded": record.run.get("policy"), "applied": rules.row()},
        "deviations_changed": record.run.get("rules") not in (None, deviations.digest()),
        "judged": found.judged,
        "changed": [asdict(change) for change in found.changes],
        "kept": [{"key": key, "reason": why} for key, why in found.kept.items()],
        "counts": {"recorded": _counts(record.measurements), "applied": _counts(found.rows)},
        "stale_deviations": list(ended.stale),
        "exit_code": {"recorded": record.run.get("exit_code"), "applied": ended.exit_code},
    }
    if as_json:
        print_json({"schema": 1, **told})
    else:
        _print(told, found)
    return 0


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    from collections import Counter

    return dict(sorted(Counter(row["verdict"] for row in rows).items()))


def _print(told: dict[str, Any], found: Rejudged) -> None:
    from conformance.text import printable

    click.echo(_policies(told["policy"]["recorded"], told["policy"]["applied"]))
    if told["deviations_changed"]:
        click.echo("the registry of deviations is not the one that the run was judged by")
    for change in found.changes[:_MOST]:
        role = "" if change.role == "subject" else f" ({change.role})"
        line = f"{_words(change.before)} -> {_words(change.after)}{role}: {change.key}"
        click.echo(printable(line, 400))
    if len(found.changes) > _MOST:
        click.echo(f"and {len(found.changes) - _MOST} more, all of them in --json")
    for entry in told["stale_deviations"]:
        click.echo(f"stale deviation: {printable(entry, 100)}: its witnesses all met the contract")
    if found.kept:
        key, why = next(iter(found.kept.items()))
        click.echo(printable(f"{len(found.kept)} cells keep their verdict: {why} ({key})", 400))
    before, after = told["exit_code"]["recorded"], told["exit_code"]["applied"]
    click.echo(f"{found.judged} cells judged, {len(found.changes)} changed; "
               f"exit code: {'unknown' if before is None else before} -> {after}")  # fmt: skip


def _words(told: dict[str, Any]) -> str:
    parts = (told["verdict"], told["grade"], told["deviation"])
    return " ".join(str(part) for part in parts if part)


def _policies(before: Any, after: dict[str, Any]) -> str:
    from conformance.text import printable

    if not isinstance(before, dict):
        return f"policy {after['version']}; the record does not hold the one it was judged by"
    if before == after:
        return f"policy {after['version']}, as recorded"
    names = [n for n in after if n != "version" and before.get(n) != after[n]]
    what = ", ".join(f"{n} {before.get(n)} -> {after[n]}" for n in names)
    return printable(f"policy {before.get('version')} -> {after['version']} ({what or 'the same'})")
