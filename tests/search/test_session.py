"""A whole small search in this process, its trials in theirs."""

import dataclasses
import json
import os
import re
import signal

import pytest

from nas_t2i.arch.space import load_space
from nas_t2i.errors import IncomparableError, StorageError
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.protocol.latency import LatencySettings
from nas_t2i.records import TrialState
from nas_t2i.results.fronts.front import with_front
from nas_t2i.results.fronts.objectives import objectives_of
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.search.beforehand.latencies import LATENCIES_FILE, read_rows
from nas_t2i.search.leaving import TerminatedError
from nas_t2i.search.racing.ledger import RACE_FILE, read_pieces
from nas_t2i.search.session import SearchRequest, _study_record, run_search
from nas_t2i.search.stopping.race import Race
from nas_t2i.store import read_contents
from tests.search.beforehand.test_latencies import rewrite
from tests.training.tiny import tiny_budget

SPACE = """
name: tiny
family: unet
parameters:
  channels: {choice: [128, 192, 256]}
  channel_mult: [1, 2]
  res_blocks: 1
  transformer_depth: {2: {choice: [1, 14]}}
include:
  - {name: base, family: unet, channels: 128, channel_mult: [1, 2], res_blocks: 1,
     transformer_depth: {2: 1}}
"""


class Watcher:
    def __init__(self) -> None:
        self.begun, self.rungs = [], 0
        self.at_rung = lambda: None

    def started(self, candidate, seed) -> None:
        self.begun.append((candidate.name, seed))

    def progress(self, candidate, seed, event) -> None: ...

    def reached_rung(self, candidate, seed, point) -> None:
        self.rungs += 1
        self.at_rung()

    def ended(self, candidate, seed, end) -> None: ...
    def decided(self, piece) -> None: ...
    def tick(self) -> None: ...


@pytest.fixture
def request_(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_T2I_CACHE", str(tmp_path / "cache"))
    (tmp_path / "space.yaml").write_text(SPACE)
    budget = tiny_budget(3)
    plan = budget.search.model_copy(
        update={"trials": 3, "seeds_per_architecture": 1, "early_stopping": None, "reuse": False}
    )
    return SearchRequest(
        space=load_space(tmp_path / "space.yaml"),
        budget=budget.model_copy(update={"search": plan}),
        study="tiny",
        results_dir=tmp_path / "results",
        storage="",
        seed=0,
        cores=len(os.sched_getaffinity(0)),
        controls=True,
        retry_failed=False,
    )


def test_a_search_is_interrupted_carries_on_and_completes_without_repeating_a_trial(request_):
    watcher = Watcher()

    def interrupt() -> None:
        if watcher.rungs == 4:
            os.kill(os.getpid(), signal.SIGINT)

    watcher.at_rung = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_search(request_, lambda *_: watcher, print)
    cut = read_contents(request_.folder)
    assert not cut.running

    watcher = Watcher()
    candidates = run_search(request_, lambda *_: watcher, print)
    contents = read_contents(request_.folder)
    assert [t.state for t in contents.trials] == [TrialState.COMPLETE] * 5
    assert sorted(c.control for c in candidates) == [
        "",
        "",
        "",
        "no-cross-attention",
        "shuffled-captions",
    ]
    keys = [(t.arch_id, t.seed, t.control) for t in contents.trials]
    assert len(set(keys)) == len(keys)
    finished_before = {t.name for t in cut.trials if t.state is TrialState.COMPLETE}
    assert not finished_before & {name for name, _ in watcher.begun}

    watcher = Watcher()
    run_search(request_, lambda *_: watcher, print)
    assert watcher.begun == []

    plan = request_.budget.search.model_copy(update={"trials": 4})
    more = dataclasses.replace(request_, budget=request_.budget.model_copy(update={"search": plan}))
    run_search(more, lambda *_: watcher, print)
    assert len(watcher.begun) == 1


def without_clocks(contents):
    """What trials measured, without when and for how long."""
    clocks = {"seconds": 0, "evaluation_seconds": 0}
    return {
        (t.name, t.seed, t.number, t.state): [p.model_copy(update=clocks) for p in t.curve]
        for t in contents.trials
    }


def test_a_race_that_is_interrupted_decides_and_measures_what_a_whole_one_does(request_):
    rule = Race(rule="race", compute=1.7, ahead=2)
    plan = request_.budget.search.model_copy(update={"trials": 2, "early_stopping": rule})
    budget = request_.budget.model_copy(update={"search": plan})
    request_ = dataclasses.replace(request_, budget=budget, controls=False)
    run_search(request_, lambda *_: Watcher(), print)
    pieces = read_pieces(request_.folder / RACE_FILE)
    assert [piece.why for piece in pieces][:2] == ["first", "first"]
    assert any(piece.begin for piece in pieces)

    cut = dataclasses.replace(request_, study="cut")
    watcher = Watcher()

    def interrupt() -> None:
        if watcher.rungs == 3:
            os.kill(os.getpid(), signal.SIGINT)

    watcher.at_rung = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_search(cut, lambda *_: watcher, print)
    run_search(cut, lambda *_: Watcher(), print)
    assert read_pieces(cut.folder / RACE_FILE) == pieces
    whole = without_clocks(read_contents(request_.folder))
    assert without_clocks(read_contents(cut.folder)) == whole
    assert any(state is TrialState.COMPLETE for *_, state in whole)

    watcher = Watcher()
    run_search(cut, lambda *_: watcher, print)
    assert watcher.begun == []


def test_a_search_for_a_front_tells_optuna_scores_and_costs_and_keeps_to_its_objectives(request_):
    plan = request_.budget.search.model_copy(
        update={"trials": 2, "objectives": ("tifa", "-gmacs", "-compute")}
    )
    budget = request_.budget.model_copy(update={"search": plan})
    request_ = dataclasses.replace(request_, budget=budget, controls=False)
    candidates = run_search(request_, lambda *_: Watcher(), print)
    contents = read_contents(request_.folder)
    assert "sought at once: tifa, -gmacs, -compute" in contents.record.stop_rule
    journal = (request_.folder / "optuna.journal").read_text().splitlines()
    told = [line["values"] for line in map(json.loads, journal) if line.get("values")]
    whole = {t.name: t for t in contents.trials}
    assert sorted(told) == sorted(
        [
            whole[c.name].curve[-1].scores["tifa"].value,
            c.profile.gmacs,
            whole[c.name].curve[-1].training_flops,
        ]
        for c in candidates
    )
    plain = budget.model_copy(update={"search": plan.model_copy(update={"objectives": ()})})
    with pytest.raises(StorageError, match=r"objectives tifa, -gmacs, -compute then, none now"):
        run_search(dataclasses.replace(request_, budget=plain), lambda *_: Watcher(), print)

    # Another study begins with what this one measured.
    plan = plan.model_copy(update={"trials": 1})
    budget = budget.model_copy(update={"search": plan})
    more = dataclasses.replace(request_, budget=budget, study="more", warm_start="tiny")
    said: list[str] = []
    (candidate,) = run_search(more, lambda *_: Watcher(), said.append)
    assert candidate.name not in whole
    assert any("the sampler knows 2 architectures of study tiny" in line for line in said)
    assert read_contents(more.folder).record.warm_start == "tiny"
    watcher = Watcher()
    assert len(run_search(more, lambda *_: watcher, print)) == 1 and watcher.begun == []
    with pytest.raises(StorageError, match="--from tiny then, none now"):
        run_search(dataclasses.replace(more, warm_start=""), lambda *_: Watcher(), print)


def test_a_search_for_score_and_latency_measures_once_and_goes_on_where_it_began(
    request_, tmp_path
):
    file, few = tmp_path / "space.yaml", "{choice: [64, 128, 192, 256, 320]}"
    file.write_text(SPACE.replace("{choice: [128, 192, 256]}", few).replace("[1, 14]", "[1]"))
    request_ = dataclasses.replace(request_, space=load_space(file))
    timing = LatencySettings(latent_size=8, text_tokens=4, seconds=0.01)
    plan = request_.budget.search.model_copy(
        update={"trials": 2, "objectives": ("tifa", "-latency"), "latency": timing}
    )
    budget = request_.budget.model_copy(update={"search": plan})
    request_ = dataclasses.replace(request_, budget=budget, controls=False)
    watcher, said = Watcher(), []
    watcher.at_rung = lambda: watcher.rungs == 1 and os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_search(request_, lambda *_: watcher, said.append)
    file = request_.folder / LATENCIES_FILE
    measured = [line for line in said if line.startswith("latency of ")]
    assert len(measured) == len(read_rows(file)) >= 1
    assert "latency is measured before anything trains" in said[0]

    candidates = run_search(request_, lambda *_: Watcher(), said.append)
    rows = {row.arch_id: row.latency for row in read_rows(file)}
    assert sum(line.startswith("latency of ") for line in said) == len(rows)
    assert len(rows) < request_.space.count()
    contents = read_contents(request_.folder)
    for trial in contents.trials:
        assert trial.latency == rows[trial.arch_id]
    journal = (request_.folder / "optuna.journal").read_text().splitlines()
    told = [line["values"][1] for line in map(json.loads, journal) if line.get("values")]
    assert sorted(told) == sorted(c.latency.median_s for c in candidates)
    sought = objectives_of(("tifa", "-latency"), contents.trials)
    front = with_front(rank_trials(contents.trials), contents.trials, sought)
    assert {row.front.costs["latency"] for row in front.among} == set(told)

    # The rows are gone, with one that no trial knows: what trials have on record counts.
    file.unlink()
    count = len(said)
    run_search(request_, lambda *_: Watcher(), said.append)
    again = {row.arch_id: row.latency for row in read_rows(file)}
    tried = {trial.arch_id for trial in contents.trials}
    assert {arch_id: rows[arch_id] for arch_id in tried} == again
    assert not [line for line in said[count:] if "measured" in line]

    whole = {path: path.read_bytes() for path in request_.folder.rglob("*") if path.is_file()}
    here = rewrite(file, hardware="Abacus")
    whole[file] = file.read_bytes()
    with pytest.raises(
        IncomparableError, match=rf"\(hardware Abacus then, {re.escape(here)} now\)"
    ):
        run_search(request_, lambda *_: Watcher(), print)
    assert whole == {p: p.read_bytes() for p in request_.folder.rglob("*") if p.is_file()}


def test_sigterm_while_latencies_are_measured_leaves_as_ctrl_c_does(request_):
    timing = LatencySettings(latent_size=8, text_tokens=4, seconds=0.01)
    plan = request_.budget.search.model_copy(
        update={"trials": 1, "objectives": ("tifa", "-latency"), "latency": timing}
    )
    budget = request_.budget.model_copy(update={"search": plan})
    request_ = dataclasses.replace(request_, budget=budget, controls=False)
    before = signal.getsignal(signal.SIGTERM)
    said = []

    def say(text):
        said.append(text)
        if text.startswith("latency of "):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TerminatedError):
        run_search(request_, lambda *_: Watcher(), say)
    assert sum(text.startswith("latency of ") for text in said) == 1
    assert signal.getsignal(signal.SIGTERM) == before
    run_search(request_, lambda *_: Watcher(), said.append)
    assert read_contents(request_.folder).trials[0].state is TrialState.COMPLETE


def test_the_record_of_a_race_for_a_front_says_what_it_seeks(request_):
    race = Race(rule="race", compute=10.0, dominated=0.9)
    told = []
    for objectives in ((), ("tifa", "-gmacs")):
        changes = {"early_stopping": race, "objectives": objectives}
        plan = request_.budget.search.model_copy(update=changes)
        budget = request_.budget.model_copy(update={"search": plan})
        told.append(_study_record(dataclasses.replace(request_, budget=budget)).stop_rule)
    assert "among the best 2" in told[0] and "front" not in told[0]
    assert "on the front" in told[1] and "dominated with 90%" in told[1] and "best" not in told[1]
    assert told[1].endswith("sought at once: tifa, -gmacs")


def test_another_budget_seed_or_space_may_not_enter_a_study(request_):
    from nas_t2i.store import write_study

    write_study(request_.folder, _study_record(request_))
    other = dataclasses.replace(request_, seed=3, budget=tiny_budget(6))
    with pytest.raises(StorageError, match=r"budget budget-\w+ then, .*seed 0 then, 3 now"):
        run_search(other, lambda *_: Watcher(), print)


def test_a_study_does_not_go_on_after_its_questions_changed(request_, tmp_path):
    questions = make_prompts(request_.budget).questions
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(questions))
    budget = request_.budget
    evaluation = budget.evaluation.model_copy(update={"questions": str(file)})
    plan = budget.search.model_copy(update={"trials": 1})
    budget = budget.model_copy(update={"evaluation": evaluation, "search": plan})
    request = dataclasses.replace(request_, budget=budget, controls=False)
    run_search(request, lambda *_: Watcher(), print)
    run_search(request, lambda *_: Watcher(), print)
    answer = {"yes": "no", "no": "yes"}[questions[0]["answer"]]
    file.write_text(json.dumps([questions[0] | {"answer": answer}, *questions[1:]]))
    with pytest.raises(StorageError, match=r"tifa in .*questions.json changed since"):
        run_search(request, lambda *_: Watcher(), print)
    assert len(read_contents(request.folder).trials) == 1


def test_limits_nobody_meets_are_told_before_anything_is_written(request_, tmp_path):
    parameters, _, _ = SPACE.partition("include:")
    (tmp_path / "space.yaml").write_text(parameters + "limits: {params: {max: 1e3}}\n")
    impossible = dataclasses.replace(request_, space=load_space(tmp_path / "space.yaml"))
    with pytest.raises(Exception, match="params"):
        run_search(impossible, lambda *_: Watcher(), print)
    assert not request_.folder.exists()
