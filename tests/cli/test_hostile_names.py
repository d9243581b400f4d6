"""Names in other people's records, on their way to a terminal, a page and a spreadsheet."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from tests.results.record_factory import study, trial, write_records

NAMES = [
    "\x1b]0;owned\x07\x1b[31mred",
    "\x9b31mC1",
    "![x](http://evil.example/a.png) | <img src=x> www.evil.example",
    "=HYPERLINK(1)",
    "\r=1+1",
    "\u202eevil",
    "[bold red]markup[/]",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    trials = [
        trial(name).model_copy(
            update={
                "arch_id": f"unet-{i:012x}",
                "arch": {"=cmd|x": 1, "family": "unet", "\x1bp": i},
            }
        )
        for i, name in enumerate(NAMES)
    ]
    record = study("demo", note="\x1b[2Jnote")
    return write_records(tmp_path / "results" / "demo", record, trials)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    captured = capsys.readouterr()
    assert left.value.code == 0, captured.err
    return captured.out


@pytest.mark.parametrize("kind", ["", "csv", "md", "json"])
def test_nothing_reaches_the_terminal(folder, capsys, kind):
    options = ["--export", kind] if kind else []
    out = output(
        capsys, "results", "leaderboard", "demo", "--results-dir", str(folder.parent), *options
    )
    assert not set(out) & set("\x1b\x9b\x07\r\u202e")
    if kind == "json":
        assert {row["name"] for row in json.loads(out)} == set(NAMES)
    if not kind:
        assert "[bold red]markup[/]" in out and r"\x1b" in out


def test_a_markdown_page_has_no_live_link_and_no_image(folder, capsys):
    out = output(
        capsys, "results", "leaderboard", "demo", "--results-dir", str(folder.parent),
        "--export", "md",
    )  # fmt: skip
    assert re.search(r"(?<!\\)\]\(", out) is None and "<img" not in out
    assert "http://" not in out and "www.evil" not in out
    rows = [line for line in out.splitlines() if line.startswith("|")]
    cells = {line.replace("\\|", "").count("|") for line in rows}
    assert len(cells) == 1


def test_no_cell_and_no_header_of_a_spreadsheet_is_a_formula(folder, capsys):
    out = output(
        capsys, "results", "leaderboard", "demo", "--results-dir", str(folder.parent),
        "--export", "csv",
    )  # fmt: skip
    for row in csv.reader(io.StringIO(out)):
        for cell in row:
            number = cell.lstrip("-").replace(".", "").isdecimal()
            assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert "'=cmd|x" in out


def test_a_space_cannot_name_itself_with_escapes(tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text('name: "\\e[31mred"\ninclude: [SDXL-C320]\n')
    with pytest.raises(SystemExit) as left:
        main(["validate", str(file)])
    captured = capsys.readouterr()
    assert left.value.code == 2 and "\x1b" not in captured.out + captured.err
