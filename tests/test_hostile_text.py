"""What implementations say harms neither terminal nor record, report or file system."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import conformance as package
from conformance.execution.protocol import clean_text
from conformance.record import read_record
from conformance.text import printable

PLUGIN = Path(__file__).with_name("hostile_text.py")
SELECTION = {"op": ["softmax"], "dtype": ["float32"], "derivative": ["value"],
             "family": ["near_ties"]}  # fmt: skip
SMALL = [part for name, values in SELECTION.items() for part in (f"--{name}", *values)]
NAMES = ("message", "exception_name", "type_name", "printed", "last_words", "variable", "thread",
         "directory", "process_name", "switch")  # fmt: skip


def python(*arguments: str, cwd: Path | None = None, **variables: str) -> Any:
    return subprocess.run(
        [sys.executable, "-P", *arguments],
        capture_output=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1]), **variables},
    )


def conformance(*arguments: str, cwd: Path | None = None) -> Any:
    return python("-m", "conformance", *arguments, cwd=cwd)


def harm(text: str) -> set[str]:
    """Characters that do more than show, in the words of the Unicode standard."""
    bad = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {c for c in text if c not in "\n\t" and unicodedata.category(c) in bad}


def harmless(output: bytes, longest: int = 100_000) -> str:
    """The text of an output, after every check that holds for all of them."""
    text = output.decode("utf-8")
    assert not harm(text), harm(text)
    assert len(text) <= longest
    assert not [line for line in text.splitlines() if line.lstrip().startswith(("::", "# top"))]
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def ran(folder: Path) -> Any:
    """A run as a person starts it, in a folder of its own."""
    return conformance("run", *SMALL, "--implementation", "hostile.*", "--plugin", str(PLUGIN),
                       "--out", "run", cwd=folder)  # fmt: skip


def test_the_terminal_is_safe(ran: Any) -> None:
    assert ran.returncode == 1
    text = harmless(ran.stdout) + harmless(ran.stderr)
    assert "hostile.message" in text
    assert "<script>" in text  # harmless there, and what was said


def test_the_file_system_is_safe(ran: Any, folder: Path) -> None:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    written = ("run.json", "measurements.jsonl", "measurements.parquet", "witnesses.jsonl")
    assert files == {"run", *(f"run/{name}" for name in written)}


def test_the_record_is_safe_and_says_what_happened(ran: Any, folder: Path) -> None:
    for name in ("run.json", "measurements.jsonl"):
        data = (folder / "run" / name).read_bytes()
        assert data.isascii()
        assert len(data) < 200_000
    rows = {r["implementation"]: r for r in read_record(folder / "run").measurements}
    for name in NAMES:
        row = rows[f"hostile.{name}"]
        assert row["verdict"] in ("error", "crash", "fail")
        for text in (row["message"], *(b["detail"] for b in row["breaches"])):
            assert text
            assert not harm(text + "\n")
            assert "\n" not in text
            assert len(text) <= 600


class Tags(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_the_report_is_safe(ran: Any, folder: Path) -> None:
    made = conformance("report", "run", "--out", "report", cwd=folder)
    assert made.returncode == 0, made.stderr
    harmless(made.stdout + made.stderr)
    page = harmless((folder / "report" / "index.html").read_bytes(), 1_000_000)
    found = Tags(page)
    assert found.tags.count("script") == 1
    assert not [link for link in found.links if link.startswith("javascript")]
    text = harmless((folder / "report" / "report.md").read_bytes())
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert "<script" not in outside
    assert "&#x" not in outside
    assert not re.search(r"(?<!\\)\[x\]", outside)


def test_json_is_one_safe_document(tmp_path: Path) -> None:
    result = conformance("run", *SMALL, "--implementation", "hostile.message", "--json",
                         "--plugin", str(PLUGIN), "--out", str(tmp_path / "run"))  # fmt: skip
    harmless(result.stderr)
    assert result.stdout.isascii()
    cells = {cell["implementation"]: cell for cell in json.loads(result.stdout)["cells"]}
    assert "<script>" in cells["hostile.message"]["message"]


def test_pytest_says_it_safely_too(tmp_path: Path) -> None:
    chosen = {**SELECTION, "implementation": ["hostile.message", "hostile.exception_name"]}
    settings = json.dumps({"selection": chosen, "plugins": [str(PLUGIN)]})
    result = python("-m", "pytest", "--pyargs", "conformance.suite", "-q", "-rA",
                    cwd=tmp_path, CONFORMANCE_RUN=settings)  # fmt: skip
    text = harmless(result.stdout)
    assert "hostile.message" in text
    assert result.returncode == 1


def test_explain_and_list_are_safe(ran: Any, folder: Path) -> None:
    rows = read_record(folder / "run").measurements
    (row,) = (row for row in rows if row["implementation"] == "hostile.message")
    case = row["breaches"][0]["case_id"]
    for arguments in (("explain", case, "--framework", "numpy"), ("list", "implementations")):
        result = conformance(*arguments, "--plugin", str(PLUGIN), cwd=folder)
        assert result.returncode == 0, result.stderr
        text = harmless(result.stdout)
        assert "hostile.message" in text
        assert ("<script>" in text) == (arguments[0] == "explain")
        harmless(result.stderr)


EVIL = "\x1b[31m<script>\r\n::error::\u202e\x00" + "x" * 100_000


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", EVIL),
        ("name", "n" * 1000),
        ("name", "../x"),
        ("op", EVIL),
        ("role", EVIL),
        ("url", EVIL),
        ("requires", (EVIL,)),
        ("dtypes", (EVIL,)),
        ("variant", EVIL),
    ],
    ids=lambda value: clean_text(str(value), 20),
)
def test_what_a_plugin_cannot_be_called_is_told_in_one_safe_line(
    option: str, value: Any, tmp_path: Path
) -> None:
    declared = {"op": "softmax", "framework": "numpy", "name": "mine.softmax", option: value}
    plugin = tmp_path / "named.py"
    plugin.write_text(
        "from conformance import implementation\n"
        f"implementation(**{declared!r})(lambda x, *, axis: x)\n"
    )
    result = conformance("list", "implementations", "--plugin", str(plugin))
    assert (result.returncode, result.stdout) == (2, b"")
    assert len(harmless(result.stderr, 1000).splitlines()) == 1


def test_an_import_error_is_told_in_one_safe_line(tmp_path: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(f"raise ValueError({EVIL!r})\n")
    result = conformance("run", "--plugin", str(plugin), "--dry-run")
    assert result.returncode == 2
    assert "ValueError" in harmless(result.stderr, 1000)


# --- the functions behind it ----------------------------------------------------------------

EVERY_CHARACTER = "".join(map(chr, range(0x110000)))


def test_no_character_that_does_more_than_show_survives() -> None:
    assert not harm(clean_text(EVERY_CHARACTER, 1 << 21))
    assert not harm(printable(EVERY_CHARACTER, 1 << 21))


@pytest.mark.parametrize("clean", [clean_text, printable])
def test_what_shows_survives(clean: Any) -> None:
    text = "é ∞ 漢字 עברית العربية ÷ ≤ a\u0301 🙂"
    assert clean(text) == text


class Lying(str):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError

    def encode(self, *_: Any) -> Any:
        raise RuntimeError

    def replace(self, *_: Any) -> Any:
        return "\x1b"


@pytest.mark.parametrize("clean", [clean_text, printable])
def test_a_text_that_lies_about_itself_is_read_as_what_it_is(clean: Any) -> None:
    assert clean(Lying("plain \x1b")) == clean("plain \x1b")
    assert len(clean(Lying("x" * 1_000_000))) < 5000
