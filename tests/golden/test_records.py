"""The committed studies stay readable by every command over results.

The keys of a new study's records are checked in test_signatures.py, which runs a search.
"""

import json

import pytest

from tests.golden.frozen import REPOSITORY, nas_t2i

MEASURED = REPOSITORY / "results" / "measured" / "v1"
STUDIES = sorted(file.parent.name for file in MEASURED.glob("*/study.json"))


def names_of(study: str) -> list[str]:
    """The architectures of a study; a control has its architecture's name."""
    files = MEASURED.glob(f"{study}/trials/*/config.json")
    return sorted({json.loads(file.read_text())["name"] for file in files})


def test_the_committed_studies_are_there():
    assert {"comparison-embedded", "extremes-embedded", "sdxl-embedded"} <= set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_leaderboard(study, tmp_path):
    out = nas_t2i("results", "leaderboard", "--results-dir", MEASURED, study, cache=tmp_path)
    assert all(name in out for name in names_of(study))


@pytest.mark.parametrize("study", STUDIES)
def test_compare(study, tmp_path):
    names = names_of(study)
    pair = (f"{study}/{names[0]}", f"{study}/{names[1]}")
    out = nas_t2i("results", "compare", *pair, "--results-dir", MEASURED, cache=tmp_path)
    assert names[0] in out and names[1] in out


# Two of the studies have too few seeds or architectures, and are told so.
@pytest.mark.parametrize("study", STUDIES)
def test_reliability(study, tmp_path):
    asked = ("results", "reliability", "--results-dir", MEASURED, study)
    whole = study == "comparison-embedded"
    out = nas_t2i(*asked, cache=tmp_path, status=0 if whole else 2)
    assert bool(out) == whole
