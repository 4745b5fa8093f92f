"""The mathematics of logit-conformance: formats, operators, cases, the oracle and the metrics.

Nothing here imports a machine-learning framework, and nothing here imports ``conformance``.
What comes out of this package is either proven or raises :class:`reference.oracle.Undecided`.
"""
