"""What can be asked of a table, against the records that it was made of."""

import pickle
import subprocess
import sys
import timeit

import numpy as np
import pytest

from nas_t2i.benchmark.table import Table
from nas_t2i.errors import RecordError, UserError
from nas_t2i.results.leaderboard import rank_trials


def test_every_number_is_that_of_the_records(study, table):
    for trial in study.trials[::7]:
        for point in trial.curve:
            for name, score in point.scores.items():
                assert table.query(trial.name, point.step, name, trial.seed) == (
                    score.value,
                    score.stderr,
                )
                for kind, value in score.by_type.items():
                    found = table.query(trial.arch_id, point.step, f"{name}/{kind}", trial.seed)
                    assert found.value == value
                assert table.prompts(trial.name, point.step, trial.seed).tolist() == list(
                    score.per_prompt
                )
            for name, signal in point.signals.items():
                for band, estimate in signal.by_noise.items():
                    assert table.query(trial.name, point.step, f"{name}/{band}", trial.seed) == (
                        estimate.value,
                        estimate.stderr,
                    )
            assert table.query(trial.name, point.step, "seconds", trial.seed).value == point.seconds
        assert table.environment(trial.name, trial.seed) == trial.environment
        assert table.architecture(trial.name).trained_profile == trial.trained_profile


def test_the_ranking_of_its_trials_is_that_of_the_study(study, table):
    for own, recorded in zip(rank_trials(table.trials()), rank_trials(study.trials), strict=True):
        assert own.name == recorded.name
        assert own.score == recorded.score
        assert own.expected_score == pytest.approx(recorded.expected_score, abs=1e-9)


def test_what_is_not_in_it_is_named_with_the_nearest(table):
    for asked, message in (
        (("SDXL-TD44", 432, "tifa", 0), r"no architecture 'SDXL-TD44'; .*did you mean 'SDXL-TD4"),
        (("SDXL-TD4", 430, "tifa", 0), r"no step 430; .*the nearest is 432"),
        (("SDXL-TD4", 432, "tiffa", 0), r"no metric 'tiffa'; .*did you mean 'tifa'"),
        (("SDXL-TD4", 432, "tifa", 7), r"no seed 7; .*the nearest is 1"),
        (("SDXL-TD4", 22, "tifa", 0), r"not measured at step 22; expected one of .*324, 432"),
        (([], 22, "tifa", 0), "no architecture"),
    ):
        with pytest.raises(RecordError, match=message):
            table.query(*asked)
    with pytest.raises(RecordError, match="was not measured at step 22"):
        table.values("tifa", 22)


def test_the_best_is_by_the_mean_over_seeds_and_within_limits(table):
    scores = table.values("tifa").mean(axis=1)
    assert table.best().architecture.name == table.architectures[int(np.argmax(scores))]
    cheap = table.best({"gmacs": {"max": 100}})
    assert cheap.architecture.profile.gmacs <= 100 and cheap.score < table.best().score
    assert cheap.score == table.mean(cheap.architecture.name, "tifa")
    with pytest.raises(UserError, match="no architecture of the table is within"):
        table.best({"params": {"max": 1}})
    with pytest.raises(UserError, match=r"limits: gmac.*Extra inputs"):
        table.best({"gmac": {"max": 1}})
    with pytest.raises(UserError, match=r"limits\.latency: a table records no latencies"):
        table.best({"latency": {"max": 1}})


def test_a_query_takes_microseconds(table):
    seconds = timeit.timeit(lambda: table.query("SDXL-TD4", 432, "tifa", 1), number=20000) / 20000
    assert seconds < 20e-6  # 0.5 on an idle machine


def test_a_data_frame_has_a_row_for_each_point(table):
    pytest.importorskip("pandas")
    frame = table.to_pandas()
    assert len(frame) == 33 * 2 * 7
    row = frame[(frame.name == "SDXL-TD4") & (frame.seed == 1) & (frame.step == 432)].iloc[0]
    assert (row.tifa, row["tifa SE"]) == table.query("SDXL-TD4", 432, "tifa", 1)
    assert row.params == table.architecture("SDXL-TD4").profile.params


def test_it_loads_without_torch(table_file):
    code = (
        "import sys; from nas_t2i.benchmark.table import Table; "
        f"Table.load({str(table_file)!r}); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_a_point_is_made_once(table):
    assert table.point("SDXL-TD4", 432, 0) is table.point("SDXL-TD4", 432, 0)
    assert isinstance(pickle.dumps(table.point("SDXL-TD4", 432, 0)), bytes)
    assert repr(table) == "<Table measured: 33 architectures x 2 seeds x 7 steps>"
    assert isinstance(table, Table)
