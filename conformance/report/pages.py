"""The comparison report as pages: index.html, one file that needs nothing else, and report.md.

Everything that comes from a record is untrusted. Jinja2 escapes it, `printable` takes control
characters and bidirectional marks out of it, only https addresses become links, and the page's own
policy forbids every request and every script but the one it carries.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from conformance import __version__
from conformance.files import explained, replace_text
from conformance.record import CannotWrite, Record
from conformance.report import counts, extent, matrix, outcomes, rows
from conformance.report.claims import section
from conformance.text import printable

HTML_FILE = "index.html"
MARKDOWN_FILE = "report.md"

# Longest text of a record that is shown whole; a message can be a megabyte.
_LONGEST = 600


def write_report(
    records: Sequence[Record],
    out: str | os.PathLike[str],
    claims: Mapping[str, Any] | None = None,
) -> Path:
    """Write index.html and report.md for one or several records.

    Parameters
    ----------
    records
        At least one; several are shown side by side, a column per framework and run.
    out
        Folder for the pages; made when missing.
    claims
        What `conformance claims --json` printed, for a section of its own.

    Returns
    -------
    Path
        The page that was written.

    Raises
    ------
    CannotWrite
        The file system refuses.
    ValueError
        No record was given.
    """
    if not records:
        raise ValueError("a report needs at least one record")
    folder = Path(out)
    context = {**_context(records), "article": None if claims is None else section(claims)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / MARKDOWN_FILE, markdown(context))
        page = folder / HTML_FILE
        replace_text(page, html(context))
    except OSError as problem:
        raise CannotWrite(
            f"cannot write a report into {printable(folder)} ({explained(problem)})"
        ) from None
    return page


def html(context: Mapping[str, Any]) -> str:
    """Return the page."""
    environment = _environment(autoescape=True)
    style = _source(environment, "style.css")
    script = _source(environment, "filter.js")
    return environment.get_template("index.html.j2").render(
        context,
        # Ours, not a record's: the only text that goes into the page as it is.
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}",
    )


def markdown(context: Mapping[str, Any]) -> str:
    """Return the report as Markdown for a code host."""
    return (
        _environment(autoescape=False, final=_markdown_text)
        .get_template("report.md.j2")
        .render(context)
    )


def _visible(text: str) -> str:
    """Return a text fit to be seen; a space at its edge is the template's own, and stays."""
    before = " " if text[:1] == " " else ""
    after = " " if len(text) > 1 and text[-1:] == " " else ""
    return f"{before}{printable(text, _LONGEST)}{after}"


def _breakable(name: str) -> Markup:
    """Return a name that may be broken after underscores, dots and slashes; copying it is exact."""
    text = escape(printable(name, _LONGEST))
    for mark in "_./":
        # Escaped text holds none of the marks but its own, and the tag none of the later ones.
        text = text.replace(mark, Markup(f"{mark}<wbr>"))
    return text


def _source(environment: jinja2.Environment, name: str) -> str:
    loader = environment.loader
    assert loader is not None
    return loader.get_source(environment, name)[0].strip()


def _digest(text: str) -> str:
    """Return the source expression by which a Content-Security-Policy allows an inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _environment(autoescape: bool, final: Any = None) -> jinja2.Environment:
    def visible(value: Any) -> Any:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return _visible(value)

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("conformance.report", "templates"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=final or visible,
    )
    environment.filters["figure"] = rows.figure
    environment.filters["breakable"] = _breakable
    environment.filters["short"] = lambda dtype: rows.SHORT_DTYPES.get(dtype, dtype)
    return environment


# A code host turns these into structure: tables, emphasis, links, HTML, mentions.
_SPECIAL = {ord(c): f"\\{c}" for c in "\\`*_[]|~#$"} | {
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord("&"): "&amp;",  # or an entity would bring back the character that it names
}


class _Code(str):
    """Text that is already Markdown."""


def _markdown_text(value: Any) -> Any:
    if isinstance(value, _Code | Markup) or not isinstance(value, str):
        return value
    return _visible(value).translate(_SPECIAL)


def code(text: object) -> str:
    """Return text as Markdown code that no text can end."""
    return _Code("`" + printable(text, _LONGEST).replace("`", "'").replace("|", "\\|") + "`")


# --- what the templates see -----------------------------------------------------------------------


def _context(records: Sequence[Record]) -> dict[str, Any]:
    names = matrix.run_names(len(records))
    runs = [_run(name, record) for name, record in zip(names, records, strict=True)]
    return {
        "tool_version": __version__,
        "runs": runs,
        "matrix": matrix.matrix(records),
        "titles": _titles(runs),
        "groups": _groups(runs),
        "figure": rows.figure,
        "short_dtypes": rows.SHORT_DTYPES,
        "explain_command": rows.explain_command,
        "cell_command": rows.cell_command,
        "describe": rows.describe,
        "reason": rows.reason,
        "code": code,
        "slug": rows.slug,
    }


def _run(name: str, record: Record) -> dict[str, Any]:
    """Return one run as the templates see it."""
    run, measurements = record.run, record.measurements
    coverage = run.get("coverage")
    planned = counts.planned_cells(
        coverage if isinstance(coverage, Mapping) else None, len(measurements)
    )
    parts = counts.tallies(measurements, planned)
    subjects = [r for r in measurements if r["role"] == "subject"]
    proofs = outcomes.instruments(measurements, run)
    return {
        "name": name,
        "options": rows.run_options(run),
        "partial": record.partial,
        "measured": len(measurements),
        "planned": planned,
        "tallies": parts,
        "total": counts.total(parts),
        "subjects": counts.total(counts.tallies(subjects, len(subjects))),
        "frameworks": _framework_versions(measurements),
        "missing": rows.missing_frameworks(measurements),
        "failures": outcomes.failures(measurements),
        "deviations": outcomes.deviations(measurements, _registry(run)),
        "controls": [p for p in proofs if p.role == "control"],
        "mutants": [p for p in proofs if p.role == "mutant"],
        "extent": extent.extent(coverage, measurements),
        "floor": _floor(coverage),
        "left_out": _texts(coverage.get("left_out") if isinstance(coverage, Mapping) else None),
        "facts": _facts(run),
        "environment": _flat(run.get("environment")),
        "rows": sorted(measurements, key=rows.sort_key),
    }


def _titles(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each framework with its versions, over all runs."""
    versions: dict[str, list[str]] = {}
    for run in runs:
        for name, version in run["frameworks"]:
            known = versions.setdefault(name, [])
            if version and version not in known:
                known.append(version)
    return [
        f"{name} {' and '.join(versions[name])}".strip()
        for name in sorted(versions, key=rows.framework_rank)
    ]


def _framework_versions(measurements: Sequence[rows.Measurement]) -> list[tuple[str, str]]:
    missing = set(rows.missing_frameworks(measurements))
    by_name = rows.grouped(measurements, lambda r: (r["framework"],))
    return [
        (name, rows.framework_version(found))
        for (name,), found in sorted(by_name.items(), key=lambda g: rows.framework_rank(g[0][0]))
        if name not in missing
    ]


def _registry(run: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what run.json knows of the deviations, by id."""
    told = run.get("deviations")
    if not isinstance(told, Mapping):
        return {}
    return {str(k): v for k, v in told.items() if isinstance(v, Mapping)}


def _groups(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all runs by op, derivative and argument."""
    of = [(run, row) for run in runs for row in run["rows"]]
    of.sort(key=lambda pair: (rows.sort_key(pair[1]), pair[0]["name"]))
    groups: dict[tuple[str, str, str], list[tuple[Mapping[str, Any], rows.Measurement]]] = {}
    for run, row in of:
        groups.setdefault((row["op"], row["derivative"], row["argument"]), []).append((run, row))
    return [
        {
            "op": op,
            "derivative": derivative,
            "argument": argument,
            "slug": rows.slug(op, derivative, argument),
            "rows": found,
            "failing": sum(
                r["role"] == "subject" and r["verdict"] in rows.FAILING for _, r in found
            ),
            "deviating": sum(r["verdict"] == "deviation" for _, r in found),
        }
        for (op, derivative, argument), found in groups.items()
    ]


def _floor(coverage: object) -> dict[str, Any]:
    """Why the run was not held to the floor, or where it is below it."""
    floor = coverage.get("floor") if isinstance(coverage, Mapping) else None
    if not isinstance(floor, Mapping):
        return {"unchecked": "", "below": []}
    return {"unchecked": str(floor.get("unchecked") or ""), "below": _texts(floor.get("below"))}


def _texts(value: object) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts of the first screen: when, where, how."""
    environment = run.get("environment")
    environment = environment if isinstance(environment, Mapping) else {}
    cpu = environment.get("cpu")
    cpu = cpu if isinstance(cpu, Mapping) else {}
    found = [
        ("measured", str(run.get("started") or "").replace("T", " ").replace("+00:00", " UTC")),
        ("profile", run.get("profile")),
        ("seed", run.get("seed")),
        ("machine", cpu.get("model") or environment.get("machine")),
        ("system", environment.get("os")),
        ("Python", environment.get("python")),
        ("tool", environment.get("tool_version")),
        ("policy", environment.get("policy_version")),
        ("selection", _selection(run.get("selection"))),
        ("shard", _shard(run.get("shard"))),
        ("merged from", _merged(run.get("merged"))),
        ("resumed", _times(run.get("resumed"))),
    ]
    return [(name, str(value)) for name, value in found if value not in (None, "")]


def _selection(selection: object) -> str:
    """Return the options that narrowed the run; empty for an unselected one."""
    if not isinstance(selection, Mapping):
        return str(selection or "")
    parts = []
    for name, value in selection.items():
        if value in (None, [], "", {}):
            continue
        values = value if isinstance(value, list) else [value]
        parts += [f"--{name} {v}" for v in values]
    return " ".join(parts)


def _shard(shard: object) -> str:
    if not isinstance(shard, Mapping):
        return ""
    return f"{shard.get('index')} of {shard.get('count')}: the rest of the plan is elsewhere"


def _merged(parts: object) -> str:
    return f"{len(parts)} shards" if isinstance(parts, list) and parts else ""


def _times(moments: object) -> str:
    if not isinstance(moments, list) or not moments:
        return ""
    return "once" if len(moments) == 1 else f"{len(moments)} times"


def _flat(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested entries as one list of names and texts."""
    if isinstance(value, Mapping):
        return [
            pair
            for name, entry in value.items()
            for pair in _flat(entry, f"{prefix} {name}".strip())
        ]
    if value in (None, "", []):
        return [(prefix, "–")] if prefix else []
    if isinstance(value, list):
        return [(prefix, " ".join(str(v) for v in value))]
    return [(prefix, str(value))]
