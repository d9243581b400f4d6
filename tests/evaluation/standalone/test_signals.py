"""Signals of a checkpoint: as its trial measured them, and never measured twice."""

import json
import shutil
from pathlib import Path

import pytest

import nas_t2i
from nas_t2i.cli.main import main
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.signals import Signals
from nas_t2i.evaluation.standalone.evaluate import evaluate
from nas_t2i.evaluation.standalone.request import Request, TifaOptions, make_plan
from nas_t2i.protocol.signals import SIGNALS
from nas_t2i.results.comparands import load_results
from nas_t2i.results.compare import compare
from tests.evaluation.standalone.test_evaluate import Reports, run

NAMES = tuple(SIGNALS)
STEPS = ["0-249", "250-499", "500-749", "750-999"]


def copy_of(trial, where: Path, **changes) -> Path:
    """A trial of another budget: `changes` are of its file."""
    folder = Path(shutil.copytree(trial[0], where))
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config["budget"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_checkpoint_has_the_signals_that_its_trial_measured(trial, cache):
    folder, _, point = trial
    before = sorted((cache / "pictures").glob("*"))
    found = run(Request(NAMES, folder), cache)
    assert found.complete and [result.metric for result in found.results] == list(NAMES)
    for result in found.results:
        own, score = point.signals[result.metric], result.score
        assert (score.value, score.stderr, score.n) == (own.value, own.stderr, 96)
        assert (score.per_prompt, score.signature) == (own.per_pair, own.signature)
        assert result.better == score.better == SIGNALS[result.metric].better
        assert result.more["by_noise"] == {k: v.model_dump() for k, v in own.by_noise.items()}
    assert found.images["count"] == 0 and found.images["model"]["step"] == 3
    assert found.notes == [
        f"{', '.join(NAMES)}: 96 held-out pairs of the budget embedded_v1, seed 0"
    ]
    assert sorted((cache / "pictures").glob("*")) == before  # no image is drawn


def test_they_stand_beside_metrics_of_images_in_the_order_asked_for(trial, cache):
    folder, _, point = trial
    request = Request(("text_gain", "tifa"), folder, tifa=TifaOptions(), blank_counts=True)
    gain, tifa = run(request, cache).results
    assert gain.score.value == point.signals["text_gain"].value
    assert tifa.score.per_prompt == point.scores["tifa"].per_prompt
    found = nas_t2i.evaluate(folder, metrics={"text_gain": {}})
    assert found.results[0].score == gain.score
    with pytest.raises(ConfigError, match=r"metrics.text_gain: got pairs; expected no keys"):
        nas_t2i.evaluate(folder, metrics={"text_gain": {"pairs": 3}})


def test_no_pair_is_measured_twice_wherever_it_stops(trial, cache, tmp_path, monkeypatch):
    evaluation = dict(trial[1].budget["evaluation"])
    evaluation["sampler"] = {**evaluation["sampler"], "batch": 40}
    folder = copy_of(trial, tmp_path / "trial", evaluation=evaluation)
    measured: list[slice] = []
    measure = Signals._errors_of

    def interrupted(self, rows, denoiser, device):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(rows)
        return measure(self, rows, denoiser, device)

    request, log = Request(NAMES, folder), tmp_path / "log.jsonl"
    monkeypatch.setattr(Signals, "_errors_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(request, cache, log)
    assert measured == [slice(0, 40), slice(40, 80)]
    monkeypatch.setattr(
        Signals, "_errors_of", lambda *args: measured.append(args[1]) or measure(*args)
    )
    reports = Reports()
    found = run(request, cache, log, reports)
    assert measured[2:] == [slice(80, 96)]
    assert reports == [("signals", done, 96) for done in (0, 40, 80, 96)]
    whole = run(request, cache)
    assert [result.plain() for result in found.results] == [r.plain() for r in whole.results]
    # Another checkpoint is another model.
    del measured[:]
    evaluate(make_plan(Request(NAMES, folder, step=2), cache), log, cache, "cpu", reports)
    assert len(measured) == 3


def test_the_result_file_the_table_and_a_comparison(trial, cache, tmp_path, capsys):
    folder, _, point = trial
    files = []
    for step in ("2", "3"):
        files.append(tmp_path / f"{step}.json")
        options = ("--step", step, "-m", "text-gain", "-m", "heldout_loss", "-o", str(files[-1]))
        with pytest.raises(SystemExit) as end:
            main(["evaluate", str(folder), *options])
        assert not end.value.code
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    loss = point.signals["heldout_loss"]
    shown = [f"{loss.value:.4f}", "±", f"{loss.stderr:.4f}"]
    assert ["held-out", "loss", *shown, "96", "0", "smaller"] in rows
    assert [row[2] for row in rows if row[:2] == ["time", "steps"]] == STEPS * 4
    gain, _ = json.loads(files[1].read_text())["results"]
    assert gain["unit"] == "nats" and list(gain["by_noise"]) == STEPS
    found = compare(*load_results(*map(str, files), metric="heldout_loss"))
    assert found.difference.value == pytest.approx(
        found.first.score.value - found.second.score.value, abs=1e-5
    )
    assert "2.json is better" not in found.verdict  # one step less of training


@pytest.mark.parametrize(
    ("change", "options", "expected"),
    [
        ({}, ("--seed", "3"), "--seed: got it with --metric text_gain, for which no image is"),
        ({}, ("--prompts", "x.json"), "--prompts: got it with --metric text_gain"),
        ({}, ("--save-images", "x"), "--save-images: got it with --metric text_gain"),
        ({}, ("--set", "text_gain.pairs=3"), "--set: got 'text_gain.pairs=3'"),
        ({}, ("-m", "text_gian"), "did you mean 'text_gain'?"),
        ({"signals": None}, (), "its budget 'embedded_v1' has signals: null, and text_gain needs"),
    ],
)
def test_what_can_not_be_measured_is_one_line(trial, tmp_path, capsys, change, options, expected):
    folder = copy_of(trial, tmp_path / "trial", **change)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(folder), "-m", "text_gain", *options, "-o", str(tmp_path / "o.json")])
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1
    assert expected in err
    assert [path.name for path in tmp_path.iterdir()] == ["trial"]
