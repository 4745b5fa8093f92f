"""Entries about the implementations of `deviating`, one for each rule."""

from __future__ import annotations

WITNESS = "softmax-float32-w.one_plus_inf-7d53c4"
ENTRY = """\
[[deviation]]
id = "{name}"
versions = ">=2,<3"
# Worst seen 69.
allows = {{ "nan@one_plus_inf" = 1e6, "nan@several_plus_inf" = 1e6 }}
witnesses = ["{witness}"]
reason = "upstream-bug"
summary = "x - max x is inf - inf."
upstream = "unreported"
since = "2026-12-01"
review_by = "2027-06-01"
[deviation.match]
implementation = "deviating.{name}"
"""


def entry(name: str, *changes: tuple[str, str]) -> str:
    """An entry about ``deviating.NAME``, with texts of it replaced by others."""
    text = ENTRY.format(name=name, witness=WITNESS)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


SMALL = ('one_plus_inf" = 1e6', 'one_plus_inf" = 3')
"""Less than the implementation shows."""
OTHER_VERSION = (">=2,<3", ">=1,<2")
"""Not the one that is installed."""
NO_CELL = ("[deviation.match]", '[deviation.match]\ndtype = "float16"')
"""Which the implementation does not take."""
ELSEWHERE = ("[deviation.match]", '[deviation.facts]\nmachine = "pdp11"\n[deviation.match]')
"""Not this machine."""
NO_WITNESS = (WITNESS, "softmax-float16-w.one_plus_inf-7d53c4")
"""A case that runs in none of its cells."""
