"""What a search prints while it runs, told of trials that were never trained."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from nas_t2i.arch.catalog import lookup
from nas_t2i.arch.space import load_space
from nas_t2i.cli.output.progress import Progress
from nas_t2i.cli.output.race_status import RaceStatus
from nas_t2i.protocol.budget import Budget, load_budget
from nas_t2i.records import EndEvent, Reused, TrialState
from nas_t2i.search.candidates import Candidate
from nas_t2i.search.racing.ledger import Piece, Standing
from nas_t2i.search.session import SearchRequest
from nas_t2i.search.stopping.race import Race
from tests.conditioning.tiny_pairs import shapes_budget
from tests.results.record_factory import (
    HELD_OUT,
    point,
    profile,
    score,
    signals_of,
    study,
    write_records,
)

ROOT = Path(__file__).parents[3]


def search(
    folder: Path, budget: Budget, *names: str, encoding: str = "utf-8"
) -> tuple[Progress, list[Candidate]]:
    request = SearchRequest(
        space=load_space(ROOT / "search_spaces/sdxl.yaml"),
        budget=budget,
        study="demo",
        results_dir=folder,
        storage="",
        seed=0,
        cores=2,
        controls=False,
        retry_failed=False,
    )
    write_records(request.folder, study(), [])
    candidates = [candidate(name) for name in names]
    return Progress(request, candidates, screen(encoding)), candidates


def candidate(name: str) -> Candidate:
    arch = lookup(name)
    size = profile(arch.arch_id, name, 500_000_000, 100.0)
    return Candidate(name, arch, arch, size, size, seeds=(0,))


def screen(encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    return Console(file=file, width=120, force_terminal=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.TextIOWrapper)
    console.file.flush()
    assert isinstance(console.file.buffer, io.BytesIO)
    return console.file.buffer.getvalue().decode()


def make_image(progress: Progress) -> str:
    console = screen(progress.console.encoding)
    console.print(progress._image())
    return text_of(console)


@pytest.mark.parametrize(
    ("metric", "name", "told"),
    [
        ("tifa", "TIFA", "TIFA 0.500 ± 0.100 (chance 0.35), loss"),
        ("heldout_r2", "held-out R²", "held-out R² 0.500 ± 0.100, loss"),
    ],
)
def test_a_rung_is_told_by_the_studys_metric(
    tmp_path: Path, metric: str, name: str, told: str
) -> None:
    if metric == "tifa":
        budget, scored = load_budget(ROOT / "budgets/embedded_v1.yaml"), {}
    else:
        budget, scored = shapes_budget(tmp_path), HELD_OUT
    progress, (first,) = search(tmp_path, budget, "SDXL-TD2")
    progress.started(first, 0)
    progress.reached_rung(first, 0, point(budget.rungs[0], [0.4, 0.6], **scored))
    assert told in text_of(progress.console)
    assert f"{name} ± SE" in make_image(progress)
    assert "0.500 ± 0.100" in make_image(progress)
    progress.ended(first, 0, EndEvent(state=TrialState.STOPPED, reason="stopped early"))
    assert "stopped early" in text_of(progress.console)


def test_a_rung_tells_additional_metrics_behind_the_ranked_one(tmp_path: Path) -> None:
    budget = load_budget(ROOT / "budgets/embedded.yaml")
    progress, (first,) = search(tmp_path, budget, "SDXL-TD2")
    progress.started(first, 0)
    clip = score([0.2, 0.3], metric="clip_score")
    reached = point(budget.rungs[0], [0.4, 0.6])
    reached = reached.model_copy(update={"scores": reached.scores | {"clip_score": clip}})
    progress.reached_rung(first, 0, reached)
    told = "TIFA 0.500 ± 0.100 (chance 0.35), CLIP score 0.25 ± 0.05, loss"
    assert told in text_of(progress.console)


def test_a_rung_with_signals_alone_tells_them(tmp_path: Path) -> None:
    budget = load_budget(ROOT / "budgets/embedded.yaml")
    progress, (first,) = search(tmp_path, budget, "SDXL-TD2")
    progress.started(first, 0)
    signals = signals_of(0.75)
    cheap = point(20, [0.5, 0.5]).model_copy(update={"scores": {}, "signals": signals})
    progress.reached_rung(first, 0, cheap)
    steps = budget.training.steps
    told = f"step 20/{steps}, held-out loss 0.75 ± 0.01, text gain 0.25 ± 0.01, 2 s"
    assert told in text_of(progress.console)
    assert "TIFA" not in text_of(progress.console)
    full = point(budget.rungs[0], [0.4, 0.6]).model_copy(update={"signals": signals})
    progress.reached_rung(first, 0, full)
    told = "TIFA 0.500 ± 0.100 (chance 0.35), held-out loss 0.75 ± 0.01, text gain"
    assert told in text_of(progress.console)


def test_the_best_of_scores_below_zero_is_the_largest(tmp_path: Path) -> None:
    budget = shapes_budget(tmp_path)
    progress, candidates = search(tmp_path, budget, "SDXL-TD2", "SDXL-TD4_4")
    for tried, value in zip(candidates, (-0.1, -0.3), strict=True):
        progress.started(tried, 0)
        progress.reached_rung(tried, 0, point(budget.rungs[-1], [value, value], **HELD_OUT))
    assert "best SDXL-TD2 -0.100" in make_image(progress)


def test_a_plain_screen_gets_plain_text(tmp_path: Path) -> None:
    budget = shapes_budget(tmp_path)
    progress, (tried,) = search(tmp_path, budget, "SDXL-TD2", encoding="ascii")
    progress.started(tried, 0)
    progress.reached_rung(tried, 0, point(budget.rungs[0], [0.4, 0.6], **HELD_OUT))
    assert "held-out R^2 0.500 +/- 0.100, loss" in text_of(progress.console)
    assert "held-out R^2 +/- SE" in make_image(progress)


def test_a_race_says_whom_it_trains_on_and_how_much_is_given_away(tmp_path):
    whole = load_budget(ROOT / "budgets/embedded_v1.yaml")
    plan = whole.search.model_copy(update={"early_stopping": Race(rule="race", compute=10.0)})
    progress, _ = search(tmp_path, whole.model_copy(update={"search": plan}))
    first = {"name": "A", "arch_id": "a", "seed": 0, "known": 0}
    table = [Standing(name="A", steps=300, reached={0: 300}, best=0.5)]
    progress.begin()
    progress.decided(Piece(number=0, begin=0, step=300, why="first", **first))
    progress.decided(Piece(number=1, begin=300, step=540, why="race", table=table, **first))
    shown = text_of(progress.console)
    assert "at most 2 seed(s)" in shown
    assert "A seed 0: to step 540 (the best with 50%); 1.0 of 10 trials given" in shown
    table = [Standing(name="A", steps=540, reached={0: 540}, best=0.5, front=0.9)]
    progress.decided(Piece(number=2, begin=300, step=540, why="race", table=table, **first))
    shown = text_of(progress.console)
    assert "to step 540 (on the front with 90%)" in shown and "about 1 of 1 on the front" in shown


def test_the_time_left_of_a_race_counts_steps_and_pieces(tmp_path: Path) -> None:
    whole = load_budget(ROOT / "budgets/embedded.yaml")
    rule = Race(rule="race", compute=10.0)
    budget = whole.model_copy(
        update={
            "rungs": (40, 400),
            "search": whole.search.model_copy(update={"early_stopping": rule, "trials": 20}),
        }
    )
    progress, _ = search(tmp_path, budget)
    race = RaceStatus(progress._request, rule)
    assert race.eta(30.0, 0) is None
    for number in range(10):
        race.decided(
            Piece(
                number=number,
                name="a",
                arch_id=str(number),
                seed=0,
                begin=0,
                step=40,
                why="first",
                known=number,
            )
        )
        race.trained(40, 4.0)
    # 3600 steps at 0.1 s are left, 400 of them for 10 first pieces, 3200 for 3200 / 360 later ones;
    # beside their 4 s of training, ten pieces took 2 s each.
    assert race._parallel == 2
    assert race.eta(30.0, 0) == pytest.approx((360 + (10 + 3200 / 360) * 2) / 2)


def test_what_is_reused_says_so_and_costs_no_time(tmp_path: Path) -> None:
    budget = load_budget(ROOT / "budgets/embedded.yaml")
    progress, (first, other) = search(tmp_path, budget, "SDXL-TD2", "SDXL-TD4_4")
    for tried in (first, other):
        progress.started(tried, 0)
    origin = Reused(study="before", path="before/trials/x", git_revision="")
    first.reused[0] = origin
    progress.reached_rung(first, 0, point(budget.rungs[0], [0.4, 0.6]))
    progress.reached_rung(first, 0, point(budget.rungs[-1], [0.4, 0.6]))
    for tried in (first, other):
        tried.ends[0] = EndEvent(state=TrialState.COMPLETE)
        progress.ended(tried, 0, tried.ends[0])
    assert "SDXL-TD2 seed 0: complete, reused from before" in text_of(progress.console)
    assert ", 1 of them reused from other studies (49s saved); leaderboard" in progress.summary()
