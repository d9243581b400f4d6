"""Captions drawn from a file in the form of MS-COCO's."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_t2i.errors import ConfigError
from nas_t2i.evaluation.inputs.coco import draw_prompts

IMAGES = 40
ANNOTATIONS: list[dict[str, Any]] = [
    {"image_id": 1000 + image, "id": 10 * image + row, "caption": f"Caption {row}\n of  {image}. "}
    for image in range(IMAGES)
    for row in range(5)
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("coco") / "captions.json", ANNOTATIONS)


def write(file: Path, annotations: Any) -> Path:
    file.write_text(json.dumps({"info": {}, "images": [], "annotations": annotations}))
    return file


@given(st.integers(1, IMAGES), st.integers(0, 2**63))
@settings(max_examples=20)
def test_a_draw_has_no_image_twice_and_begins_every_larger_one(
    file: Path, count: int, seed: int
) -> None:
    drawn = draw_prompts(file, count, seed)
    assert len({prompt.coco_val_id for prompt in drawn}) == len(drawn) == count
    assert draw_prompts(file, IMAGES, seed)[:count] == drawn


def test_prompts_have_the_ids_of_annotation_and_image(file: Path) -> None:
    for prompt in draw_prompts(file, 10, 0):
        number, image = int(prompt.id.removeprefix("coco_")), int(prompt.coco_val_id) - 1000
        assert number // 10 == image
        assert prompt.caption == f"Caption {number % 10} of {image}."


def test_the_seed_decides_and_the_order_in_the_file_does_not(file: Path, tmp_path: Path) -> None:
    turned = write(tmp_path / "turned.json", ANNOTATIONS[::-1])
    assert draw_prompts(turned, 20, 5) == draw_prompts(file, 20, 5)
    assert draw_prompts(file, 20, 6) != draw_prompts(file, 20, 5)
    # Pinned: a later version must draw the same prompts.
    assert [p.id for p in draw_prompts(file, 5, 0)] == [
        "coco_162",
        "coco_394",
        "coco_123",
        "coco_351",
        "coco_381",
    ]


def test_every_caption_can_be_drawn(file: Path) -> None:
    seen = Counter(p.id for seed in range(100) for p in draw_prompts(file, 1, seed))
    images = Counter(number // 50 for number in (int(i.removeprefix("coco_")) for i in seen))
    rows = Counter(int(i.removeprefix("coco_")) % 10 for i in seen.elements())
    assert len(seen) > 60
    assert set(rows) == set(range(5))
    assert len(images) == 8


def test_empty_and_repeated_captions_are_passed_over(tmp_path: Path) -> None:
    captions = ["A cat.", "a  CAT.", "", " \n", "a dog"]
    file = write(
        tmp_path / "c.json",
        [{"image_id": row, "id": row, "caption": c} for row, c in enumerate(captions)],
    )
    for seed in range(5):
        drawn = draw_prompts(file, 2, seed)
        assert {p.caption.lower() for p in drawn} == {"a cat.", "a dog"}
    with pytest.raises(
        ConfigError, match=r"asked for 3 captions; expected at most 2, one an image"
    ):
        draw_prompts(file, 3, 0)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "1 or more"), (-1, "1 or more"), (41, "at most 40, one an image")]
)
def test_a_count_out_of_range_is_named(file: Path, count: int, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"asked for {count} captions; expected {expected}"):
        draw_prompts(file, count, 0)


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "no list 'annotations'; expected captions as in captions_val2014.json"),
        ({"a": 1}, "no list 'annotations'"),
        ([3], r"annotations\[0\]: got 3"),
        ([{"image_id": 1, "id": 2, "bbox": []}], r"annotations\[0\]: no 'caption'"),
        ([{"image_id": "1", "id": 2, "caption": "a"}], r"image_id is '1'"),
        ([{"image_id": True, "id": 2, "caption": "a"}], "image_id is True"),
    ],
)
def test_other_files_are_refused(annotations: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        draw_prompts(write(tmp_path / "instances_val2014.json", annotations), 1, 0)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    with pytest.raises(ConfigError, match="no such file"):
        draw_prompts(file, 1, 0)
    file.write_text('{"annotations": [')
    with pytest.raises(ConfigError, match="not whole JSON"):
        draw_prompts(file, 1, 0)
