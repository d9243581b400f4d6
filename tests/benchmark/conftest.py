"""One table for all tests here: of the committed study, 33 architectures with two seeds."""

from pathlib import Path

import pytest

from nas_t2i.benchmark.build import build_table
from nas_t2i.benchmark.coverage import with_coverage
from nas_t2i.benchmark.form import write_table
from nas_t2i.benchmark.table import Table
from nas_t2i.store import Study, read_contents

STUDY = Path(__file__).parents[2] / "results" / "measured" / "v2" / "sdxl-exhaustive"


@pytest.fixture(scope="session")
def study() -> Study:
    return read_contents(STUDY)


@pytest.fixture(scope="session")
def table_file(study, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("table") / "measured.npz"
    manifest, arrays = build_table([study], "measured")
    manifest, lacking = with_coverage(manifest)
    assert lacking == [] and manifest.outside
    write_table(file, manifest, arrays)
    return file


@pytest.fixture(scope="session")
def table(table_file) -> Table:
    return Table.load(table_file)
