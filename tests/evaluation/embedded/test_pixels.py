"""The pixel-reading VQA model: right on true images, at chance on unrelated ones."""

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest

from nas_t2i.data.embedded import shapes
from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.embedded import pixels as vqa
from nas_t2i.evaluation.embedded.questions import questions_about

N = 2500
SCENES = shapes.sample_scenes(7, "vqa-test", N)
IMAGES = shapes.render(SCENES)
QUESTIONS = questions_about(SCENES, [str(i) for i in range(N)])
ROWS = np.array([int(q["id"]) for q in QUESTIONS])


def accuracy(images: npt.NDArray[np.uint8]) -> tuple[dict[str, float], float]:
    right: defaultdict[str, list[bool]] = defaultdict(list)
    caption: defaultdict[str, list[bool]] = defaultdict(list)
    for said, question in zip(vqa.answer(images, ROWS, QUESTIONS), QUESTIONS, strict=True):
        right[question["element_type"]].append(said == question["answer"])
        caption[question["id"]].append(said == question["answer"])
    by_type = {kind: float(np.mean(values)) for kind, values in right.items()}
    return by_type, float(np.mean([np.mean(values) for values in caption.values()]))


def test_right_on_true_images_in_every_type() -> None:
    by_type, tifa = accuracy(IMAGES)
    assert set(by_type) == {"object", "color", "shape", "counting", "spatial"}
    assert min(by_type.values()) >= 0.99
    assert tifa >= 0.99


def test_right_on_slightly_noisy_images() -> None:
    noise = np.random.default_rng(0).normal(0, 10, IMAGES.shape)
    by_type, _ = accuracy(np.clip(IMAGES + noise, 0, 255).astype(np.uint8))
    assert min(by_type.values()) >= 0.98


def unrelated(name: str) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(1)
    if name == "uniform noise":
        return generator.integers(0, 256, IMAGES.shape).astype(np.uint8)
    if name == "gaussian noise":
        return np.clip(generator.normal(128, 60, IMAGES.shape), 0, 255).astype(np.uint8)
    if name == "empty":
        return np.broadcast_to(np.array(shapes.BACKGROUND, dtype=np.uint8), IMAGES.shape).copy()
    return IMAGES[generator.permutation(N)]


@pytest.mark.parametrize("name", ["uniform noise", "gaussian noise", "shuffled"])
def test_at_chance_on_unrelated_images(name: str) -> None:
    by_type, _ = accuracy(unrelated(name))
    for kind, share in by_type.items():
        guesses = [1 / len(q["choices"]) for q in QUESTIONS if q["element_type"] == kind]
        level = np.mean(guesses)
        assert abs(share - level) < 4 * (level * (1 - level) / len(guesses)) ** 0.5, kind


def test_an_empty_image_holds_nothing() -> None:
    assert vqa.look(unrelated("empty")[:3]) == [[], [], []]


def test_answers_do_not_depend_on_the_company() -> None:
    alone = [
        vqa.answer(IMAGES[row : row + 1], np.array([0]), [question])[0]
        for row, question in zip(ROWS[:60].tolist(), QUESTIONS[:60], strict=True)
    ]
    assert alone == vqa.answer(IMAGES, ROWS[:60], QUESTIONS[:60])


def test_a_shape_that_is_none_is_not_seen() -> None:
    image = np.empty((1, 16, 16, 3), dtype=np.uint8)
    image[:] = shapes.BACKGROUND
    image[0, 7:9, 2:14] = shapes.PALETTE[0]  # a long red bar
    (seen,) = vqa.look(image)[0]
    assert (seen.color, seen.shape) == (0, -1)


def test_a_foreign_question_is_an_error() -> None:
    foreign = {**QUESTIONS[0], "question": "Is it raining?"}
    with pytest.raises(ConfigError, match="raining"):
        vqa.answer(IMAGES, np.array([0]), [foreign])  # type: ignore[list-item]
