"""Scenes, captions and questions of the embedded data set."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.data.embedded import shapes
from nas_t2i.evaluation.embedded.questions import questions_about


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 300), count=st.integers(1, 20), seed=st.integers(0, 3))
def test_a_scene_depends_on_seed_purpose_and_index_alone(start: int, count: int, seed: int) -> None:
    whole = shapes.sample_scenes(seed, "train", start + count)
    part = shapes.sample_scenes(seed, "train", count, start=start)
    assert shapes.captions(whole)[start:] == shapes.captions(part)
    np.testing.assert_array_equal(shapes.render(whole)[start:], shapes.render(part))


def test_render_gives_light_shapes_on_the_background() -> None:
    scenes = shapes.sample_scenes(0, "train", 200)
    images = shapes.render(scenes)
    assert images.shape == (200, shapes.SIZE, shapes.SIZE, 3)
    assert images.dtype == np.uint8
    # every object fits: no light at all outside, one pixel of it at most on the border
    empty = (images == np.array(shapes.BACKGROUND)).all(axis=-1).mean(axis=(1, 2))
    assert (empty > 0.3).all()
    assert (empty < 0.95).all()


def test_groups_differ_in_shape_and_color() -> None:
    scenes = shapes.sample_scenes(0, "train", 2000)
    paired = scenes.count[:, 1] > 0
    assert (scenes.shape[paired, 0] != scenes.shape[paired, 1]).all()
    assert (scenes.color[paired, 0] != scenes.color[paired, 1]).all()
    assert ((scenes.owner >= 0).sum(axis=1) == scenes.count.sum(axis=1)).all()


@pytest.mark.parametrize("two,groups", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.5, 0.2)])
def test_mixture_sets_the_kinds(two: float, groups: float) -> None:
    scenes = shapes.sample_scenes(0, "train", 4000, mixture=shapes.Mixture(two, groups))
    share = np.bincount(scenes.kind, minlength=4) / 4000
    assert abs(share[2] - two) < 0.03
    assert abs(share[3] - groups) < 0.03


THREE = shapes.Mixture(two=0.25, groups=0.1, three=0.5)


@settings(max_examples=15, deadline=None)
@given(start=st.integers(0, 300), count=st.integers(1, 20), left_out=st.integers(0, 12))
def test_so_does_one_of_three_objects(start: int, count: int, left_out: int) -> None:
    mixture = replace(THREE, left_out=left_out)
    whole = shapes.sample_scenes(0, "train", start + count, mixture=mixture)
    part = shapes.sample_scenes(0, "train", count, start=start, mixture=mixture)
    assert shapes.captions(whole)[start:] == shapes.captions(part)
    np.testing.assert_array_equal(shapes.render(whole)[start:], shapes.render(part))


@pytest.mark.parametrize("left_out", [0, 12])
def test_three_objects_differ_and_stand_where_the_relations_say(left_out: int) -> None:
    mixture = replace(THREE, left_out=left_out)
    scenes = shapes.sample_scenes(0, "train", 4000, mixture=mixture)
    share = np.bincount(scenes.kind, minlength=5) / 4000
    assert abs(share - [0.0375, 0.1125, 0.25, 0.1, 0.5]).max() < 0.03
    three = scenes.take(np.flatnonzero(scenes.kind == shapes.KINDS.index("three")))
    for attribute in (three.shape, three.color):
        assert (np.diff(np.sort(attribute, axis=1), axis=1) > 0).all()
    way = np.diff(three.centers[:, :3], axis=1)
    for step, relation in ((0, three.relation), (1, three.next_relation)):
        sign = np.where(relation % 2 == 0, 1, -1)  # the next one is on the other side
        along = np.take_along_axis(way[:, step], relation[:, None] // 2, axis=1)[:, 0]
        across = np.take_along_axis(way[:, step], 1 - relation[:, None] // 2, axis=1)[:, 0]
        assert (along * sign >= 2 * shapes.RADIUS).all()
        assert (across == 0).all()


def test_pairs_that_are_left_out_are_in_no_scene_and_all_others_in_many() -> None:
    mixture = replace(THREE, left_out=12)
    scenes = shapes.sample_scenes(0, "train", 4000, mixture=mixture)
    assert not shapes.names_left_out(scenes, 12).any()
    there = scenes.count > 0
    seen = Counter(zip(scenes.shape[there].tolist(), scenes.color[there].tolist(), strict=True))
    assert len(seen) == 12
    assert min(seen.values()) > 0.7 * max(seen.values())
    barred = np.array(shapes.left_out_pairs(12))
    assert (np.bincount(barred[:, 0]) == 3).all()
    assert (np.bincount(barred[:, 1]) == 2).all()


def test_questions_about_unseen_pairs_are_marked() -> None:
    scenes = shapes.sample_scenes(0, "eval", 600, mixture=THREE)
    ids = [str(i) for i in range(600)]
    assert not any("group" in row for row in questions_about(scenes, ids))
    barred = [
        f"{shapes.COLORS[color]} {shapes.SHAPES[shape]}"
        for shape, color in shapes.left_out_pairs(8)
    ]
    rows = questions_about(scenes, ids, left_out=8)
    present = [row for row in rows if row["answer"] == "yes"]
    assert len(present) == 600
    assert {"group" in row for row in present} == {True, False}
    for row in present:
        assert ("group" in row) == (row["element"] in barred)
    assert not any("group" in row for row in rows if row["element_type"] == "spatial")


def test_captions_of_three_objects() -> None:
    texts = shapes.captions(shapes.sample_scenes(0, "train", 2000, mixture=THREE))
    assert max(len(text.split()) for text in texts) == 14
    assert any(" to the left of a blue square above a" in text for text in texts)
    assert any(" above a red cross to the right of a" in text for text in texts)


def test_captions_read_like_english() -> None:
    texts = set(shapes.captions(shapes.sample_scenes(0, "train", 5000)))
    assert "a red circle to the left of a blue square" in texts
    assert "three green triangles" in texts
    assert "a white cross" in texts
    assert any("two red squares above a" in text for text in texts)
    assert max(len(text.split()) for text in texts) == 10


@pytest.mark.parametrize("mixture", [shapes.Mixture(), THREE])
def test_questions_follow_tifa_and_have_no_majority_answer(mixture: shapes.Mixture) -> None:
    scenes = shapes.sample_scenes(0, "eval", 4000, mixture=mixture)
    rows = questions_about(scenes, [f"p{i}" for i in range(len(scenes))])
    assert set(rows[0]) == {
        "id",
        "caption",
        "question",
        "choices",
        "answer",
        "element_type",
        "element",
    }
    assert {row["element_type"] for row in rows} == {
        "object",
        "color",
        "shape",
        "counting",
        "spatial",
    }
    answers: dict[tuple[str, ...], Counter[str]] = {}
    for row in rows:
        assert row["answer"] in row["choices"]
        answers.setdefault(tuple(row["choices"]), Counter())[row["answer"]] += 1
    for choices, counter in answers.items():
        shares = np.array([counter[choice] for choice in choices]) / counter.total()
        even = 1 / len(choices)
        assert abs(shares - even).max() < 4 * (even * (1 - even) / counter.total()) ** 0.5


@pytest.mark.parametrize("mixture", [shapes.Mixture(), THREE])
def test_absent_objects_are_absent(mixture: shapes.Mixture) -> None:
    scenes = shapes.sample_scenes(0, "eval", 500, mixture=mixture)
    for row in questions_about(scenes, [str(i) for i in range(500)]):
        if row["element_type"] == "object":
            plural = row["element"].replace("cross", "crosse") + "s"
            there = f"{row['element']}" in row["caption"] or plural in row["caption"]
            assert there == (row["answer"] == "yes")
