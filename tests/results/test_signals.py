"""Signals in rankings and comparisons: taken as scores where they are asked for."""

import csv
import io

from nas_t2i.results.comparands import load_results
from nas_t2i.results.compare import compare
from nas_t2i.results.leaderboard import rank_trials
from nas_t2i.results.tables.tabular import to_csv
from tests.results.record_factory import point, signals_of, study, trial, write_records


def test_signals_stand_in_the_ranking_and_are_compared_pair_by_pair(tmp_path):
    made = []
    for number, loss in enumerate((0.2, 0.4)):
        cheap = point(20, [0.5, 0.4]).model_copy(
            update={"scores": {}, "signals": signals_of(loss + 0.3)}
        )
        full = point(100, [0.9, 0.8]).model_copy(update={"signals": signals_of(loss)})
        known = trial(f"net{number}", {100: [0.9, 0.8]})
        made.append(known.model_copy(update={"curve": [cheap, full]}))
    rows = rank_trials(made)
    assert [row.step for row in rows] == [100, 100]  # a point without a score is no rung reached
    assert {row.additional["text_gain"].value for row in rows} == {0.8, 0.6}
    table = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert {row["heldout_loss"] for row in table} == {"0.2", "0.4"}
    write_records(tmp_path / "s", study("s"), made)
    for metric in ("heldout_loss", "text_gain"):
        found = compare(*load_results("s/net0", "s/net1", tmp_path, metric))
        assert found.verdict.startswith("s/net0:100 is better"), metric
    found = compare(*load_results("s/net0:20", "s/net1:20", tmp_path, "text_gain"))
    assert round(found.difference.value, 6) == 0.2
