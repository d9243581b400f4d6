"""What a budget may be evaluated with besides the embedded reader: question files, more metrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nas_t2i.data.embedded import shapes
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.at_rung import RungEvaluator, chance_level, check_evaluation, open_log
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.evaluator import Measured
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics
from nas_t2i.evaluation.metrics.fid import FidMetric, FidScorer
from nas_t2i.evaluation.vqa.common.model import PretrainedVqaModel
from nas_t2i.events import read_events
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import RungEvent, Score
from nas_t2i.results.entries import group_entries
from nas_t2i.store import assemble_trial
from nas_t2i.training.denoiser import build_denoiser
from nas_t2i.training.feeds.inputs import Inputs
from nas_t2i.training.ranks import join_ranks
from tests.conditioning.checkpoints import tiny_openclip
from tests.conditioning.tiny_pairs import SHAPES_TEXT, shapes_budget
from tests.evaluation.vqa.models import tiny_blip
from tests.search.processes import follow
from tests.search.test_trial import start, tiny_config
from tests.training.tiny import tiny_arch, tiny_inputs


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NAS_T2I_CACHE", str(folder))
        yield folder
    torch.set_num_threads(threads)


def changed(budget: Budget, **evaluation) -> Budget:
    data = budget.model_dump(mode="json")
    data["evaluation"] |= evaluation
    data["evaluation"] = {key: part for key, part in data["evaluation"].items() if part is not ...}
    return Budget.model_validate(data, strict=False)


def test_the_questions_of_a_file_are_scored_as_the_embedded_ones_are(cache, tmp_path):
    # A budget whose early stopping fits its rungs.
    budget = Budget.model_validate(tiny_config().budget, strict=False)
    prompts = make_prompts(budget)
    file = tmp_path / "questions.json"
    more = questions_about(shapes.sample_scenes(9, "others", 2), ["x", "y"])
    file.write_text(json.dumps([*prompts.questions, *more]))
    from_file = changed(budget, questions=str(file))
    assert from_file.budget_id != budget.budget_id
    check_evaluation(from_file)
    inputs = tiny_inputs(cache)
    asked, read = RungEvaluator(from_file, inputs).ranked, RungEvaluator(budget, inputs).ranked
    images = shapes.render(prompts.scenes)
    images[2:5] = images[[3, 4, 2]]
    images[7] = 0  # blank: what was drawn, and wrong
    ours, theirs = (evaluator.score(images, join_ranks("cpu")) for evaluator in (asked, read))
    assert ours.per_prompt == theirs.per_prompt and 0 < ours.value < 1
    assert ours.by_type == theirs.by_type
    assert "vqa=learned-v" in ours.signature and "|mapping=exact" in ours.signature
    assert chance_level(from_file) == ours.chance
    with pytest.raises(ConfigError, match="10 captions; expected 11"):
        check_evaluation(changed(from_file, prompts=11))


def test_a_rung_asks_no_question_twice(cache, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    budget = Budget.model_validate(tiny_config().budget, strict=False)
    prompts = make_prompts(budget)
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(prompts.questions))
    budget = changed(budget, questions=str(file), vqa=f"blip:{tiny_blip(tmp_path / 'blip')}")
    images, ranks = shapes.render(prompts.scenes), join_ranks("cpu")
    with open_log(budget, tmp_path, ranks) as log:
        first = RungEvaluator(budget, tiny_inputs(cache), log).ranked.score(images, ranks)
        assert log.file == tmp_path / "answers-0.jsonl"
        assert log.count == len({(q["id"], q["question"]) for q in prompts.questions})
    monkeypatch.setattr(PretrainedVqaModel, "answer", lambda *_: pytest.fail("asked again"))
    with open_log(budget, tmp_path, ranks) as log:
        again = RungEvaluator(budget, tiny_inputs(cache), log).ranked.score(images, ranks)
    assert again == first


@pytest.mark.parametrize(
    ("evaluation", "expected"),
    [
        ({"vqa": "blip:somewhere"}, "evaluation.vqa: got 'blip:somewhere' for the embedded"),
        ({"mapping": "likelihood"}, r"evaluation\.mapping\s+Value error, got 'likelihood'"),
        ({"metrics": [{"metric": "fidd"}]}, "does not match any of the expected tags"),
        (
            {"metrics": [{"metric": "clip", "model": "a", "checkpoint": "b"}] * 2},
            "evaluation.metrics: got clip, clip; expected each once",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(evaluation, expected):
    budget = Budget.model_validate(tiny_config().budget, strict=False)
    with pytest.raises(ValidationError, match=expected):
        changed(budget, **evaluation)


def test_missing_files_are_told_before_anything_is_trained(tmp_path):
    budget = Budget.model_validate(tiny_config().budget, strict=False)
    with pytest.raises(ConfigError, match="no file"):
        metric = {"metric": "hps", "checkpoint": "none.pt", "version": "v2.1"}
        check_evaluation(changed(budget, metrics=[metric]))
    file = tmp_path / "questions.json"
    with pytest.raises(ConfigError, match="no such file"):
        check_evaluation(changed(budget, questions=str(file)))
    file.write_text(json.dumps(make_prompts(budget).questions))
    with pytest.raises(ConfigError, match=r"evaluation\.vqa: no folder"):
        check_evaluation(changed(budget, questions=str(file), vqa="blip:./none"))
    with pytest.raises(ConfigError, match="vqa"):
        check_evaluation(changed(budget, questions=str(file), vqa="blib:./none"))


def test_a_trial_measures_additional_metrics_and_is_ranked_by_the_first(cache, tmp_path):
    model, weights = tiny_openclip(tmp_path / "clip")
    config = tiny_config(3)
    metric = {"metric": "clip", "model": str(model), "checkpoint": str(weights)}
    budget = changed(Budget.model_validate(config.budget, strict=False), metrics=[metric])
    data = budget.model_dump(mode="json")
    config = config.model_copy(update={"budget": data, "budget_id": budget.budget_id})
    follow(start(tmp_path / "study", config))
    events, _ = read_events(tmp_path / "study" / config.key / "events.jsonl")
    points = [event.point for event in events if isinstance(event, RungEvent)]
    assert [list(point.scores) for point in points] == [["tifa"], ["tifa"], ["tifa", "clip_score"]]
    clip = points[-1].scores["clip_score"]
    assert len(clip.per_prompt) == 8 and clip.value == pytest.approx(
        np.mean(clip.per_prompt), abs=1e-6
    )
    log = tmp_path / "study" / config.key / "answers-0.jsonl"
    logged = [json.loads(line)["value"] for line in log.read_text().splitlines()]
    assert logged == pytest.approx(clip.per_prompt, abs=1e-6)
    (entry,) = group_entries([assemble_trial(events, running=False)])
    assert entry.metric == "tifa" and entry.scores(3) == [points[-1].scores["tifa"]]


class MeanColor:
    """Features that need no network."""

    dim, identity = 3, "mean colour"

    def features(self, images):
        return np.array([np.asarray(image, dtype=np.float64).mean(axis=(0, 1)) for image in images])


def test_tifa_and_fid_stand_beside_held_out_r2(cache, tmp_path, monkeypatch):
    scenes = shapes.sample_scenes(9, "others", 4)
    images, captions = shapes.render(scenes), shapes.captions(scenes)
    (tmp_path / "q.json").write_text(json.dumps(questions_about(scenes, list("abcd"))))
    real = FeatureStatistics(3, MeanColor.identity, "renders")
    real.add(MeanColor().features(images))
    real.save(tmp_path / "real.npz")
    questions = {"vqa": "learned", "questions": str(tmp_path / "q.json"), "prompts": 3}
    budget = changed(
        shapes_budget(tmp_path, text={**SHAPES_TEXT, "width": 64}, cache=None),
        pictures=4,
        metrics=[
            {"metric": "tifa", **questions},
            {"metric": "fid", "reference": str(tmp_path / "real.npz"), "at": "every_rung"},
        ],
    )
    check_evaluation(budget)
    denoiser = build_denoiser(
        tiny_arch(), latent_size=8, latent_channels=12, seed=0, precision="fp32"
    )
    inputs, ranks = Inputs(budget, cache), join_ranks("cpu")
    evaluator = RungEvaluator(budget, inputs, AnswerLog(None))
    monkeypatch.setattr(
        FidMetric, "load", lambda self, _: FidScorer(self, Path(self.reference), MeanColor())
    )
    ranked = Score(metric="heldout_r2", value=0.1, stderr=0.1, n=2, signature="s")
    measured = Measured(ranked, images, captions)
    first = evaluator.measure_beside(denoiser, measured, budget.rungs[0], ranks)
    last = evaluator.measure_beside(denoiser, measured, budget.rungs[-1], ranks)
    assert list(first) == ["fid"] and list(last) == ["tifa", "fid"]
    assert (last["fid"].n, last["fid"].value) == (4, pytest.approx(0, abs=1e-9))
    assert "model=mean colour|reference=renders,n=4|n=4|prompts=" in last["fid"].signature
    alone = changed(budget, metric="tifa", metrics=[], pictures=..., **questions)
    own = RungEvaluator(alone, inputs).ranked.measure(denoiser, ranks).score
    assert last["tifa"] == own and own.n == 3
    worse = tmp_path / "worse.npz"
    worse.write_bytes(b"no statistics")
    with pytest.raises(ConfigError, match=r"worse\.npz: can't be read"):
        check_evaluation(changed(budget, metrics=[{"metric": "fid", "reference": str(worse)}]))
    with pytest.raises(ValidationError, match="got tifa, which is the metric ranked by already"):
        changed(alone, metrics=[{"metric": "tifa", **questions}])
