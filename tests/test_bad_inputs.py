"""Whatever is wrong with a file: one line with its place on stderr, exit status 2, no traceback."""

import re
from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from tests.bad_inputs.cases import CASES


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command line; return its exit status, stdout and stderr."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out, captured.err


@pytest.mark.parametrize("what", CASES)
def test_a_bad_space_is_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = CASES[what]
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(content, encoding="utf-8")
    status, out, err = run(["validate", "space.yaml"], capsys)
    assert err == f"nas-t2i: error: {message}\n"
    assert status == 2
    assert out == ""
    # Only a file of nothing has no line to name.
    assert re.match(r"space\.yaml:\d+:\d+: ", message) or "the file is empty" in message


def test_files_that_cannot_be_read_are_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.yaml").write_bytes(b"name: caf\xe9\ninclude: [SDXL-C320]\n")
    Path("folder.yaml").mkdir()
    status, out, err = run(["validate", "latin.yaml", "latn.yaml", "folder.yaml"], capsys)
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "nas-t2i: error: latin.yaml: not UTF-8 text (byte 9)",
        "nas-t2i: error: latn.yaml: no such file; did you mean 'latin.yaml'?",
        "nas-t2i: error: folder.yaml: can't be read: Is a directory",
    ]


def test_a_search_refuses_a_bad_space_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = CASES["a limit below the smallest"]
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(content, encoding="utf-8")
    status, out, err = run(["search", "space.yaml"], capsys)
    assert (status, out) == (2, "")
    assert err == f"nas-t2i: error: {message}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
