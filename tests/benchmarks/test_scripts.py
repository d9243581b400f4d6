"""Every benchmark with options imports and says what it takes: they are run by hand, and seldom."""

import runpy
import sys

import pytest

from tests.benchmarks.conftest import SCRIPTS

RUN = [file for file in sorted(SCRIPTS.glob("*.py")) if "ArgumentParser(" in file.read_text()]


@pytest.mark.parametrize("file", RUN, ids=lambda file: file.stem)
def test_help(file, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(file), run_name="__main__")
    assert left.value.code == 0
    assert f"usage: {file.name}" in capsys.readouterr().out
