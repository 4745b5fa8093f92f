from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic
from rich.console import Console

from conformance import columns, record
from conformance.columns import decoded, plain
from conformance.record import Record
from conformance.report import counts, matrix, outcomes, rows, write_report
from conformance.report.claims import ClaimsError, read_claims
from conformance.report.terminal import print_summary

HOSTILE = "<script>alert(1)</script>\"'`|[x](javascript:y)\x1b[31m\u202e\x00\n# top ../"


def made(
    measurements: list[dict[str, Any]] | None = None, *, partial: bool = False, **run: Any
) -> Record:
    """A record as `read_record` gives it."""
    found = [decoded(plain(m)) for m in measurements or synthetic.measurements()]
    return Record(run=synthetic.run(len(found)) | run, measurements=found, partial=partial)


class Page(HTMLParser):
    """What a page holds: its text, its links, and whether its tags are balanced."""

    VOID = frozenset({"meta", "br", "input", "wbr", "link", "img", "hr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def having(self, attribute: str) -> list[str]:
        return [a[attribute] or "" for _, a in self.tags if attribute in a]


def page(folder: Path, *records: Record) -> Page:
    return Page(write_report(list(records), folder).read_text(encoding="utf-8"))


# --- the page -------------------------------------------------------------------------------------


def test_the_page_says_what_was_compared(tmp_path: Path) -> None:
    text = page(tmp_path, made()).text
    for words in ("torch 2.13.0", "tensorflow 2.21.0", "A processor @ 2.50GHz", "quick"):
        assert words in text


def test_every_measurement_has_its_figures_and_its_commands(tmp_path: Path) -> None:
    row = synthetic.measurement(max_ulp=37.25, ratio_weak=0.123, ratio_strong=8.5, flags=["flush"])
    shown = page(tmp_path, made([row]))
    text = shown.text
    cells = [w.strip() for w in shown.words]
    for figure in ("37.2", "0.12", "8.50", "flush", "pass"):
        assert figure in cells
    assert f"conformance explain {row['worst_case']}" in text
    assert f"conformance run --cell {row['key']}" in text


def test_the_tiles_add_up_to_the_plan(tmp_path: Path) -> None:
    found = made(synthetic.measurements(missing=("jax",))[:600], partial=True)
    found.run["coverage"]["planned"] = 1000
    source = write_report([found], tmp_path).read_text(encoding="utf-8")
    tiles = re.search(r'<ul class="tiles">(.*?)</ul>', source, re.S)
    assert tiles is not None
    planned, *parts = [int(n) for n in re.findall(r"<b>(\d+)</b>", tiles.group(1))]
    assert planned == 1000
    assert sum(parts) == planned
    assert "600 of 1000 planned cells" in source


def test_a_whole_record_does_not_say_partial(tmp_path: Path) -> None:
    assert "partial" not in page(tmp_path, made()).text


def test_a_framework_that_is_missing_is_named(tmp_path: Path) -> None:
    assert (
        "tensorflow: not installed."
        in page(tmp_path, made(synthetic.measurements(missing=("tensorflow",)))).text
    )


def test_the_page_asks_for_nothing_from_anywhere(tmp_path: Path) -> None:
    found = page(tmp_path, made())
    assert found.having("src") == []
    links = found.having("href")
    assert {link for link in links if not link.startswith("#")} == {"https://example.org/issues/1"}
    anchors = set(found.having("id"))
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(tmp_path: Path) -> None:
    source = write_report([made()], tmp_path).read_text(encoding="utf-8")
    policy = Page(source).having("content")[0]
    assert policy.startswith("default-src 'none'")
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", source, re.S)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_grades_are_letters_and_not_only_colours(tmp_path: Path) -> None:
    source = write_report([made()], tmp_path).read_text(encoding="utf-8")
    chips = re.findall(r'class="chip g-(\w+) is-(\w+)"[^>]*><b>(.*?)</b><i>(.*?)</i>', source)
    assert {"Ap": "A+"}.get(chips[0][0], chips[0][0]) == chips[0][2]
    assert {c[2] for c in chips} >= {"A", "B", "C", "F", "–"}
    assert source.count('aria-label="documented deviation"') >= 1
    assert source.count('aria-label="fails"') >= 1


def test_hostile_text_shows_as_text(tmp_path: Path) -> None:
    texts = [c for c, kind in columns.COLUMNS.items() if kind == "text"]
    row = synthetic.measurement(**dict.fromkeys(texts, HOSTILE), flags=[HOSTILE], verdict="fail")
    row["breaches"] = [{"kind": HOSTILE, "case_id": HOSTILE, "detail": HOSTILE}]
    other = synthetic.measurement(deviation="d", verdict="deviation", grade="F")
    environment = {HOSTILE: HOSTILE, "cpu": {"model": HOSTILE}}
    registry = {"d": {"reason": HOSTILE, "upstream": "javascript:alert(1)", "summary": HOSTILE}}
    found = made(
        [row, other],
        environment=environment,
        deviations=registry,
        profile=HOSTILE,
        selection={"op": [HOSTILE]},
        coverage={"planned": 2, "left_out": [HOSTILE]},
    )
    source = write_report([found, found], tmp_path).read_text(encoding="utf-8")
    shown = Page(source)
    assert [tag for tag, _ in shown.tags].count("script") == 1
    assert "<script>alert(1)</script>" in shown.text
    assert not any("javascript" in link for link in shown.having("href"))
    assert not {"\x1b", "\u202e", "\x00"} & set(source)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<script" not in re.sub(r"(?<!\\)`[^`\n]*`", "", text)
    assert "\n# top" not in text
    assert not {"\x1b", "\u202e", "\x00"} & set(text)


def test_a_command_is_safe_to_paste(tmp_path: Path) -> None:
    row = decoded(plain(synthetic.measurement(key="x; rm -rf ~", worst_case="$(reboot)")))
    assert shlex.split(rows.cell_command(row))[-1] == "x; rm -rf ~"
    assert shlex.split(str(rows.explain_command(row)))[-1] == "$(reboot)"
    options = rows.run_options({"profile": "standard; reboot", "seed": 3})
    words = shlex.split(rows.cell_command(row, options))
    assert words[-4:] == ["--profile", "standard; reboot", "--seed", "3"]
    assert rows.run_options({"profile": "quick", "seed": 0}) == ""
    source = write_report([made([row], profile="standard", seed=3)], tmp_path).read_text("utf-8")
    assert "--profile standard --seed 3" in Page(source).text.replace("\u200b", "")


def test_several_records_stand_side_by_side(tmp_path: Path) -> None:
    older = [m | {"framework_version": "2.12.0"} for m in synthetic.measurements()]
    older = [m for m in older if m["framework"] == "torch"]
    text = page(tmp_path, made(older), made()).text
    assert "torch 2.12.0 and 2.13.0" in text
    assert "torch 2.12.0 · run A" in text
    assert "torch 2.13.0 · run B" in text


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(Record({}, [], True), id="nothing"),
        pytest.param(
            made([synthetic.measurement(verdict="crash", grade=None, max_ulp=None)]), id="crash"
        ),
        pytest.param(
            Record({"coverage": 3, "environment": [], "selection": "x"}, [], False), id="odd run"
        ),
    ],
)
def test_a_thin_record_still_renders(tmp_path: Path, found: Record) -> None:
    assert "logit-conformance" in page(tmp_path, found).text


def test_markdown_answers_alone(tmp_path: Path) -> None:
    write_report([made()], tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# numpy 2.4.6, torch 2.13.0, tensorflow 2.21.0, jax 0.10.2")
    header, rule, *body = [line for line in text.splitlines() if line.startswith("|")][:13]
    assert {line.count("|") for line in (header, rule, *body)} == {6}
    assert "f16 **F**d 256" in text
    assert "float16-sum-overflows" in text
    assert "tf.nn.log\\_softmax" in text


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(record.CannotWrite, match="cannot write a report into") as caught:
        write_report([made()], tmp_path / "file" / "out")
    assert "\n" not in str(caught.value)


# --- what the reports show ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (0.5, "0.50"),
        (3.3449, "3.34"),
        (66.04, "66.0"),
        (999.6, "1000"),
        (9999.6, "1.0e4"),
        (4.2e6, "4.2e6"),
        (1e-10, "1.0e-10"),
        (4.48e307, "4e307"),
        (math.inf, "∞"),
        (math.nan, "NaN"),
    ],
)
def test_a_figure_has_few_digits(value: float | None, shown: str) -> None:
    assert rows.figure(value) == shown


def test_counts_add_up_in_every_group() -> None:
    found = made(synthetic.measurements(missing=("jax",)))
    planned = len(found.measurements) + 11
    parts = counts.tallies(found.measurements, planned)
    assert sum(t.planned for t in parts) == counts.total(parts).planned == planned
    by_name = {t.name: t for t in parts}
    assert by_name["jax"].counts["not installed"] == by_name["jax"].planned > 0
    assert by_name["mutants"].failing == 6
    assert by_name["never reached"].counts["not run"] == 11


def test_a_chip_shows_the_worst_of_its_cells() -> None:
    found = made(
        [
            synthetic.measurement(family="masks", grade="A", max_ulp=2.0, ratio_weak=0.9),
            synthetic.measurement(family="near_ties", grade="B", max_ulp=1.0, flags=["flush"]),
            synthetic.measurement(
                family="subnormals", grade="A+", max_ulp=0.5, verdict="deviation", deviation="d"
            ),
        ]
    )
    ((square,),) = [line.squares for line in matrix.matrix([found]).lines]
    chip = square.chips["eager", "float32"]
    assert (chip.grade, chip.max_ulp, chip.ratio_weak) == ("B", 2.0, 0.9)
    assert (chip.cells, chip.state) == (3, "deviation")
    assert square.flags == (("flush", ("float32",)),)


def test_builtins_speak_for_a_framework_that_has_them() -> None:
    composed = synthetic.measurement(
        implementation="mine", variant="composition", grade="F", verdict="fail"
    )
    anti = synthetic.measurement(implementation="worse", role="antipattern", grade="F")
    found = made([synthetic.measurement(), composed, anti])
    (line,) = matrix.matrix([found]).lines
    assert line.squares[0].implementations == ("torch.softmax",)
    (summary,) = matrix.summaries(found.measurements)
    assert summary.grades == {"float32": "A"}
    assert summary.failing == 1


def test_a_mutant_is_caught_unless_the_run_says_it_was_missed() -> None:
    found = made(synthetic.measurements())
    assert all(p.proven for p in outcomes.instruments(found.measurements))
    told = {"mutants": {"total": 8, "missed": ["jax.mutant.unshifted"]}}
    missed = [p.name for p in outcomes.instruments(found.measurements, told) if not p.proven]
    assert missed == ["jax.mutant.unshifted"]


def test_a_control_that_fails_breaks_the_instrument(tmp_path: Path) -> None:
    bad = synthetic.measurement(implementation="c", role="control", verdict="fail")
    assert "The instrument is not proven." in page(tmp_path, made([bad])).text


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://example.org/a?b=1#c", True),
        ("http://example.org", False),
        ("javascript:alert(1)", False),
        ('https://x" onclick="y', False),
        ("https://x/>", False),
        (None, False),
    ],
)
def test_only_https_becomes_a_link(address: str | None, kept: bool) -> None:
    assert rows.https(address) == (address if kept else "")


# --- the terminal ---------------------------------------------------------------------------------


def terminal(found: Record, width: int = 80) -> str:
    stream = io.StringIO()
    print_summary(Console(file=stream, width=width), found.measurements, found.run["coverage"])
    return stream.getvalue()


def test_the_table_fits_eighty_columns() -> None:
    shown = terminal(made())
    table = shown[: shown.index("fail tf.nn.log_softmax")]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "sparse_softmax_cross_entropy" in table
    (torch,) = re.findall(r"^logsumexp\s*\n.*\n  torch 2\.13\.0 (.*)$", table, re.M)
    assert torch.split() == ["F", "F", "F", "F", "4.2e6", "3.1e5", "0", "5"]


def test_every_failure_has_its_command_whole() -> None:
    shown = terminal(made(), width=60)
    assert "conformance explain log_softmax-bfloat16-masks1-n1000-s0-r54-578c41" in shown


def test_the_terminal_names_what_is_not_installed_and_what_was_left_out() -> None:
    shown = terminal(made(synthetic.measurements(missing=("tensorflow",))))
    assert "tensorflow: not installed" in shown
    assert "left out: derivatives jvp and hvp" in shown


def test_hostile_text_does_not_reach_the_terminal() -> None:
    texts = [c for c, kind in columns.COLUMNS.items() if kind == "text"]
    row = synthetic.measurement(**dict.fromkeys(texts, f"[red]{HOSTILE}"), verdict="fail")
    shown = terminal(made([row]))
    assert not {"\x1b", "\u202e", "\x00"} & set(shown)
    assert "[red]<script>" in shown


def test_many_failures_are_cut_and_counted() -> None:
    failing = [synthetic.measurement(verdict="fail", family=f"family{i}") for i in range(30)]
    assert "and 10 more" in terminal(made(failing))


def test_a_broken_instrument_is_named() -> None:
    missed = synthetic.measurement(implementation="torch.mutant.m", role="mutant", verdict="pass")
    assert "mutant torch.mutant.m was not caught" in terminal(made([missed]))


# --- the article, checked -------------------------------------------------------------------------


def claims_document(**changes: Any) -> dict[str, Any]:
    """What `conformance claims --json` prints, in small."""
    entry = {
        "claim": "order",
        "framework": "torch",
        "mode": "eager",
        "dtype": "float32",
        "verdict": "holds within",
        "range": "",
        "short": "gap < 102.9",
        "more": {"Worst error in ULP": "0.72"},
        "counter_example": "softmax([0, -103]) is [1, 0]",
    }
    return {
        "schema": 1,
        "kind": "claims",
        "versions": {"torch": {"torch": "2.13.0"}},
        "claims": [{"claim": "order", "says": "The higher the logit.", "figure": "the gap"}],
        "items": [entry, {**entry, "mode": "compiled"}, {**entry, "dtype": "float16"}],
        "changes": [],
    } | changes


def with_claims(tmp_path: Path, document: object) -> Page:
    path = tmp_path / "claims.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    found = write_report([made()], tmp_path / "out", read_claims(path))
    return Page(found.read_text(encoding="utf-8"))


def test_the_article_has_its_section(tmp_path: Path) -> None:
    text = with_claims(tmp_path, claims_document()).text
    assert "The article, checked" in text
    assert "1. The higher the logit." in text
    assert "holds within: 3." in text
    assert "For example, torch eager float32: softmax([0, -103]) is [1, 0]" in text
    assert "Worst error in ULP" in text
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "## The article, checked" in markdown
    assert "| torch eager | gap &lt; 102.9 | gap &lt; 102.9 |" in markdown


def test_without_claims_there_is_no_such_section(tmp_path: Path) -> None:
    assert "The article, checked" not in page(tmp_path, made()).text


def test_a_changed_verdict_is_an_alarm(tmp_path: Path) -> None:
    change = {"claim": "order", "framework": "torch", "mode": "eager", "dtype": "float32",
              "expected": "holds", "found": "does not hold"}  # fmt: skip
    text = with_claims(tmp_path, claims_document(changes=[change])).text
    assert "Changed: order in torch eager float32: expected holds, found does not hold." in text


def test_a_hostile_claims_document_is_only_text(tmp_path: Path) -> None:
    document = claims_document()
    document["claims"][0]["says"] = HOSTILE
    document["items"] = [
        {**entry, "short": HOSTILE, "counter_example": HOSTILE, "more": {HOSTILE: HOSTILE}}
        for entry in document["items"]
    ]
    found = with_claims(tmp_path, document)
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "\x1b" not in found.text


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"kind": "run"},
        claims_document(schema=2),
        claims_document(items=None),
        claims_document(items=[{"claim": "order"}]),
        claims_document(claims=[1]),
    ],
)
def test_what_is_no_claims_document_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(ClaimsError):
        with_claims(tmp_path, document)


def test_a_claims_file_that_is_missing_or_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClaimsError, match="cannot read"):
        read_claims(tmp_path / "none.json")
    (tmp_path / "claims.json").write_text("{")
    with pytest.raises(ClaimsError, match="not JSON"):
        read_claims(tmp_path / "claims.json")
