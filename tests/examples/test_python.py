"""examples/python as its reader runs it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "examples/python/first_search.py"


def test_the_first_search_from_python(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "unet-C128-m1.2-TD0.2: " in done.stdout
    assert "best of <Results of first-quick: 2 trials>: unet-C" in done.stdout
    assert (tmp_path / "results/first-quick/leaderboard.csv").exists()
