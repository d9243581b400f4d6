import numpy as np
import pytest

from nas_t2i.ranking.pairs import student, tied
from nas_t2i.ranking.posterior import believe
from tests.ranking.made import SCALE, observed


def test_students_quantiles() -> None:
    table = {1: 12.7062, 2: 4.30265, 3: 3.18245, 5: 2.57058, 10: 2.22814, 30: 2.04227, 1e9: 1.95996}
    assert student(0.95, list(table)) == pytest.approx(list(table.values()), rel=2e-4)
    assert float(student(0.9, 10)) == pytest.approx(1.81246, rel=2e-4)


@pytest.mark.parametrize(("seeds", "prompts"), [(2, 0), (3, 60)])
def test_about_5_percent_of_equal_pairs_are_told_apart(seeds: int, prompts: int) -> None:
    apart = total = 0
    for study in range(60):
        made = observed([1.0] * 12, seeds=seeds, prompts=prompts, seed=study)
        same = tied(believe(made, SCALE, draws=2), np.arange(12))
        apart += int((~same).sum()) - 12
        total += 12 * 11
    assert 0.03 < apart / total < 0.07


def test_far_ones_are_told_apart_and_near_ones_are_not() -> None:
    posterior = believe(observed([4.0, 0.9, 1.0, -2.0], seeds=3), SCALE)
    same = tied(posterior, range(4))
    assert same.tolist() == [[i != j and {i, j} == {1, 2} for j in range(4)] for i in range(4)]


def test_what_is_predicted_is_told_apart_less() -> None:
    finals = [3.0, 2.0, 1.0, 0.0, -1.0, -2.0]
    measured = tied(believe(observed(finals, noise=0.2), SCALE), range(6))
    predicted = tied(believe(observed(finals, noise=0.2, until={4: 100, 5: 100}), SCALE), range(6))
    assert measured[4].sum() < predicted[4].sum()
