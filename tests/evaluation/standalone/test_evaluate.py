"""From a trained trial or a folder of images to scores: drawn once, scored once, told right."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_t2i.arch.families import arch_from_dict
from nas_t2i.errors import ConfigError, IncomparableError, StorageError
from nas_t2i.evaluation.answer_log import AnswerLog
from nas_t2i.evaluation.at_rung import check_evaluation
from nas_t2i.evaluation.inputs.images import ImageSet
from nas_t2i.evaluation.inputs.prompts import Prompt
from nas_t2i.evaluation.metric import Resources
from nas_t2i.evaluation.metrics.clip import ClipMetric
from nas_t2i.evaluation.metrics.common.per_image import ImageModel, PerImageMetric, PerImageScorer
from nas_t2i.evaluation.metrics.fid import FidMetric, FidScorer
from nas_t2i.evaluation.sampling.checkpoint import (
    find_checkpoint_source,
    load_painter,
    load_trained,
)
from nas_t2i.evaluation.sampling.image_folder import draw_images
from nas_t2i.evaluation.standalone.evaluate import Evaluation, evaluate, result_data
from nas_t2i.evaluation.standalone.request import Request, TifaOptions, make_plan
from nas_t2i.evaluation.tifa.files import read_result
from nas_t2i.protocol.budget import Budget
from nas_t2i.records import Score
from nas_t2i.training.checkpoint import newest_checkpoint
from nas_t2i.training.export import export_weights
from tests.conditioning.checkpoints import tiny_openclip
from tests.training.tiny import tiny_budget

EXAMPLE = Path(__file__).parents[3] / "examples" / "evaluate"


class Reports(list):
    """What was reported."""

    def __call__(self, what, done, of):
        self.append((what, done, of))


def run(request: Request, cache: Path, log: Path | None = None, reports=None) -> Evaluation:
    reports = Reports() if reports is None else reports
    return evaluate(make_plan(request, cache), log, cache, "cpu", reports)


def score_of(evaluation: Evaluation) -> Score:
    (result,) = evaluation.results
    assert result.score is not None
    return result.score


def test_a_trial_draws_its_own_prompts_and_scores_as_it_did_itself(trial, cache):
    folder, _, point = trial
    own = point.scores["tifa"]
    request = Request(("tifa",), folder, blank_counts=True)
    reports = Reports()
    found = run(request, cache, reports=reports)
    score = score_of(found)
    assert score.per_prompt == own.per_prompt
    assert score.by_type == own.by_type
    assert "|vqa=learned-v" in score.signature and "|drawn=ddim6,guidance=" in score.signature
    assert ("draw", 8, 8) in reports and ("tifa", 8, 8) in reports
    images = sorted(Path(found.images["folder"]).glob("*.png"))
    assert [image.stem for image in images] == [str(i) for i in range(8)]
    # Again: nothing is drawn. One is lost: it alone comes back, as it was.
    before = [(image.stat().st_mtime_ns, image.read_bytes()) for image in images]
    assert score_of(run(request, cache)) == score
    assert [(p.stat().st_mtime_ns, p.read_bytes()) for p in images] == before
    images[3].unlink()
    assert score_of(run(request, cache)) == score
    after = [(image.stat().st_mtime_ns, image.read_bytes()) for image in images]
    assert [i for i in range(8) if after[i] != before[i]] == [3]
    assert [content for _, content in after] == [content for _, content in before]


def test_what_is_not_said_of_a_trial_is_its_budgets_own(trial, cache, tmp_path):
    folder = Path(shutil.copytree(trial[0], tmp_path / "trial"))
    shutil.copy(EXAMPLE / "questions.json", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    own = {"questions": str(tmp_path / "questions.json"), "prompts": 4, "mapping": "embedding:here"}
    config["budget"]["evaluation"] |= own
    (folder / "config.json").write_text(json.dumps(config))
    plan = make_plan(Request(("tifa",), folder), cache)
    assert [prompt.id for prompt in plan.prompts] == [f"shapes_{i}" for i in range(4)]
    assert (plan.vqa, plan.mapping, len(plan.questions)) == ("learned", "embedding:here", 24)
    assert plan.notes == [
        f"tifa: 24 questions about 4 captions of the budget embedded_v1 ({own['questions']}); "
        "vqa learned, mapping embedding:here"
    ]
    said = TifaOptions(questions=EXAMPLE / "questions.json", vqa="shapes", mapping="exact")
    plan = make_plan(Request(("tifa",), folder, tifa=said), cache)
    assert (plan.vqa, plan.mapping, len(plan.questions)) == ("shapes", "exact", 40)
    assert str(EXAMPLE / "questions.json") in plan.notes[0]


def test_a_budget_whose_questions_nobody_can_answer_is_refused(tmp_path):
    files = Path(__file__).parents[2] / "fixtures" / "tifa"
    budget = tiny_budget()

    def check(**changes):
        evaluation = budget.evaluation.model_copy(update={"prompts": 2, **changes})
        check_evaluation(budget.model_copy(update={"evaluation": evaluation}))

    check(questions=str(EXAMPLE / "questions.json"))
    with pytest.raises(ConfigError, match="not a question of the embedded benchmark"):
        check(questions=str(files / "questions.json"))
    with pytest.raises(ConfigError, match="expected one that looks at the images"):
        check(questions=str(files / "questions.json"), vqa=f"recorded:{files / 'result.json'}")


def test_a_trials_checkpoint_is_named_by_its_folder_or_by_its_step(trial):
    folder, _, _ = trial
    first = folder / "checkpoints" / "step-00000002"
    by_folder = find_checkpoint_source(first, None, None)
    by_step = find_checkpoint_source(folder, None, 2)
    assert by_folder.weights.samefile(by_step.weights) and by_folder.origin == by_step.origin
    with pytest.raises(ConfigError, match="no model"):
        find_checkpoint_source(folder / "checkpoints", None, None)


def test_an_exported_trial_is_the_same_model_and_its_images_are_there_already(
    trial, cache, tmp_path
):
    folder, config, _ = trial
    budget = Budget.model_validate(config.budget, strict=False)
    out = tmp_path / "exported"
    checkpoint = newest_checkpoint(folder / "checkpoints")
    origin = {"budget_id": budget.budget_id, "study": "tiny"}
    export_weights(
        checkpoint, arch_from_dict(config.trained_arch), budget.objective, 8, out, origin
    )
    prompts = tmp_path / "prompts.json"
    plan = make_plan(Request(("tifa",), folder), cache)
    prompts.write_text(json.dumps([{"id": p.id, "caption": p.caption} for p in plan.prompts]))
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps(plan.questions))
    mine = run(Request(("tifa",), folder, blank_counts=True), cache)
    request = Request(
        ("tifa",),
        out,
        prompts=str(prompts),
        tifa=TifaOptions(questions=questions, vqa="learned"),
        budget=budget,
        blank_counts=True,
    )
    theirs = run(request, cache)
    assert theirs.images["folder"] == mine.images["folder"]
    assert score_of(theirs) == score_of(mine)
    assert theirs.images["model"]["study"] == "tiny"
    # Another seed, other noise: other images in a folder of their own.
    other = Request(**{**vars(request), "seed": 5})
    assert run(other, cache).images["folder"] != mine.images["folder"]
    # A model that was trained to predict something else is not drawn with this budget.
    file = out / "scheduler" / "scheduler_config.json"
    file.write_text(file.read_text().replace('"prediction_type": "', '"prediction_type": "x'))
    with pytest.raises(ConfigError, match="prediction_type is 'x"):
        make_plan(request, cache)
    with pytest.raises(ConfigError, match="--budget: missing"):
        make_plan(Request(**{**vars(request), "budget": None}), cache)


def test_kept_images_of_another_model_are_never_taken_for_this_ones(trial, cache, tmp_path):
    folder, _, _ = trial
    source = find_checkpoint_source(folder, None, None)
    painter = load_painter(load_trained(source, "cpu"), cache)
    prompts = [Prompt("a/../b", "a red circle"), Prompt("two", "a blue square")]
    where = tmp_path / "images"
    file = draw_images(painter, prompts, where, Reports())
    names = json.loads(file.read_text())
    assert list(names) == ["a/../b", "two"] and names["two"] == "two.png"
    assert all((where / name).parent == where for name in names.values())
    changed = [Prompt("a/../b", "a red circle"), Prompt("two", "a green square")]
    with pytest.raises(StorageError, match="holds images of another prompts"):
        draw_images(painter, changed, where, Reports())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "two.png").write_bytes(b"mine")
    with pytest.raises(StorageError, match="holds other files"):
        draw_images(painter, prompts, tmp_path / "mine", Reports())


# ---- metrics of single images ---------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
PROMPTS = [Prompt(f"p{i}", f"caption {i}") for i in range(40)]


class Brightness:
    """A metric that may be interrupted; the mean of the image plus the prompt's length."""

    name, identity = "brightness", "brightness-v1"

    def __init__(self, calls: int = 1000) -> None:
        self.scored: list[str] = []
        self._left = calls

    def score(self, images, prompts):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self.scored += prompts
        return [float(np.asarray(i).mean()) + len(p) for i, p in zip(images, prompts, strict=True)]


class Bright(PerImageMetric):
    DISPLAY_NAME = "brightness"

    def load_model(self, device: str) -> ImageModel:
        return Brightness()


def score_images(model, prompts, images, log):
    scorer = PerImageScorer(Bright(metric="b"), model)
    return scorer.score(images, prompts, Resources(log=log, report=Reports()))


def noise_images(count: int = 40) -> ImageSet:
    return ImageSet.from_arrays([prompt.id for prompt in PROMPTS[:count]], NOISE[:count])


def test_no_image_is_scored_twice_wherever_it_stops(tmp_path):
    with AnswerLog(None) as log:
        whole = score_images(Brightness(), PROMPTS, noise_images(), log)
    first, second, third = Brightness(calls=1), Brightness(), Brightness()
    with AnswerLog(tmp_path / "log.jsonl") as log, pytest.raises(KeyboardInterrupt):
        score_images(first, PROMPTS, noise_images(), log)
    with AnswerLog(tmp_path / "log.jsonl") as log:
        assert score_images(second, PROMPTS, noise_images(), log) == whole
    assert first.scored + second.scored == [prompt.caption for prompt in PROMPTS]
    assert first.scored and second.scored
    with AnswerLog(tmp_path / "log.jsonl") as log:
        assert score_images(third, PROMPTS, noise_images(), log) == whole
    assert third.scored == []
    expected = [NOISE[i].mean() + len(PROMPTS[i].caption) for i in range(40)]
    assert whole.score.per_prompt == pytest.approx(expected, abs=1e-6)
    assert whole.score.value == pytest.approx(np.mean(expected))
    assert whole.score.stderr == pytest.approx(np.std(expected, ddof=1) / 40**0.5)


def test_what_cannot_be_scored_is_left_out_and_counted():
    class Broken(Brightness):
        def score(self, images, prompts):
            scores = super().score(images, prompts)
            return [
                float("nan") if p == "caption 1" else s
                for p, s in zip(prompts, scores, strict=True)
            ]

    arrays = NOISE[:4].copy()
    arrays[2] = 7
    images = ImageSet.from_arrays(["p0", "p1", "p2", "unmatched"], arrays)
    found = score_images(Broken(), PROMPTS[:4], images, AnswerLog(None))
    assert found.prompts == ["p0"] and found.score.n == 1 and found.score.n_missing == 3
    assert found.missing == {
        "p1": "no finite score",
        "p2": "blank",
        "p3": "missing",
    }
    assert any("unmatched" in note for note in found.notes)
    with pytest.raises(ConfigError, match="none of the 40 images has the id of a prompt"):
        others = [Prompt("q", "x")]
        score_images(Broken(), others, noise_images(), AnswerLog(None))
    arrays[:] = 7
    nothing = ImageSet.from_arrays(["p0", "p1"], arrays[:2])
    found = score_images(Broken(), PROMPTS[:2], nothing, AnswerLog(None))
    assert found.score is None


def test_clip_score_of_a_folder_from_its_files_to_the_result_file(tmp_path, cache):
    config, weights = tiny_openclip(tmp_path / "clip")
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(NOISE[i]).resize((40, 40)).save(folder / f"p{i}.png")
    prompts = tmp_path / "prompts.json"
    prompts.write_text(json.dumps([{"id": p.id, "caption": p.caption} for p in PROMPTS[:3]]))
    clip = ClipMetric(metric="clip", model=str(config), checkpoint=str(weights))
    request = Request(("clip",), folder, prompts=str(prompts), settings={"clip": clip})
    log = tmp_path / "log.jsonl"
    found = run(request, cache, log)
    score = score_of(found)
    assert score.metric == "clip_score" and -1 <= score.value <= 1 and len(score.per_prompt) == 3
    assert len(log.read_text().splitlines()) == 3
    data = json.loads(json.dumps(result_data(found, make_plan(request, cache)), allow_nan=False))
    assert Score.model_validate(data["results"][0]["score"]) == score
    assert data["config"]["settings"]["clip"]["model"] == str(config)
    missing = ClipMetric(metric="clip", model=str(config), checkpoint=str(weights) + ".pt")
    with pytest.raises(ConfigError, match="no file"):
        make_plan(
            Request(("clip",), folder, prompts=str(prompts), settings={"clip": missing}), cache
        )


# ---- FID ----------------------------------------------------------------------------------------


class Corners:
    """Four pixels of an image as its features."""

    dim, identity = 4, "corners-v1"

    def __init__(self) -> None:
        self.seen = 0

    def features(self, images):
        self.seen += len(images)
        return np.array([np.asarray(i)[::7, ::7, 0].ravel() for i in images], dtype=np.float64)


def saved(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"p{i:03}.png")
    return folder


def fid_scorer(reference: Path, extractor: Corners) -> FidScorer:
    return FidScorer(FidMetric(metric="fid", reference=str(reference)), reference, extractor)


def test_fid_by_hand_and_features_computed_once(tmp_path):
    real = saved(tmp_path / "real", NOISE)
    shifted = np.clip(NOISE[:, ::-1].astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    fake = ImageSet.from_folder(saved(tmp_path / "fake", shifted))
    extractor, resources = Corners(), Resources(cache=tmp_path / "cache")
    scorer = fid_scorer(real, extractor)
    found = scorer.score(fake, [], resources)
    assert extractor.seen == 80
    a, b = (Corners().features(list(x)) for x in (shifted, NOISE))
    sa, sb = np.cov(a.T), np.cov(b.T)
    cross = np.sqrt(np.linalg.eigvals(sa @ sb).real).sum()
    mean = a.mean(0) - b.mean(0)
    assert found.score.value == pytest.approx(mean @ mean + np.trace(sa + sb) - 2 * cross)
    assert found.score.stderr > 0 and found.better == "smaller"
    again = scorer.score(fake, [], resources)
    assert extractor.seen == 80 and again == found
    # The same images: no distance. Statistics in a file: the same.
    own = ImageSet.from_folder(real)
    same = scorer.score(own, [], resources)
    assert same.score.value == pytest.approx(0, abs=1e-9)
    scorer.reference.save(tmp_path / "real.npz")
    again = fid_scorer(tmp_path / "real.npz", extractor).score(fake, [], resources)
    assert again == found
    other = Corners()
    other.identity = "corners-v2"
    with pytest.raises(ConfigError, match="statistics of the extractor"):
        fid_scorer(tmp_path / "real.npz", other).prepare(resources)
    mixed = fid_scorer(real, extractor)
    mixed.prepare(resources)
    mixed.extractor = other
    with pytest.raises(IncomparableError):
        mixed.score(fake, [], resources)


def test_recorded_answers_are_read_from_our_own_result_file(tmp_path, cache):
    files = Path(__file__).parents[2] / "fixtures" / "tifa"
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (1, 2, 3):
        Image.fromarray(NOISE[i]).save(folder / f"own_{i}.png")
    tifa = TifaOptions(files / "questions.json", f"recorded:{files / 'result.json'}")
    request = Request(("tifa",), folder, tifa=tifa)
    found = run(request, cache)
    ours = tmp_path / "ours.json"
    ours.write_text(json.dumps(result_data(found, make_plan(request, cache))))
    recorded = read_result(ours)
    assert recorded.answers == read_result(files / "result.json").answers
    assert recorded.vqa_model == found.results[0].more["answerer"]
    again = run(
        Request(("tifa",), folder, tifa=TifaOptions(tifa.questions, f"recorded:{ours}")), cache
    )
    assert score_of(again) == score_of(found)
