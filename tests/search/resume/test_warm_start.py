"""A study that begins with what another one measured: from committed records, nothing trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.arch.space import load_space
from nas_t2i.errors import IncomparableError, RecordError, UserError
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.search.candidates import Proposals
from nas_t2i.search.racing.belief import first_value
from nas_t2i.search.resume.known import known_candidates
from nas_t2i.search.resume.rung_log import RungLog
from nas_t2i.search.resume.warm_start import begin_from, read_source
from nas_t2i.search.session import make_factory
from nas_t2i.search.study import MEASURED_IN, OptunaStudy
from nas_t2i.store import Study, read_contents, write_study

ROOT = Path(__file__).parents[3]
MEASURED = ROOT / "results" / "measured"
BUDGET = load_budget(ROOT / "budgets" / "embedded.yaml")
SPACE = load_space(ROOT / "search_spaces" / "sdxl.yaml")
FACTORY = make_factory(BUDGET, (0,))


@pytest.fixture(scope="module")
def source() -> Study:
    whole = read_contents(MEASURED / "sdxl-embedded")
    chosen = list(dict.fromkeys(trial.arch_id for trial in whole.trials))[:6]
    return replace(whole, trials=[t for t in whole.trials if t.arch_id in chosen])


def opened(budget: Budget, url: str = "") -> OptunaStudy:
    plan = budget.search
    better = ["larger", "smaller"] if plan.objectives else "larger"
    return OptunaStudy(
        "s", url, seed=0, sampler=plan.sampler, sampler_options={}, better=better, warn=print
    )


def with_plan(**changes: object) -> Budget:
    return BUDGET.model_copy(update={"search": BUDGET.search.model_copy(update=changes)})


def begun(source: Study, budget: Budget, study: OptunaStudy) -> list[str]:
    said: list[str] = []
    begin_from(source, SPACE, budget, FACTORY, study, said.append)
    return said


class Spy:
    """Keeps what a chooser is shown, and takes the first."""

    def choose(self, tried: list, told: list, pool: list) -> int:
        self.seen = tried, told
        return 0


def proposals(study: OptunaStudy, **options: object) -> Proposals:
    whole = {"seed": 0, "controls": False, "exhaustive": False, "known": {}, "say": print}
    return Proposals(SPACE, FACTORY, study, **(whole | options))


def test_the_sampler_knows_it_and_nobody_of_it_is_trained_again(source: Study) -> None:
    study = opened(BUDGET)
    (said,) = begun(source, BUDGET, study)
    assert said.startswith("the sampler knows 6 architectures of study sdxl-embedded, which are")
    held = {
        arch_from_dict(dict(trial.attributes["arch"])).arch_id: study.values()[trial.number]
        for trial in study.known_trials()
    }
    for trial in source.trials:  # in a race the sampler learns what everyone showed at first
        if trial.seed == 0:
            assert held[trial.arch_id] == (first_value(BUDGET, trial.curve[0]),)
    supply = proposals(study)
    found = [supply.next(planned_only=False) for _ in range(3)]
    assert all(one is not None and one.arch.arch_id not in held for one in found)
    included = {arch.arch_id for _, arch in SPACE.included}
    assert included & set(held)  # also of those that would always be tried


def test_a_grid_leaves_it_out_and_the_sampler_front_counts_it(
    source: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_t2i.search.candidates.POOL", 2)
    study = opened(BUDGET)
    begun(source, BUDGET, study)
    supply = proposals(study, exhaustive=True)
    rest = [supply.next(planned_only=False) for _ in range(len(SPACE.included))]
    measured = {trial.arch_id for trial in source.trials}
    assert all(one is not None and one.arch.arch_id not in measured for one in rest)
    budget = with_plan(objectives=("tifa", "-gmacs"), sampler="front")
    study = opened(budget)
    begun(source, budget, study)
    assert all(values and len(values) == 2 for values in study.values().values())
    spy = Spy()
    Proposals(
        replace(SPACE, included=()),
        FACTORY,
        study,
        seed=0,
        controls=False,
        exhaustive=False,
        known={},
        say=print,
        chooser=spy,
    ).next(planned_only=False)
    known = {candidate.arch.arch_id: told for candidate, told in zip(*spy.seen, strict=True)}
    assert known.keys() == {trial.arch_id for trial in source.trials} and None not in known.values()


def test_cut_off_while_it_copied_it_goes_on_and_once_begun_it_copies_no_more(
    source: Study, tmp_path: Path
) -> None:
    url = f"journal:{tmp_path / 's.journal'}"
    cut = replace(
        source, trials=[t for t in source.trials if t.arch_id != source.trials[-1].arch_id]
    )
    begun(cut, BUDGET, opened(BUDGET, url))
    study = opened(BUDGET, url)
    assert study.count() == 5
    begun(source, BUDGET, study)
    begun(source, BUDGET, study)
    assert study.count() == 6
    # What was measured elsewhere is no candidate of this study, which writes records of its own.
    write_study(tmp_path / "study", source.record)
    options = {"retry_failed": False, "say": print}
    assert known_candidates(tmp_path / "study", BUDGET, FACTORY, study, RungLog(), **options) == []
    first = proposals(study).next(planned_only=False)
    again = opened(BUDGET, url)
    begun(replace(source, trials=[]), BUDGET, again)
    known = known_candidates(tmp_path / "study", BUDGET, FACTORY, again, RungLog(), **options)
    assert [candidate.key for candidate in known] == [first.key]
    assert sum(MEASURED_IN in trial.attributes for trial in again.known_trials()) == 6


def test_without_a_race_finals_are_told_and_what_broke_is_left_out(source: Study) -> None:
    budget = with_plan(early_stopping=None, objectives=("tifa", "-params"))
    study = opened(budget)
    (said,) = begun(source, budget, study)
    whole = {t.arch_id for t in source.trials if t.state.value == "complete" and t.seed == 0}
    assert study.count() <= len(whole)
    assert "not of this space, or broke" in said


def test_what_can_not_be_begun_from_is_a_line(tmp_path: Path) -> None:
    assert read_source("", MEASURED, tmp_path, BUDGET) is None
    found = read_source("sdxl-embedded", MEASURED, tmp_path, BUDGET)
    assert found is not None and found.record.study == "sdxl-embedded"
    with pytest.raises(RecordError, match=r"sdxl-embeded: no such study .*did you mean"):
        read_source("sdxl-embeded", MEASURED, tmp_path, BUDGET)
    with pytest.raises(UserError, match="a study can't begin from itself"):
        read_source("sdxl-embedded", MEASURED, MEASURED / "sdxl-embedded", BUDGET)
    with pytest.raises(IncomparableError, match=r"its budget is .*, this one budget-"):
        read_source("sdxl-embedded", MEASURED / "v2", tmp_path, BUDGET)
