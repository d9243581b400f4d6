"""The files of examples/evaluate are what its script writes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "evaluate"


def test_the_files_in_the_repository_are_the_scripts(tmp_path):
    subprocess.run([sys.executable, EXAMPLE / "make_files.py", tmp_path], check=True)
    names = [file.relative_to(tmp_path) for file in tmp_path.rglob("*.*")]
    assert len(names) == 10
    for name in names:
        if name.suffix == ".json":
            assert (tmp_path / name).read_bytes() == (EXAMPLE / name).read_bytes()
        else:  # releases of Pillow may pack the same pixels otherwise
            made, kept = (np.asarray(Image.open(root / name)) for root in (tmp_path, EXAMPLE))
            assert np.array_equal(made, kept)
