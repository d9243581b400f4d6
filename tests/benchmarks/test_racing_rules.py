"""The simulation of racing rules, tiny: what it prints must follow from what it simulates."""

import numpy as np
import pytest


@pytest.fixture
def table():
    import racing_rules

    rows = racing_rules.compare(3, 6, 4.0, 0.9, list(racing_rules.RULES))
    return {row[:30].strip(): row[30:].split() for row in rows[1:]}


def test_every_rule_has_a_row_and_spends_no_more_than_it_may(table):
    import racing_rules

    assert set(table) == set(racing_rules.RULES)
    for columns in table.values():
        chosen, kept, regret = (float(columns[i]) for i in (0, 1, 2))
        assert 0 <= chosen <= 1 and 0 <= kept <= 1 and 0 <= regret < 1
        assert 0 < float(columns[-1]) <= 1


def test_a_race_that_can_pay_everything_finds_the_best_more_often_than_chance():
    import racing_rules

    rows = racing_rules.compare(20, 6, 60.0, 0.9, ["race, as built, 4 ahead"])
    assert float(rows[1][30:].split()[0]) > 0.5


def test_all_rules_meet_the_same_noise():
    from racing_landscapes import Records, World

    first, again = (World(Records(), 6, 0.9, seed=1) for _ in range(2))
    np.testing.assert_array_equal(first.shown, again.shown)
    assert first.score.max() == pytest.approx(0.9)
