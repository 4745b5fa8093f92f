"""What is under test: one file per framework, and the controls and mutants of each.

Every module is importable without its framework: functions import it in their bodies. Each
registers its implementations on import, see `conformance.registry`.
"""
