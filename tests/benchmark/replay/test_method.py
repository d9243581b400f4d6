"""What can be named, and the line that says what can't."""

import pytest

from nas_t2i.benchmark.replay.method import (
    Conditions,
    Method,
    budget_of,
    methods,
    parse_list,
    samplers,
    stoppers,
)
from nas_t2i.benchmark.replay.replay import budget_in
from nas_t2i.errors import UserError

CONDITIONS = Conditions(trials=20, seeds=1, recorded_seeds=2, compute=8.0)


def test_settings_stand_in_brackets():
    found = parse_list("tpe[n_startup_trials=4,multivariate=true], random", "--samplers")
    assert [(one.name, dict(one.settings)) for one in found] == [
        ("tpe", {"n_startup_trials": 4, "multivariate": True}),
        ("random", {}),
    ]
    assert len(methods(found, parse_list("none,asha", "x"), [1, 4])) == 8


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (samplers, "tpee", r"--samplers: got 'tpee'; .*did you mean 'tpe'"),
        (samplers, "tpe,tpe", "got 'tpe' twice"),
        (samplers, "tpe[a]", r"got 'a'; expected KEY=VALUE"),
        (samplers, "tpe[", "expected NAME or NAME"),
        (samplers, "random[a=1]", "sampler_options of 'random'"),
        (stoppers, "mediann", r"did you mean 'median'"),
        (stoppers, "none[a=1]", "expected no settings"),
        (stoppers, "nowhere:Rule", "no such file|nowhere.py"),
    ],
)
def test_what_can_not_be_read_is_told_in_a_line(read, text, message):
    with pytest.raises(UserError, match=message) as error:
        read(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stopper", "message"),
    [
        ("asha[eta=0]", r"--stoppers asha\[eta=0\]: early_stopping.eta: .*greater than 1"),
        ("asha[etta=3]", "early_stopping.etta: Extra inputs"),
        ("best_share[keep=[0.5,0.5],margin=0.0,min_peers=2]", "got 2 shares; expected 1"),
        ("racing[compute=1]", r"compute: got 1; expected at least"),
    ],
)
def test_settings_that_do_not_fit_are_told_before_anything_is_replayed(table, stopper, message):
    made = Method(samplers("random")[0], stoppers(stopper)[0], 1)
    with pytest.raises(UserError, match=message):
        budget_of(budget_in(table), made, CONDITIONS)


def test_a_race_takes_all_seeds_and_the_compute_and_looks_as_far_ahead_as_there_are_places(table):
    made = Method(samplers("random")[0], stoppers("racing")[0], 16)
    plan = budget_of(budget_in(table), made, CONDITIONS).search
    assert plan.seeds_per_architecture == 2 and plan.parallel == 16
    assert plan.early_stopping.compute == 8.0 and plan.early_stopping.ahead == 16


def test_a_rule_beside_where_it_runs_can_be_named(table, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from typing import Literal\n"
        "from nas_t2i.protocol.search import StoppingRule\n"
        "class Never(StoppingRule):\n"
        "    rule: Literal['mine:Never']\n"
        "    def goes_on(self, candidate, at_rung, rung_index):\n"
        "        return len(at_rung) < 2\n"
        "    def described(self, rungs):\n"
        "        return 'one goes on'\n"
    )
    monkeypatch.chdir(tmp_path)
    made = Method(samplers("random")[0], stoppers("mine:Never")[0], 1)
    rule = budget_of(budget_in(table), made, CONDITIONS).search.early_stopping
    assert rule.described([1]) == "one goes on"
