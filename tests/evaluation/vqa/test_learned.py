"""The learned VQA model: lessons, training, answers, and agreement with human labels."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas_t2i.data.embedded import shapes
from nas_t2i.errors import ConfigError, StorageError
from nas_t2i.evaluation.embedded.learned_data import (
    NONE,
    PAIRS,
    Objects,
    blur,
    distorted_scenes,
    examples,
    objects_of,
    single_objects,
    targets,
    to_tensor,
    warp,
)
from nas_t2i.evaluation.embedded.learned_model import (
    LearnedSettings,
    ShapesNetwork,
    load_or_train,
    train_network,
)
from nas_t2i.evaluation.embedded.questions import questions_about
from nas_t2i.evaluation.sampling.contact_sheet import save_sheet
from nas_t2i.evaluation.tifa.types import Question
from nas_t2i.evaluation.vqa.learned import LearnedReader, make_learned
from tests.fixtures import labelled_images as labelled

PLURAL = dict(zip(shapes.SHAPES, shapes.PLURALS, strict=True))
TINY = LearnedSettings(width=4, hidden=16, steps=3, batch=16)
SMALL = LearnedSettings(width=16, hidden=128, steps=300, batch=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def vqa_model() -> LearnedReader:
    """Barely trained: what its answers are like does not depend on how right they are."""
    return LearnedReader(train_network(TINY))


def asked(scenes: shapes.Scenes) -> tuple[list[Question], np.ndarray]:
    questions = questions_about(scenes, [str(i) for i in range(len(scenes))])
    return questions, np.array([int(question["id"]) for question in questions])


def accuracy(vqa_model: LearnedReader, images: np.ndarray, scenes: shapes.Scenes) -> float:
    questions, rows = asked(scenes)
    said = vqa_model.answer_all(images, rows, questions)
    return float(
        np.mean([a.text == q["answer"] for a, q in zip(said, questions, strict=True)])
    )  # fmt: skip


# What it is taught with.


def test_targets_say_what_the_questions_ask() -> None:
    scenes = shapes.sample_scenes(3, "targets", 300)
    truth = targets(objects_of(scenes))
    for question in questions_about(scenes, [str(i) for i in range(len(scenes))]):
        row, gold, words = int(question["id"]), question["answer"], question["question"].split()
        nouns = [
            (shapes.SHAPES + shapes.PLURALS).index(word.strip("?,")) % 4
            for word in words
            if word.strip("?,") in shapes.SHAPES + shapes.PLURALS
        ]
        colors = [shapes.COLORS.index(word) for word in words if word in shapes.COLORS]
        match question["element_type"]:
            case "object":
                assert truth.there[row, nouns[0], colors[0]] == (gold == "yes")
                assert truth.seen[row, colors[0]] >= (gold == "yes")
            case "color":
                assert shapes.COLORS[truth.color[row, nouns[0]]] == gold
            case "shape":
                assert shapes.SHAPES[truth.shape[row, colors[0]]] == gold
            case "counting":
                assert shapes.NUMBERS[int(truth.number[row, nouns[0]]) - 1] == gold
            case "spatial":
                pair = PAIRS.index((min(nouns), max(nouns)))
                place = int(truth.place[row, pair])
                if place != NONE:  # two objects that strayed may stand near the diagonal
                    assert shapes.PLACES[place ^ (nouns[0] > nouns[1])] == gold
    assert (truth.place != NONE).any(dim=1).float().mean() > 0.5


def test_ties_and_diagonals_are_not_asked() -> None:
    objects = Objects(
        shape=torch.tensor([[0, 0, 1, 0]]),
        color=torch.tensor([[2, 3, 3, 0]]),
        present=torch.tensor([[True, True, True, False]]),
        center=torch.tensor([[[4.0, 4.0], [4.0, 4.0], [9.0, 8.5], [0.0, 0.0]]]),
    )
    truth = targets(objects)
    assert truth.number.tolist() == [[2, 1, 0, 0]]
    assert truth.color.tolist() == [[NONE, 3, NONE, NONE]]
    assert truth.shape.tolist() == [[NONE, NONE, 0, NONE, NONE, NONE]]
    assert set(truth.place.flatten().tolist()) == {NONE}


def test_any_slice_of_the_lessons_is_the_same() -> None:
    images, truth = examples(0, "slices", 0, 24)
    part, known = examples(0, "slices", 10, 8)
    assert (part - images[10:18]).abs().max() <= 1
    for whole, some in zip(truth, known, strict=True):
        assert torch.equal(whole[10:18], some)
    other, _ = examples(1, "slices", 0, 24)
    assert not torch.equal(other, images)
    assert images.min() >= 0
    assert images.max() <= 255
    assert torch.equal(images, images.round())


def test_composed_images_hold_what_their_labels_say() -> None:
    images, truth = examples(0, "composed", 0, 400)
    composed = slice(1, None, 2)
    empty = truth.number[composed].sum(1) == 0
    contrast = (images[composed] - images[composed].median(dim=-1).values[..., None]).abs()
    assert contrast[~empty].amax(dim=(1, 2, 3)).mean() > contrast[empty].amax(dim=(1, 2, 3)).mean()
    assert set(truth.number[composed].sum(1).tolist()) == {0, 1, 2, 3, 4}


def test_single_objects_stand_on_the_empty_image() -> None:
    empty, single = single_objects()
    assert empty.unique().numel() == 1
    scenes = shapes.sample_scenes(0, "single", 40, mixture=shapes.Mixture(0.0, 0.0))
    alone = scenes.take(np.flatnonzero(scenes.kind == 0))
    shifts = torch.from_numpy(alone.centers[:, 0] - shapes.SIZE / 2).float()
    drawn = empty + single[alone.shape[:, 0], alone.color[:, 0]]
    moved = warp(drawn, -shifts[..., None, None])
    assert (moved - to_tensor(shapes.render(alone))).abs().max() < 0.01


def test_blur_keeps_flat_images_and_means() -> None:
    flat = torch.full((2, 3, 16, 16), 77.0)
    assert torch.allclose(blur(flat, 1.0), flat)
    dot = torch.zeros(1, 3, 16, 16)
    dot[0, :, 8, 8] = 160.0
    assert blur(dot, 1.0)[0, 0, 8, 7:10].tolist() == [20.0, 40.0, 20.0]
    assert torch.allclose(blur(dot, -0.5).sum(), dot.sum())


# Training.


def test_same_settings_same_weights_and_the_cache_holds_them(tmp_path: Path) -> None:
    first = load_or_train(tmp_path / "new", TINY)
    file = tmp_path / "new" / f"shapes-vqa-{TINY.key}.safetensors"
    assert list((tmp_path / "new").iterdir()) == [file]
    before = file.stat().st_mtime_ns
    again = load_or_train(tmp_path / "new", TINY)
    assert file.stat().st_mtime_ns == before
    assert first.digest == again.digest == train_network(TINY).digest
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())


def test_another_process_trains_the_same_weights(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from pathlib import Path\n"
        "from nas_t2i.evaluation.embedded.learned_model import LearnedSettings, train_network\n"
        "torch.set_num_threads(2); torch.manual_seed(9)\n"
        "print(train_network(LearnedSettings(width=4, hidden=16, steps=3, batch=16)).digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == train_network(TINY).digest


@pytest.mark.parametrize(
    ("groups", "mixture"),
    [(2, shapes.Mixture()), (3, shapes.Mixture(two=0.25, groups=0.1, three=0.5))],
)
def test_the_shipped_weights_are_those_of_the_default_settings(
    tmp_path: Path, groups: int, mixture: shapes.Mixture
) -> None:
    shipped = load_or_train(
        tmp_path / "new",
        LearnedSettings(groups=groups),
        say=lambda _step, _of: pytest.fail("trained"),
    )
    assert not (tmp_path / "new").exists()
    scenes = shapes.sample_scenes(6, "shipped", 200, mixture=mixture)
    assert accuracy(LearnedReader(shipped), shapes.render(scenes), scenes) > 0.995


def test_key_follows_the_settings() -> None:
    assert LearnedSettings(seed=1).key != LearnedSettings().key == LearnedSettings(seed=0).key


def test_training_leaves_the_global_state_alone_and_tells_its_steps() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    steps: list[tuple[int, int]] = []
    train_network(TINY, lambda step, of: steps.append((step, of)))
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_a_cache_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        load_or_train(tmp_path / "file" / "cache", TINY)
    assert "\n" not in str(caught.value)


# Answers.


def test_training_teaches_to_answer() -> None:
    scenes = shapes.sample_scenes(5, "lessons over", 300)
    images, early = shapes.render(scenes), LearnedReader(train_network(SMALL))
    assert accuracy(early, images, scenes) > 0.38  # chance is 0.31


@pytest.mark.slow
def test_the_default_training_is_enough() -> None:
    scenes = shapes.sample_scenes(5, "lessons over", 500)
    learned = LearnedReader(train_network(LearnedSettings()))
    assert accuracy(learned, shapes.render(scenes), scenes) > 0.99
    assert accuracy(learned, distorted_scenes(5, "lessons over", scenes), scenes) > 0.96


def test_images_without_evidence_give_chance(vqa_model: LearnedReader) -> None:
    scenes = shapes.sample_scenes(6, "nothing to see", 600)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (len(scenes), 16, 16, 3), dtype=np.uint8)
    assert accuracy(vqa_model, noise, scenes) == pytest.approx(0.31, abs=0.05)


def test_likelihoods_are_a_distribution_whose_best_choice_is_the_answer(
    vqa_model: LearnedReader,
) -> None:
    scenes = shapes.sample_scenes(7, "likelihoods", 60)
    questions, rows = asked(scenes)
    images = distorted_scenes(7, "likelihoods", scenes)
    for said, question in zip(
        vqa_model.answer_all(images, rows, questions), questions, strict=True
    ):
        assert said.likelihoods is not None
        assert sum(map(math.exp, said.likelihoods)) == pytest.approx(1, abs=1e-4)
        assert said.text == question["choices"][int(np.argmax(said.likelihoods))]


def test_one_image_at_a_time_gives_the_same_answers(vqa_model: LearnedReader) -> None:
    scenes = shapes.sample_scenes(8, "alone", 20)
    questions, rows = asked(scenes)
    images = distorted_scenes(8, "alone", scenes)
    together = vqa_model.answer_all(images, rows, questions)
    alone = [
        said
        for i, image in enumerate(images)
        for said in vqa_model.answer(
            Image.fromarray(image), [questions[j] for j in np.flatnonzero(rows == i)]
        )
    ]
    assert alone == together


def test_larger_images_are_shrunk(vqa_model: LearnedReader) -> None:
    scenes = shapes.sample_scenes(9, "size", 5)
    questions, rows = asked(scenes)
    for i, array in enumerate(shapes.render(scenes)):
        image = Image.fromarray(array)
        own = [questions[j] for j in np.flatnonzero(rows == i)]
        large = image.resize((96, 96), Image.Resampling.NEAREST).convert("RGBA")
        assert vqa_model.answer(large, own) == vqa_model.answer(image, own)


def test_only_text_and_choices_are_read(vqa_model: LearnedReader) -> None:
    scenes = shapes.sample_scenes(10, "unanswered", 20)
    questions, rows = asked(scenes)
    unanswered = [
        Question(
            id="", caption="", question=q["question"], choices=q["choices"], answer="",
            element_type="", element="",
        )
        for q in questions
    ]  # fmt: skip
    images = shapes.render(scenes)
    assert vqa_model.answer_all(images, rows, unanswered) == vqa_model.answer_all(
        images, rows, questions
    )


def question(text: str, *choices: str) -> Question:
    return Question(
        id="0", caption="", question=text, choices=list(choices), answer="", element_type="",
        element="",
    )  # fmt: skip


def test_a_guess_depends_on_image_and_question_not_on_the_run(vqa_model: LearnedReader) -> None:
    empty = [np.full((16, 16, 3), 40 + i, dtype=np.uint8) for i in range(40)]
    ask = question("What color is the cross?", *shapes.COLORS)
    said = [vqa_model.answer(Image.fromarray(image), [ask])[0].text for image in empty]
    assert len(set(said)) > 2
    assert said == [vqa_model.answer(Image.fromarray(image), [ask])[0].text for image in empty]


def test_foreign_choices_get_no_likelihood_and_foreign_questions_are_errors(
    vqa_model: LearnedReader,
) -> None:
    scenes = shapes.sample_scenes(0, "foreign", 1, mixture=shapes.Mixture(0.0, 0.0))
    image = Image.fromarray(shapes.render(scenes)[0])
    ask = question("What color are the circles?", "pink", "red", "grey", "brown", "black")
    (said,) = vqa_model.answer(image, [ask])
    assert said.likelihoods is not None
    # all but red and the guess have no more than the floor
    assert sorted(said.likelihoods)[2] == pytest.approx(math.log(1e-6))
    same = question("Where are the circles, seen from the circles?", *shapes.PLACES)
    assert vqa_model.answer(image, [same])[0].text in shapes.PLACES
    with pytest.raises(ConfigError, match="not a question of the embedded benchmark"):
        vqa_model.answer(image, [question("What is the weather like?", "fine", "foul")])


def test_identity_names_settings_and_weights(tmp_path: Path, vqa_model: LearnedReader) -> None:
    other = make_learned(tmp_path, TINY)
    assert other.identity.startswith(f"learned-v1:{TINY.key[:8]}:")
    assert other.identity == make_learned(tmp_path, TINY).identity == vqa_model.identity
    changed = ShapesNetwork(TINY).eval()
    assert LearnedReader(changed).identity != other.identity


# Human labels.


@given(st.integers(1, 999), st.lists(st.tuples(
    st.integers(1, 9), st.sampled_from([*shapes.COLORS, None]),
    st.sampled_from([*shapes.SHAPES, None]), st.sampled_from([*labelled.SIDES, None]),
), min_size=1, max_size=4))  # fmt: skip
def test_labels_are_read_as_written(
    number: int, seen: list[tuple[int, str | None, str | None, str | None]]
) -> None:
    text = ", ".join(
        " ".join(filter(None, [str(count), color or "?", PLURAL.get(shape or "", "?"), place]))
        for count, color, shape, place in seen
    )
    assert labelled.parse_label(f"{number}: {text}", "here") == (
        number,
        [labelled.Thing(*s) for s in seen],
    )


def test_short_labels() -> None:
    assert labelled.parse_label("3: red circle", "") == (
        3,
        [labelled.Thing(1, "red", "circle", None)],
    )
    assert labelled.parse_label("3: a ? cross alone", "") == (
        3,
        [labelled.Thing(1, None, "cross", None)],
    )
    assert labelled.parse_label("4: nothing", "") == (4, [])
    assert labelled.parse_label("5: unclear", "") == (5, None)


@pytest.mark.parametrize("text", ["red circle", "x: red circle", "1: red", "1: pink circle",
                                  "1: red circle nearby", "1:", "1: 0 red circles"])  # fmt: skip
def test_other_labels_are_errors_with_their_place(text: str) -> None:
    with pytest.raises(ConfigError, match=r"labels\.txt:7"):
        labelled.parse_label(text, "labels.txt:7")


def test_human_answers_to_scenes_are_what_their_questions_want() -> None:
    scenes = shapes.sample_scenes(4, "network", 200)
    questions, rows = asked(scenes)
    for row, ask in zip(rows.tolist(), questions, strict=True):
        things = [
            labelled.Thing(
                int(scenes.count[row, group]),
                shapes.COLORS[scenes.color[row, group]],
                shapes.SHAPES[scenes.shape[row, group]],
                labelled.SIDES[int(scenes.relation[row]) ^ group] if scenes.count[row, 1] else None,
            )
            for group in (0, 1)
            if scenes.count[row, group]
        ]
        assert labelled.human_answer(things, ask) == ask["answer"]


@pytest.mark.parametrize(
    ("label", "text", "choices", "expected"),
    [
        ("red ?", "Is there a red circle?", ("yes", "no"), None),
        ("red ?", "Is there a blue circle?", ("yes", "no"), "no"),
        ("red circle, ? circle", "Is there a red circle?", ("yes", "no"), "yes"),
        ("red ?", "What shape is the red object?", shapes.SHAPES, None),
        ("2 red crosses, blue ?", "How many crosses are there?", shapes.NUMBERS, None),
        ("3 red crosses", "How many crosses are there?", shapes.NUMBERS[:2], None),
        ("red cross", "How many circles are there?", shapes.NUMBERS, None),
        ("red cross, blue cross", "What color are the crosses?", shapes.COLORS, None),
        ("2 red crosses, blue cross", "What color are the crosses?", shapes.COLORS, "red"),
        ("red cross left, blue circle", "Where is the circle, seen from the cross?",
         shapes.PLACES, "to the right"),
        ("red cross left, blue circle below", "Where is the circle, seen from the cross?",
         shapes.PLACES, None),
        ("red cross, blue circle", "Where is the circle, seen from the cross?",
         shapes.PLACES, None),
        ("red cross left", "Where is the circle, seen from the cross?", shapes.PLACES, None),
        ("red cross ul, blue circle ur", "Where is the circle, seen from the cross?",
         shapes.PLACES, "to the right"),
        ("red cross ul, blue circle ll", "Where is the cross, seen from the circle?",
         shapes.PLACES, "above"),
        ("red cross ul, blue circle lr", "Where is the cross, seen from the circle?",
         shapes.PLACES, None),
        ("red cross ul, blue circle right", "Where is the cross, seen from the circle?",
         shapes.PLACES, None),
    ],
)  # fmt: skip
def test_what_human_labels_can_and_can_not_tell(
    label: str, text: str, choices: tuple[str, ...], expected: str | None
) -> None:
    _, things = labelled.parse_label(f"1: {label}", "")
    assert things is not None
    assert labelled.human_answer(things, question(text, *choices)) == expected


def test_sheets_are_cut_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 16, 16, 3), dtype=np.uint8)
    texts = shapes.captions(shapes.sample_scenes(0, "sheet", 48))
    save_sheet(tmp_path / "sheet.png", images, texts)
    assert np.array_equal(labelled.cut_sheet(tmp_path / "sheet.png"), images)
    save_sheet(tmp_path / "large.png", images.repeat(2, axis=1).repeat(2, axis=2), texts)
    save_sheet(tmp_path / "other.png", rng.integers(0, 256, (48, 32, 32, 3), dtype=np.uint8), texts)
    assert np.array_equal(labelled.cut_sheet(tmp_path / "large.png"), images)
    with pytest.raises(ConfigError, match="image 1 is not"):
        labelled.cut_sheet(tmp_path / "other.png")


def test_grids_hold_images_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 16, 16, 3), dtype=np.uint8)
    monkeypatch.setattr(labelled, "FOLDER", tmp_path)
    labelled.write_grid(tmp_path / "grid.png", images, 3)
    assert np.array_equal(labelled.read_grid("grid.png", 7), images)


def test_the_files_fit_together() -> None:
    origin, labels, last = (
        labelled.read_rows("images.jsonl"),
        labelled.read_labels(),
        labelled.read_rows("last_rung.jsonl"),
    )
    assert [row["number"] for row in origin] == list(range(1, len(origin) + 1))
    assert len(labelled.read_grid("images.png")) >= len(origin) >= 120
    assert labels.keys() <= {row["number"] for row in origin}
    assert len(labels) >= 120
    assert len(labelled.read_grid("last_rung.png")) == 48 * len(last)
    near = itertools.pairwise(row["prompt"] for row in origin)
    assert all(a != b for a, b in near)
