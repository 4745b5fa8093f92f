"""The conformance tests, one file per concern; each test is one cell.

``conformance run`` starts pytest on this folder with the packaged ``pytest.ini``. ``pytest
--pyargs conformance.suite`` gives the same verdicts whatever the configuration around it is.
"""
