"""Shards put together: the record that one run of the whole plan would have left.

Only what belongs together is merged: shards of one plan, under the same rules, versions and CPU
capability, each cell from exactly one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance import coverage, policy, shards, witnesses
from conformance.cells import SelectionError
from conformance.compatible import NotComparable, differences
from conformance.outcome import Outcome, outcome
from conformance.record import SCHEMA, Record, RecordError, RecordWriter, read_witnesses
from conformance.shards import Shard
from conformance.text import printable

# Entries of run.json that are a shard's own.
_OWN = frozenset(
    {"format", "schema", "run_id", "started", "ended", "resumed", "shard", "parquet", "controls",
     "mutants", "stale", "standings", "harness_errors", "interrupted", "exit_code", "witnesses"}
)  # fmt: skip


class NotAShard(RecordError):
    """A record that is not a part of a plan."""

    hint = "`conformance run --shard K/N` makes what can be merged"


class IncompleteShards(RecordError):
    """Cells of the plan are in none of the records."""

    hint = "add them, or merge what there is with --partial"


class OverlappingShards(RecordError):
    """A cell is in more than one record."""

    hint = "give each shard once"


def merge(records: Sequence[Record], folder: Path, *, partial: bool = False) -> Outcome:
    """Write the shards of a plan into one record.

    Parameters
    ----------
    records : sequence of Record
        As read from their folders.
    folder : Path
        Where the merged record goes.
    partial : bool
        Whether shards, or cells of them, may be missing; the merged record is partial then, and
        can be resumed.

    Returns
    -------
    Outcome
        As of the unsharded run.

    Raises
    ------
    NotAShard, NotComparable, OverlappingShards, IncompleteShards
        If they do not belong together, or are not all there.
    conformance.record.RecordError
        If the merged record cannot be written.
    """
    ordered = sorted(records, key=_index)
    first = ordered[0]
    _check_together(ordered)
    _check_overlap(ordered)
    if not partial:
        _check_whole(ordered)
    try:
        rules = policy.from_row(first.run.get("policy", {}))
    except policy.PolicyError as problem:
        raise NotComparable(f"{_name(first)}: {problem}") from None
    rows = [row for record in ordered for row in record.measurements]
    run = _run(ordered)
    merged = outcome(
        rows,
        _whole(first),
        rules,
        run=run,
        incomplete=partial,
        harness_errors=[str(e) for r in ordered for e in r.run.get("harness_errors", [])],
    )
    found = None if merged.partial else _witnesses(ordered)
    with RecordWriter(folder, run) as writer:
        writer.extend(rows)
        if merged.partial:
            writer.update(**merged.facts())
        else:
            if found is not None:
                writer.witness(found)
            ends = [str(r.run["ended"]) for r in ordered if _has_ended(r)]
            writer.finish(**merged.facts(), **({"ended": max(ends)} if ends else {}))
    return merged


def _witnesses(records: Sequence[Record]) -> list[dict[str, Any]] | None:
    """The witnesses of the whole; None where a shard, of an older version, has none."""
    if any(record.run.get("witnesses") is None for record in records):
        return None
    most = witnesses.most(str(records[0].run.get("profile")))
    rows = [row for record in records for row in record.measurements]
    return witnesses.merged(rows, map(read_witnesses, records), most)


def _run(records: Sequence[Record]) -> dict[str, Any]:
    """run.json of the whole."""
    first = records[0].run
    table = coverage.table((i for r in records for i in r.run["coverage"].get("table", ())), ())
    return {
        **{name: value for name, value in first.items() if name not in _OWN},
        "started": min(str(r.run["started"]) for r in records),
        "shard": None,
        "settings": {**first["settings"], "shard": ""},
        "coverage": {**first["coverage"], "planned": _whole(records[0]), "table": table},
        "merged": [
            {name: r.run.get(name) for name in ("run_id", "shard", "started", "ended", "resumed")}
            for r in records
        ],
    }


# ---------------------------------------------------------------- checks


def _check_together(records: Sequence[Record]) -> None:
    first = records[0]
    for record in records:
        if record.run["schema"] != SCHEMA:
            raise NotComparable(
                f"{_name(record)} has schema {record.run['schema']}, this version merges {SCHEMA}"
            )
        for entry in ("started", "settings"):
            if entry not in record.run:
                raise NotAShard(f"{_name(record)} lacks the entry {entry}")
        if _shard(record).count != _shard(first).count:
            raise NotComparable(
                f"{_name(first)} is one of {_shard(first).count} shards, {_name(record)} one of "
                f"{_shard(record).count}"
            )
        found = differences(first.run, record.run)
        if found:
            raise NotComparable(f"{_name(first)} and {_name(record)} differ: {'; '.join(found)}")


def _check_overlap(records: Sequence[Record]) -> None:
    owner: dict[str, int] = {}
    for number, record in enumerate(records):
        for row in record.measurements:
            other = owner.setdefault(row["key"], number)
            if other != number:
                raise OverlappingShards(
                    f"{printable(row['key'])} is both in {_name(records[other])} and in "
                    f"{_name(record)}"
                )


def _check_whole(records: Sequence[Record]) -> None:
    count = _shard(records[0]).count
    there = {_index(record) for record in records}
    if missing := sorted(set(range(1, count + 1)) - there):
        texts = ", ".join(f"{k}/{count}" for k in missing[:10])
        raise IncompleteShards(f"shard {texts} missing" if len(missing) == 1 else
                               f"{len(missing)} shards missing: {texts}")  # fmt: skip
    for record in records:
        if record.partial or not _has_ended(record):
            raise IncompleteShards(
                f"{_name(record)} is partial; `conformance run --resume` finishes it"
            )
    found = sum(len(record.measurements) for record in records)
    if found != _whole(records[0]):
        raise IncompleteShards(f"the plan has {_whole(records[0])} cells, the shards {found}")


def _shard(record: Record) -> Shard:
    told: Any = record.run.get("shard")
    try:
        return shards.parse(f"{told['index']}/{told['count']}")
    except (KeyError, TypeError, SelectionError):
        raise NotAShard(f"{_name(record)} is no shard of a run") from None


def _index(record: Record) -> int:
    return _shard(record).index


def _whole(record: Record) -> int:
    """How many cells the unsharded plan has."""
    whole = record.run.get("coverage", {}).get("whole")
    if isinstance(whole, bool) or not isinstance(whole, int):
        raise NotAShard(f"{_name(record)} does not say how many cells the whole plan has")
    return whole


def _has_ended(record: Record) -> bool:
    """False also for one that was killed between its footer and the end of run.json."""
    return record.run.get("ended") is not None


def _name(record: Record) -> str:
    return printable(record.path)
