from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """As for `python benchmarks/NAME.py`, which puts its folder on the path."""
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")
