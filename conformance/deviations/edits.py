"""Edits of the registry's files that leave every comment and line break where it is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

from conformance.deviations.reading import FolderError
from conformance.deviations.updating import ALLOW, REMOVE, VERSIONS, WITNESS, Proposal

__all__ = ["difference", "edited"]

_HEADER = "[[deviation]]\n"


def edited(text: str, proposals: Iterable[Proposal]) -> str:
    """A file with the proposals about its entries made; those about others are passed over."""
    document = tomlkit.parse(text)
    entries = document.get("deviation")
    removed: list[str] = []
    for entry in entries if isinstance(entries, AoT) else ():
        own = [p for p in proposals if p.id == entry["id"]]
        if any(p.edit == REMOVE for p in own):
            removed.append(_HEADER + entry.as_string())
        else:
            for proposal in own:
                _make(entry, proposal)
    changed = tomlkit.dumps(document)
    for entry_text in removed:
        if entry_text not in changed:
            raise FolderError(
                "an entry to remove does not begin with a line [[deviation]] of its own"
            )
        changed = changed.replace(entry_text, _comments_behind(entry_text), 1)
    return changed


def _make(entry: Table, proposal: Proposal) -> None:
    of: Any = entry  # tomlkit's items are whatever the file holds
    if proposal.edit == VERSIONS:
        of["versions"] = proposal.value
    elif proposal.edit == ALLOW:
        of["allows"][proposal.kind] = tomlkit.value(proposal.value)
    elif proposal.edit == WITNESS:
        of["witnesses"].remove(proposal.value)


def _comments_behind(entry_text: str) -> str:
    """The comment at the end of an entry's text, which is about the next one."""
    lines = entry_text.splitlines(keepends=True)
    kept = len(lines)
    while kept and lines[kept - 1].startswith("#"):
        kept -= 1
    return "".join(lines[kept:])


def difference(path: str, old: str, new: str) -> str:
    """A unified diff that ``git apply`` and ``patch -p1`` take; empty if nothing changed."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return "".join(lines)
