"""What makes no table is refused, and named."""

import dataclasses

import pytest

from nas_t2i.benchmark.build import build_table
from nas_t2i.errors import IncomparableError, RecordError
from nas_t2i.records import TrialState


def with_trials(study, change):
    """Return the study with its trials changed: `change` returns a trial or None."""
    kept = [new for trial in study.trials if (new := change(trial)) is not None]
    return dataclasses.replace(study, trials=kept)


def first(study):
    return study.trials[0]


def test_trials_that_did_not_end_are_named(study):
    def cut(trial):
        state = TrialState.STOPPED if trial is first(study) else trial.state
        return trial.model_copy(update={"state": state})

    name = first(study).name
    with pytest.raises(RecordError, match=rf"not trained to the end: {name} seed 0 \(stopped\)"):
        build_table([with_trials(study, cut)], "t")
    manifest, arrays = build_table([with_trials(study, cut)], "t", [name])
    assert [entry.name for entry in manifest.left_out] == [name]
    assert len(manifest.architectures) == 32 == len(arrays["value"])


def test_missing_seeds_and_rungs_are_named(study):
    one = first(study)
    with pytest.raises(RecordError, match=rf"missing: {one.name} seed 0 \(no trial\)$"):
        build_table([with_trials(study, lambda t: None if t is one else t)], "t")

    def without_a_rung(trial):
        return trial.model_copy(update={"curve": trial.curve[1:]}) if trial is one else trial

    with pytest.raises(RecordError, match=rf"missing: {one.name} seed 0 step 22$"):
        build_table([with_trials(study, without_a_rung)], "t")


def test_other_budgets_signatures_and_running_studies_are_refused(study):
    record = study.record.model_copy(
        update={
            "budget_id": "budget-x",
            "budget": study.record.budget.model_copy(update={"budget_id": "budget-x"}),
        }
    )
    with pytest.raises(IncomparableError, match="different budgets can't make one table"):
        build_table([study, dataclasses.replace(study, record=record)], "t")
    with pytest.raises(RecordError, match="it is being searched now"):
        build_table([dataclasses.replace(study, running=True)], "t")

    def asked_else(trial):
        if trial is not first(study):
            return trial
        last = trial.curve[-1]
        score = last.scores["tifa"].model_copy(update={"signature": "other questions"})
        point = last.model_copy(update={"scores": {"tifa": score}})
        return trial.model_copy(update={"curve": [*trial.curve[:-1], point]})

    with pytest.raises(IncomparableError, match=r"metric signatures .*other questions"):
        build_table([with_trials(study, asked_else)], "t")


def test_a_limit_on_latency_is_refused(study):
    space = study.record.space
    data = space.data | {"limits": {"latency": {"max": 0.1}}}
    record = study.record.model_copy(update={"space": space.model_copy(update={"data": data})})
    with pytest.raises(RecordError, match="has a limit on latency, which a table does not record"):
        build_table([dataclasses.replace(study, record=record)], "t")


def test_who_is_to_be_left_out_must_be_there(study):
    with pytest.raises(RecordError, match=r"--leave-out: no architecture 'SDXL-TD44'.*did you"):
        build_table([study], "t", ["SDXL-TD44"])


def test_controls_are_left_out(study):
    control = first(study).model_copy(update={"control": "shuffled-captions"})
    with_one = dataclasses.replace(study, trials=[*study.trials, control])
    manifest, _ = build_table([with_one], "t")
    assert len(manifest.architectures) == 33
