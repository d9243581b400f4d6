"""Races among UNets and transformers, on the recorded curves of both."""

from pathlib import Path

import pytest

from nas_t2i.benchmark.replay.run import prepare, run
from nas_t2i.benchmark.table import Table
from tests.benchmark.replay.test_run import plan

TABLE = Path(__file__).parents[3] / "results/tables/table-embedded.npz"


def test_a_race_does_not_leave_transformers_behind_for_their_larger_loss():
    """The best is a PixArt, whose held-out loss is larger than that of most UNets for long."""
    table = Table.load(TABLE)
    best = table.architecture(table.best().architecture.name)
    loss = {name: table.query(name, 144, "heldout_loss", 0).value for name in table.architectures}
    assert best.family == "pixart"
    assert sum(value < loss[best.name] for value in loss.values()) > 30
    asked = plan(
        table, stopper="racing", repeats=2, trials=40, compute=16.0, included=True, points=2
    )
    [result] = run(prepare(asked), lambda *_: None, lambda _: None).results
    assert result.regret.value[-1] == pytest.approx(0, abs=0.02)
