"""``nas-t2i validate`` and ``nas-t2i schema``."""

import json
from pathlib import Path

import pytest

from nas_t2i.cli.main import main
from nas_t2i.schemas import schema

ROOT = Path(__file__).parents[2]
SPACE = """
name: tiny
family: unet
parameters:
  channels: {choice: [8, 16]}
  channel_mult: [1, 2]
  transformer_depth: {2: {choice: [1, 2]}}
  head_dim: 8
  norm_groups: 4
  text_dim: 32
"""


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out, captured.err


def test_a_good_space_is_one_line_of_what_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE)
    status, out, err = run(["validate", str(file)], capsys)
    assert (status, err) == (0, "")
    assert out.startswith(f"{file}: space tiny (space-")
    assert out.endswith("4 architectures, 96.8 K to 493 K params, 0.0478 to 0.216 GMACs\n")


def test_limits_are_checked_and_the_count_says_that_it_is_before_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(SPACE + "limits: {params: {max: 1.0e+5}}\n")
    status, out, err = run(["validate", str(file)], capsys)
    assert (status, err) == (0, "")
    assert "4 architectures before limits, " in out


def test_a_plain_list_and_a_budget_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list.yaml"
    file.write_text(
        "name: one\ninclude: [{family: pixart, hidden: 64, depth: 1, heads: 4, text_dim: 8}]\n"
    )
    budget = ROOT / "budgets" / "embedded.yaml"
    status, out, err = run(["validate", str(file), str(budget)], capsys)
    assert (status, err) == (0, "")
    space_line, budget_line = out.splitlines()
    assert "space one (space-" in space_line
    assert ": 1 architecture, " in space_line
    assert budget_line.startswith(f"{budget}: budget embedded (budget-")


def test_every_file_is_checked_before_it_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good, worse = tmp_path / "bad.yaml", tmp_path / "good.yaml", tmp_path / "worse.yaml"
    bad.write_text("name: x\nfamily: unet\nparameters:\n  chanels: 3\n")
    good.write_text(SPACE)
    worse.write_text(SPACE.replace("name: tiny", "name: tiny\ntraining: {}\nrungs: []\ndata: {}"))
    status, out, err = run(["validate", str(bad), str(good), str(worse)], capsys)
    assert status == 2
    assert len(out.splitlines()) == 1
    first, second = err.splitlines()
    assert first.startswith(f"nas-t2i: error: {bad}:4:3: parameters.chanels: unknown parameter")
    # More of a budget than of a space: told as a budget.
    assert second.startswith(f"nas-t2i: error: {worse}:")


@pytest.mark.parametrize("kind", ["space", "budget"])
def test_a_schema_is_printed_and_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, _ = run(["schema", kind], capsys)
    assert status == 0
    assert json.loads(out) == schema(kind)  # type: ignore[arg-type]
    file = tmp_path / "schema.json"
    status, printed, _ = run(["schema", kind, "-o", str(file)], capsys)
    assert (status, printed) == (0, "")
    assert file.read_text() == out


def test_a_schema_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no such folder" / "schema.json"
    status, out, err = run(["schema", "space", "-o", str(file)], capsys)
    assert (status, out) == (2, "")
    assert err == f"nas-t2i: error: {file}: can't be written: No such file or directory\n"
