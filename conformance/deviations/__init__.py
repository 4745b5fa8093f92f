"""The registry of deviations: known, documented exceptions, each of them strict.

An entry, in a TOML file of its framework, says which cells it is about, on which versions and
under which facts, which kinds of breach it excuses and up to which figure, which cases witness it,
and why. It excuses nothing else: another kind, a larger figure or another version is a failure, and
an entry whose witnesses all met the contract is *stale* and fails the run.

=============  ===================================================================
facts          what an entry may depend on beside the version
entries        entries, and what they say of a cell's breaches
reading        the files
standing       what the rows of a record make of each entry: shown, worse, stale, ...
extent         how much of what an entry is about a plan runs
checking       is the registry itself right
crossing       what every framework deviates in: a suspect contract
updating       what the files should say after a record; `edits` keeps their comments
=============  ===================================================================
"""

from __future__ import annotations

from conformance.deviations.entries import REASONS, Deviation, Judged, Named, Registry, Ruling
from conformance.deviations.reading import DeviationError, FolderError, digest, load, parse

__all__ = ["REASONS", "Deviation", "DeviationError", "FolderError", "Judged", "Named", "Registry",
           "Ruling", "digest", "load", "parse"]  # fmt: skip
