"""The conformance suite: frameworks, implementations, executors, judge and records.

Only the names a plug-in needs are exported here, and importing the package stays light: no NumPy,
no framework, no command-line library. ``reference/`` never imports this package.
"""

from __future__ import annotations

from conformance.registry import Implementation, implementation

__all__ = ["Implementation", "__version__", "implementation"]

__version__ = "0.1.0"
