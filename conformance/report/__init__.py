"""Comparison reports: from records, and from nothing else, to what a person reads.

`rows`, `counts`, `matrix` and `outcomes` turn measurements into what the reports show, pure
functions all; `pages` writes index.html and report.md from the templates, `terminal` the tables at
the end of a run. Nothing here imports a framework, the oracle or the judge.
"""

from __future__ import annotations

from conformance.report.pages import write_report

__all__ = ["write_report"]
