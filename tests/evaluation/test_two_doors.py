"""One score, two doors: a rung of a trial, and ``nas-t2i evaluate``.

For every metric the same images are scored twice, with a model that is loaded anew each time:

- at a rung: `RungEvaluator.measure` of a budget that names the metric, where the drawing alone is
  replaced, by one that hands over the images as arrays;
- standalone: `make_plan` and `evaluate` on the folder of the same images as PNG files, with the
  same captions from a file.

All of the two `Score` records is compared, bit for bit: value, standard error, counts, direction,
every prompt's score, the scores by type of question, the no-image baseline. The signatures must
differ in no more than what says how the images came to be, and by which ids captions are named.
"""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from nas_t2i import plugins
from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation import prompt_evaluator
from nas_t2i.evaluation.at_rung import RungEvaluator
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.metric import silent
from nas_t2i.evaluation.metrics.common.frechet import FeatureStatistics
from nas_t2i.evaluation.metrics.fid import FidMetric, FidScorer
from nas_t2i.evaluation.metrics.image_reward import ImageRewardMetric, make_image_reward
from nas_t2i.evaluation.standalone.evaluate import evaluate
from nas_t2i.evaluation.standalone.request import Request, TifaOptions, make_plan
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Score
from nas_t2i.training.ranks import Ranks
from tests.conditioning.checkpoints import tiny_openclip
from tests.evaluation.metrics.test_hps import tiny_hps
from tests.evaluation.metrics.test_image_reward import SIZES, save
from tests.evaluation.test_additional_metrics import MeanColor
from tests.evaluation.vqa.models import tiny_blip, tiny_sentences
from tests.search.test_trial import tiny_config
from tests.training.tiny import tiny_inputs

COUNT = 6
SCENES = shapes.sample_scenes(3, "two doors", COUNT)
NAMES = [f"scene-{i}" for i in range(COUNT)]
PLUGIN = """
import numpy as np
from nas_t2i.evaluation.metrics.common.per_image import PerImageMetric

class Redness(PerImageMetric):
    DISPLAY_NAME = "redness"
    power: float

    def load_model(self, device):
        return Model(self.power)

class Model:
    name = "redness"

    def __init__(self, power):
        self.power, self.identity = power, f"redness^{power}"

    def score(self, images, prompts):
        return [float((np.asarray(image)[..., 0] / 255.0).mean() ** self.power) for image in images]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("NAS_T2I_CACHE", str(folder))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def images(tmp_path):
    """Renders in the wrong order for their captions here and there; as arrays and as files."""
    drawn = shapes.render(SCENES)
    drawn[1:4] = drawn[[3, 1, 2]]
    folder = tmp_path / "images"
    folder.mkdir()
    for name, image in zip(NAMES, drawn, strict=True):
        Image.fromarray(image).save(folder / f"{name}.png")
    return drawn


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(questions_about(SCENES, NAMES)))
    return file


def at_a_rung(
    cache, patch, images, questions, vqa="learned", mapping="exact", **metric
) -> dict[str, Score]:
    data = tiny_config().budget
    asked = {"questions": str(questions), "vqa": vqa, "mapping": mapping, "prompts": COUNT}
    data["evaluation"] |= {**asked, "metrics": [metric] if metric else []}
    budget = Budget.model_validate(data, strict=False)
    patch.setattr(prompt_evaluator, "draw", lambda *_: images)
    evaluator = RungEvaluator(budget, tiny_inputs(cache))
    return evaluator.measure(None, budget.rungs[-1], Ranks.alone()).scores


def standalone(cache, tmp_path, name, settings=None, questions=None, vqa="", mapping="") -> Score:
    prompts = tmp_path / "prompts.json"
    captions = [
        {"id": n, "caption": c} for n, c in zip(NAMES, shapes.captions(SCENES), strict=True)
    ]
    prompts.write_text(json.dumps(captions))
    request = Request(
        (name,),
        tmp_path / "images",
        prompts="" if name == "tifa" else str(prompts),
        tifa=TifaOptions(questions=questions, vqa=vqa, mapping=mapping),
        settings={} if settings is None else {name: settings},
    )
    (result,) = evaluate(make_plan(request, cache), None, cache, "cpu", silent).results
    assert result.score is not None
    return result.score


def parts(score: Score) -> set[str]:
    """The parts of a signature, without those on how images came to be and captions are named."""
    of_images = ("images=", "drawn=", "ddim", "guidance=", "seed=", "prompts=")
    return {part for part in score.signature.split("|") if not part.startswith(of_images)}


def assert_equal(rung: Score, alone: Score) -> None:
    assert rung.model_dump(exclude={"signature"}) == alone.model_dump(exclude={"signature"})
    assert parts(rung) == parts(alone) and rung.signature != alone.signature


def check_metric(cache, tmp_path, patch, images, questions, **metric) -> Score:
    """Score at both doors by a metric beside TIFA, with these settings; return the score."""
    name = metric["metric"]
    scores = at_a_rung(cache, patch, images, questions, **metric)
    (rung,) = (score for key, score in scores.items() if key != "tifa")
    settings = plugins.find("metrics", name).cls.model_validate(metric)
    alone = standalone(cache, tmp_path, name, settings)
    assert_equal(rung, alone)
    assert rung.n == COUNT and math.isfinite(rung.value)
    return rung


@pytest.mark.parametrize("vqa", ["learned", "shapes", "blip"])
def test_tifa(vqa, cache, tmp_path, monkeypatch, images, questions):
    mapping = "exact"
    if vqa == "blip":  # whose random words are no choices: the nearest in meaning is taken
        vqa = f"blip:{tiny_blip(tmp_path / 'blip')}"
        mapping = f"embedding:{tiny_sentences(tmp_path / 'sentences')}"
    rung = at_a_rung(cache, monkeypatch, images, questions, vqa, mapping)["tifa"]
    alone = standalone(cache, tmp_path, "tifa", questions=questions, vqa=vqa, mapping=mapping)
    assert_equal(rung, alone)
    assert len(rung.per_prompt) == COUNT and len(set(rung.per_prompt)) > 1


def test_clip(cache, tmp_path, monkeypatch, images, questions):
    model, weights = tiny_openclip(tmp_path / "clip")
    clip = {"metric": "clip", "model": str(model), "checkpoint": str(weights), "scale": 2.5}
    score = check_metric(cache, tmp_path, monkeypatch, images, questions, **clip)
    assert len(set(score.per_prompt)) == COUNT


def test_hps(cache, tmp_path, monkeypatch, images, questions):
    model, weights = tiny_hps(tmp_path / "hps")
    hps = {"metric": "hps", "model": str(model), "checkpoint": str(weights), "version": "v2.1"}
    score = check_metric(cache, tmp_path, monkeypatch, images, questions, **hps)
    assert len(set(score.per_prompt)) == COUNT


def test_image_reward(cache, tmp_path, monkeypatch, images, questions):
    file, words = save(tmp_path / "reward")
    monkeypatch.setattr(  # of the small checkpoint's sizes, which the settings can't say
        ImageRewardMetric,
        "load_model",
        lambda self, device: make_image_reward(
            self.checkpoint, tokenizer=self.tokenizer, device=device, sizes=SIZES
        ),
    )
    reward = {"metric": "image_reward", "checkpoint": str(file), "tokenizer": str(words)}
    score = check_metric(cache, tmp_path, monkeypatch, images, questions, **reward)
    assert len(set(score.per_prompt)) == COUNT


def test_fid(cache, tmp_path, monkeypatch, images, questions):
    """With three features of an image in the place of Inception's 2048."""
    monkeypatch.setattr(
        FidMetric, "load", lambda self, _: FidScorer(self, self._reference, MeanColor())
    )
    real = FeatureStatistics(3, MeanColor.identity, "renders")
    real.add(MeanColor().features(shapes.render(shapes.sample_scenes(5, "real", 20))))
    fid = check_metric(cache, tmp_path, monkeypatch, images, questions, **reference(tmp_path, real))
    assert fid.value > 0 and fid.better == "smaller"


@pytest.mark.slow  # distances of 2048 features
def test_fid_by_inception(cache, tmp_path, monkeypatch, images, questions):
    pytest.importorskip("torch_fidelity")
    from nas_t2i.evaluation.metrics.common.inception import InceptionFeatures
    from tests.evaluation.metrics.test_inception import NAME, empty_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = empty_model(monkeypatch)
        for name, value in model.state_dict().items():
            if name.endswith("conv.weight"):
                value.normal_(0.0, math.sqrt(2 / value[0].numel()))
    torch.save(model.state_dict(), tmp_path / NAME)
    extractor = InceptionFeatures(str(tmp_path / NAME))
    real = FeatureStatistics(extractor.dim, extractor.identity, "renders")
    scenes = shapes.sample_scenes(5, "real", 20)
    real.add(extractor.features([Image.fromarray(np.array(i)) for i in shapes.render(scenes)]))
    settings = {**reference(tmp_path, real), "inception": str(tmp_path / NAME)}
    fid = check_metric(cache, tmp_path, monkeypatch, images, questions, **settings)
    assert fid.value > 0


def reference(folder, statistics: FeatureStatistics) -> dict:
    statistics.save(folder / "real.npz")
    return {"metric": "fid", "reference": str(folder / "real.npz")}


def test_a_metric_from_a_file(cache, tmp_path, monkeypatch, images, questions):
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.setattr(plugins, "_used", {})  # what is looked up here is used nowhere else
    plugins.find("metrics", "mine:Redness", tmp_path)
    mine = {"metric": "mine:Redness", "power": 0.7}
    score = check_metric(cache, tmp_path, monkeypatch, images, questions, **mine)
    assert "plugin=mine.py sha256:" in score.signature
    assert len(set(score.per_prompt)) > 1
