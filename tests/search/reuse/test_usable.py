"""Which records of other studies may be used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nas_t2i.environment import describe_environment
from nas_t2i.errors import RecordError
from nas_t2i.events import EVENTS_FILE
from nas_t2i.search.plan import _reusable
from nas_t2i.search.reuse.usable import USABLE_FILE, list_usable, read_usable, unlike
from nas_t2i.store import read_trials
from tests.search.reuse.playback import BUDGET, Search


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))


def listed(results: Path, budget: Any = BUDGET) -> dict[str, str]:
    """What a new study would use: the study's folder by key."""
    folder = results / "new"
    folder.mkdir(exist_ok=True)
    list_usable(folder, results, budget, print)
    found = {key: usable.folder for key, usable in read_usable(folder).items()}
    (folder / USABLE_FILE).unlink(missing_ok=True)
    return found


def test_only_whole_records_made_of_the_same_count(tmp_path: Path) -> None:
    whole = Search(tmp_path / "r", "whole", trials=1, seeds=2).run()
    assert listed(whole.results) == dict.fromkeys(whole.trained, "whole")
    training = BUDGET.training.model_copy(update={"ema_decay": 0.5})
    assert listed(whole.results, BUDGET.model_copy(update={"training": training})) == {}
    for changes in ({"inputs": {"data": "other"}}, {"inputs": {}}):
        other = Search(tmp_path / str(changes), "other", trials=1, changes=changes).run()
        assert listed(other.results) == {}
    (one, *_) = whole.folder.glob(f"trials/*/{EVENTS_FILE}")
    lines = one.read_text().splitlines(keepends=True)
    one.write_text("".join(lines[:-1]))  # it lacks its end
    assert len(listed(whole.results)) == 1


def test_a_damaged_study_is_said_and_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Search(tmp_path / "r", "whole", trials=1).run()
    damaged = Search(tmp_path / "r", "damaged", trials=1, reuse=False).run()
    (file, *_) = damaged.folder.glob(f"trials/*/{EVENTS_FILE}")
    file.write_text(file.read_text().replace('"loss":1.0', '"loss":2.0'))
    assert set(listed(whole.results).values()) == {"whole"}
    (damaged.folder / "study.json").write_text("{")
    assert set(listed(whole.results).values()) == {"whole"}
    assert capsys.readouterr().out.count("nothing of damaged is reused: ") == 2


def test_a_record_without_differences_is_preferred_and_its_origin_kept(tmp_path: Path) -> None:
    here = describe_environment(1)
    versions = {**here.versions, "torch": "1.0"}
    old = here.model_copy(update={"versions": versions, "cpu": "i486"})
    results = tmp_path / "r"
    same = Search(results, "same", trials=1).run()
    Search(results, "older", trials=1, reuse=False, changes={"environment": old}).run()
    assert set(listed(results).values()) == {"same"}
    later = Search(results, "later", trials=1).run()
    assert later.trained == []
    assert set(listed(results).values()) == {"same"}  # where it was trained, as long as it is there
    (same.folder / "study.json").unlink()
    (results / "older" / "study.json").unlink()
    last = Search(results, "last", trials=1).run()
    assert last.trained == []
    assert {t.reused.study for t in last.records() if t.reused} == {"same"}
    (trial, *_) = read_trials(last.folder)
    assert unlike(trial, here) == ""
    torch = here.versions["torch"]
    assert unlike(trial.model_copy(update={"environment": old}), here) == (
        f"torch 1.0 (here {torch}), on i486 (here {here.cpu})"
    )


def test_a_list_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    whole = Search(tmp_path / "r", "whole", trials=1).run()
    folder = whole.results / "new"
    folder.mkdir()
    list_usable(folder, whole.results, BUDGET, print)
    file = folder / USABLE_FILE
    for key, wrong in (("folder", "../other"), ("folder", ".."), ("key", "../../x")):
        data = json.loads(file.read_text())
        data["records"][0][key] = wrong
        (folder / "wrong").mkdir(exist_ok=True)
        (folder / "wrong" / USABLE_FILE).write_text(json.dumps(data))
        with pytest.raises(RecordError, match=rf"reusable.json:1.*{key}"):
            read_usable(folder / "wrong")


def test_a_dry_run_says_what_a_study_that_has_not_begun_would_find(tmp_path: Path) -> None:
    whole = Search(tmp_path / "r", "whole", trials=1, seeds=2).run()
    new = dataclasses.replace(whole, study="new")
    assert _reusable(new.request()).startswith("2 complete records under this budget in whole: ")
    assert not new.folder.exists()
    assert _reusable(dataclasses.replace(new, reuse=False).request()) == ""
    assert _reusable(whole.request()) == ""
