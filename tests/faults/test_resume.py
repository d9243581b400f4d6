"""Single faults, each of which once lost something or said nothing."""

import shutil
from dataclasses import replace

import pytest

from nas_t2i.errors import StorageError
from nas_t2i.records import TrialState
from nas_t2i.store import read_contents
from tests.faults.killing import order_death
from tests.faults.quick_trial import ORDER
from tests.faults.searches import SPACE, Plan, records, search, start, states, told


def small(root, **changes) -> Plan:
    return Plan(root, trials=1, seeds=1, **changes)


def test_a_killed_trial_is_tried_again_by_itself_or_by_hand(tmp_path):
    plan = small(tmp_path / "a", retries=0)
    plan.folder.mkdir(parents=True)
    order_death(plan.folder / ORDER, 1, before=False)
    search(plan)
    (trial,) = read_contents(plan.folder).trials
    assert (trial.state, trial.fault, trial.attempt) == (TrialState.FAILED, "killed", 1)
    assert [state.name for _, state, *_ in states(plan)] == ["FAIL"]
    search(replace(plan, retry_failed=True))
    (trial,) = read_contents(plan.folder).trials
    assert (trial.state, trial.attempt) == (TrialState.COMPLETE, 2)
    assert trial.last_failure.startswith("killed by SIGKILL")
    assert [state.name for _, state, *_ in states(plan)] == ["FAIL", "COMPLETE"]

    again = small(tmp_path / "b", retries=1)
    again.folder.mkdir(parents=True)
    order_death(again.folder / ORDER, 1, before=False)
    assert any("attempt 2 follows" in line for line in search(again))
    assert [state.name for _, state, *_ in states(again)] == ["COMPLETE"]
    assert records(again) == records(plan)


def test_a_storages_study_belongs_to_one_folder(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    search(small(tmp_path / "a", storage=storage))
    with pytest.raises(StorageError, match=r"it is searched in .*a/results/s, not in"):
        search(small(tmp_path / "b", storage=storage))
    assert not small(tmp_path / "b").folder.exists()
    (tmp_path / "a").rename(tmp_path / "moved")
    search(small(tmp_path / "moved", storage=storage))


def test_a_trial_killed_between_the_record_of_its_last_rung_and_its_checkpoint_goes_on(tmp_path):
    plan = small(tmp_path / "a", retries=0)
    search(plan)
    whole, decided = records(plan), told(plan)
    (trial,) = plan.folder.glob("trials/*")
    lines = (trial / "events.jsonl").read_text().splitlines(keepends=True)
    (trial / "events.jsonl").write_text("".join(lines[:-1]))  # it lacks its end
    (trial / "saved.json").write_text('{"reported": 4}')
    process = start(plan)
    process.join(60)
    assert process.exitcode == 0, "nobody told it what was decided at step 4"
    assert (records(plan), told(plan)) == (whole, decided)


def test_a_copy_of_its_folder_and_another_space_are_refused_in_a_line(tmp_path):
    storage = f"sqlite:///{tmp_path / 'optuna.db'}"
    plan = small(tmp_path / "a", storage=storage)
    search(plan)
    before = states(plan)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with pytest.raises(StorageError, match=r"copy/results/s is a copy of .*a/results/s") as copied:
        search(small(tmp_path / "copy", storage=storage))
    other = small(tmp_path / "other", storage=storage)
    other.root.mkdir()
    (other.root / "space.yaml").write_text(SPACE.replace("256", "320"))
    with pytest.raises(
        StorageError, match=r"another search \(space space-\w+ there, space-\w+ here"
    ) as spaced:
        search(other)
    assert "\n" not in str(copied.value) + str(spaced.value)
    assert not other.folder.exists()
    assert states(plan) == before


def test_a_record_that_was_cut_is_said_and_measured_again_the_same(tmp_path):
    plan = small(tmp_path / "a")
    search(plan)
    whole, decided = records(plan), told(plan)
    (log,) = plan.folder.glob("trials/*/events.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    for cut in ("", "".join(lines[:2]), "".join(lines[:1] + lines[2:])):
        log.write_text(cut)
        notes = search(plan)
        assert any("measured again" in note for note in notes), notes
        assert (records(plan), told(plan)) == (whole, decided)
    assert [state.name for _, state, *_ in states(plan)] == ["COMPLETE"]
