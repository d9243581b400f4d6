import numpy as np
import pytest

from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation.at_rung import RungEvaluator, chance_level
from nas_t2i.evaluation.embedded.prompts import make_prompts
from nas_t2i.evaluation.sampling.contact_sheet import save_sheet
from nas_t2i.evaluation.sampling.generate import draw
from nas_t2i.evaluation.vqa import embedded_names
from nas_t2i.training.ranks import join_ranks
from tests.training.tiny import tiny_budget, tiny_inputs, tiny_trainer


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_prompts_are_a_function_of_the_budget_and_the_signature_tells_them_apart(cache_dir):
    budget, inputs, ranks = tiny_budget(), tiny_inputs(cache_dir), join_ranks("cpu")
    one, same = make_prompts(budget), make_prompts(budget)
    assert one.captions == same.captions and one.questions == same.questions
    other = budget.model_copy(
        update={"evaluation": budget.evaluation.model_copy(update={"seed": 1})}
    )
    images = shapes.render(one.scenes)
    scores = [RungEvaluator(b, inputs).ranked.score(images, ranks) for b in (budget, other)]
    assert scores[0].signature != scores[1].signature
    assert scores[0].value > scores[1].value


@pytest.mark.parametrize("vqa", embedded_names())
def test_the_prompts_own_renders_score_one_and_shuffled_ones_fall_to_chance(vqa, cache_dir):
    budget = tiny_budget()
    many = budget.evaluation.model_copy(update={"prompts": 512, "vqa": vqa})
    budget = budget.model_copy(update={"evaluation": many})
    evaluator, ranks = RungEvaluator(budget, tiny_inputs(cache_dir)).ranked, join_ranks("cpu")
    renders = shapes.render(make_prompts(budget).scenes)
    assert evaluator.score(renders, ranks).value > 0.99
    shuffled = renders[np.random.default_rng(0).permutation(len(renders))]
    score = evaluator.score(shuffled, ranks)
    assert score.chance == chance_level(budget) is not None
    assert abs(score.value - score.chance) < 4 * score.stderr


def test_images_do_not_depend_on_the_batch(cache_dir):
    budget = tiny_budget()
    small = budget.evaluation.sampler.model_copy(update={"batch": 3})
    smaller = budget.model_copy(
        update={"evaluation": budget.evaluation.model_copy(update={"sampler": small})}
    )
    assert smaller.budget_id == budget.budget_id
    inputs = tiny_inputs(cache_dir)
    denoiser = tiny_trainer(cache_dir, budget).denoiser
    text = inputs.encoder.encode(make_prompts(budget).captions)
    ranks = join_ranks("cpu")
    one = draw(denoiser, text, budget, inputs, ranks).astype(int)
    other = draw(denoiser, text, smaller, inputs, ranks).astype(int)
    assert np.abs(one - other).max() <= 1  # a grey level of rounding


def test_a_sheet_of_images_is_written_whole(tmp_path):
    save_sheet(tmp_path / "s.png", np.zeros((3, 16, 16, 3), np.uint8), ["a red circle"] * 3)
    assert [file.name for file in tmp_path.iterdir()] == ["s.png"]
