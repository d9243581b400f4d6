"""The wheel holds all that a user needs: installed into a fresh environment, it searches."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.fresh_environment import FreshEnvironment

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE", "nas_t2i", "budgets", "search_spaces")


def copied(folder: Path) -> Path:
    """Copy what a wheel is built of: building leaves files beside it."""
    folder.mkdir()
    for name in FILES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(folder: Path) -> Path:
    """Build the wheel; nothing is downloaded."""
    source = copied(folder / "source")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    place = ("--wheel-dir", str(folder / "wheel"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, *place, str(source)], check=True
    )
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def test_a_wheel_profiles_and_searches_from_an_empty_folder(tmp_path):
    environment = FreshEnvironment(tmp_path / "venv")
    environment.install(build_wheel(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    place = environment.run("python", "-c", "import nas_t2i; print(nas_t2i.__file__)", folder=work)
    assert Path(place.strip()).is_relative_to(tmp_path / "venv")
    table = environment.run("nas-t2i", "profile", "--arch", "SDXL-TD4_4", folder=work)
    assert "SDXL-TD4_4" in table and "1.32" in table
    # The shipped budget, cut down.
    text = (ROOT / "budgets/embedded_v1.yaml").read_text()
    for old, new in (
        ("rungs: [300, 420, 540]", "rungs: [1, 2]"),
        ("  steps: 540", "  steps: 2"),
        ("  steps: 250", "  steps: 2"),
        ("    keep: [0.6, 0.5]", "    keep: [0.5]"),
        ("  prompts: 512", "  prompts: 8"),
    ):
        text = text.replace(old, new)
    assert "rungs: [1, 2]" in text and "  steps: 540" not in text
    (work / "tiny.yaml").write_text(text)
    options = ("--budget", "tiny.yaml", "--trials", "1", "--seeds", "1", "--study", "tiny")
    environment.run("nas-t2i", "search", "sdxl", *options, folder=work)
    rows = json.loads((work / "results/tiny/leaderboard.json").read_text())
    assert rows
