"""The time left of a race, replayed from the record of one: is it what it then took?"""

from __future__ import annotations

import heapq
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nas_t2i.cli.output.race_status import RaceStatus
from nas_t2i.search.racing.ledger import RACE_FILE, Piece, read_pieces
from nas_t2i.store import Study, read_contents

FOLDER = Path(__file__).parents[3] / "results" / "measured" / "v2" / "sdxl-embedded"
PARALLEL = 2


@pytest.fixture(scope="module")
def study() -> Study:
    return read_contents(FOLDER)


def replayed(study: Study, beside: float) -> list[tuple[float, float | None]]:
    """Return (elapsed, ETA) after every piece; starting and waiting take `beside` seconds each."""
    points = {(t.arch_id, t.control, t.seed): {p.step: p for p in t.curve} for t in study.trials}
    pieces = list(read_pieces(FOLDER / RACE_FILE))
    plan = study.record.budget.data["search"]
    request: Any = SimpleNamespace(
        budget=SimpleNamespace(rungs=tuple(study.record.rungs)),
        parallel=PARALLEL,
        architectures=plan["trials"],
        folder=Path("nowhere"),
    )
    rule: Any = SimpleNamespace(compute=plan["early_stopping"]["compute"])
    status = RaceStatus(request, rule)

    def seconds(piece: Piece) -> tuple[float, float]:
        curve = points[(*piece.key, piece.seed)]
        end, begin = curve[piece.step], curve.get(piece.begin)
        trained = end.seconds - (begin.seconds if begin else 0.0)
        measured = end.evaluation_seconds - (begin.evaluation_seconds if begin else 0.0)
        return trained, trained + measured + beside

    now, told, waiting = 0.0, [], list(reversed(pieces))
    under_way: list[tuple[float, int, float]] = []
    while waiting or under_way:
        while waiting and len(under_way) < PARALLEL:
            piece = waiting.pop()
            status.decided(piece)
            trained, took = seconds(piece)
            heapq.heappush(under_way, (now + took, piece.number, trained))
        now, number, trained = heapq.heappop(under_way)
        status.trained(pieces[number].steps, trained)
        told.append((now, status.eta(now, study.record.rungs[0] * len(under_way))))
    return told


# 2.3 s beside each piece make the 7 min 11 s that the race took.
@pytest.mark.parametrize("beside", [0.5, 2.3, 5.0])
def test_from_a_third_of_the_way_on_it_is_within_30_percent(study: Study, beside: float) -> None:
    told = replayed(study, beside)
    whole = told[-1][0]
    judged = [(at, eta) for at, eta in told if 1 / 3 <= at / whole <= 0.95]
    assert len(judged) > 20
    for at, eta in judged:
        assert eta is not None and 0.7 < eta / (whole - at) < 1.3, (at / whole, eta, whole - at)


def test_the_replayed_race_took_what_the_real_one_did(study: Study) -> None:
    assert replayed(study, 2.3)[-1][0] == pytest.approx(431, rel=0.03)
