"""What is left of an interrupted run, and whether it may be measured here and now."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from conformance.cells import Cell, SelectionError
from conformance.compatible import differences
from conformance.header import header
from conformance.plan import Plan
from conformance.record import SCHEMA, Record, RecordError
from conformance.settings import Settings
from conformance.text import printable


class CannotResume(RecordError):
    """The rest of this record cannot be measured here and now."""

    hint = "start a new run"


class NothingToResume(RecordError):
    """The record is whole."""

    hint = "`--retry VERDICT` measures its cells of one verdict again"


class PluginsNotNamed(RecordError):
    """The record was measured with plug-ins that the command line does not name."""

    hint = "code is never loaded because a record says so; give the same --plugin again"


@dataclass(frozen=True)
class Rest:
    """What is left to measure.

    Attributes
    ----------
    settings : Settings
        Of the record.
    plan : Plan
        Made from them; the same as when the run began.
    cells : tuple of Cell
        Those without a row, and those that are to be measured again.
    again : frozenset of str
        The keys of the latter.
    """

    settings: Settings
    plan: Plan
    cells: tuple[Cell, ...]
    again: frozenset[str] = frozenset()


def rest(record: Record, *, plugins: Sequence[str] = (), retry: Collection[str] = ()) -> Rest:
    """What is left of a record's plan.

    Parameters
    ----------
    record : Record
    plugins : sequence of str
        The plug-ins that the caller allows to be loaded; they must be those of the record.
    retry : collection of str
        Verdicts of rows that are to be measured again.

    Raises
    ------
    CannotResume
        Naming what differs between then and now.
    NothingToResume
        No cell is missing or to be measured again.
    PluginsNotNamed
        The plug-ins are not those of the record.
    """
    name = printable(record.path)
    again = frozenset(r["key"] for r in record.measurements if r["verdict"] in retry)
    if not record.partial and record.run.get("ended") is not None and not again:
        lacks = f" and has no cell of verdict {', '.join(sorted(retry))}" if retry else ""
        raise NothingToResume(f"the record in {name} is finished{lacks}")
    if record.run["schema"] != SCHEMA:
        raise CannotResume(f"{name} has schema {record.run['schema']}, runs now write {SCHEMA}")
    try:
        settings = Settings.from_row(record.run.get("settings", {}))
    except ValueError as problem:
        raise CannotResume(
            f"the settings in {name} are no settings: {printable(problem)}"
        ) from None
    if set(settings.plugins) != set(plugins):
        told = " ".join(f"--plugin {plugin}" for plugin in settings.plugins) or "no plug-in"
        raise PluginsNotNamed(f"{name} was measured with {printable(told)}")
    try:
        plan = settings.plan()
    except SelectionError as problem:
        raise CannotResume(
            f"the plan of {name} cannot be made any more: {printable(problem)}"
        ) from None
    found = differences(record.run, header(settings, plan))
    if found:
        raise CannotResume(f"cannot resume {name}, since it began something changed: "
                           f"{'; '.join(found)}")  # fmt: skip
    there = {row["key"] for row in record.measurements}
    if strangers := there - {cell.key for cell in plan.cells}:
        raise CannotResume(
            f"{name} holds cells that are not of its plan: {printable(min(strangers))}"
        )
    cells = tuple(c for c in plan.cells if c.key not in there or c.key in again)
    return Rest(settings, plan, cells, again)
